"""curl's HTTP/1.1 features, each against a server by itself and with the proxy in between: the same status lines, fields in their
order, bodies, exit status and use of connections."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.curl import HOST, Seen, curl, without_chunks
from tests.interop.servers import Pair

LARGE = 3_000_000
"""Bytes of the uploads: more than curl sends without asking for a 100 first."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that curl is given."""
    made = tmp_path_factory.mktemp("curl") / "files"
    made.mkdir()
    (made / "large").write_bytes(b"0123456789abcdef" * (LARGE // 16))
    (made / "small.json").write_text('{"amount": 5}')
    (made / "begun").write_bytes(b"".join(number.to_bytes(4, "big") for number in range(1_000)))
    (made / "etag").write_text('"v1"\n')
    return made


def _as_is(seen: Seen) -> Seen:
    return seen


def _one_boundary(seen: Seen) -> Seen:
    """nginx numbers the boundaries of its multipart answers."""

    def one(raw: bytes) -> bytes:
        return re.sub(rb"(boundary=|\r\n--)\d{20}", rb"\1BOUNDARY", raw)

    heads = tuple(tuple(one(line) for line in head) for head in seen.heads)
    return dataclasses.replace(seen, heads=heads, body=one(seen.body))


def _content(seen: Seen) -> Seen:
    """Chunk sizes are each hop's own."""
    return dataclasses.replace(seen, body=b"".join(without_chunks(seen.body)))


def _version_apart(seen: Seen) -> Seen:
    """The version, and with it the framing, are each hop's own."""
    heads = tuple(
        (head[0].partition(b" ")[2], *(line for line in head[1:] if not line.lower().startswith(b"transfer-encoding:")))
        for head in seen.heads
    )
    return dataclasses.replace(seen, heads=heads, facts=seen.facts.replace("HTTP/1\n", "HTTP/1.1\n"))


def _any_order(seen: Seen) -> Seen:
    """Of transfers at the same time: neither the order nor the number of connections is given."""
    return dataclasses.replace(seen, heads=(), facts=" ".join(sorted(line[:3] for line in seen.facts.splitlines())))


@dataclass(frozen=True)
class Feature:
    """`arguments` as in a shell; U is the server's address. `shows` are parts that the direct run must show, so that the feature is
    known to have been used; `but` takes out what may differ."""

    name: str
    server: str
    arguments: str
    shows: tuple[bytes, ...] = ()
    but: Callable[[Seen], Seen] = _as_is


FEATURES = [
    # ---------------------------------------------------------------------------------------------------- ranges, conditions
    Feature("get", "nginx", "U/hello.txt", (b"HTTP/1.1 200 OK", b"ETag", b"hello\n")),
    Feature("range", "nginx", "-r 100-199 U/big.bin", (b"206", b"Content-Range: bytes 100-199/15999995")),
    Feature("last bytes", "nginx", "-r -500 U/big.bin", (b"206", b"Content-Length: 500")),
    Feature("range to the end", "nginx", "-r 15998995- U/big.bin", (b"206", b"Content-Length: 1000")),
    Feature(
        "several ranges", "nginx", "-r 0-9,20-29,-5 U/big.bin", (b"multipart/byteranges", b"bytes 20-29"), _one_boundary
    ),
    Feature("range not satisfiable", "nginx", "-r 99999999-999999999 U/big.bin", (b"416", b"bytes */15999995")),
    Feature("resume", "nginx", "-C - -o begun U/big.bin", (b"206", b"bytes 4000-15999994/15999995")),
    Feature("if-range", "nginx", "-r 0-4 -H 'If-Range: \"other\"' U/text.txt", (b"200 OK",)),
    Feature("changed since", "nginx", "-z 'Wed, 21 Oct 2015 07:28:00 GMT' U/hello.txt", (b"304 Not Modified",)),
    Feature("unchanged since", "nginx", "-z '-Tue, 20 Oct 2015 00:00:00 GMT' U/hello.txt", (b"412 Precondition",)),
    Feature("if-none-match", "aiohttp", "-H 'If-None-Match: \"v1\"' U/conditional", (b"304", b'ETag: "v1"')),
    Feature("etag of a file", "aiohttp", "--etag-compare etag --etag-save kept U/conditional", (b"304",)),
    Feature("large download", "nginx", "-o got U/big.bin", (b"Content-Length: 15999995",)),
    Feature("limited download", "nginx", "--max-filesize 1000 U/big.bin", (b"Content-Length: 15999995",)),
    # -------------------------------------------------------------------------------------------------------------- HEAD etc.
    Feature("head", "nginx", "-I -o /dev/null U/big.bin", (b"200 OK", b"Content-Length: 15999995")),
    Feature("head of a stream", "aiohttp", "-I -o /dev/null U/stream", (b"200 OK",)),
    Feature("head, then get on the same connection", "nginx", "-I -o /dev/null U/text.txt --next U/hello.txt", (b"hello\n",)),
    Feature("no content", "nginx", "U/none", (b"204 No Content",)),
    Feature("not found", "nginx", "U/nowhere", (b"404 Not Found",)),
    Feature("fail", "nginx", "--fail U/nowhere", (b"404 Not Found",)),
    Feature("an unassigned status with a reason of its own", "aiohttp", "U/status/299/Rather%20Good", (b"299",)),
    Feature("repeated fields", "nginx", "U/twice", (b"X-Twice: one", b"X-Twice: two")),
    Feature("options", "aiohttp", "-X OPTIONS U/echo", (b'"OPTIONS"',)),
    Feature("a method of WebDAV", "aiohttp", "-X PROPFIND -H 'Depth: 1' U/echo", (b'"PROPFIND"',)),
    Feature("a method of one's own", "uvicorn", "-X BREW -d beans U/pot", (b'"BREW"',)),
    Feature("a method in lower case", "uvicorn", "-X purge U/pot", (b'"purge"',)),
    Feature("a method that nginx refuses", "nginx", "-X BREW U/hello.txt", (b"405",)),
    Feature("delete", "aiohttp", "-X DELETE U/echo/1", (b'"DELETE"',)),
    # ---------------------------------------------------------------------------------------------------------------- uploads
    Feature("put a file", "aiohttp", "-T small.json U/echo/", (b"/echo/small.json", b'"length": 13')),
    Feature("put a large file", "aiohttp", "--expect100-timeout 90 -T large U/echo", (b"100 Continue", b"3000000")),
    Feature("post a file", "aiohttp", "--data-binary @small.json U/echo", (b'"length": 13',)),
    Feature("post a large file", "aiohttp", "--expect100-timeout 90 --data-binary @large U/echo", (b"100 Continue",)),
    Feature("post without Expect", "aiohttp", "-H Expect: --data-binary @large U/echo", (b'"length": 3000000',)),
    Feature("Expect refused", "aiohttp", "--expect100-timeout 90 --data-binary @large U/refused", (b"413", b"too much")),
    Feature("Expect for a small body", "aiohttp", "--expect100-timeout 90 -H 'Expect: 100-continue' -d a=1 U/echo", (b"100",)),
    Feature("chunked upload", "aiohttp", "-H 'Transfer-Encoding: chunked' -H Expect: -T large U/echo", (b"3000000",)),
    Feature("chunked upload of standard input", "node", "-H Expect: -T - U/echo", (b'"PUT"', b'"length":0')),
    Feature("chunked upload with Expect", "aiohttp", "--expect100-timeout 90 -H 'Transfer-Encoding: chunked' -T large U/echo"),
    Feature("form", "aiohttp", "-d a=1 --data-urlencode 'b=two words & more' U/echo", (b"x-www-form-urlencoded",)),
    Feature("form in the query", "aiohttp", "-G -d a=1 --data-urlencode 'b=ä ö' U/echo", (b"/echo?a=1&b=",)),
    Feature("json", "aiohttp", "--json @small.json U/echo", (b"application/json", b'"length": 13')),
    Feature("multipart", "aiohttp", "-F amount=5 -F 'file=@large;type=image/png;filename=ü.png' U/parts", (b"image/png",)),
    Feature("multipart, chunked", "aiohttp", "-H 'Transfer-Encoding: chunked' -F 'file=@small.json' U/parts", (b"small",)),
    # ---------------------------------------------------------------------------------------------------------- authentication
    Feature("basic", "aiohttp", "-u 'alice:open sesame' U/basic", (b"welcome",)),
    Feature("basic refused", "aiohttp", "-u alice:wrong U/basic", (b"401", b"WWW-Authenticate: Basic")),
    Feature("digest", "aiohttp", "--digest -u 'alice:open sesame' 'U/digest/a%2Fb?q=1&r=%20'", (b"401", b"welcome")),
    Feature("digest with a body", "aiohttp", "--digest -u 'alice:open sesame' -d a=1 U/digest", (b"welcome, 3 bytes",)),
    Feature("digest refused", "aiohttp", "--digest -u alice:wrong U/digest", (b"401", b"who are you?")),
    Feature("any authentication", "aiohttp", "--anyauth -u 'alice:open sesame' U/digest", (b"401", b"welcome")),
    Feature("bearer", "aiohttp", "--oauth2-bearer abc.def U/echo", (b"Bearer abc.def",)),
    # -------------------------------------------------------------------------------------------------------- cookies, redirects
    Feature("cookies sent", "aiohttp", "-b 'a=1; b=\"two\"' U/echo", (b"a=1; b=",)),
    Feature("cookies kept and sent", "aiohttp", "-c jar -b '' U/cookies U/echo", (b"Set-Cookie: first=1", b"second=two%20words")),
    Feature("redirect", "aiohttp", "-L U/redirect/302", (b"302", b"/echo?from=redirect", b"redirects=1")),
    Feature("many redirects", "aiohttp", "-L U/redirect/307/5", (b"redirects=5",)),
    Feature("redirect of a post", "aiohttp", "-L -d a=1 U/redirect/303", (b'"GET"',)),
    Feature("redirect of a post that stays one", "aiohttp", "-L -d a=1 U/redirect/307", (b'"POST"', b'"length": 3')),
    Feature("too many redirects", "aiohttp", "-L --max-redirs 2 U/redirect/307/5", (b"redirects=2",)),
    Feature("redirect of nginx", "nginx", "-L U/moved", (b"301 Moved", b"hello\n")),
    Feature("redirect to a folder", "nginx", "-L U/folder", (b"301 Moved", b"index")),
    # ------------------------------------------------------------------------------------------------------------ codings, framing
    Feature("compressed", "nginx", "--compressed U/text.txt", (b"Content-Encoding: gzip", b"line 1999")),
    Feature("compressed, kept so", "nginx", "-H 'Accept-Encoding: gzip' U/text.txt", (b"gzip", b"\x1f\x8b")),
    Feature("compressed by aiohttp", "aiohttp", "--compressed U/compressed", (b"Content-Encoding: ", b"again and again")),
    Feature("transfer coding asked for", "aiohttp", "--tr-encoding U/hello", (b"hello",)),
    Feature("chunked", "aiohttp", "U/stream", (b"Transfer-Encoding: chunked", b"piece 19")),
    Feature("raw chunks", "aiohttp", "--raw U/stream", (b"chunked", b"piece 19"), _content),
    Feature("raw chunks with trailers", "node", "--raw U/trailers", (b"X-Sum: abc\r\nX-Count: 20\r\n",), _content),
    Feature("trailers", "node", "U/trailers", (b"Trailer: X-Sum", b"X-Sum: abc")),
    Feature("no buffering", "node", "-N U/stream", (b"piece 19",)),
    Feature("early hints", "node", "U/hints", (b"103 Early Hints", b"Link: </style.css>")),
    Feature("an upgrade to HTTP/2 that is not taken", "aiohttp", "--http2 U/hello", (b"200 OK", b"hello")),
    # ---------------------------------------------------------------------------------------------------------- targets, fields
    Feature("path as is", "uvicorn", "--path-as-is 'U/a/../b//c/%2e%2e/d;x=1/?'", (b"/a/../b//c/",)),
    Feature("path as is on aiohttp", "aiohttp", "--path-as-is 'U/a/../b//c/%2e%2e/%2F;x?'", (b"/a/../b//c/%2e%2e/%2F;x?",)),
    Feature("a target of one's own", "uvicorn", "-X OPTIONS --request-target '*' U/", (b'"path": "*"',)),
    Feature("absolute-form", "nginx", "--request-target http://api.test/hello.txt U/", (b"hello\n",)),
    Feature("fields", "aiohttp", "-A me/1 -e http://from.test/ -H 'X-Empty;' -H 'x-a: 1' -H 'X-A: ü' U/echo", (b'["X-Empty", ""]',)),
    Feature("another host", "aiohttp", "-H 'Host: other.test:81' U/echo", (b'["Host", "other.test:81"]',)),
    # -------------------------------------------------------------------------------------------------------------- connections
    Feature("keep-alive", "nginx", "U/hello.txt U/text.txt U/nowhere U/none U/hello.txt", (b"connects=0",)),
    Feature("keep-alive on aiohttp", "aiohttp", "U/hello U/stream -d a=1 U/echo", (b"connects=0",)),
    Feature("keep-alive, mixed", "node", "-d a=1 U/a --next U/big --next -I -o /dev/null U/hello --next U/stream", (b"piece 19",)),
    Feature("close", "nginx", "-H 'Connection: close' U/hello.txt U/hello.txt", (b"connects=1",)),
    Feature("HTTP/1.0", "nginx", "-0 U/hello.txt", (b"hello\n",), _version_apart),
    Feature("HTTP/1.0 of a stream", "node", "-0 U/stream", (b"piece 19",), _version_apart),
    Feature("HTTP/1.0 post", "aiohttp", "-0 -H Expect: --data-binary @large U/echo", (b"3000000",), _version_apart),
    Feature("HTTP/1.0 with keep-alive", "nginx", "-0 -H 'Connection: keep-alive' U/hello.txt U/hello.txt", (), _version_apart),
    Feature("several files at once", "nginx", "-Z --parallel-max 8 U/text.txt?[1-16] -o got#1", (b"200",), _any_order),
]  # fmt: skip


@pytest.mark.parametrize("feature", [pytest.param(feature, id=feature.name) for feature in FEATURES])
def test_curl(feature: Feature, pairs: dict[str, Pair], folder: Path) -> None:
    pair = pairs[feature.server]
    arguments = [
        word.replace("U/", f"{HOST}/", 1) if word.startswith("U/") else word for word in shlex.split(feature.arguments)
    ]
    direct, through = (curl(port, arguments, folder) for port in (pair.direct, pair.through))
    shown = b"\r\n".join(b"\r\n".join(head) for head in direct.heads) + direct.body + direct.facts.encode()
    shown += b"".join(content[:100_000] for _, content in direct.files)
    assert [part for part in feature.shows if part not in shown] == [], "the feature was not used"
    assert feature.but(through) == feature.but(direct)
