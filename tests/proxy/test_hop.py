"""What the proxy adds as a hop when it is asked to (point 5), a base path (point 1), and the pool's limits (point 17)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.proxy.product import CREATED, Exchange, Product, post, serving, sqlite
from tests.proxy.wire import eventually

GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"


async def sent(folder: Path, more: str, request: bytes) -> bytes:
    """What the upstream sees of that request under those settings."""
    async with serving(sqlite(folder), more=more) as product:
        await product.ask(request)
        return product.api.requests[0].raw


async def test_point_5_forwarded_headers(tmp_path: Path) -> None:
    raw = await sent(tmp_path, "forwarded_headers: true\n", GET)
    assert raw == (
        b"GET /x HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: api.test\r\n\r\n"
    )


async def test_point_5_forwarded_for_is_appended_to_and_the_others_are_kept(tmp_path: Path) -> None:
    request = (
        b"GET /x HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-proto: https\r\n"
        b"x-forwarded-for: 2.2.2.2\r\nX-Forwarded-Host: www.test\r\nZ: 1\r\n\r\n"
    )
    raw = await sent(tmp_path, "forwarded_headers: true\n", request)
    assert b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 127.0.0.1\r\n" in raw
    assert raw.lower().count(b"x-forwarded-for:") == 1
    assert b"x-forwarded-proto: https\r\n" in raw
    assert b"X-Forwarded-Host: www.test\r\n" in raw
    assert b"api.test\r\n" in raw


async def test_point_5_via(tmp_path: Path) -> None:
    raw = await sent(tmp_path, "via: true\n", GET.replace(b"\r\n\r\n", b"\r\nVia: 1.0 other\r\n\r\n"))
    assert raw.endswith(b"Via: 1.0 other\r\nVia: 1.1 idemproxy\r\n\r\n")


async def test_point_5_upstream_host(tmp_path: Path) -> None:
    raw = await sent(tmp_path, "upstream_host: true\n", GET)
    assert b"Host: api.test" not in raw
    assert raw.startswith(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_point_5_on_a_rules_route_too(tmp_path: Path) -> None:
    raw = await sent(tmp_path, "forwarded_headers: true\nvia: true\n", post())
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in raw
    assert b"Via: 1.1 idemproxy\r\n" in raw


@pytest.mark.parametrize(
    ("base", "target", "expected"),
    [
        ("/base", b"/x", b"/base/x"),
        ("/base/", b"/x?y", b"/base/x?y"),
        ("/a%2Fb", b"//x", b"/a%2Fb//x"),
        ("", b"/x", b"/x"),
    ],
)
async def test_point_1_base_path(tmp_path: Path, product: Product, base: str, target: bytes, expected: bytes) -> None:
    from idemproxy.config import load_text
    from idemproxy.observe.cells import own_cells
    from idemproxy.observe.metrics import Metrics
    from idemproxy.runtime import Service
    from idemproxy.stores.opening import open_store
    from tests.proxy.wire import Wire

    text = f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{product.api.port}{base}\nroutes: []\n"
    settings = load_text(text, "test.yaml", {})
    store = await open_store(f"sqlite:{tmp_path / 'other.db'}", namespace="x", timeout_ms=1000)
    service = Service(settings, store, Metrics(own_cells()))
    try:
        await service.start()
        assert service.port is not None
        async with await Wire.connect(service.port) as wire:
            await wire.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            assert (await wire.answer()).status == 201
            await wire.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await wire.answer()).status == 201
    finally:
        await service.close()
        await store.close()
    assert product.api.requests[0].raw.startswith(b"GET " + expected + b" HTTP/1.1\r\n")
    assert product.api.requests[1].raw.startswith(b"OPTIONS * HTTP/1.1\r\n")


async def test_point_17_past_the_pools_limit_requests_wait_and_past_the_queue_they_are_refused(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), more="pool: {max: 2, queue: 1}\n") as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        product.api.respond = slow
        running = [asyncio.ensure_future(product.ask(GET)) for _ in range(2)]
        await product.api.got(2)
        waiting = asyncio.ensure_future(product.ask(GET))
        await eventually(lambda: len(product.service._plan.upstream._queue) == 1)
        refused = await product.ask(GET)
        assert refused.status == 503
        assert json.loads(refused.body)["retry"] == "same_key"
        protected = await product.ask(post())
        assert protected.status == 503
        go.set()
        assert [reply.status for reply in await asyncio.gather(*running, waiting)] == [201] * 3
        assert product.api.connections == 2
        assert (await product.ask(post())).status == 201, "what was not sent is free again"


async def test_point_17_a_waiter_that_leaves_gives_up_its_place(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), more="pool: {max: 1, queue: 1}\n") as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        product.api.respond = slow
        running = asyncio.ensure_future(product.ask(GET))
        await product.api.got(1)
        async with await product.connect() as wire:
            await wire.send(GET)
            await eventually(lambda: len(product.service._plan.upstream._queue) == 1)
            wire.reset()
        await eventually(lambda: len(product.service._plan.upstream._queue) == 0)
        go.set()
        assert (await running).status == 201
        assert (await product.ask(GET)).status == 201
        assert product.service._plan.upstream._pool.used == 0


async def test_point_17_an_idle_connection_past_its_time_is_not_used(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), more="pool: {idle: 1ms}\n") as product:
        for _ in range(3):
            await product.ask(GET)
            await asyncio.sleep(0.01)
        assert product.api.connections == 3
