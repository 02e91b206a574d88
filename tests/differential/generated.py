"""Exchanges made by chance from a seed: heads, bodies and framings, both directions. The same seed makes the same cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from tests.differential.corpus import Case, Client, End, Exchange, Script
from tests.differential.reading import head_end

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PATH: Final = b"!\"$%&'()*+,-./0123456789:;<=>@ABC[\\]^_`abc{|}~?%/%/\xc3\xa9\xff"
_VALUE: Final = bytes(range(0x21, 0x7F)) + b'   \t,;="' + bytes(range(0x80, 0x100))
_METHODS: Final = (
    b"GET",
    b"GET",
    b"GET",
    b"POST",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"HEAD",
    b"OPTIONS",
    b"QUERY",
    b"get",
)
_REQUEST_NAMES: Final = (
    b"Accept accept Accept-Encoding Accept-Language Authorization Cookie cookie User-Agent Referer Origin Range If-Match "
    b"If-None-Match If-Modified-Since Cache-Control Pragma Content-Type Content-Encoding Idempotency-Key X-Request-ID Via "
    b"X-Forwarded-For X-Forwarded-Proto Forwarded Traceparent DNT Max-Forwards Trailer From Date Prefer Priority"
).split()
_ANSWER_NAMES: Final = (
    b"Date Server Set-Cookie set-cookie ETag Last-Modified Content-Type Content-Encoding Content-Language Location Vary Age "
    b"Cache-Control Expires Link link Retry-After WWW-Authenticate Allow Accept-Ranges Content-Range Via Warning X-Powered-By "
    b"Strict-Transport-Security Access-Control-Allow-Origin Content-Security-Policy Alt-Svc Trailer Content-Disposition"
).split()
_HOP: Final = (
    b"Connection: keep-alive\r\n",
    b"connection:close\r\n",
    b"Connection: X-Hop\r\nX-Hop: 1\r\n",
    b"Keep-Alive: timeout=5, max=9\r\n",
    b"Proxy-Connection: keep-alive\r\n",
    b"Proxy-Authenticate: Basic\r\n",
    b"Upgrade: h2c\r\n",
)
_REQUEST_HOP: Final = (
    *_HOP,
    b"TE: trailers\r\n",
    b"TE: gzip\r\n",
    b"TE: trailers, gzip;q=0.5\r\n",
    b"Proxy-Authorization: x\r\n",
)
_STATUSES: Final = (
    200,
    200,
    200,
    201,
    202,
    204,
    206,
    299,
    301,
    304,
    400,
    404,
    409,
    413,
    422,
    429,
    451,
    500,
    502,
    503,
    599,
    999,
)
_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
_SPOILT: Final = (
    (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    (b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
    (b"Content-Length: 1,1\r\n", 400),
    (b"Content-Length: +1\r\n", 400),
    (b"Content-Length: 1_0\r\n", 400),
    (b"Transfer-Encoding: identity, chunked\r\n", 400),
    (b"Transfer-Encoding: chunked;q=1\r\n", 400),
    (b"Transfer-Encoding : chunked\r\n", 400),
    (b"X: a\r\n b\r\n", 400),
    (b"X: a\x00\r\n", 400),
    (b"X: a\x7f\r\n", 400),
    (b"X: a\rY: b\r\n", 400),
    (b"X: a\nY: b\r\n", 400),
    (b"Host: again.test\r\n", 400),
    (b"X Y: 1\r\n", 400),
    (b"\xc3\xa9: 1\r\n", 400),
    (b"Connection: idempotency-key\r\n", 400),
)
"""Lines that spoil a request, and how it is refused."""
_MALFORMED: Final = (
    b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"Content-Length: 1 2\r\n",
    b"Content-Length: 0x1\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Length : 1\r\n",
    b"X: a\x00b\r\nContent-Length: 0\r\n",
    b"X Y\r\nContent-Length: 0\r\n",
)
"""Lines that make an answer none."""


class _Chance(Random):
    """`neat`: lines as a proxy writes them itself, nothing that a hop ends; then nothing at all may change."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.neat = self.random() < 0.6

    def either(self, neat: Sequence[bytes], odd: Sequence[bytes]) -> bytes:
        """One of the first where the case is neat, of all where it is not."""
        return self.choice(neat if self.neat else (*neat, *odd))


def generated(seed: str, count: int) -> Iterator[Case]:
    """So many cases; each of its own `seed/number`."""
    for number in range(count):
        yield one(f"{seed}/{number}")


def one(seed: str) -> Case:
    """The case of that seed."""
    chance = _Chance(seed)
    exchanges = _exchanges(chance)
    made = Case(0, f"generated {seed}", exchanges, split=_split(chance, sum(len(each.request) for each in exchanges)))
    kind = chance.random()
    if kind < 0.08:
        return _refused(chance, made)
    if kind < 0.14:
        return _malformed(chance, made)
    if kind < 0.20:
        return _cut(chance, made)
    if kind < 0.23:
        return replace(made, point=20, client=Client.HALF_CLOSES)
    return made


def _exchanges(chance: _Chance) -> tuple[Exchange, ...]:
    if chance.random() < 0.15:
        return tuple(_exchange(chance, b"1.1", at_end=False) for _ in range(chance.randint(2, 4)))
    version = b"1.0" if chance.random() < 0.08 else b"1.1"
    return (_exchange(chance, version, at_end=True),)


def _exchange(chance: _Chance, version: bytes, *, at_end: bool) -> Exchange:
    method = chance.choice(_METHODS) if chance.random() < 0.95 else _some(chance, _TOKEN, 1, 12)
    hop = _REQUEST_HOP if at_end else tuple(line for line in _REQUEST_HOP if b"close" not in line)
    fields = _fields(chance, _REQUEST_NAMES, hop)
    if version == b"1.1" or chance.random() < 0.5:
        host = chance.either((b"Host: api.test\r\n", b"HOST: a\r\n"), (b"host:  [::1]:80\r\n", b"HOST:a\r\n"))
        fields.insert(chance.randint(0, len(fields)), host)
    framing, body = _request_body(chance, method, version)
    _put(chance, fields, framing)
    script = _script(chance, method, at_end=at_end)
    if at_end and chance.random() < 0.05:
        # nginx takes a 103 for the answer: a client that keeps its connection would wait for ever.
        fields.append(b"Connection: close\r\n")
        script = replace(script, answer=_HINTS + script.answer)
    request = b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, _target(chance, method), version, b"".join(fields), body)
    return Exchange(request, script)


def _put(chance: _Chance, fields: list[bytes], framing: bytes) -> None:
    """A framing field to its place: chunked stands last in what is neat."""
    last = chance.neat and framing.startswith(b"Transfer")
    fields.insert(len(fields) if last else chance.randint(0, len(fields)), framing)


def _some(chance: _Chance, alphabet: bytes, least: int, most: int) -> bytes:
    return bytes(chance.choices(alphabet, k=chance.randint(least, most)))


def _target(chance: _Chance, method: bytes) -> bytes:
    if method == b"OPTIONS" and chance.random() < 0.3:
        return b"*"
    path = b"/" + _some(chance, _PATH, 0, chance.choice((5, 40, 3_000)))
    return b"http://other.test:8080" + path if not chance.neat and chance.random() < 0.1 else path


def _value(chance: _Chance) -> bytes:
    return _some(chance, _VALUE, 0, chance.choice((3, 20, 20, 400)))


def _line(chance: _Chance, names: list[bytes]) -> bytes:
    name = chance.choice(names) if chance.random() < 0.6 else b"X-" + _some(chance, _TOKEN, 1, 15)
    before = chance.either((b" ",), (b" ", b"", b"\t", b"   "))
    behind = chance.either((b"",), (b"", b" ", b"\t "))
    return name + b":" + before + _value(chance).strip(b" \t") + behind + b"\r\n"


def _fields(chance: _Chance, names: list[bytes], hop: tuple[bytes, ...]) -> list[bytes]:
    lines = [_line(chance, names) for _ in range(chance.choice((0, 2, 5, 15)))]
    if lines and chance.random() < 0.3:
        lines.append(chance.choice(lines))
    if not chance.neat and chance.random() < 0.5:
        lines.insert(chance.randint(0, len(lines)), chance.choice(hop))
    chance.shuffle(lines)
    return lines


def _payload(chance: _Chance) -> bytes:
    size = chance.choice((0, 1, 10, 200, 200, 5_000, 70_000))
    return chance.choice((b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n" * 10, chance.randbytes(size)))[:size]


def _chunks(chance: _Chance, payload: bytes) -> bytes:
    framed, at = [], 0
    while at < len(payload):
        size = min(chance.choice((1, 10, 300, 4_000, 100_000)), len(payload) - at)
        size = max(size, (len(payload) - at) // 20)
        written = chance.choice((b"%x", b"%X", b"%04x")) % size + chance.either((b"",), (b"", b";a=1", b';q="x;y"'))
        framed.append(written + b"\r\n" + payload[at : at + size] + b"\r\n")
        at += size
    names = [b"X-Sum", b"x-sum", b"Content-Digest", b"Server-Timing"]
    if not chance.neat:
        names += [b"Content-Length", b"Set-Cookie", b"Host", b"Transfer-Encoding"]
    trailers = [_line(chance, names) for _ in range(chance.choice((0, 0, 0, 1, 3)))]
    last = chance.either((b"0", b"000"), (b"0;end",))
    return b"".join(framed) + last + b"\r\n" + b"".join(trailers) + b"\r\n"


def _request_body(chance: _Chance, method: bytes, version: bytes) -> tuple[bytes, bytes]:
    """A framing field, perhaps none, and the bytes behind the head."""
    kind = chance.random()
    if kind < (0.3 if method in (b"POST", b"PUT", b"PATCH") else 0.75):
        return b"", b""
    payload = _payload(chance)
    if version == b"1.0" or kind < (0.65 if method in (b"POST", b"PUT", b"PATCH") else 0.88):
        length = chance.either((b"Content-Length: %d\r\n", b"Content-Length: 00%d\r\n"), (b"content-length:%d\r\n",))
        return length % len(payload), payload
    coding = chance.either((b"Transfer-Encoding: chunked\r\n",), (b"transfer-encoding:Chunked\r\n",))
    return coding, _chunks(chance, payload)


def _script(chance: _Chance, method: bytes, *, at_end: bool) -> Script:
    status = chance.choice(_STATUSES)
    reason = chance.choice((b" OK", b" ", b"", b" Some Reason", b" caf\xe9", b"  two  blanks"))
    hop = _HOP if at_end else ()
    fields = _fields(chance, _ANSWER_NAMES, hop) if hop else [_line(chance, _ANSWER_NAMES) for _ in range(3)]
    bodiless = method == b"HEAD" or status in (204, 304)
    framing, body, end = _answer_body(chance, bodiless=bodiless, at_end=at_end)
    if framing and (status != 204 or framing.endswith(b": 0\r\n")):
        _put(chance, fields, framing)
    version = (
        b"1.0"
        if at_end and not chance.neat and b"chunked" not in framing.lower() and chance.random() < 0.05
        else b"1.1"
    )
    line_end = b"\n" if not chance.neat and chance.random() < 0.05 else b"\r\n"
    head = (b"HTTP/%b %d%b\r\n%b\r\n" % (version, status, reason, b"".join(fields))).replace(b"\r\n", line_end)
    return Script(head + body, end, split=_split(chance, len(head + body)))


def _split(chance: _Chance, size: int) -> int:
    """Often none; else byte by byte, or in so many pieces as do not take long."""
    return max(chance.choice((1, 7, 100)), size // 100) if chance.random() < 0.4 else 0


def _answer_body(chance: _Chance, *, bodiless: bool, at_end: bool) -> tuple[bytes, bytes, End]:
    """A framing field, perhaps none, the bytes behind the head, and what becomes of the connection."""
    kind, payload = chance.random(), _payload(chance)
    close = End.CLOSE if at_end and chance.random() < 0.2 else End.KEEP
    if kind < 0.45 or not (at_end or bodiless or kind < 0.9):
        return b"Content-Length: %d\r\n" % len(payload), b"" if bodiless else payload, close
    if kind < 0.9 and not (bodiless and chance.neat):
        return b"Transfer-Encoding: chunked\r\n", b"" if bodiless else _chunks(chance, payload), close
    return b"", b"" if bodiless else payload, End.KEEP if bodiless else End.CLOSE


def _refused(chance: _Chance, made: Case) -> Case:
    """One of the requests with a line that spoils it, behind its request line."""
    spoil, status = chance.choice(_SPOILT)
    at = chance.randrange(len(made.exchanges))
    spoilt = Exchange(b"GET /spoilt HTTP/1.1\r\n" + spoil + b"Host: api.test\r\n\r\n")
    behind = Exchange(b"GET /behind HTTP/1.1\r\nHost: api.test\r\n\r\n")
    return replace(made, point=10, exchanges=(*made.exchanges[:at], spoilt, behind), refused=status)


def _malformed(chance: _Chance, made: Case) -> Case:
    """Every answer one that is none."""
    line = b"HTTP/1.1 200 OK\r\n" + chance.choice(_MALFORMED)
    first = made.exchanges[0]
    if first.method == b"HEAD":
        return made  # framing says nothing there
    request = replace(first, script=Script(line + b"Connection: close\r\n\r\n", End.CLOSE))
    return replace(made, point=16, exchanges=(request,), refused=502)


def _cut(chance: _Chance, made: Case) -> Case:
    """The last answer cut somewhere in its body."""
    last = made.exchanges[-1]
    answer = last.script.answer
    start = len(_HINTS) if answer.startswith(_HINTS) else 0
    start += head_end(answer[start:])
    if last.method == b"HEAD" or len(answer) < start + 2:
        return made
    kept = answer[: chance.randrange(start, len(answer))]
    script = replace(last.script, answer=kept, end=chance.choice((End.CLOSE, End.RESET)))
    return replace(made, point=14, exchanges=(*made.exchanges[:-1], replace(last, script=script)))
