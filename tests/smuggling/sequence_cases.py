"""Versions, several requests in a row, and Expect."""

from __future__ import annotations

from typing import Final

from tests.smuggling.cases import (
    BEHIND,
    GET,
    HIDDEN,
    HOST,
    LAST,
    POST,
    SECOND,
    SILENT,
    Case,
    chunk,
    chunked,
    counted,
    get,
    head,
    passes,
    refused,
)


def _version(name: str, version: bytes, status: int = 400) -> Case:
    return refused(name, b"GET /case/NNNN %b\r\n%b\r\n" % (version, HOST) + HIDDEN, status)


_OLD: Final = GET + b" HTTP/1.0\r\n"
_OLD_POST: Final = POST + b" HTTP/1.0\r\n"
_KEPT: Final = b"Connection: keep-alive\r\n"

VERSIONS: Final = (
    refused("0.9", b"GET /case/NNNN\r\n\r\n" + HIDDEN),
    refused("0.9-with-a-host", b"GET /case/NNNN\r\n" + HOST + b"\r\n" + HIDDEN),
    refused("0.9-ended-by-lf", b"GET /case/NNNN\n" + HIDDEN),
    Case("0.9-one-line", b"GET /case/NNNN\r\n", SILENT, protected=SILENT),
    Case("head-that-never-ends", b"GET /case/NNNN HTTP/1.1\r\n" + HOST, SILENT, protected=SILENT),
    _version("0.9-named", b"HTTP/0.9", 505),
    _version("1.2", b"HTTP/1.2", 505),
    _version("1.9", b"HTTP/1.9", 505),
    _version("2.0", b"HTTP/2.0", 505),
    _version("9.9", b"HTTP/9.9", 505),
    _version("0.0", b"HTTP/0.0", 505),
    _version("1.10", b"HTTP/1.10"),
    _version("01.1", b"HTTP/01.1"),
    _version("1.01", b"HTTP/1.01"),
    _version("1", b"HTTP/1"),
    _version("1.", b"HTTP/1."),
    _version("11", b"HTTP/11"),
    _version("comma", b"HTTP/1,1"),
    _version("minus", b"HTTP/-1.1"),
    _version("lower-case", b"http/1.1"),
    _version("letters-behind", b"HTTP/1.1a"),
    _version("another-protocol", b"HTTPS/1.1"),
    _version("no-slash", b"HTTP 1.1"),
    _version("full-width-digit", "HTTP/1.１".encode()),
    refused("preface-of-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, 505),
    passes("1.0-without-host", _OLD + b"\r\n" + BEHIND, GET),
    passes("1.0-closes", head(b"", _OLD) + BEHIND, GET),
    passes("1.0-kept-alive", head(_KEPT, _OLD) + BEHIND, GET, SECOND),
    passes("1.0-kept-alive-and-closed", head(b"Connection: keep-alive, close\r\n", _OLD) + BEHIND, GET),
    passes("1.0-kept-alive-by-a-proxy", head(b"Proxy-Connection: keep-alive\r\n", _OLD) + BEHIND, GET),
    passes("1.0-with-a-body", head(b"Content-Length: %d\r\n" % len(HIDDEN), _OLD_POST) + HIDDEN + BEHIND, POST),
    passes(
        "1.0-with-a-body-kept-alive",
        head(_KEPT + b"Content-Length: %d\r\n" % len(HIDDEN), _OLD_POST) + HIDDEN + BEHIND,
        POST,
        SECOND,
    ),
    passes("1.0-posts-without-length", head(b"", _OLD_POST) + BEHIND, POST),
    passes("1.0-expects", head(b"Expect: 100-continue\r\nContent-Length: 5\r\n", _OLD_POST) + b"hello" + BEHIND, POST),
)

_BAD: Final = (
    b"GET /smuggled/NNNN HTTP/1.1\r\nHost: hidden.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
)

PIPELINES: Final = (
    passes("two", get() + BEHIND, GET, SECOND),
    passes("eight", get() + BEHIND * 7, GET, *[SECOND] * 7),
    passes("body-then-get", counted(b"hello") + BEHIND, POST, SECOND),
    passes("chunks-then-get", chunked(chunk(b"hello") + LAST) + BEHIND, POST, SECOND),
    passes("head-then-get", get(b"", b"HEAD") + BEHIND, b"HEAD /case/NNNN", SECOND),
    passes("empty-line-between", counted(b"hello") + b"\r\n" + BEHIND, POST, SECOND),
    passes("two-empty-lines-between", counted(b"hello") + b"\r\n\r\n" + BEHIND, POST, then=400),
    passes("bare-lf-between", counted(b"hello") + b"\n" + BEHIND, POST, then=400),
    passes("space-between", counted(b"hello") + b" " + BEHIND, POST, then=400),
    passes("one-byte-too-many", counted(b"hello", length=b"4") + BEHIND, b"POST /case/NNNN", b"oGET /behind/NNNN"),
    passes("junk-behind", get() + b"\x00\x01\x02\r\n\r\n" + HIDDEN, GET, then=400),
    passes("a-request-line-behind", get() + b"GET /smuggled/NNNN HTTP/1.1\r\n", GET),
    passes("bad-framing-behind", get() + _BAD + HIDDEN, GET, then=400),
    passes("bad-framing-behind-a-body", counted(HIDDEN) + _BAD + HIDDEN, POST, then=400),
    passes("bad-framing-behind-chunks", chunked(chunk(HIDDEN) + LAST) + _BAD + HIDDEN, POST, then=400),
    passes("fold-behind", get() + b" folded: x\r\n" + HIDDEN, GET, then=400),
    passes("answer-behind", get() + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + HIDDEN, GET, then=400),
    passes("connect-behind", get() + b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" + HIDDEN, GET, then=501),
    passes("last-chunk-behind-a-body", counted(b"hello") + LAST + HIDDEN, POST, then=400),
    passes("second-last-chunk", chunked(LAST) + LAST + HIDDEN, POST, then=400),
    passes("bad-hosts-behind", get() + b"GET /smuggled/NNNN HTTP/1.1\r\n\r\n" + HIDDEN, GET, then=400),
)


def _expect(value: bytes, method: bytes = b"POST") -> bytes:
    return get(b"Expect: %b\r\nContent-Length: %d\r\n" % (value, len(HIDDEN)), method) + HIDDEN


EXPECTATIONS: Final = (
    passes("body-sent-already", _expect(b"100-continue"), POST),
    passes("and-another-behind", _expect(b"100-continue") + BEHIND, POST, SECOND),
    passes("chunks-sent-already", chunked(chunk(HIDDEN) + LAST, b"Expect: 100-continue\r\n") + BEHIND, POST, SECOND),
    passes("in-capitals", _expect(b"100-CONTINUE") + BEHIND, POST, SECOND),
    passes("twice", _expect(b"100-continue\r\nExpect: 100-continue") + BEHIND, POST, SECOND),
    passes("in-a-list", _expect(b"100-continue, 100-continue") + BEHIND, POST, SECOND),
    passes("unknown", _expect(b"cow"), POST),
    passes("unknown-word-before", _expect(b"y 100-continue"), POST),
    passes("empty", _expect(b""), POST),
    passes("of-get", _expect(b"100-continue", b"GET") + BEHIND, GET, SECOND),
    passes("of-head", _expect(b"100-continue", b"HEAD") + BEHIND, b"HEAD /case/NNNN", SECOND),
    passes("without-a-body", get(b"Expect: 100-continue\r\n") + BEHIND, GET, SECOND),
    passes("with-length-0", get(b"Expect: 100-continue\r\nContent-Length: 0\r\n", b"POST") + BEHIND, POST, SECOND),
    refused("folded", _expect(b"\r\n 100-continue")),
    refused("bare-lf", _expect(b"\n100-continue")),
    refused(
        "both-framings",
        get(b"Expect: 100-continue\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"POST") + LAST + HIDDEN,
    ),
)
