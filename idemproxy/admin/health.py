"""The two health checks. They need no token: they say nothing but whether, and why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

Ready = Callable[[], Awaitable[str | None]]
"""None: this process can serve. Else the reason why not, in words for an operator."""

_FRESH = {"Cache-Control": "no-store"}


def application(ready: Ready) -> web.Application:
    """`GET /healthz`: 200, the process lives. `GET /readyz`: 200, or 503 with the reason that `ready` gives."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=_FRESH)

    async def readyz(_: web.Request) -> web.Response:
        reason = await ready()
        if reason is None:
            return web.json_response({"status": "ready"}, headers=_FRESH)
        return web.json_response({"status": "unready", "reason": reason}, status=503, headers=_FRESH)

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    return application
