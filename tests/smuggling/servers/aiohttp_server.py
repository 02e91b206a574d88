"""aiohttp_server.py PORT LOG: answers each request with its target, once its body came."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from aiohttp import web


class Handler(web.RequestHandler):
    """aiohttp's own, but for the note of what it cannot read."""

    __slots__ = ()

    def handle_error(self, request: web.BaseRequest, *arguments: Any, **named: Any) -> web.StreamResponse:
        if request.method == "UNKNOWN":
            note(b"? ?")
        return super().handle_error(request, *arguments, **named)


class Server(web.Server):
    """A server of such handlers."""

    def __call__(self) -> web.RequestHandler:
        return Handler(self, loop=self._loop, keepalive_timeout=600)


def note(line: bytes) -> None:
    os.write(LOG, line + b"\n")


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    target = request.raw_path.encode("utf-8", "surrogateescape")
    note(request.method.encode() + b" " + target)
    await request.read()
    return web.Response(body=target)


async def main() -> None:
    runner = web.ServerRunner(Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    asyncio.run(main())
