"""Requests' heads: what is read, what is refused and how (FORWARDING.md, point 10), and what two other readers make of the same."""

from __future__ import annotations

import contextlib
from importlib.metadata import version

import h11
import httptools
import pytest

from idemproxy.http1.heads import (
    MAX_HEAD,
    MAX_TARGET,
    BadHead,
    Chunked,
    Length,
    NoBody,
    parse_request,
    request_end,
    skip_empty_lines,
)

GET = b"GET / HTTP/1.1\r\nHost: h\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"


def line(method: bytes = b"GET", target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b %b\r\nHost: h\r\n\r\n" % (method, target, version)


def refused(block: bytes) -> int:
    with pytest.raises(BadHead) as caught:
        parse_request(block)
    assert caught.value.detail == str(caught.value)
    return caught.value.status


def test_everything_is_kept_as_it_came() -> None:
    head = parse_request(
        b'pAtCh //a%2Fb/../%2e;p?x=%20&y[]=\\\xc3\xa9"<>{}|^` HTTP/1.1\r\n'
        b"hOST: Example.COM:8080\r\nX-A:1\r\nx-a:  2\t \r\nX-Empty:\r\nX-Blank:   \r\nX-Raw: \xff \t;,\"\x80\r\n!#$%&'*+-.^_`|~: t\r\n\r\n"
    )
    assert head.method == b"pAtCh"
    assert head.target == b'//a%2Fb/../%2e;p?x=%20&y[]=\\\xc3\xa9"<>{}|^`'
    assert head.minor == 1
    assert head.fields == (
        (b"hOST", b"Example.COM:8080"),
        (b"X-A", b"1"),
        (b"x-a", b"2"),
        (b"X-Empty", b""),
        (b"X-Blank", b""),
        (b"X-Raw", b'\xff \t;,"\x80'),
        (b"!#$%&'*+-.^_`|~", b"t"),
    )
    assert head.framing == NoBody()


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/?",
        b"//",
        b"/%",
        b"/:80",
        b"/http://h/",
        b"http://h",
        b"HTTPS://h:443/p?q",
        b"http://h?q",
        b"http://[::1]:80/",
        b"http://h:/",
    ],
)
def test_targets(target: bytes) -> None:
    assert parse_request(line(target=target)).target == target


@pytest.mark.parametrize(
    "host", [b"", b"h", b"h.", b"h:80", b"h:", b"1.2.3.4", b"[::1]", b"[fe80::1%25eth0]:80", b"a_b-c", b"%41", b"*.h"]
)
def test_hosts(host: bytes) -> None:
    assert parse_request(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host).fields == ((b"Host", host),)


@pytest.mark.parametrize(
    "host",
    [b"h:80x", b"h:80:80", b"[::1", b"::1", b"h\\", b"h#", b"<h>", b"\xc3\xa9", b"h:123456", b"[]", b":80"],
)
def test_malformed_hosts(host: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host) == 400
    assert refused(line(target=b"http://%b/" % host)) == 400


def test_asterisk_is_for_options() -> None:
    assert parse_request(line(b"OPTIONS", b"*")).target == b"*"
    assert refused(line(b"GET", b"*")) == 400
    assert refused(line(b"OPTIONS", b"**")) == 400


def test_http_1_0_needs_no_host() -> None:
    head = parse_request(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.fields, head.keep_alive) == (0, (), False)


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        (b"", NoBody()),
        (b"Content-Length: 0\r\n", Length(0)),
        (b"content-length:\t42 \r\n", Length(42)),
        (b"CONTENT-LENGTH: 0042\r\n", Length(42)),
        (b"Content-Length: 9223372036854775807\r\n", Length(2**63 - 1)),
        (b"Transfer-Encoding: chunked\r\n", Chunked()),
        (b"transfer-encoding:ChunKed\t\r\n", Chunked()),
    ],
)
def test_framing(fields: bytes, framing: object) -> None:
    assert parse_request(POST + fields + b"\r\n").framing == framing


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Close, X\r\n", False),
        (b"1.1", b"Connection: x\r\nConnection: keep-alive ,\tCLOSE\r\n", False),
        (b"1.1", b"Connection: disclose\r\n", True),
        (b"1.1", b"Connection: upgrade\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: x, KEEP-alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
        (b"1.0", b"Keep-Alive: 5\r\n", False),
    ],
)
def test_keep_alive(version: bytes, fields: bytes, kept: bool) -> None:
    assert parse_request(b"GET / HTTP/%b\r\nHost: h\r\n%b\r\n" % (version, fields)).keep_alive is kept


@pytest.mark.parametrize(
    ("version", "value", "expects"),
    [
        (b"1.1", b"100-continue", True),
        (b"1.1", b"100-Continue", True),
        (b"1.1", b"x, 100-continue", True),
        (b"1.1", b"200-ok", False),
        (b"1.1", b"100-continue;x", False),
        (b"1.0", b"100-continue", False),
    ],
)
def test_expect(version: bytes, value: bytes, expects: bool) -> None:
    head = parse_request(b"POST / HTTP/%b\r\nHost: h\r\nExpect: %b\r\nContent-Length: 1\r\n\r\n" % (version, value))
    assert head.expects_continue is expects
    assert (b"Expect", value) in head.fields


def test_size_limits() -> None:
    room = MAX_HEAD - len(GET) - len(b"X: \r\n\r\n")
    assert len(parse_request(GET + b"X: " + b"x" * room + b"\r\n\r\n").fields[1][1]) == room
    assert refused(GET + b"X: " + b"x" * (room + 1) + b"\r\n\r\n") == 431
    assert refused(GET + b"X:\r\n" * (MAX_HEAD // 4) + b"\r\n") == 431
    assert parse_request(line(target=b"/" * MAX_TARGET)).target == b"/" * MAX_TARGET
    assert refused(line(target=b"/" * (MAX_TARGET + 1))) == 414
    assert refused(line(target=b"/" * MAX_HEAD)) == 414


def test_no_refusal_echoes_what_was_sent() -> None:
    for block in (
        GET + b"s3cret\r\n\r\n",
        line(target=b"s3cret"),
        GET + b"Host: s3cret\r\n\r\n",
        POST + b"Content-Length: s3cret\r\n\r\n",
    ):
        with pytest.raises(BadHead) as caught:
            parse_request(block)
        assert "s3cret" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- finding the end


def test_the_end_is_found_wherever_the_pieces_are_cut() -> None:
    head = GET + b"X: y\r\n\r\n"
    for first in range(len(head)):
        buffer = bytearray(head[:first])
        assert request_end(buffer, 0) == -1
        searched = len(buffer)
        buffer += head[first:] + b"next\r\n\r\n"
        assert request_end(buffer, searched) == len(head)


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\nHost: h\n\n", b"GET / HTTP/1.1\nHost: h\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\nX"]
)
def test_a_head_ended_by_bare_lf_is_refused_and_not_waited_for(head: bytes) -> None:
    end = request_end(bytearray(head), 0)
    assert end == len(head.rstrip(b"X"))
    assert refused(head[:end]) == 400


def test_one_empty_line_before_a_request_is_skipped() -> None:
    for before, left in (
        (b"\r\n", GET),
        (b"", GET),
        (b"\r\n\r\n", b"\r\n" + GET),
        (b"\n", b"\n" + GET),
        (b"\r", b"\r" + GET),
    ):
        buffer = bytearray(before + GET)
        skip_empty_lines(buffer)
        assert bytes(buffer) == left


# ---------------------------------------------------------------------------------------------------------------- other readers

OK = 0

VERDICTS: list[tuple[str, bytes, int, bool, bool]] = [
    # what and why; the head; ours (0: read, else the status); read by h11; read by llhttp (Node's, in httptools)
    ("obs-text in a target is passed on raw, as nginx does", line(target=b"/\xc3\xa9"), OK, False, False),
    ("any token is a method", line(b"BREW"), OK, True, False),
    ("a method's case is its own", line(b"get"), OK, True, False),
    ("obs-text in a value is passed on raw", GET + b"X: \xe9\r\n\r\n", OK, True, True),
    ("an empty Host is valid by the grammar", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", OK, True, True),
    ("leading zeros are digits", POST + b"Content-Length: 005\r\n\r\n", OK, True, True),
    ("a fragment is a part of the path to some and dropped by others", line(target=b"/#x"), 400, True, True),
    ("a minor version that does not exist", line(version=b"HTTP/1.2"), 505, True, False),
    ("HTTP/2 has its own framing", line(version=b"HTTP/2.0"), 505, True, True),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\n", 505, True, False),
    ("the version's name has capitals", line(version=b"http/1.1"), 400, False, False),
    ("a version of two digits", line(version=b"HTTP/1.10"), 400, False, False),
    ("two spaces: an empty target to some", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400, False, True),
    ("a space in a target", line(target=b"/a b"), 400, False, False),
    ("a tab in a target", line(target=b"/a\tb"), 400, False, False),
    ("a control character in a target", line(target=b"/a\x01"), 400, False, False),
    ("DEL in a target", line(target=b"/a\x7f"), 400, False, False),
    ("a blank behind the version", line(version=b"HTTP/1.1 "), 400, False, False),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400, False, True),
    ("a TLS hello, or other junk", b"\x16\x03\x01\r\n\r\n", 400, False, False),
    ("a second empty line", b"\r\n" + GET + b"\r\n", 400, False, True),
    ("bare LF", b"GET / HTTP/1.1\nHost: h\n\n", 400, True, False),
    ("bare LF between fields", GET + b"X: 1\nY: 2\r\n\r\n", 400, True, False),
    ("bare LF that hides a field", GET + b"X: 1\nTransfer-Encoding: chunked\r\n\r\n", 400, True, False),
    ("bare CR in a value", GET + b"X: a\rY: b\r\n\r\n", 400, False, False),
    ("a CR too many", GET + b"X: a\r\r\n\r\n", 400, False, False),
    ("NUL in a value", GET + b"X: a\0b\r\n\r\n", 400, False, False),
    ("a vertical tab in a value", GET + b"X: a\x0bb\r\n\r\n", 400, False, False),
    ("DEL in a value", GET + b"X: a\x7fb\r\n\r\n", 400, True, False),
    ("obs-fold", GET + b"X: a\r\n b\r\n\r\n", 400, True, False),
    ("obs-fold of a framing field", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n", 400, True, False),
    ("a fold before the first field", b"GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n", 400, False, False),
    ("a space before the colon", GET + b"X : a\r\n\r\n", 400, False, False),
    ("a space before a framing field's colon", POST + b"Transfer-Encoding : chunked\r\n\r\n", 400, False, False),
    ("a field without a name", GET + b": a\r\n\r\n", 400, False, False),
    ("a field without a colon", GET + b"X\r\n\r\n", 400, False, False),
    ("a delimiter in a name", GET + b"X(: a\r\n\r\n", 400, False, False),
    ("obs-text in a name", GET + b"X\xe9: a\r\n\r\n", 400, False, False),
    ("a NUL in a name", GET + b"X\0: a\r\n\r\n", 400, False, False),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400, False, True),
    ("two Hosts", GET + b"Host: h\r\n\r\n", 400, False, True),
    ("two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400, False, True),
    ("two Hosts in one", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, True, True),
    ("a user in Host", b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400, True, True),
    ("a path in Host", b"GET / HTTP/1.1\r\nHost: h/p\r\n\r\n", 400, True, True),
    ("an authority without CONNECT", line(target=b"h:80"), 400, True, False),
    ("a path that does not begin with a slash", line(target=b"p"), 400, True, False),
    ("a scheme that is not forwarded", line(target=b"ftp://h/"), 400, True, True),
    ("a user in a target: to be taken for an error (RFC 9110, 4.2.4)", line(target=b"http://u@h/"), 400, True, True),
    ("a URL without a host", line(target=b"http:///p"), 400, True, True),
    ("CONNECT", line(b"CONNECT", b"h:80"), 501, True, True),
    ("CONNECT of a path", line(b"CONNECT", b"/"), 501, True, True),
    (
        "equal lengths: readers may take or refuse them",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        400,
        True,
        False,
    ),
    ("equal lengths in one", POST + b"Content-Length: 5, 5\r\n\r\n", 400, True, False),
    ("differing lengths", POST + b"Content-Length: 5\r\ncontent-length: 6\r\n\r\n", 400, False, False),
    ("a signed length", POST + b"Content-Length: +5\r\n\r\n", 400, False, False),
    ("a negative length", POST + b"Content-Length: -5\r\n\r\n", 400, False, False),
    ("a hexadecimal length", POST + b"Content-Length: 0x5\r\n\r\n", 400, False, False),
    ("a length with a space in it", POST + b"Content-Length: 5 5\r\n\r\n", 400, False, False),
    ("a length with an underscore", POST + b"Content-Length: 1_0\r\n\r\n", 400, False, False),
    ("a length of other digits", POST + b"Content-Length: \xb2\r\n\r\n", 400, False, False),
    ("an empty length", POST + b"Content-Length:\r\n\r\n", 400, False, False),
    ("a length of 2^63", POST + b"Content-Length: 9223372036854775808\r\n\r\n", 400, True, True),
    ("a length of 5000 digits", POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, False, False),
    ("CL.TE", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, True, False),
    ("TE.CL", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, True, False),
    (
        "TE.CL in HTTP/1.0",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        400,
        True,
        False,
    ),
    ("TE in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, True, True),
    ("TE.TE", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400, False, False),
    ("chunked twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, False, False),
    ("chunked twice in one", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, False, False),
    ("another coding before chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400, False, True),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n", 400, False, True),
    ("a coding that is almost chunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400, False, True),
    ("chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n', 400, False, True),
    ("chunked with a parameter", POST + b"Transfer-Encoding: chunked;x\r\n\r\n", 400, False, True),
    ("chunked and a comma", POST + b"Transfer-Encoding: ,chunked\r\n\r\n", 400, False, True),
    ("chunked and a no-break space", POST + b"Transfer-Encoding: chunked\xa0\r\n\r\n", 400, False, True),
    ("chunked behind a vertical tab", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n", 400, False, False),
    ("no coding", POST + b"Transfer-Encoding:\r\n\r\n", 400, False, False),
]


@pytest.mark.parametrize(
    ("what", "block", "status", "h11_reads", "llhttp_reads"), VERDICTS, ids=[row[0] for row in VERDICTS]
)
def test_what_is_refused_and_what_others_make_of_it(
    what: str, block: bytes, status: int, h11_reads: bool, llhttp_reads: bool
) -> None:
    if status == OK:
        parse_request(block)
    else:
        assert refused(block) == status
    if version("h11") == "0.16.0":
        assert h11_accepts(block) is h11_reads
    if version("httptools") == "0.9.0":
        assert llhttp_accepts(block) is llhttp_reads


def h11_accepts(block: bytes) -> bool:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(block)
    try:
        return isinstance(connection.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        return False


class Noticed:
    def __init__(self) -> None:
        self.whole = False

    def on_headers_complete(self) -> None:
        self.whole = True


def llhttp_accepts(block: bytes) -> bool:
    noticed = Noticed()
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(noticed).feed_data(block)
    return noticed.whole
