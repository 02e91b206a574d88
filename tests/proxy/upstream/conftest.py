"""Every test here runs on both event loops: their transports buffer, end and pause connections each in their own way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from idemproxy.proxy.outcome import Origin
from idemproxy.proxy.pool import Limits
from tests.proxy.scripted import Script, Scripted
from tests.proxy.upstream.asking import Hop, Reach, Watched


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    """Starts a server of scripts and an Upstream that reaches it; ends both, and looks whether anything was left behind."""
    running: list[Hop] = []

    async def reaching(
        *scripts: Script, limits: Limits | None = None, path: str | None = None, receive_buffer: int = 0
    ) -> Hop:
        server = Scripted(*scripts, path=path, receive_buffer=receive_buffer)
        await server.start()
        clock = [0.0]
        origin = Origin("127.0.0.1", server.port, path, None, None)
        hop = Hop(server, Watched(origin, limits or Limits(), lambda: clock[0]), clock)
        running.append(hop)
        return hop

    yield reaching
    for hop in running:
        await hop.end()
