"""An aiohttp.web server with what curl's features need: `python -m tests.interop.api PORT`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from collections.abc import Awaitable, Callable

from aiohttp import BodyPartReader, web

READY = "api listening"
REALM, NONCE, USER, PASSWORD = "interop", "8f1c2d7e", "alice", "open sesame"
OF_ONE_HOP = frozenset({"connection", "keep-alive", "te", "transfer-encoding"})
"""Request fields that are for one hop, and so are not part of what is echoed."""
MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


async def echo(request: web.Request) -> web.StreamResponse:
    """The request as it came."""
    body = await request.read()
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers]
    seen = {
        "method": request.method,
        "target": request.raw_path,
        "fields": [field for field in fields if field[0].lower() not in OF_ONE_HOP],
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return web.json_response(seen)


async def parts(request: web.Request) -> web.StreamResponse:
    """The parts of a multipart form, whose boundary differs from request to request."""
    found: list[list[str | int | None]] = []
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        assert isinstance(part, BodyPartReader)
        body = bytes(await part.read())
        found.append([part.name, part.filename, part.headers.get("Content-Type"), hashlib.sha256(body).hexdigest()])
    return web.json_response(found)


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text="hello", headers={"X-CaSe": "kept", "ETag": '"h"', "Last-Modified": MODIFIED})


async def stream(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    for number in range(20):
        await answer.write(b"piece %d\n" % number * 100)
        await asyncio.sleep(0)
    await answer.write_eof()
    return answer


async def compressed(request: web.Request) -> web.StreamResponse:
    answer = web.Response(text="the same again and again, " * 500)
    answer.enable_compression()
    return answer


async def cookies(request: web.Request) -> web.StreamResponse:
    answer = web.Response(text="set")
    for cookie in ("first=1; Path=/", "second=two%20words; Path=/; HttpOnly", "third=3; Path=/elsewhere"):
        answer.headers.add("Set-Cookie", cookie)
    return answer


async def redirect(request: web.Request) -> web.StreamResponse:
    """/redirect/STATUS goes to /echo, /redirect/STATUS/N goes there in N steps."""
    _, _, status, *left = request.path.split("/")
    steps = int(left[0]) if left else 1
    where = "/echo?from=redirect" if steps <= 1 else f"/redirect/{status}/{steps - 1}"
    if status == "302":
        where = f"http://{request.host}{where}"
    await request.read()
    return web.Response(status=int(status), headers={"Location": where})


async def status(request: web.Request) -> web.StreamResponse:
    """/status/STATUS/REASON"""
    _, _, number, reason = request.path.split("/")
    return web.Response(status=int(number), reason=reason, text="" if number in ("204", "304") else "as asked")


async def conditional(request: web.Request) -> web.StreamResponse:
    fields = {"ETag": '"v1"', "Last-Modified": MODIFIED, "Cache-Control": "max-age=60"}
    if request.headers.get("If-None-Match") == '"v1"':
        return web.Response(status=304, headers=fields)
    return web.Response(text="version 1", headers=fields)


async def basic(request: web.Request) -> web.StreamResponse:
    await request.read()
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    if request.headers.get("Authorization") == wanted:
        return web.Response(text="welcome")
    return web.Response(status=401, headers={"WWW-Authenticate": f'Basic realm="{REALM}"'}, text="who are you?")


async def digest(request: web.Request) -> web.StreamResponse:
    """RFC 7616 with MD5 and qop=auth: the target that was signed must be the one that came."""
    body = await request.read()
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.headers.get("Authorization", "")))
    challenge = f'Digest realm="{REALM}", nonce="{NONCE}", qop="auth", algorithm=MD5'
    if given.get("uri") == request.raw_path and given.get("response") == _response(request.method, given):
        return web.Response(text=f"welcome, {len(body)} bytes")
    return web.Response(status=401, headers={"WWW-Authenticate": challenge}, text="who are you?")


def _response(method: str, given: dict[str, str]) -> str:
    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    user, what = md5(f"{USER}:{REALM}:{PASSWORD}"), md5(f"{method}:{given['uri']}")
    return md5(f"{user}:{NONCE}:{given.get('nc')}:{given.get('cnonce')}:{given.get('qop')}:{what}")


async def refused(request: web.Request) -> web.StreamResponse:
    """A body that is not wanted: answered before it was read."""
    return web.Response(status=413, text="too much", headers={"Connection": "close"})


async def early(request: web.Request) -> web.StreamResponse | None:
    """What is done with `Expect`: /refused answers at once, for others the body is asked for."""
    if request.path == "/refused":
        return await refused(request)
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


HANDLERS: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "parts": parts,
    "hello": hello,
    "stream": stream,
    "compressed": compressed,
    "cookies": cookies,
    "redirect": redirect,
    "status": status,
    "conditional": conditional,
    "basic": basic,
    "digest": digest,
    "refused": refused,
}


async def handle(request: web.Request) -> web.StreamResponse:
    name = request.raw_path.split("/")[1].partition("?")[0]
    return await HANDLERS.get(name, echo)(request)


async def main(port: int) -> None:
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{tail:.*}", handle, expect_handler=early)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(READY, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
