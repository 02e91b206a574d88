"""Every test here runs on both event loops: their transports end, pause and reset connections each in their own way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from idemproxy.proxy.downstream import Limits, Serve
from tests.proxy.downstream.serving import PATIENT, Served, Start, hello, start_serving


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a data port; ends it, and looks whether it left anything behind."""
    running: list[Served] = []

    async def starting(serve: Serve = hello, limits: Limits = PATIENT, path: str | None = None) -> Served:
        served = await start_serving(serve, limits, path)
        running.append(served)
        return served

    yield starting
    for served in running:
        await served.close()
