"""The two health checks."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from idemproxy.admin import health

Client = TestClient[web.Request, web.Application]


class Process:
    reason: str | None = None

    async def ready(self) -> str | None:
        return self.reason


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
async def client(process: Process, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(health.application(process.ready))


async def ask(client: Client, path: str) -> tuple[int, dict[str, Any]]:
    async with client.get(path) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, await answer.json()


async def test_a_process_that_can_serve_is_alive_and_ready(client: Client) -> None:
    assert await ask(client, "/healthz") == (200, {"status": "ok"})
    assert await ask(client, "/readyz") == (200, {"status": "ready"})


async def test_a_process_that_cannot_serve_is_alive_and_says_why(client: Client, process: Process) -> None:
    process.reason = "draining"
    assert await ask(client, "/healthz") == (200, {"status": "ok"})
    assert await ask(client, "/readyz") == (503, {"status": "unready", "reason": "draining"})
    process.reason = None
    assert (await ask(client, "/readyz"))[0] == 200


async def test_nothing_else_is_there(client: Client) -> None:
    for path in ("/", "/metrics", "/v1/records"):
        async with client.get(path) as answer:
            assert answer.status == 404
    async with client.post("/healthz") as answer:
        assert answer.status == 405
