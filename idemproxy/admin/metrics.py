"""The metrics, for Prometheus to fetch. They need neither the store nor that the process takes requests."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import hdrs, web

from idemproxy.observe.exposition import exposition
from idemproxy.observe.metrics import Metrics

PATH: Final = "/metrics"


def add_to(application: web.Application, metrics: Metrics) -> None:
    """`GET /metrics`: the sums over all workers, in the format that the scraper asks for."""

    async def scrape(request: web.Request) -> web.Response:
        accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
        # In a thread: with many rules the text takes longer than a request should wait for the loop.
        text, content_type = await asyncio.to_thread(exposition, metrics, accept)
        return web.Response(body=text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    application.router.add_get(PATH, scrape)
