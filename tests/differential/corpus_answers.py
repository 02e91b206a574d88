"""Points 11 to 20: what the client sees of an answer, and what becomes of the connections."""

from __future__ import annotations

from typing import Final

from tests.differential.corpus import (
    OK,
    Case,
    Client,
    End,
    Exchange,
    Script,
    answer,
    case,
    chunked,
    chunked_answer,
    get,
    post,
)

_STATUS_LINES: Final = (
    b"200 OK",
    b"200 ",
    b"200",
    b"201 Created",
    b"299 Quite Fine",
    b"599 So it is",
    b"404 caf\xe9 ferm\xe9",
    b"200 OK  two  spaces",
    b"200 \ttab",
    b"999 Beyond",
    b"600 Six",
    b"226 IM Used",
    b"301 Moved",
    b"206 Partial",
    b"402 Pay",
    b"500 Broken",
    b"503 Later",
)

_CLOSE: Final = b"Connection: close\r\n"
"""Where nginx takes an answer to be at an end and its client does not, so that both would wait."""

_FIELDS: Final = {
    "Date and Server of its own": b"Date: yesterday\r\nserver: Mine/1\r\n",
    "two Dates": b"Date: one\r\nDate: two\r\n",
    "cookies in order": b"Set-Cookie: a=1\r\nX-A: 1\r\nSET-COOKIE: b=2\r\nSet-Cookie: a=1\r\n",
    "names in every case": b"x-b: 1\r\nX-B: 2\r\neTaG: x\r\n",
    "Latin-1 and UTF-8": b"X-Latin: \xe9\xff\r\nX-Name: \xe2\x82\xac\r\n",
    "an empty value": b"X-Empty: \r\nX-None:\r\n",
    "no blank behind the colon": b"X-A:1\r\n",
    "many blanks": b"X-A:  \t 1 \t\r\n",
    "control characters": b"X-Bell: a\x07b\r\n",
    "a repeated Content-Type": b"Content-Type: a/b\r\nContent-Type: c/d\r\n",
    "a type without a subtype": b"Content-Type: text\r\n",
    "validators": b'ETag: W/"x"\r\nLast-Modified: never\r\nAccept-Ranges: none\r\n',
    "a redirect": b"Location: http://127.0.0.1:1/x\r\nRefresh: 1; url=/x\r\n",
    "caching": b"Cache-Control: no-store\r\nCache-Control: private\r\nExpires: 0\r\nAge: 1\r\nVary: *\r\n",
    "orders for nginx": b"X-Accel-Buffering: no\r\nX-Accel-Redirect: /y\r\nX-Pad: x\r\n",
    "a content coding": b"Content-Encoding: gzip\r\n",
    "challenges": b'WWW-Authenticate: Basic realm="x"\r\nWWW-Authenticate: Digest x\r\n',
    "an underscore and odd names": b"X_Y: 1\r\n!#$%&'*+-.^_`|~09: odd\r\n",
    "a long value": b"X-Long: " + b"v" * 30_000 + b"\r\n",
    "many fields": b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(200)),
    "Via and Warning": b"Via: 1.1 other\r\nWarning: 199 - x\r\nPragma: x\r\n",
    "nosniff and CORS": b"X-Content-Type-Options: nosniff\r\nAccess-Control-Allow-Origin: *\r\n",
}

_HOP_BY_HOP: Final = {
    "keep-alive": b"A: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=9\r\nB: 2\r\n",
    "a listed field": b"Connection: X-Mine\r\nX-Mine: x\r\nX-Other: y\r\n",
    "an Upgrade that is offered": b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    "for a proxy": b"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nA: 1\r\n",
}


def _until_close(fields: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (fields, body)


def _interim() -> list[Case]:
    processing = b"HTTP/1.1 102 Processing\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n"
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    old = b"GET /old HTTP/1.0\r\n\r\n"
    waits = Exchange(
        get(b"/up", b"Expect: 100-continue\r\nContent-Length: 1\r\n", b"POST"), Script(before=processing + go_on), b"x"
    )
    return [
        case(12, "102", get(), processing + OK),
        case(12, "103", get(), hints + OK),
        case(12, "several", get(), processing + hints + processing + hints + OK),
        case(12, "a 100 that nobody asked for", get(), go_on + OK),
        case(12, "100 between others", get(), processing + go_on + hints + OK),
        case(12, "an unassigned one", get(), b"HTTP/1.1 199 Nearly\r\nX: 1\r\n\r\n" + OK),
        case(12, "to HTTP/1.0", old, hints + OK),
        case(12, "before a HEAD's answer", get(fields=_CLOSE, method=b"HEAD"), hints + OK.removesuffix(b"ok")),
        Case(12, "before the 100 that is waited for", (waits,)),
    ]


def _bodiless() -> list[Case]:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    fresh = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
    head = get(method=b"HEAD")
    return [
        case(13, "HEAD with a length", head, long),
        case(13, "HEAD without any framing", head, b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n"),
        case(13, "HEAD of a chunked answer", head, coded),
        case(13, "HEAD with a length of 0", head, answer(body=b"")),
        case(13, "HEAD with a body", head, answer(body=b"oops")),
        case(13, "HEAD of an error", head, long.replace(b"200 OK", b"404 No")),
        case(13, "304", get(), fresh),
        case(13, "304 with a length", get(), fresh.replace(b"ETag: x", b"ETag: x\r\nContent-Length: 1234")),
        case(13, "304 of a chunked answer", get(), fresh.replace(b"ETag: x", b"Transfer-Encoding: chunked")),
        case(13, "204", get(method=b"DELETE"), b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
        case(13, "204 with a length of 0", get(), b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        case(13, "205", get(), b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        Case(13, "HEAD and then GET", (Exchange(head, Script(long)), Exchange(get()))),
        Case(13, "304 and then GET", (Exchange(get(), Script(fresh)), Exchange(get()))),
    ]


def _framings() -> list[Case]:
    octets = bytes(range(256)) * 400
    many = b"".join(b"1\r\n%c\r\n" % octet for octet in range(256)) + b"0\r\n\r\n"
    sum_ = b"2\r\nok\r\n0\r\nX-Sum: 1\r\nx-sum: \xe9\r\nX-Empty:\r\n\r\n"
    barred = b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: a=1\r\nTransfer-Encoding: x\r\nConnection: close\r\n\r\n"
    first = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nX: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    bodies = {
        "a length": answer(body=octets),
        "a length of 0": answer(body=b""),
        "a length with zeros": answer().replace(b"Length: 2", b"Length: 002"),
        "chunked": chunked_answer(b"%x\r\n%b\r\n0\r\n\r\n" % (len(octets), octets)),
        "chunked, many chunks": chunked_answer(many),
        "chunked, empty": chunked_answer(b"0\r\n\r\n"),
        "chunked, its field first and in other letters": first,
        "chunk extensions": chunked_answer(b'2;a="b"\r\nok\r\n0;c\r\n\r\n'),
        "padded chunk sizes": chunked_answer(b"2  \r\nok\r\n0 \r\n\r\n"),
        "trailers": chunked_answer(sum_, b"Trailer: X-Sum\r\n"),
        "trailers that must not be": chunked_answer(barred),
    }
    closing = {
        "until the close": _until_close(b"X: 1\r\n", octets),
        "until the close, empty": _until_close(b"X: 1\r\n", b""),
        "until the close, announced": _until_close(b"Connection: close\r\n", b"all of it"),
        "a length, and the close": answer(b"Connection: close\r\n"),
        "chunked, and the close": chunked_answer(b"2\r\nok\r\n0\r\n\r\n", b"Connection: close\r\n"),
        "what looks like chunks until the close": _until_close(b"X: 1\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    }
    return [
        *(case(14, f"framing: {name}", get(), raw) for name, raw in bodies.items()),
        *(case(14, f"framing: {name}", get(), raw, end=End.CLOSE) for name, raw in closing.items()),
    ]


def _cut() -> list[Case]:
    cuts = {
        "in a length": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 90_000,
        "before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "between chunks": chunked_answer(b"3\r\nabc\r\n"),
        "in a chunk": chunked_answer(b"5\r\nabc"),
        "in a chunk's size": chunked_answer(b"3\r\nabc\r\n1"),
        "behind the last chunk": chunked_answer(b"3\r\nabc\r\n0\r\n"),
        "in the trailers": chunked_answer(b"3\r\nabc\r\n0\r\nX-Sum"),
    }
    return [
        *(case(14, f"cut {name}", get(), raw, end=End.CLOSE) for name, raw in cuts.items()),
        *(case(14, f"reset {name}", get(), raw, end=End.RESET) for name, raw in cuts.items()),
        case(14, "a chunk size that is none", get(), chunked_answer(b"3\r\nabc\r\nx\r\n")),
        case(14, "a chunk longer than its size", get(), chunked_answer(b"3\r\nabcd\r\n0\r\n\r\n")),
        case(14, "a folded trailer", get(), chunked_answer(b"2\r\nok\r\n0\r\nX: 1\r\n y\r\n\r\n")),
    ]


def _malformed() -> list[Case]:
    junk = {
        "a length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a folded length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
        "a head of more than 64 KiB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
        "no HTTP": b"hello, world\r\n\r\n",
        "another version": b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "a line without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        "a NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "chunked by HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    }
    cut = {
        "half a head": b"HTTP/1.1 200 OK\r\nX: 1",
        "nothing": b"",
        "an interim answer alone": b"HTTP/1.1 102 P\r\n\r\n",
    }
    return [
        *(
            case(16, f"malformed: {name}", get(fields=_CLOSE), raw, end=End.CLOSE, refused=502)
            for name, raw in junk.items()
        ),
        *(
            case(16, f"no answer: {name}", post(b"x", _CLOSE), raw, end=End.CLOSE, refused=502)
            for name, raw in cut.items()
        ),
    ]


def _repaired() -> list[Case]:
    repaired = {
        "bare LF": b"HTTP/1.1 200 OK\nX: 1\nContent-Length: 2\n\nok",
        "some bare LF": b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok",
        "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok",
        "obs-fold by bare LF": b"HTTP/1.1 200 OK\nX-A: one\n  two\nContent-Length: 2\n\nok",
        "a blank before a colon": b"HTTP/1.1 200 OK\r\nX-A : one\r\nContent-Length: 2\r\n\r\nok",
        "one length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\nContent-Length: 2\r\n\r\nok",
        "one length in a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    }
    behind = {
        "an answer that nobody asked for": OK + OK,
        "bytes behind a length": OK + b"more",
        "bytes behind the last chunk": chunked_answer(b"2\r\nok\r\n0\r\n\r\nmore"),
        "a body behind a 304": b"HTTP/1.1 304 Not Modified\r\n\r\nok",
        "a body behind a 204": b"HTTP/1.1 204 No Content\r\n\r\nok",
    }
    return [
        *(case(16, f"repaired: {name}", get(), raw, end=End.CLOSE) for name, raw in repaired.items()),
        *(case(16, f"behind: {name}", get(), raw) for name, raw in behind.items()),
    ]


def _connections() -> list[Case]:
    again = {"closed": End.CLOSE, "reset": End.RESET}
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\nX: 1\r\n\r\n"
    asked = b"Connection: Upgrade\r\nUpgrade: %b\r\n"

    def tunnel(name: str, protocol: bytes, held: bytes, more: bytes = b"") -> Case:
        script = Script(switching % protocol.removeprefix(b"h2c, ") + more, End.TUNNEL)
        return Case(19, name, (Exchange(get(b"/ws", asked % protocol), script, held),))

    leaves = Client.HALF_CLOSES
    return [
        *(case(18, f"{name} without an answer", get(), b"", end=end, refused=502) for name, end in again.items()),
        *(case(18, f"{name}, and not sent again", post(b""), b"", end=end, refused=502) for name, end in again.items()),
        tunnel("a tunnel", b"websocket", b"hello" * 10_000),
        tunnel("a tunnel of another name", b"my-own/1", b"x"),
        tunnel("bytes behind the 101", b"websocket", b"hello", b"first "),
        tunnel("a list of protocols", b"h2c, websocket", b"x"),
        case(19, "an upgrade that is refused", get(fields=asked % b"websocket"), answer(status=b"426 No")),
        case(19, "an upgrade that is ignored", get(fields=asked % b"websocket")),
        case(
            19,
            "h2c",
            get(fields=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ),
        case(20, "a client that half-closes", get(), client=leaves),
        case(20, "a client that half-closes after its body", post(b"x"), client=leaves),
        case(
            20,
            "a client that leaves in a length",
            get(b"/up", b"Content-Length: 9\r\n", b"POST") + b"abc",
            client=leaves,
        ),
        case(20, "a client that leaves between chunks", chunked(b"3\r\nabc\r\n"), client=leaves),
    ]


CASES: Final = (
    *(case(11, f"status line {line.decode('latin-1')!r}", get(), answer(status=line)) for line in _STATUS_LINES),
    *(case(11, f"fields: {name}", get(), answer(fields)) for name, fields in _FIELDS.items()),
    *(case(4, f"hop-by-hop of an answer: {name}", get(), answer(fields)) for name, fields in _HOP_BY_HOP.items()),
    *_interim(),
    *_bodiless(),
    *_framings(),
    *_cut(),
    *_malformed(),
    *_repaired(),
    *_connections(),
)
