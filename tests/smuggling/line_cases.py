"""Lines, blanks and control characters in heads (RFC 9112, sections 2 and 5)."""

from __future__ import annotations

from typing import Final

from tests.smuggling.cases import GET, HIDDEN, HOST, POST, Case, counted, get, head, passes, refused

_START: Final = GET + b" HTTP/1.1\r\n"


def _field(name: str, lines: bytes) -> Case:
    return refused(name, get(lines) + HIDDEN)


def _start(name: str, line: bytes) -> Case:
    return refused(name, line + HOST + b"\r\n" + HIDDEN)


FIELDS: Final = (
    _field("fold", b"X: a\r\n b\r\n"),
    _field("fold-by-tab", b"X: a\r\n\tb\r\n"),
    _field("fold-of-blanks", b"X: a\r\n \r\n"),
    _field("fold-of-a-name", b"X\r\n : a\r\n"),
    refused("fold-of-the-first-field", _START + b" X: a\r\n" + HOST + b"\r\n" + HIDDEN),
    refused("fold-by-tab-of-the-first-field", _START + b"\tX: a\r\n" + HOST + b"\r\n" + HIDDEN),
    _field("fold-that-hides-a-request", b"X: a\r\n GET /smuggled/NNNN HTTP/1.1\r\n"),
    _field("bare-lf-between-fields", b"X: a\nY: b\r\n"),
    _field("bare-lf-in-value", b"X: a\nb\r\n"),
    _field("bare-lf-before-the-end", b"X: a\r\n\n"),
    _field("bare-cr-between-fields", b"X: a\rY: b\r\n"),
    _field("bare-cr-in-value", b"X: a\rb\r\n"),
    _field("bare-cr-in-name", b"X\rY: a\r\n"),
    _field("bare-cr-first-in-value", b"X:\ra\r\n"),
    _field("two-crs-before-lf", b"X: a\r\r\n"),
    _field("cr-alone-as-a-line", b"\rX: a\r\n"),
    _field("bare-cr-that-hides-a-head", b"X: a\r\r" + HIDDEN.replace(b"\r\n", b"\r")),
    _field("bare-lf-that-hides-a-head", b"X: a\n\n" + HIDDEN.replace(b"\r\n", b"\n")),
    _field("nul-in-value", b"X: a\0b\r\n"),
    _field("nul-in-name", b"X\0: a\r\n"),
    _field("nul-as-a-line", b"\0\r\n"),
    _field("vertical-tab-in-value", b"X: a\x0bb\r\n"),
    _field("form-feed-in-value", b"X: a\x0cb\r\n"),
    _field("escape-in-value", b"X: a\x1bb\r\n"),
    _field("delete-in-value", b"X: a\x7fb\r\n"),
    _field("space-before-colon", b"X : a\r\n"),
    _field("tab-before-colon", b"X\t: a\r\n"),
    _field("space-in-name", b"X Y: a\r\n"),
    _field("empty-name", b": a\r\n"),
    _field("no-colon", b"X\r\n"),
    _field("no-name-no-colon", b"GET /smuggled/NNNN HTTP/1.1\r\n"),
    _field("obs-text-in-name", b"X\xe9: a\r\n"),
    _field("slash-in-name", b"X/Y: a\r\n"),
    _field("parenthesis-in-name", b"X(Y): a\r\n"),
    _field("quoted-name", b'"X": a\r\n'),
    _field("at-in-name", b"X@Y: a\r\n"),
    _field("equals-in-name", b"X=Y: a\r\n"),
    refused("every-line-ends-with-lf", (_START + HOST + b"\r\n" + HIDDEN).replace(b"\r\n", b"\n")),
    refused("last-line-ends-with-lf", _START + HOST + b"\n" + HIDDEN),
    refused("head-ends-with-two-lfs", _START + HOST[:-2] + b"\n\n" + HIDDEN),
    refused("head-ends-with-lf-crlf", _START + HOST[:-2] + b"\n\r\n" + HIDDEN),
    refused("lines-end-with-lf-cr", (_START + HOST).replace(b"\r\n", b"\n\r") + b"\n\r" + HIDDEN),
    refused("head-over-the-limit", get(b"X: %b\r\n" % (b"a" * 66_000)) + HIDDEN, 431),
    refused("head-that-ends-past-the-limit", get(b"X: a\r\n" * 11_000) + HIDDEN, 431),
    passes("obs-text-in-value", get(b"X: caf\xe9 \x85 \xa0\r\n"), GET),
    passes("line-separator-in-value", get("X: a\u2028Content-Length: 5\u2029b\r\n".encode()), GET),
    passes("colons-in-value", get(b"X: Content-Length: 5\r\n"), GET),
    passes("empty-value", get(b"X:\r\nY: \t \r\n"), GET),
    passes("escaped-line-end-in-value", get(b"X: a%0d%0aContent-Length:%205\r\n"), GET),
    passes("odd-token-as-name", get(b"!#$%&'*+-.^_`|~9: a\r\n"), GET),
)

START_LINES: Final = (
    _start("two-spaces-before-target", b"GET  /case/NNNN HTTP/1.1\r\n"),
    _start("two-spaces-before-version", b"GET /case/NNNN  HTTP/1.1\r\n"),
    _start("space-behind-version", b"GET /case/NNNN HTTP/1.1 \r\n"),
    _start("space-before-method", b" GET /case/NNNN HTTP/1.1\r\n"),
    _start("tabs", b"GET\t/case/NNNN\tHTTP/1.1\r\n"),
    _start("tab-before-version", b"GET /case/NNNN\tHTTP/1.1\r\n"),
    _start("vertical-tab", b"GET\x0b/case/NNNN HTTP/1.1\r\n"),
    _start("no-break-space", b"GET\xa0/case/NNNN HTTP/1.1\r\n"),
    _start("bare-cr-behind", b"GET /case/NNNN HTTP/1.1\r\r\n"),
    _start("bare-cr-before-version", b"GET /case/NNNN\rHTTP/1.1\r\n"),
    _start("bare-lf-behind", b"GET /case/NNNN HTTP/1.1\n"),
    _start("bare-lf-before-version", b"GET /case/NNNN\nHTTP/1.1\r\n"),
    _start("nul-behind", b"GET /case/NNNN HTTP/1.1\0\r\n"),
    _start("nul-in-target", b"GET /case/NNNN\0 HTTP/1.1\r\n"),
    _start("nul-in-method", b"G\0ET /case/NNNN HTTP/1.1\r\n"),
    _start("two-versions", b"GET /case/NNNN HTTP/1.1 HTTP/1.1\r\n"),
    _start("space-in-target", b"GET /case/NNNN x HTTP/1.1\r\n"),
    _start("request-in-target", b"GET /case/NNNN HTTP/1.1\rGET /smuggled/NNNN HTTP/1.1\r\n"),
    _start("lf-before", b"\n" + _START),
    _start("cr-before", b"\r" + _START),
    _start("two-empty-lines-before", b"\r\n\r\n" + _START),
    _start("nul-before", b"\0" + _START),
    _start("byte-order-mark-before", b"\xef\xbb\xbf" + _START),
    _start("tls-greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
    _start("an-answer", b"HTTP/1.1 200 OK\r\n"),
    _start("a-field-first", b"X: a\r\n" + _START),
    passes("empty-line-before", b"\r\n" + get(), GET),
    passes(
        "escaped-request-in-target",
        get().replace(b" HTTP", b"%20HTTP/1.1%0d%0aX:%20y HTTP"),
        GET + b"%20HTTP/1.1%0d%0aX:%20y",
    ),
    passes("request-in-body", counted(b"\r\n" + HIDDEN), POST),
    passes("many-fields", get(b"".join(b"X-%d: a\r\n" % at for at in range(60))), GET),
)

METHODS: Final = (
    _start("empty", b" /case/NNNN HTTP/1.1\r\n"),
    _start("at", b"G@T /case/NNNN HTTP/1.1\r\n"),
    _start("comma", b"GET,POST /case/NNNN HTTP/1.1\r\n"),
    _start("parentheses", b"(GET) /case/NNNN HTTP/1.1\r\n"),
    _start("quoted", b'"GET" /case/NNNN HTTP/1.1\r\n'),
    _start("colon", b"GET: /case/NNNN HTTP/1.1\r\n"),
    _start("obs-text", b"G\xc9T /case/NNNN HTTP/1.1\r\n"),
    _start("delete", b"GET\x7f /case/NNNN HTTP/1.1\r\n"),
    _start("slash", b"GET/ /case/NNNN HTTP/1.1\r\n"),
    passes("lower-case", get(b"", b"get"), b"get /case/NNNN"),
    passes("unknown", get(b"", b"BREW"), b"BREW /case/NNNN"),
    passes("odd-token", get(b"", b"!#$%&'*+-.^_`|~9"), b"!#$%&'*+-.^_`|~9 /case/NNNN"),
    passes("long", get(b"", b"A" * 200), b"A" * 200 + b" /case/NNNN"),
    passes("unknown-with-a-body", get(b"Content-Length: %d\r\n" % len(HIDDEN), b"BREW") + HIDDEN, b"BREW /case/NNNN"),
    passes("preface-method", get(b"", b"PRI"), b"PRI /case/NNNN"),
    passes("another-method-in-a-field", get(b"X-HTTP-Method-Override: HEAD\r\n"), GET),
    refused("connect", head(b"", b"CONNECT api.test:443 HTTP/1.1\r\n") + HIDDEN, 501),
    refused("connect-to-a-path", head(b"", b"CONNECT /case/NNNN HTTP/1.1\r\n") + HIDDEN, 501),
)
