"""Points 1 to 7: what the upstream sees of a request."""

from __future__ import annotations

from typing import Final

from tests.differential.corpus import Case, Exchange, Script, case, chunked, get, post

_TARGETS: Final = {
    "an escaped slash": b"/a%2Fb",
    "an escaped slash in lower case": b"/a%2fb%2Fc",
    "escaped dots": b"/%2e%2e/x",
    "dot segments": b"/a/./b/../c",
    "dot segments past the root": b"/../../etc/x",
    "slashes in a row": b"//double//slash///",
    "only slashes": b"///",
    "parameters": b"/a;b=c;d/e;f",
    "an empty query": b"/?",
    "a path and an empty query": b"/a?",
    "question marks in a query": b"/a?b?c=%20&d=+??",
    "a URL in a query": b"/go?to=http://h.test/p?q#".removesuffix(b"#"),
    "a URL in a path": b"/http://h.test/p",
    "an escaped blank": b"/sp%20ace",
    "escaped UTF-8": b"/caf%C3%A9",
    "raw UTF-8": b"/caf\xc3\xa9",
    "raw Latin-1": b"/caf\xe9?\xff",
    "an escaped NUL": b"/a%00b",
    "an escaped line end": b"/a%0d%0aX:%201",
    "escapes that are none": b"/%zz%4%",
    "an escaped percent sign": b"/%252e%2525",
    "escaped letters": b"/%61%62c",
    "characters that no URL has": b'/a|b^c{d}`"<>\\',
    "a tilde and more": b"/~user/!$&'()*+,=:@-._",
    "a long path": b"/" + b"a" * 8_000,
    "a long query": b"/q?" + b"k=v&" * 3_000,
    "an escaped question mark and number sign": b"/%3F%23",
    "a trailing dot and slash": b"/a/.",
}

_METHODS: Final = (
    b"PROPFIND",
    b"QUERY",
    b"BREW",
    b"get",
    b"gEt",
    b"M-SEARCH",
    b"DELETE",
    b"TRACE",
    b"OPTIONS",
    b"PATCH",
)

_FIELDS: Final = {
    "names in every case": b"X-b: 2\r\nx-B: 3\r\nX-B: 4\r\nhOST-x: 1\r\n",
    "repeats that are not neighbours": b"Accept: a\r\nX: 1\r\nAccept: b\r\nX: 2\r\nAccept: a\r\n",
    "a repeated User-Agent": b"User-Agent: one\r\nUser-Agent: two\r\n",
    "a repeated Content-Type": b"Content-Type: a/b\r\nContent-Type: c/d\r\n",
    "several cookies": b"Cookie: a=1; b=2\r\nCookie: c=3\r\n",
    "Latin-1": b"X-Latin: caf\xe9 \xff\r\n",
    "UTF-8": b"X-Name: \xe2\x82\xac\r\n",
    "an empty value": b"X-Empty: \r\nX-B: 1\r\n",
    "an empty value without a blank": b"X-Empty:\r\n",
    "no blank behind the colon": b"X-A:1\r\nX-B:2\r\n",
    "many blanks around": b"X-A:   1  \r\nX-B:\t2\t\r\n",
    "a tab inside": b"X-Tab: a\tb\r\n",
    "blanks inside": b"X-Blanks: a   b\r\n",
    "names of every token character": b"!#$%&'*+-.^_`|~09: odd\r\n",
    "an underscore": b"X_Under_Score: 1\r\nX-Under-Score: 2\r\n",
    "a name that is a number": b"1: one\r\n",
    "colons in a value": b"X-Time: 12:34:56\r\nX-Url: http://h/:\r\n",
    "a long value": b"X-Long: " + b"v" * 12_000 + b"\r\n",
    "a hundred fields": b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(100)),
    "conditions and ranges": b'If-None-Match: "x", W/"y"\r\nIf-Modified-Since: never\r\nRange: bytes=0-1,5-\r\nIf-Range: "x"\r\n',
    "forwarding fields": b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nVia: 1.0 x\r\nX-Real-IP: 1.2.3.4\r\n",
    "credentials": b"Authorization: Basic eDp5\r\nCookie: s=1\r\nIdempotency-Key: k\r\n",
    "an Accept-Encoding": b"Accept-Encoding: gzip;q=0.5, br, *;q=0\r\n",
    "Max-Forwards and Pragma": b"Max-Forwards: 0\r\nPragma: no-cache\r\nCache-Control: max-age=0\r\n",
    "HTTP2-Settings that nobody lists": b"HTTP2-Settings: AAMAAABk\r\n",
}

_HOP_BY_HOP: Final = {
    "keep-alive": b"A: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nB: 2\r\n",
    "close": b"Connection: close\r\n",
    "a listed field": b"A: 1\r\nConnection: X-Mine, x-yours\r\nX-Mine: x\r\nX-YOURS: y\r\nX-Other: z\r\n",
    "a listed field that is not there": b"Connection: X-Not-There\r\nA: 1\r\n",
    "several Connection fields": b"Connection: X-A\r\nX-A: 1\r\nconnection: X-B,,\r\nX-B: 2\r\n",
    "Proxy-Connection": b"Proxy-Connection: keep-alive\r\nA: 1\r\n",
    "credentials for a proxy": b"Proxy-Authorization: Basic eDp5\r\nProxy-Authenticate: Basic\r\nA: 1\r\n",
    "TE of a coding": b"TE: gzip\r\nConnection: TE\r\n",
    "TE of trailers": b"TE: trailers\r\nConnection: TE\r\n",
    "TE of both": b"TE: trailers, deflate;q=0.5\r\nConnection: TE\r\n",
    "an Upgrade that Connection does not list": b"Upgrade: websocket\r\nA: 1\r\n",
}


def _codings() -> list[Case]:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    first = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: api.test\r\nA: 1\r\n\r\n" + body
    shouted = b"POST /up HTTP/1.1\r\nHost: api.test\r\ntransfer-encoding:CHUNKED\r\nA: 1\r\n\r\n" + body
    return [
        case(4, "Transfer-Encoding before everything", first),
        case(4, "Transfer-Encoding in other letters", shouted),
        case(4, "Trailer stays", chunked(body, b"Trailer: X-Sum\r\n")),
    ]


def _hosts() -> list[Case]:
    hosts = [b"What.Ever:99", b"127.0.0.1", b"[::1]:8080", b"a_b.test", b"xn--caf-dma.test", b"", b"api.test:"]
    written = [
        case(5, f"Host {host.decode() or 'empty'}", b"GET / HTTP/1.1\r\nX: 1\r\nhOsT: %b\r\nY: 2\r\n\r\n" % host)
        for host in hosts
    ]
    return [
        *written,
        case(5, "HTTP/1.0 without Host", b"GET /old HTTP/1.0\r\nX: 1\r\n\r\n"),
        case(5, "HTTP/1.0 with Host", b"GET /old HTTP/1.0\r\nX: 1\r\nHost: old.test\r\n\r\n"),
        case(5, "only a Host", b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"),
    ]


def _forms() -> list[Case]:
    host = b"HTTP/1.1\r\nHost: api.test\r\nX: 1\r\n\r\n"
    return [
        case(1, "absolute-form", b"GET http://other.test:81/p?q " + host),
        case(1, "absolute-form of https in capitals", b"GET HTTPS://other.test/%2F//x " + host),
        case(1, "absolute-form without a path", b"GET http://other.test " + host),
        case(1, "absolute-form of a query alone", b"GET http://other.test?q " + host),
        case(1, "absolute-form by HTTP/1.0", b"GET http://other.test/p HTTP/1.0\r\nX: 1\r\n\r\n"),
        case(1, "absolute-form of the same host", b"GET http://api.test/p " + host),
        case(1, "asterisk-form", b"OPTIONS * " + host),
        case(1, "absolute-form of OPTIONS without a path", b"OPTIONS http://other.test " + host),
        case(1, "CONNECT", b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n", refused=501),
    ]


def _bodies() -> list[Case]:
    octets = bytes(range(256))
    big = octets * 800
    sum_ = b"X-Sum: 9\r\n"
    framing = b"Content-Length: 5\r\nTransfer-Encoding: x\r\nHost: b\r\nTrailer: x\r\nConnection: X-Sum\r\n"
    told = b"Authorization: x\r\nIdempotency-Key: k\r\nCookie: a\r\nForwarded: x\r\nX-Forwarded-For: x\r\nContent-Type: x\r\n"
    bodies = {
        "one byte": post(b"x"),
        "every byte": post(octets),
        "200 KiB with a length": post(big),
        "an empty one with a length": post(b""),
        "none with POST": get(b"/up", method=b"POST"),
        "with GET": post(b"hello", method=b"GET"),
        "with DELETE, chunked": chunked(b"5\r\nhello\r\n0\r\n\r\n", method=b"DELETE"),
        "with PUT and HEAD's look": post(b"HEAD / HTTP/1.1\r\n\r\n", method=b"PUT"),
        "that looks like a request": post(get(b"/smuggled")),
        "chunked, one chunk": chunked(b"5\r\nhello\r\n0\r\n\r\n"),
        "chunked, many chunks": chunked(b"".join(b"1\r\n%c\r\n" % octet for octet in octets) + b"0\r\n\r\n"),
        "chunked, one large chunk": chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)),
        "chunked, empty": chunked(b"0\r\n\r\n"),
        "chunked, line ends inside": chunked(b"8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n"),
        "chunked, sizes with zeros and capitals": chunked(b"0005\r\nhello\r\n00A\r\n0123456789\r\n000\r\n\r\n"),
        "chunk extensions": chunked(b'5;a=1;b="c"\r\nhello\r\n0;last\r\n\r\n'),
        "content codings": post(b"\x1f\x8b\x08not gzip", b"Content-Encoding: gzip, x-any\r\n"),
        "a digest and a type": post(
            b"{}", b"Content-Type: application/json; charset=x\r\nContent-Digest: x=:eA==:\r\n"
        ),
        "a length with zeros": get(b"/up", b"Content-Length: 0005\r\n", b"POST") + b"hello",
        "a trailer": chunked(b"3\r\nabc\r\n0\r\n" + sum_ + b"\r\n", b"Trailer: X-Sum\r\n"),
        "trailers raw and repeated": chunked(b"0\r\nX-a:1\r\nx-A: \xe9\r\nX-Empty:\r\nX-a: 2\r\n\r\n"),
        "trailers of framing": chunked(b"3\r\nabc\r\n0\r\n" + framing + sum_ + b"\r\n"),
        "trailers of credentials": chunked(b"3\r\nabc\r\n0\r\n" + told + sum_ + b"\r\n"),
    }
    return [case(6, f"a body: {name}", request) for name, request in bodies.items()]


def _expectations() -> list[Case]:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    waits = b"Expect: 100-continue\r\n"

    def held(name: str, fields: bytes, body: bytes, script: Script) -> Case:
        return Case(7, name, (Exchange(get(b"/up", fields, b"POST"), script, held=body),))

    refusal = Script(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", early=True)
    large = Script(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop", early=True)
    reason = Script(before=b"HTTP/1.1 100 Do Go On\r\n\r\n")
    return [
        held("a body after the 100", waits + b"Content-Length: 3\r\n", b"abc", Script(before=go_on)),
        held(
            "a chunked body after the 100",
            waits + b"Transfer-Encoding: chunked\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
            Script(before=go_on),
        ),
        held("a 100 with a reason of its own", waits + b"Content-Length: 3\r\n", b"abc", reason),
        held("in other letters", b"eXPECT: 100-Continue\r\nContent-Length: 3\r\n", b"abc", Script(before=go_on)),
        held("refused by the upstream", waits + b"Content-Length: 3\r\n", b"abc", refusal),
        held("too large for the upstream", waits + b"Content-Length: 999999\r\n", b"abc", large),
        case(7, "a client that does not wait", post(b"abc", waits)),
        case(7, "another expectation", post(b"abc", b"Expect: the-unexpected\r\n")),
        case(7, "without a body", get(b"/up", waits)),
    ]


CASES: Final = (
    *(case(1, f"target: {name}", get(target)) for name, target in _TARGETS.items()),
    *_forms(),
    *(case(2, f"method {method.decode()}", get(method=method)) for method in _METHODS),
    case(2, "a method of every token character", get(method=b"A!#$%&'*+-.^_`|~9")),
    *(case(3, f"fields: {name}", get(fields=fields)) for name, fields in _FIELDS.items()),
    *(case(4, f"hop-by-hop: {name}", get(fields=fields)) for name, fields in _HOP_BY_HOP.items()),
    *_codings(),
    *_hosts(),
    *_bodies(),
    *_expectations(),
)
