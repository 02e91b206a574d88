"""A reload in the serving process: what changes with the next request, and what lives on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from idemproxy.config import load_text
from idemproxy.errors import StartError
from idemproxy.runtime.plan import prepare
from tests.proxy.product import CREATED, RULE, Api, Exchange, Product, post, problem, serving, sqlite
from tests.proxy.wire import Reply, Wire, eventually
from tests.stores.redis_server import RedisServer

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OTHER = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nother"


@pytest.fixture
async def other() -> AsyncIterator[Api]:
    """Another upstream, which says so."""
    api = Api()
    api.respond = lambda exchange: exchange.send(OTHER)
    await api.start()
    yield api
    await api.stop()


def take_over(product: Product, api: Api, rules: str = RULE, more: str = "") -> None:
    text = f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{api.port}\nstore: sqlite:unused.db\n{more}routes:{rules}"
    product.service.take_over(prepare(load_text(text, "test.yaml", {})))


class Holding:
    """Answers once it is let go."""

    def __init__(self, answer: bytes = CREATED) -> None:
        self.go = asyncio.Event()
        self._answer = answer

    async def __call__(self, exchange: Exchange) -> None:
        await self.go.wait()
        await exchange.send(self._answer)


@contextlib.asynccontextmanager
async def asking(product: Product, request: bytes) -> AsyncIterator[asyncio.Task[Reply]]:
    """A request that is on its way for as long as the block runs."""
    task = asyncio.ensure_future(product.ask(request))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --------------------------------------------------------------------------------------------------------------- what changes


async def test_the_next_request_on_the_same_connection_is_under_the_new_rules_and_upstream(
    product: Product, other: Api
) -> None:
    async with await product.connect() as wire:
        assert await asked(wire, post(path="/v1/orders")) == b'{"id":"ch"}'
        take_over(product, other, rules=RULE.replace("charges", "orders"))
        assert await asked(wire, post(path="/v1/orders")) == b"other"
        assert await asked(wire, post(path="/v1/orders")) == b"other"
        assert await asked(wire, post(path="/v1/charges")) == b"other"
    assert len(product.api.requests) == 1
    assert len(other.requests) == 2, "orders are protected now, charges are not any more"


async def asked(wire: Wire, request: bytes) -> bytes:
    await wire.send(request)
    return (await wire.answer(b"POST")).body


async def test_what_was_recorded_before_is_replayed(product: Product, other: Api) -> None:
    first = await product.ask(post())
    take_over(product, other)
    again = await product.ask(post())
    assert again.body == first.body
    assert again.values(b"idempotent-replayed") == [b"true"]
    assert other.requests == []


async def test_refusals_below_the_rules_name_the_new_pages(product: Product, other: Api) -> None:
    take_over(product, other, more="docs_url: https://docs.test\n")
    reply = await product.ask(b"GET /x HTTP/1.1\r\n\r\n")
    assert reply.status == 400
    assert b"https://docs.test" in reply.body


async def test_idle_connections_to_the_old_upstream_are_closed(product: Product, other: Api) -> None:
    await product.ask(GET)
    assert product.api._tasks
    take_over(product, other)
    await eventually(lambda: not product.api._tasks)


async def test_files_that_cannot_be_used_change_nothing(product: Product, other: Api) -> None:
    text = f"upstream: https://127.0.0.1:{other.port}\ntls: {{upstream: {{ca: absent.pem}}}}\nroutes: []\n"
    with pytest.raises(StartError, match=r"absent\.pem"):
        product.service.take_over(prepare(load_text(text, "test.yaml", {})))
    await product.ask(post())
    assert (await product.ask(post())).values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


# --------------------------------------------------------------------------------------------------------------- what lives on


async def test_an_operation_in_flight_ends_under_its_own_configuration_and_a_retry_waits_for_it(
    product: Product, other: Api
) -> None:
    product.api.respond = holding = Holding()
    async with asking(product, post()) as first:
        await product.api.got(1)
        take_over(product, other)
        async with asking(product, post()) as retry:
            await eventually(lambda: waiting(product) == 1)
            holding.go.set()
            assert (await first).body == (await retry).body == b'{"id":"ch"}'
            assert (await retry).values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1
    assert other.requests == []


def waiting(product: Product) -> int:
    """How many requests wait in this process for one that it executes."""
    return sum(product.service._plan.gateway._places.taken.values())


async def test_this_process_executes_nothing_twice_though_the_store_forgot_it(
    redis_server: RedisServer, other: Api
) -> None:
    """DESIGN.md section 4, *One process, one execution*: also across a reload."""
    redis_server.client().flushall()
    async with serving(redis_server.url) as product:
        product.api.respond = holding = Holding()
        async with asking(product, post()) as first:
            await product.api.got(1)
            take_over(product, other)
            redis_server.client().flushall()
            async with asking(product, post()) as retry:
                await eventually(lambda: waiting(product) == 1 or other.requests)
                holding.go.set()
                await asyncio.gather(first, retry)
        assert len(product.api.requests) == 1
        assert other.requests == []


async def test_further_attempts_of_an_operation_go_where_the_first_one_went(tmp_path: Path, other: Api) -> None:
    rule = f"{RULE}    guarantee: at_least_once\n    retry: {{attempts: 2, on: [503], backoff: 1ms}}\n"
    async with serving(sqlite(tmp_path), rules=rule) as product:
        product.api.respond = holding = Holding(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        async with asking(product, post()) as first:
            await product.api.got(1)
            take_over(product, other, rules=rule)
            holding.go.set()
            assert (await first).status == 503
        assert len(product.api.requests) == 2
        assert other.requests == []


async def test_a_request_whose_body_was_on_its_way_keeps_to_the_configuration_that_it_met(
    product: Product, other: Api
) -> None:
    async with await product.connect() as wire:
        await wire.send(post()[:-3])
        await eventually(lambda: reading_a_body(product))
        take_over(product, other, rules="\n  []\n")
        await wire.send(post()[-3:])
        assert (await wire.answer(b"POST")).body == b'{"id":"ch"}'
    assert other.requests == []


def reading_a_body(product: Product) -> bool:
    """A request's head was taken in, and the rest of it is waited for."""
    serving = [each._incoming for each in product.service._port.connections.open]
    return any(each is not None and each.waiting for each in serving)


async def test_who_waits_since_before_counts_among_those_who_may_wait(tmp_path: Path, other: Api) -> None:
    rule = f"{RULE}    max_waiters: 1\n"
    async with serving(sqlite(tmp_path), rules=rule) as product:
        product.api.respond = holding = Holding()
        async with asking(product, post()) as first, asking(product, post()) as second:
            await eventually(lambda: waiting(product) == 1)
            take_over(product, other, rules=rule)
            third = await product.ask(post())
            assert problem(third)["slug"] == "key-in-flight"
            holding.go.set()
            assert {(await first).status, (await second).status} == {201}


async def test_a_drain_ends_the_waits_of_before_within_the_new_time(tmp_path: Path, other: Api) -> None:
    """Two waits of before, and one of after a further reload."""
    rule = f"{RULE}    wait_timeout: 50s\n"
    async with serving(sqlite(tmp_path), rules=rule, more="drain_timeout: 1h\n") as product:
        product.api.respond = Holding()
        async with asking(product, post()) as first, asking(product, post()) as second:
            await eventually(lambda: waiting(product) == 1)
            take_over(product, other, rules=rule, more="drain_timeout: 1h\n")
            async with asking(product, post()) as third:
                await eventually(lambda: waiting(product) == 2)
                take_over(product, other, rules=rule, more="drain_timeout: 100ms\n")
                await product.service.drain(asyncio.Event().wait())
                replies = [await each for each in (first, second, third)]
        assert {problem(reply)["slug"] for reply in replies} == {"shutting-down"}
        assert other.requests == []
