"""Heads that nobody thought of: generated ones, and valid ones with bytes broken. What is read here, other readers read alike."""

from __future__ import annotations

import contextlib
import random

import h11
import httptools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idemproxy.http1.body import BadBody, BodyReader
from idemproxy.http1.connection import check_options, forwardable
from idemproxy.http1.heads import (
    AnswerHead,
    BadHead,
    Chunked,
    Length,
    RequestHead,
    answer_framing,
    parse_answer,
    parse_request,
    request_end,
)
from idemproxy.http1.writing import chunk, field_lines, last_chunk
from idemproxy.idempotency.messages import Field, Fields

QUIET = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12).map(str.encode)
TARGETS = st.text("".join(map(chr, range(0x21, 0x7F))).replace("#", ""), max_size=40).map(
    lambda rest: b"/" + rest.encode()
)
BLANKS = st.sampled_from([b"", b" ", b"\t", b" \t "])
VALUES = st.binary(max_size=30).map(
    lambda raw: bytes(octet for octet in raw if octet in b"\t" or 0x20 <= octet != 0x7F).strip(b" \t")
)
WATCHED = (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade")
FIELDS = st.lists(
    st.tuples(TOKENS.filter(lambda name: name.lower() not in WATCHED), BLANKS, VALUES, BLANKS), max_size=8
)
BODIES = st.one_of(
    st.none(),
    st.binary(max_size=40).map(lambda body: (b"Content-Length: %d\r\n" % len(body), body, body)),
    st.lists(st.binary(min_size=1, max_size=20), max_size=3).map(
        lambda pieces: (
            b"Transfer-Encoding: chunked\r\n",
            b"".join(map(chunk, pieces)) + last_chunk(),
            b"".join(pieces),
        )
    ),
)


def lines(fields: list[tuple[bytes, bytes, bytes, bytes]]) -> bytes:
    return b"".join(b"%b:%b%b%b\r\n" % field for field in fields)


def plain(fields: list[tuple[bytes, bytes, bytes, bytes]]) -> Fields:
    return tuple((name, value) for name, _, value, _ in fields)


# ---------------------------------------------------------------------------------------------------------------- oracles

Whole = tuple[bytes, bytes, bytes, Fields, bytes]
"""Method, target, version, fields with the names in lower case, payload."""


def lower(fields: Fields) -> Fields:
    return tuple((name.lower(), value) for name, value in fields)


def h11_request(data: bytes) -> Whole | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    with contextlib.suppress(h11.RemoteProtocolError):
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        payload = b""
        while isinstance(event := connection.next_event(), h11.Data):
            payload += bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return request.method, request.target, request.http_version, tuple(map(_pair, request.headers)), payload
    return None


def _pair(field: tuple[bytes, bytes]) -> Field:
    return bytes(field[0]), bytes(field[1])


class Noticed:
    def __init__(self) -> None:
        self.target = b""
        self.fields: list[Field] = []
        self.payload = b""
        self.headed = self.whole = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # trailer fields come here too, and blanks behind some values stay
            self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.payload += body

    def on_message_complete(self) -> None:
        self.whole = True


def llhttp_request(data: bytes) -> Whole | None:
    noticed = Noticed()
    parser = httptools.HttpRequestParser(noticed)
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        parser.feed_data(data)
    if not noticed.whole:
        return None
    version = parser.get_http_version().encode()
    return parser.get_method(), noticed.target, version, tuple(noticed.fields), noticed.payload


def our_request(data: bytes) -> Whole | None:
    """None where the request is not whole. Raises BadHead and BadBody."""
    end = request_end(bytearray(data), 0)
    if end < 0:
        return None
    head = parse_request(data[:end])
    reader = BodyReader(head.framing)
    payload = b"".join(reader.feed(data[end:]))
    return (head.method, head.target, b"1.%d" % head.minor, lower(head.fields), payload) if reader.complete else None


# ---------------------------------------------------------------------------------------------------------------- generated


@QUIET
@given(TOKENS.filter(lambda method: method != b"CONNECT"), TARGETS, st.sampled_from([0, 1]), FIELDS, BODIES)
def test_generated_requests_are_read_as_h11_and_llhttp_read_them(
    method: bytes,
    target: bytes,
    minor: int,
    fields: list[tuple[bytes, bytes, bytes, bytes]],
    body: tuple[bytes, bytes, bytes] | None,
) -> None:
    framing, sent, payload = body or (b"", b"", b"")
    if framing.startswith(b"T"):
        minor = 1
    block = b"%b %b HTTP/1.%d\r\nHost: h\r\n%b%b\r\n" % (method, target, minor, lines(fields), framing)
    head = parse_request(block)
    assert (head.method, head.target, head.minor) == (method, target, minor)
    assert head.fields[1 : 1 + len(fields)] == plain(fields)
    ours = our_request(block + sent)
    assert ours is not None
    assert ours[4] == payload
    assert h11_request(block + sent) in (None, ours)
    assert llhttp_request(block.replace(method, b"POST", 1) + sent) in (None, (b"POST", *ours[1:]))


@QUIET
@given(
    st.integers(100, 999),
    st.none() | VALUES,
    FIELDS,
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"", b"\r\n ", b"\n\t"]),
)
def test_generated_answers_are_read_as_h11_reads_them(
    status: int, reason: bytes | None, fields: list[tuple[bytes, bytes, bytes, bytes]], end: bytes, fold: bytes
) -> None:
    line = b"%d" % status if reason is None else b"%d %b" % (status, reason)
    folded = [(name, before + fold, value, after) for name, before, value, after in fields]
    block = b"HTTP/1.1 " + line + end + lines(folded).replace(b"\r\n", end) + b"Content-Length: 0" + end * 2
    head = parse_answer(block)
    assert (head.status_line, head.reason, head.status) == (line, reason or b"", status)
    assert head.fields == (*plain(fields), (b"Content-Length", b"0"))
    goes_on_alike(head)
    assert h11_answer(block) in (None, (status, reason or b"", lower(head.fields)))


def h11_answer(block: bytes) -> tuple[int, bytes, Fields] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(block)
    with contextlib.suppress(h11.RemoteProtocolError):
        event = connection.next_event()
        if isinstance(event, h11.Response | h11.InformationalResponse):
            return event.status_code, event.reason, tuple(map(_pair, event.headers))
    return None


def goes_on_alike(head: AnswerHead) -> None:
    """A head that is written as it goes on to a client is read as the same one, with nothing left to repair."""
    written = b"HTTP/1.%d %b\r\n%b\r\n" % (head.minor, head.status_line, field_lines(head.fields))
    assert parse_answer(written) == head
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert b"\n " not in written
    assert b"\n\t" not in written


# ---------------------------------------------------------------------------------------------------------------- broken

REQUESTS = [
    b"POST /v1/charges?x=1 HTTP/1.1\r\nHost: h:80\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET http://h/p?q HTTP/1.1\r\nHost: h\r\nConnection: close, x\r\nExpect: 100-continue\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nHost: [::1]\r\nConnection: keep-alive\r\nX:\t a b \t\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nConnection: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: a\r\n b\r\n\r\n",
    b"HTTP/1.0 404 Not Found\nContent-Length: 5, 5\nX : y\n\n",
]
NOISE = b"\r\n\t :;,/*#@[]0159aAxX-_\0\x01\x0b\x7f\x80\xff"
LINES = [
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"Connection: content-length\r\n",
    b" folded\r\n",
    b"\r\n",
    b"\n",
    b"X: y\n",
]


def broken(rng: random.Random, data: bytes) -> bytes:
    octets = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(octets))
        match rng.randrange(5):
            case 0:
                octets[at] = rng.choice(NOISE)
            case 1:
                octets.insert(at, rng.choice(NOISE))
            case 2:
                del octets[at : at + rng.choice((1, 1, 2))]
            case 3:
                at = octets.find(b"\n", at) + 1
                octets[at:at] = rng.choice(LINES)
            case _:
                octets[at:at] = octets[at : at + rng.randint(1, 12)]
    return bytes(octets)


def test_broken_requests_are_refused_or_read_as_others_read_them() -> None:
    rng = random.Random(9112)
    read, statuses = 0, set()
    for turn in range(4_000):
        data = broken(rng, REQUESTS[turn % len(REQUESTS)])
        end = request_end(bytearray(data), 0)
        try:
            head = parse_request(data[: end if end >= 0 else len(data)])
        except BadHead as error:
            statuses.add(error.status)
            continue
        read += 1
        request_stands(head)
        if isinstance(head.framing, Length | Chunked):
            continue
        ours = our_request(data[:end])
        assert h11_request(data[:end]) in (None, ours)
        if head.method in (b"GET", b"POST"):
            assert llhttp_request(data[:end]) in (None, ours)
    assert read > 400
    assert statuses <= {400, 501, 505}


def request_stands(head: RequestHead) -> None:
    """What the strict reader promises of every head that it lets in."""
    written = b"%b %b HTTP/1.%d\r\n%b\r\n" % (head.method, head.target, head.minor, field_lines(head.fields))
    assert parse_request(written) == head
    lengths = [value for name, value in head.fields if name.lower() == b"content-length"]
    codings = [value for name, value in head.fields if name.lower() == b"transfer-encoding"]
    hosts = [value for name, value in head.fields if name.lower() == b"host"]
    assert len(lengths) + len(codings) <= 1
    assert len(hosts) == 1 or (not hosts and head.minor == 0)
    assert isinstance(head.framing, Length) == bool(lengths)
    assert isinstance(head.framing, Chunked) == bool(codings)
    with contextlib.suppress(BadHead):
        check_options(head.options, frozenset())
        gone = {name.lower() for name, _ in head.fields} - {name.lower() for name, _ in forwardable(head.fields)}
        assert gone <= head.options | {b"connection", b"transfer-encoding", b"te", b"upgrade"}
        assert not gone & {b"host", b"content-length", b"idempotency-key"}


def test_broken_bodies_and_framings_are_read_as_others_read_them() -> None:
    rng = random.Random(9110)
    read, refusals = 0, set()
    for turn in range(2_000):
        data = broken(rng, REQUESTS[turn % 2])
        try:
            ours = our_request(data)
        except (BadHead, BadBody) as error:
            refusals.add(type(error))
            continue
        if ours is None:
            continue
        read += 1
        assert h11_request(data) in (None, ours)
        if ours[0] == b"POST":
            assert llhttp_request(data) in (None, ours)
    assert read > 200
    assert refusals == {BadHead, BadBody}


def test_broken_answers_are_refused_or_go_on_whole() -> None:
    rng = random.Random(2616)
    read, statuses = 0, set()
    for turn in range(3_000):
        data = broken(rng, ANSWERS[turn % len(ANSWERS)])
        try:
            head = parse_answer(data)
            goes_on_alike(head)
            framing = answer_framing(head, b"GET")
        except BadHead as error:
            statuses.add(error.status)
            continue
        read += 1
        assert h11_answer(data) in (None, (head.status, head.reason, lower(head.fields)))
        if isinstance(framing, Length):
            assert (b"%d" % framing.octets) in [value.lstrip(b"0") or b"0" for name, value in head.fields]
    assert read > 400
    assert statuses == {502}
