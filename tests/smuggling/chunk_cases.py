"""The chunked coding: sizes, extensions, line ends, trailers (RFC 9112, section 7.1)."""

from __future__ import annotations

from typing import Final

from tests.smuggling.cases import BEHIND as OPENLY
from tests.smuggling.cases import HIDDEN, LAST, POST, SECOND, SMUGGLED, Case, begun, chunk, chunked, passes, stalls

_FIVE: Final = b"\r\nhello\r\n"


def _bad(name: str, body: bytes) -> Case:
    return begun(name, chunked(body))


def _size(name: str, size: bytes) -> Case:
    return _bad(name, size + _FIVE + LAST + HIDDEN)


def _good(name: str, body: bytes) -> Case:
    return passes(name, chunked(body + OPENLY), POST, SECOND)


SIZES: Final = (
    _size("prefixed", b"0x5"),
    _size("prefixed-zero", b"0x0"),
    _size("plus", b"+5"),
    _size("minus", b"-5"),
    _size("underscore", b"0_5"),
    _size("no-hexadecimal-digit", b"g"),
    _size("empty", b""),
    _size("space-before", b" 5"),
    _size("space-behind", b"5 "),
    _size("tab-behind", b"5\t"),
    _size("vertical-tab-behind", b"5\x0b"),
    _size("nul-behind", b"5\0"),
    _size("two-numbers", b"5 5"),
    _size("comma", b"5,5"),
    _size("fraction", b"5.0"),
    _size("quoted", b'"5"'),
    _size("digit-of-another-script", "٥".encode()),
    _size("no-break-space", b"\xa05"),
    _size("past-64-bits", b"10000000000000005"),
    _size("many-zeros", b"0" * 40 + b"5"),
    _size("very-many-zeros", b"0" * 5_000 + b"5"),
    stalls("the-largest", chunked(b"FFFFFFFFFFFFFFFF" + _FIVE + LAST + HIDDEN)),
    stalls("past-63-bits", chunked(b"8000000000000000" + _FIVE + LAST + HIDDEN)),
    stalls("past-32-bits", chunked(b"100000005" + _FIVE + LAST + HIDDEN)),
    _size("longer-than-its-data", b"6"),
    _size("shorter-than-its-data", b"4"),
    _bad("size-of-what-is-hidden", b"5\r\n0\r\n\r\n" + HIDDEN),
    _good("leading-zeros", b"0005\r\nhello\r\n" + LAST),
    _good("capitals", b"A\r\nhellohello\r\n" + LAST),
    _good("last-chunk-of-many-zeros", b"5" + _FIVE + b"0000\r\n\r\n"),
    _good("one-byte-each", b"".join(chunk(bytes([byte])) for byte in HIDDEN) + LAST),
)

LINE_ENDS: Final = (
    _bad("lf-behind-size", b"5\nhello\r\n" + LAST + HIDDEN),
    _bad("cr-behind-size", b"5\rhello\r\n" + LAST + HIDDEN),
    _bad("two-crs-behind-size", b"5\r\r\nhello\r\n" + LAST + HIDDEN),
    _bad("lf-cr-behind-size", b"5\n\rhello\r\n" + LAST + HIDDEN),
    _bad("lf-behind-data", b"5\r\nhello\n" + LAST + HIDDEN),
    _bad("cr-behind-data", b"5\r\nhello\r" + LAST + HIDDEN),
    _bad("nothing-behind-data", b"5\r\nhello" + LAST + HIDDEN),
    _bad("two-bytes-behind-data", b"5\r\nhelloXX" + LAST + HIDDEN),
    _bad("empty-line-behind-data", b"5\r\nhello\r\n\r\n" + LAST + HIDDEN),
    _bad("lf-only", b"5\nhello\n0\n\n" + HIDDEN),
    _bad("lf-behind-last-size", b"5" + _FIVE + b"0\n\r\n" + HIDDEN),
    _bad("cr-behind-last-size", b"5" + _FIVE + b"0\r\r\n" + HIDDEN),
    _bad("lf-as-the-last-line", b"5" + _FIVE + b"0\r\n\n" + HIDDEN),
    _bad("cr-as-the-last-line", b"5" + _FIVE + b"0\r\n\rX" + HIDDEN),
    _bad("no-last-line", b"5" + _FIVE + b"0\r\n" + HIDDEN),
    _bad("no-last-chunk", b"5" + _FIVE + HIDDEN),
    stalls("never-ends", chunked(b"5" + _FIVE)),
    _good("data-of-line-ends", b"4\r\n\r\n\r\n\r\n" + LAST),
    _good("data-like-a-last-chunk", chunk(LAST + HIDDEN) + LAST),
)

EXTENSIONS: Final = (
    _bad("lf-behind", b"5;a\nhello\r\n" + LAST + HIDDEN),
    _bad("lf-inside", b"5;a\nb\r\nhello\r\n" + LAST + HIDDEN),
    _bad("cr-inside", b"5;a\rb\r\nhello\r\n" + LAST + HIDDEN),
    _bad("lf-at-once", b"5;\nhello\r\n" + LAST + HIDDEN),
    _bad("nul-inside", b"5;a\0b\r\nhello\r\n" + LAST + HIDDEN),
    _bad("vertical-tab-inside", b"5;a\x0bb\r\nhello\r\n" + LAST + HIDDEN),
    _bad("space-before", b"5 ;a\r\nhello\r\n" + LAST + HIDDEN),
    _bad("too-long", b"5;" + b"a" * 5_000 + _FIVE + LAST + HIDDEN),
    _bad("lf-that-hides-a-chunk", b"2;\nxx\r\n%x\r\n0\r\n\r\n" % len(HIDDEN) + HIDDEN + LAST),
    _bad("quoted-line-end", b'5;a="\r\n"\r\nhello\r\n' + LAST + HIDDEN),
    _bad("lf-on-the-last-chunk", b"5" + _FIVE + b"0;a\n\r\n" + HIDDEN),
    _good("a-name", b"5;a" + _FIVE + LAST),
    _good("a-name-and-value", b"5;a=b" + _FIVE + LAST),
    _good("a-quoted-value", b'5;a="b;c\\"d"' + _FIVE + LAST),
    _good("an-open-quote", b'5;a="' + _FIVE + LAST),
    _good("only-semicolons", b"5;;;" + _FIVE + LAST),
    _good("obs-text", b"5;caf\xe9" + _FIVE + LAST),
    _good("looks-like-a-request", b"5;GET /smuggled/NNNN HTTP/1.1" + _FIVE + LAST),
    _good("looks-like-a-size", b"5;\t5" + _FIVE + LAST),
    _good("long-but-allowed", b"5;" + b"a" * 4_000 + _FIVE + LAST),
    _good("on-the-last-chunk", b"5" + _FIVE + b'0;a="b"\r\n\r\n'),
    passes("a-quoted-line-end-that-hides-a-chunk", chunked(b'2;a="\r\nxx\r\n0\r\n\r\n' + HIDDEN), POST, SMUGGLED),
)


def _trailers(name: str, lines: bytes) -> Case:
    return _good(name, b"5" + _FIVE + b"0\r\n" + lines + b"\r\n")


def _bad_trailers(name: str, lines: bytes) -> Case:
    return _bad(name, b"5" + _FIVE + b"0\r\n" + lines + b"\r\n" + HIDDEN)


TRAILERS: Final = (
    _trailers("an-ordinary-one", b"X-Checksum: 1\r\n"),
    _trailers("content-length", b"Content-Length: %d\r\n" % len(OPENLY)),
    _trailers("transfer-encoding", b"Transfer-Encoding: chunked\r\n"),
    _trailers("host", b"Host: evil.test\r\n"),
    _trailers("connection", b"Connection: close\r\n"),
    _trailers("upgrade", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    _trailers("authorization", b"Authorization: Basic eA==\r\n"),
    _trailers("key", b"Idempotency-Key: another\r\n"),
    _trailers("expect", b"Expect: 100-continue\r\n"),
    _trailers("forwarded-for", b"X-Forwarded-For: 127.0.0.1\r\n"),
    _bad_trailers("a-request", b"GET /smuggled/NNNN HTTP/1.1\r\nHost: hidden.test\r\n"),
    _bad_trailers("bare-lf", b"X: a\nY: b\r\n"),
    _bad_trailers("lf-lf", b"X: a\n\n"),
    _bad_trailers("bare-cr", b"X: a\rY: b\r\n"),
    _bad_trailers("fold", b"X: a\r\n b\r\n"),
    _bad_trailers("fold-at-once", b" X: a\r\n"),
    _bad_trailers("nul", b"X: a\0\r\n"),
    _bad_trailers("space-before-colon", b"X : a\r\n"),
    _bad_trailers("no-colon", b"X\r\n"),
    _bad_trailers("empty-name", b": a\r\n"),
    _bad_trailers("too-long", b"X: %b\r\n" % (b"a" * 17_000)),
)
