"""The admin port: the two health checks, and the metrics."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from idemproxy.admin import health
from idemproxy.admin import metrics as metrics_page
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Decided, Metrics
from tests.unit.exposed import Exposed

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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(own_cells())


@pytest.fixture
async def counting(process: Process, metrics: Metrics, aiohttp_client: AiohttpClient) -> Client:
    application = health.application(process.ready)
    metrics_page.add_to(application, metrics)
    return await aiohttp_client(application)


@pytest.mark.parametrize("reason", [None, "draining", "store: away"])
async def test_the_metrics_are_there_whether_or_not_the_process_can_serve(
    counting: Client, metrics: Metrics, process: Process, reason: str | None
) -> None:
    process.reason = reason
    for expected in (1, 2):
        metrics.rule("charges").decided(Decided.REPLAYED, "completed", 0.001)
        async with counting.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            found = Exposed(await answer.text())
        labels = {"rule": "charges", "decision": "replayed", "state": "completed"}
        assert found.value("idemproxy_decisions_total", **labels) == expected


async def test_a_scraper_that_prefers_openmetrics_gets_it(counting: Client) -> None:
    """As Prometheus asks for it: in one field among others."""
    accepted = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    async with counting.get("/metrics", headers={"Accept": accepted}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await answer.text()).endswith("# EOF\n")


async def test_metrics_are_only_read(counting: Client) -> None:
    async with counting.post("/metrics") as answer:
        assert answer.status == 405
