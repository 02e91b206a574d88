"""Whom a request is for, and what its connection may change of it: targets, Host, Connection, Upgrade."""

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
    Case,
    chunk,
    chunked,
    counted,
    get,
    passes,
    refused,
)


def _target(target: bytes, more: bytes = HOST) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, more)


def _bad_target(name: str, target: bytes, status: int = 400) -> Case:
    return refused(name, _target(target) + HIDDEN, status)


TARGETS: Final = (
    passes("absolute-form", _target(b"http://api.test/case/NNNN"), GET),
    passes("absolute-form-against-host", _target(b"http://other.test/case/NNNN"), GET),
    passes("absolute-form-with-port", _target(b"http://api.test:81/case/NNNN?a=b"), GET + b"?a=b"),
    passes("absolute-form-in-capitals", _target(b"HTTP://API.TEST/case/NNNN"), GET),
    passes("absolute-form-in-another-scheme", _target(b"https://api.test/case/NNNN"), GET),
    passes("absolute-form-in-1.0", b"GET http://api.test/case/NNNN HTTP/1.0\r\n\r\n", GET),
    passes("url-in-a-path", _target(b"/case/NNNN/http://other.test/"), GET + b"/http://other.test/"),
    passes("dot-segments", _target(b"/case/NNNN/../../smuggled/NNNN"), GET + b"/../../smuggled/NNNN"),
    passes(
        "escaped-slashes", _target(b"/case/NNNN%2f..%2f..%2fsmuggled%2fNNNN"), GET + b"%2f..%2f..%2fsmuggled%2fNNNN"
    ),
    passes(
        "escaped-line-end",
        _target(b"/case/NNNN?%0d%0a%0d%0aGET%20/smuggled/NNNN"),
        GET + b"?%0d%0a%0d%0aGET%20/smuggled/NNNN",
    ),
    passes("double-slash", _target(b"//case/NNNN"), b"GET //case/NNNN"),
    passes("backslash", _target(b"/case/NNNN\\x"), GET + b"\\x"),
    passes("asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"OPTIONS *"),
    passes("question-mark-only", _target(b"/case/NNNN?"), GET + b"?"),
    _bad_target("no-slash", b"case/NNNN"),
    _bad_target("empty", b""),
    _bad_target("asterisk-of-get", b"*"),
    _bad_target("authority", b"api.test:80"),
    _bad_target("fragment", b"/case/NNNN#x"),
    _bad_target("at", b"@other.test/case/NNNN"),
    _bad_target("user-information", b"http://user@api.test/case/NNNN"),
    _bad_target("absolute-form-without-host", b"http:///case/NNNN"),
    _bad_target("absolute-form-of-another-kind", b"ftp://api.test/case/NNNN"),
    _bad_target("absolute-form-with-one-slash", b"http:/api.test/case/NNNN"),
    _bad_target("absolute-form-with-bad-port", b"http://api.test:x/case/NNNN"),
    _bad_target("query-first", b"?x"),
    _bad_target("delete", b"/case/NNNN\x7f"),
    _bad_target("escape", b"/case/NNNN\x1b"),
    _bad_target("too-long", b"/case/NNNN?" + b"a" * 17_000, 414),
)


def _hosts(name: str, *lines: bytes) -> Case:
    return refused(name, _target(b"/case/NNNN", b"".join(lines)) + HIDDEN)


HOSTS: Final = (
    _hosts("none"),
    _hosts("twice-and-equal", HOST, HOST),
    _hosts("twice-and-different", HOST, b"Host: other.test\r\n"),
    _hosts("twice-in-another-case", HOST, b"hOST: other.test\r\n"),
    _hosts("twice-one-empty", b"Host:\r\n", HOST),
    _hosts("with-user", b"Host: user@api.test\r\n"),
    _hosts("with-path", b"Host: api.test/x\r\n"),
    _hosts("with-query", b"Host: api.test?x\r\n"),
    _hosts("with-space", b"Host: api.test other.test\r\n"),
    _hosts("with-bad-port", b"Host: api.test:x\r\n"),
    _hosts("with-two-ports", b"Host: api.test:80:81\r\n"),
    _hosts("with-nul", b"Host: api.test\0\r\n"),
    _hosts("with-tab", b"Host: api\t.test\r\n"),
    _hosts("with-obs-text", b"Host: caf\xe9.test\r\n"),
    _hosts("url", b"Host: http://api.test\r\n"),
    _hosts("folded", b"Host:\r\n api.test\r\n"),
    _hosts("continued", b"Host: api.test\r\n other.test\r\n"),
    _hosts("space-before-colon", b"Host : api.test\r\n"),
    _hosts("space-before-name", b" Host: api.test\r\n"),
    _hosts("behind-a-bare-lf", b"X: y\nHost: api.test\r\n"),
    _hosts("second-behind-a-bare-lf", HOST, b"X: y\nHost: other.test\r\n"),
    _hosts("second-behind-a-bare-cr", HOST, b"X: y\rHost: other.test\r\n"),
    refused("none-in-absolute-form", _target(b"http://api.test/case/NNNN", b"") + HIDDEN),
    refused("twice-in-absolute-form", _target(b"http://api.test/case/NNNN", HOST + HOST) + HIDDEN),
    passes("empty", _target(b"/case/NNNN", b"Host:\r\n"), GET),
    passes("with-comma", _target(b"/case/NNNN", b"Host: api.test,other.test\r\n"), GET),
    passes("with-underscore-twin", _target(b"/case/NNNN", HOST + b"X_Host: other.test\r\n"), GET),
    passes("with-forwarded-host", _target(b"/case/NNNN", HOST + b"X-Forwarded-Host: other.test\r\n"), GET),
)

_SIZE: Final = b"%d" % len(HIDDEN)


def _connection(name: str, value: bytes) -> Case:
    return refused(name, counted(HIDDEN, b"Connection: %b\r\n" % value) + BEHIND)


CONNECTION: Final = (
    _connection("names-content-length", b"Content-Length"),
    _connection("names-host", b"Host"),
    _connection("names-authorization", b"authorization"),
    _connection("names-the-key", b"Idempotency-Key"),
    _connection("names-among-others", b"keep-alive, X, CONTENT-LENGTH , close"),
    _connection("names-between-commas", b",,content-length,,"),
    _connection("names-behind-a-tab", b"close,\tcontent-length"),
    _connection("names-in-a-second-field", b"keep-alive\r\nConnection: content-length"),
    _connection("nul", b"close\0"),
    _connection("folded", b"close,\r\n content-length"),
    passes("names-what-is-not-there", get(b"Connection: X-Not-There\r\n") + BEHIND, GET, SECOND),
    passes("names-a-cookie", get(b"Connection: Cookie\r\nCookie: a=b\r\n") + BEHIND, GET, SECOND),
    passes("quotes-content-length", counted(HIDDEN, b'Connection: "content-length"\r\n') + BEHIND, POST, SECOND),
    passes("names-expect", counted(HIDDEN, b"Connection: Expect\r\nExpect: 100-continue\r\n") + BEHIND, POST, SECOND),
    passes("close", counted(HIDDEN, b"Connection: close\r\n") + BEHIND, POST),
    passes("close-in-a-list", counted(HIDDEN, b"Connection: keep-alive, close\r\n") + BEHIND, POST),
    passes("close-in-capitals", counted(HIDDEN, b"Connection: CLOSE\r\n") + BEHIND, POST),
    passes(
        "close-in-a-second-field", counted(HIDDEN, b"Connection: keep-alive\r\nConnection: close\r\n") + BEHIND, POST
    ),
    passes("proxy-connection", counted(HIDDEN, b"Proxy-Connection: close\r\n") + BEHIND, POST, SECOND),
    passes(
        "keep-alive-fields",
        counted(HIDDEN, b"Connection: keep-alive\r\nKeep-Alive: timeout=0, max=1\r\n") + BEHIND,
        POST,
        SECOND,
    ),
    passes(
        "te-field", chunked(chunk(HIDDEN) + LAST, b"Connection: TE\r\nTE: chunked, trailers\r\n") + BEHIND, POST, SECOND
    ),
)


def _upgrade(to: bytes, more: bytes = b"", start: bytes = GET) -> bytes:
    return b"%b HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n" % (start, HOST, to, more)


_WEBSOCKET: Final = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_H2C: Final = b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LENGTH: Final = b"Content-Length: %b\r\n" % _SIZE

UPGRADES: Final = (
    passes("h2c", _upgrade(b"h2c", _H2C) + BEHIND, GET, SECOND),
    passes(
        "h2c-listed",
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + _H2C) + BEHIND,
        GET,
        SECOND,
    ),
    passes("h2c-without-connection", get(b"Upgrade: h2c\r\n" + _H2C) + BEHIND, GET, SECOND),
    passes("h2c-with-the-preface-behind", _upgrade(b"h2c", _H2C) + _PREFACE, GET, then=505),
    passes("h2c-with-a-body", _upgrade(b"h2c", _H2C + _LENGTH, POST) + HIDDEN + BEHIND, POST, SECOND),
    passes("h2c-in-capitals", _upgrade(b"H2C", _H2C) + BEHIND, GET, SECOND),
    passes("h2c-in-a-list", _upgrade(b"websocket, h2c", _H2C) + BEHIND, GET, SECOND),
    passes("h2", _upgrade(b"h2") + BEHIND, GET, SECOND),
    passes("tls", _upgrade(b"TLS/1.0") + BEHIND, GET, SECOND),
    passes("http-2", _upgrade(b"HTTP/2.0") + BEHIND, GET, SECOND),
    passes("websocket-with-a-body", _upgrade(b"websocket", _WEBSOCKET + _LENGTH) + HIDDEN + BEHIND, GET, SECOND),
    passes("websocket-posted", _upgrade(b"websocket", _WEBSOCKET + _LENGTH, POST) + HIDDEN + BEHIND, POST, SECOND),
    passes(
        "websocket-chunked",
        _upgrade(b"websocket", _WEBSOCKET + b"Transfer-Encoding: chunked\r\n") + chunk(HIDDEN) + LAST + BEHIND,
        GET,
        SECOND,
    ),
    passes(
        "websocket-of-another-version", _upgrade(b"websocket", b"Sec-WebSocket-Version: 777\r\n") + BEHIND, GET, SECOND
    ),
    passes("websocket-without-connection", get(b"Upgrade: websocket\r\n" + _WEBSOCKET) + BEHIND, GET, SECOND),
    passes("connection-without-upgrade", get(b"Connection: Upgrade\r\n" + _WEBSOCKET) + BEHIND, GET, SECOND),
    refused(
        "websocket-with-both-framings", _upgrade(b"websocket", _LENGTH + b"Transfer-Encoding: chunked\r\n") + HIDDEN
    ),
    refused(
        "websocket-that-hides-its-length",
        get(b"Connection: Upgrade, Content-Length\r\nUpgrade: websocket\r\n" + _LENGTH) + HIDDEN,
    ),
)
