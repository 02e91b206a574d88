"""Points 8 to 10: early answers, order, and what is refused."""

from __future__ import annotations

from typing import Final

from tests.differential.corpus import OK, Case, End, Exchange, Script, answer, case, chunked, chunked_answer, get, post

_HOST: Final = b"Host: a\r\n"
_EMPTY: Final = b"0\r\n\r\n"

_AMBIGUOUS: Final = {
    "a length and chunked": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _EMPTY,
    "chunked and a length": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    + _EMPTY,
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "one length twice": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "a hexadecimal length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    "an empty length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
    "a length past 64 bits": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999x\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" + _EMPTY,
    "two codings": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + _EMPTY,
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + _EMPTY,
    "two Transfer-Encoding fields": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _EMPTY,
    "a coding with a vertical tab": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n" + _EMPTY,
    "a blank before a colon": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n" + _EMPTY,
    "chunked by HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + _EMPTY,
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
    "a blank before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LFs": b"GET / HTTP/1.1\nHost: a\n\n",
    "one bare LF": b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a control character in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\nX: 1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "two blanks in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path": b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk with GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a URL of another scheme": b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
    "a field without a name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "a name with a parenthesis": b"GET / HTTP/1.1\r\nHost: a\r\nX(y): x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "a method that is no token": b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
}

_BROKEN_BODIES: Final = {
    "a chunk size that is none": b"x\r\nabc\r\n" + _EMPTY,
    "a negative chunk size": b"-1\r\nabc\r\n" + _EMPTY,
    "a chunk size with 0x": b"0x3\r\nabc\r\n" + _EMPTY,
    "a chunk size past 64 bits": b"11111111111111111\r\nabc\r\n" + _EMPTY,
    "a chunk longer than its size": b"3\r\nabcd\r\n" + _EMPTY,
    "a chunk size ended by LF": b"3\nabc\r\n" + _EMPTY,
    "a folded trailer": b"3\r\nabc\r\n0\r\nX: 1\r\n folded\r\n\r\n",
    "a trailer without a colon": b"3\r\nabc\r\n0\r\nNo colon\r\n\r\n",
}

_LISTED: Final = (b"Host", b"content-length", b"Idempotency-Key", b"AUTHORIZATION")


def _refused() -> list[Case]:
    """Each with a request behind it, that must not be taken for one either."""
    behind = Exchange(get(b"/smuggled"))
    listed = {
        f"Connection lists {name.decode()}": get(fields=b"Connection: close, " + name + b"\r\n") for name in _LISTED
    }
    return [
        *(
            Case(10, f"refused: {name}", (Exchange(raw), behind), refused=400)
            for name, raw in {**_AMBIGUOUS, **listed}.items()
        ),
        *(
            Case(10, f"refused: {name}", (Exchange(chunked(raw)), behind), refused=400)
            for name, raw in _BROKEN_BODIES.items()
        ),
        Case(10, "refused: after one that is not", (Exchange(get()), Exchange(get(fields=b"X : 1\r\n"))), refused=400),
        case(10, "refused: a version of 2.0", get(version=b"2.0"), refused=505),
        case(10, "refused: a head of more than 64 KiB", get(fields=b"X: " + b"a" * 70_000 + b"\r\n"), refused=431),
        case(10, "refused: a target of more than 16 KiB", get(b"/" + b"a" * 17_000), refused=414),
    ]


def _early() -> list[Case]:
    much = Script(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop", early=True)
    who = Script(b"HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", early=True)
    streamed = Script(chunked_answer(b"4\r\nstop\r\n0\r\n\r\n"), early=True)
    unfinished = get(b"/up", b"Content-Length: 100000000\r\n", b"POST") + bytes(100_000)
    return [
        Case(8, "a 413 before the body", (Exchange(unfinished, much),)),
        Case(8, "a 401 before a body that never ends", (Exchange(chunked(b"10\r\n" + bytes(16) + b"\r\n"), who),)),
        Case(8, "a chunked answer before the body", (Exchange(unfinished, streamed),)),
    ]


def _order() -> list[Case]:
    def several(name: str, *exchanges: Exchange) -> Case:
        return Case(9, name, exchanges)

    numbered = [Exchange(get(b"/%d" % number), Script(answer(body=b"%d" % number))) for number in range(12)]
    old = b"GET /old HTTP/1.0\r\n"
    kept = old + b"Connection: keep-alive\r\n\r\n"
    close = Script(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it", End.CLOSE)
    stream = chunked_answer(b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    return [
        several("twelve at once", *numbered),
        several(
            "methods mixed",
            Exchange(get(method=b"HEAD"), Script(answer().removesuffix(b"ok"))),
            Exchange(post(b"x")),
            Exchange(get()),
        ),
        several(
            "framings mixed",
            Exchange(chunked(b"1\r\na\r\n0\r\n\r\n")),
            Exchange(post(b"b")),
            Exchange(chunked(b"0\r\n\r\n")),
        ),
        several(
            "chunked answers", *(Exchange(get(), Script(chunked_answer(b"2\r\nok\r\n0\r\n\r\n"))) for _ in range(3))
        ),
        several("trailers are of their own request", Exchange(chunked(b"0\r\nX-Sum: 1\r\n\r\n")), Exchange(get())),
        several("the last one closes", Exchange(get()), Exchange(get(fields=b"Connection: close\r\n"))),
        several("an empty line between two", Exchange(post(b"x")), Exchange(b"\r\n" + get())),
        several("HTTP/1.0 and keep-alive", Exchange(kept), Exchange(kept)),
        case(9, "HTTP/1.0", old + b"\r\n"),
        case(9, "HTTP/1.0 with a body", b"POST /old HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        case(9, "HTTP/1.0 and a chunked answer", old + b"\r\n", stream),
        case(9, "HTTP/1.0, keep-alive and a chunked answer", kept, stream),
        Case(9, "HTTP/1.0 and an answer until the close", (Exchange(old + b"\r\n", close),)),
        case(
            9, "HTTP/1.0 and HEAD", b"HEAD /old HTTP/1.0\r\n\r\n", answer(body=b"").replace(b"Length: 0", b"Length: 9")
        ),
        case(9, "an answer by HTTP/1.0", get(), OK.replace(b"HTTP/1.1", b"HTTP/1.0"), end=End.CLOSE),
        case(9, "an answer by HTTP/1.2", get(), OK.replace(b"HTTP/1.1", b"HTTP/1.2")),
        case(9, "the client asks for the close", get(fields=b"connection: Close\r\n")),
    ]


CASES: Final = (*_early(), *_order(), *_refused())
