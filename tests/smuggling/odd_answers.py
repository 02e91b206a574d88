"""Answers that two readers could take in different ways, or that answer what nobody asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POISON: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
"""An answer that an upstream's attacker wants somebody else to get."""

CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Odd:
    """`answer` is what the upstream says, `late` what it says when the client has its answer. The client gets `status` and `body`, or an
    answer cut short (None). `ends`: the upstream closes the connection behind it."""

    name: str
    answer: bytes
    status: int | None
    body: bytes = b""
    late: bytes = b""
    method: bytes = b"GET"
    more: bytes = b""
    ends: bool = False


def _head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\n%b\r\n" % (status, b"".join(line + b"\r\n" for line in lines))


def _bad(name: str, answer: bytes) -> Odd:
    return Odd(name, answer + POISON, 502)


def _framed(name: str, *lines: bytes) -> Odd:
    return _bad(name, _head(*lines))


BEHIND: Final = (
    Odd("behind-length-0", _head(b"Content-Length: 0") + POISON, 200),
    Odd("behind-a-body", _head(b"Content-Length: 2") + b"ok" + POISON, 200, b"ok"),
    Odd("behind-a-body-later", _head(b"Content-Length: 2") + b"ok", 200, b"ok", late=POISON),
    Odd("behind-length-0-later", _head(b"Content-Length: 0"), 200, late=POISON),
    Odd("behind-the-last-chunk", CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + POISON, 200, b"ok"),
    Odd("behind-the-last-chunk-later", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200, b"ok", late=POISON),
    Odd("behind-trailers", CHUNKED + b"0\r\nContent-Length: 6\r\n\r\n" + POISON, 200),
    Odd("behind-204", _head(status=b"204 No Content") + POISON, 204),
    Odd("behind-204-with-length", _head(b"Content-Length: %d" % len(POISON), status=b"204 No Content") + POISON, 204),
    Odd(
        "behind-204-chunked",
        _head(b"Transfer-Encoding: chunked", status=b"204 No Content") + b"0\r\n\r\n" + POISON,
        204,
    ),
    Odd("behind-204-later", _head(status=b"204 No Content"), 204, late=POISON),
    Odd("behind-304-with-length", _head(b"Content-Length: %d" % len(POISON), status=b"304 Not Modified") + POISON, 304),
    Odd("body-of-head", _head(b"Content-Length: %d" % len(POISON)) + POISON, 200, method=b"HEAD"),
    Odd("body-of-head-later", _head(b"Content-Length: %d" % len(POISON)), 200, late=POISON, method=b"HEAD"),
    Odd("chunks-of-head", CHUNKED + b"0\r\n\r\n" + POISON, 200, method=b"HEAD"),
    Odd(
        "both-framings-of-head",
        _head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + POISON,
        200,
        method=b"HEAD",
    ),
    Odd("empty-line-behind", _head(b"Content-Length: 0") + b"\r\n", 200),
    Odd("empty-line-behind-later", _head(b"Content-Length: 0"), 200, late=b"\r\n"),
    Odd("half-a-status-line-later", _head(b"Content-Length: 0"), 200, late=b"HTTP/1.1 2"),
    Odd("interim-behind-later", _head(b"Content-Length: 0"), 200, late=b"HTTP/1.1 100 Continue\r\n\r\n"),
    Odd("close-and-another", _head(b"Connection: close", b"Content-Length: 0") + POISON, 200),
    Odd(
        "timeout-as-it-idles",
        _head(b"Content-Length: 0"),
        200,
        late=_head(b"Connection: close", status=b"408 Request Timeout"),
        ends=True,
    ),
    Odd("until-the-close", _head(b"Connection: close") + POISON, 200, POISON, ends=True),
    Odd("until-the-close-in-1.0", b"HTTP/1.0 200 OK\r\n\r\n" + POISON, 200, POISON, ends=True),
    Odd(
        "not-asked-for-upgrade",
        _head(b"Upgrade: websocket", b"Connection: Upgrade", status=b"101 Switching Protocols") + POISON,
        502,
    ),
    Odd(
        "refused-upgrade",
        _head(b"Content-Length: 2", status=b"426 Upgrade Required") + b"no" + POISON,
        426,
        b"no",
        more=b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ),
)

FRAMED: Final = (
    _framed("both-framings", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    _framed("both-framings-the-other-way", b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    _framed("lengths-that-differ", b"Content-Length: 0", b"Content-Length: 5"),
    _framed("list-of-lengths-that-differ", b"Content-Length: 0, 5"),
    _framed("length-with-plus", b"Content-Length: +0"),
    _framed("length-with-minus", b"Content-Length: -1"),
    _framed("length-in-hexadecimal", b"Content-Length: 0x0"),
    _framed("length-empty", b"Content-Length:"),
    _framed("length-past-64-bits", b"Content-Length: 18446744073709551616"),
    _framed("length-of-words", b"Content-Length: 0 0"),
    _framed("length-folded", b"Content-Length: 0\r\n 5"),
    _framed("length-behind-a-blank", b"Content-Length : 0"),
    _framed("length-twice-by-bare-lf", b"Content-Length: 0\nContent-Length: 5"),
    _framed("coding-identity", b"Transfer-Encoding: identity"),
    _framed("coding-chunked-identity", b"Transfer-Encoding: chunked, identity"),
    _framed("coding-gzip-chunked", b"Transfer-Encoding: gzip, chunked"),
    _framed("coding-twice", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    _framed("coding-with-vertical-tab", b"Transfer-Encoding: \x0bchunked"),
    _framed("coding-quoted", b'Transfer-Encoding: "chunked"'),
    _framed("coding-empty", b"Transfer-Encoding:"),
    _framed("coding-folded", b"Transfer-Encoding:\r\n chunked"),
    _framed("coding-behind-a-blank", b"Transfer-Encoding : chunked"),
    _framed("nul", b"X: a\0b"),
    _framed("bare-cr", b"X: a\rContent-Length: 5"),
    _framed("no-colon", b"X"),
    _bad("coding-in-1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    _bad("answer-in-an-answer", b"HTTP/1.1 200 OK\r\n"),
    _bad("junk", b"junk\r\n\r\n"),
    _bad("empty-lines-first", b"\r\n\r\n"),
    _bad("a-request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    _bad("http-2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    _bad("two-digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    _bad("four-digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    _bad("status-0", b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    _bad("no-version", b"200 OK\r\nContent-Length: 0\r\n\r\n"),
    _bad("body-of-an-interim", _head(b"Content-Length: 5", status=b"103 Early Hints") + b"hello"),
    _bad("head-over-the-limit", _head(b"X: " + b"a" * 66_000)),
    Odd("interims-and-then-junk", _head(status=b"103 Early Hints") * 3 + b"junk\r\n\r\n" + POISON, 502),
    Odd(
        "many-interims",
        _head(status=b"102 Processing") * 500 + _head(b"Content-Length: 2") + b"ok" + POISON,
        200,
        b"ok",
    ),
    Odd("continue-unasked", _head(status=b"100 Continue") + _head(b"Content-Length: 2") + b"ok" + POISON, 200, b"ok"),
    Odd("equal-lengths", _head(b"Content-Length: 2", b"Content-Length: 2") + b"ok" + POISON, 200, b"ok"),
    Odd("bare-lfs", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + POISON, 200, b"ok"),
    Odd("folded", _head(b"X: a\r\n b", b"Content-Length: 2") + b"ok" + POISON, 200, b"ok"),
)

CUT: Final = (
    Odd("chunk-size-prefixed", CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n" + POISON, None),
    Odd("chunk-size-negative", CHUNKED + b"-2\r\nok\r\n0\r\n\r\n" + POISON, None),
    Odd("chunk-line-ended-by-lf", CHUNKED + b"2\nok\r\n0\r\n\r\n" + POISON, None),
    Odd("chunk-longer-than-said", CHUNKED + b"2\r\nokay\r\n0\r\n\r\n" + POISON, None),
    Odd("chunk-without-its-end", CHUNKED + b"2\r\nok0\r\n\r\n" + POISON, None),
    Odd("chunk-extension-with-lf", CHUNKED + b"2;a\nb\r\nok\r\n0\r\n\r\n" + POISON, None),
    Odd("answer-for-a-chunk", CHUNKED + POISON, None),
    Odd("trailer-for-an-answer", CHUNKED + b"2\r\nok\r\n0\r\n" + POISON, None),
    Odd("trailer-folded", CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n" + POISON, None),
    Odd("body-shorter-than-said", _head(b"Content-Length: 500") + b"ok", None, ends=True),
    Odd("chunks-without-an-end", CHUNKED + b"2\r\nok\r\n", None, ends=True),
)

ODD: Final = (*BEHIND, *FRAMED, *CUT)
