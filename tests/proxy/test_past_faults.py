"""Faults that other implementations had in production, each as a test on both stores. Elsewhere are: the wall clock that jumps
(tests/stores/test_sqlite_rows.py), and the claim that is lost while nobody looks (tests/e2e/test_store_trouble.py)."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, State
from idemproxy.observe.exposition import exposition
from idemproxy.stores.base import Claim, Claimed, Completion, Found, Release, SettleDelete
from tests.proxy.product import CREATED, RULE, Exchange, Product, post, problem, serving
from tests.proxy.wire import Reply, eventually
from tests.unit.exposed import Exposed

HASTY = RULE + "    lease: 2s\n"


class Held:
    """The upstream answers when it is let go."""

    def __init__(self, product: Product, answer: bytes = CREATED) -> None:
        self.go = asyncio.Event()
        self._answer = answer
        product.api.respond = self._respond

    async def _respond(self, exchange: Exchange) -> None:
        await self.go.wait()
        await exchange.send(self._answer)


def seen(product: Product) -> Exposed:
    return Exposed(exposition(product.metrics, "")[0].decode())


async def only_record(product: Product) -> tuple[str, Found]:
    ((record_id, found),) = (await product.store.scan(state=None, rule=None, limit=2, cursor=None)).found
    return record_id, found


async def dead_owner(store_url: str, lease: int) -> None:
    """A process claimed the operation and died."""
    async with serving(store_url) as product:
        held = Held(product)
        asking = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        record_id, found = await only_record(product)
        record = found.record
        held.go.set()
        await asking
        version = (await only_record(product))[1].record.version
        await product.store.settle(record_id, SettleDelete(record.token, version))
        claim = Claim(b"dead-owner------", record.fingerprint, record.recipe, "charges", OnUnknown.BLOCK, lease, 60_000)
        assert isinstance(await product.store.claim(record_id, claim), Claimed)


async def test_a_crash_does_not_mean_409_for_as_long_as_an_answer_is_kept(store_url: str) -> None:
    """An in-progress record that lives as long as the answer."""
    await dead_owner(store_url, 300)
    async with serving(store_url) as product:
        refused = problem(await product.ask(post()))
        assert refused["slug"] == "outcome-unknown", "within the lease, not within ttl"
        assert not product.api.requests


async def test_a_lock_that_is_shorter_than_the_request_lets_nobody_execute(store_url: str) -> None:
    async with serving(store_url, rules=HASTY) as product, serving(store_url, rules=HASTY, api=product.api) as other:
        held = Held(product)
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        second = asyncio.ensure_future(other.ask(post()))
        record_id, _ = await only_record(product)
        await past_leases(product, record_id, 4)
        held.go.set()
        assert (await first).body == (await second).body
        assert len(product.api.requests) == 1


async def past_leases(product: Product, record_id: str, count: int) -> None:
    """Wait until the lease was renewed so often."""
    ends: set[int] = set()
    async with asyncio.timeout(30):
        while len(ends) <= count:
            fact = await product.store.get(record_id)
            assert isinstance(fact, Found)
            ends.add(fact.record.lease_until)
            await asyncio.sleep(0.02)


async def test_nobody_but_its_owner_releases_an_operation(store_url: str) -> None:
    async with serving(store_url) as product:
        held = Held(product)
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        record_id, found = await only_record(product)
        fact = await product.store.release(record_id, Release(b"somebody-else---", 60_000))
        assert isinstance(fact, Found)
        assert (await only_record(product))[1].record == found.record
        held.go.set()
        assert (await first).status == 201


async def test_a_completion_that_fails_does_not_delete_the_record(store_url: str) -> None:
    async with serving(store_url) as product:
        held = Held(product)
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        record_id, found = await only_record(product)
        answer = Answer(201, b"201 Created\r\n", b"another's")
        fact = await product.store.complete(record_id, Completion(b"somebody-else---", answer, 60_000, None))
        assert isinstance(fact, Found)
        assert (await only_record(product))[1].record == found.record
        held.go.set()
        assert (await first).body == (await product.ask(post())).body
        assert len(product.api.requests) == 1


async def test_another_body_in_flight_is_422_and_not_409(store_url: str) -> None:
    reject = RULE + "    in_flight: reject\n"
    async with serving(store_url, rules=reject) as product, serving(store_url, rules=reject, api=product.api) as other:
        held = Held(product)
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        for each in (product, other):
            assert problem(await each.ask(post(body=b"amount=6")))["slug"] == "key-reused"
            assert problem(await each.ask(post()))["slug"] == "key-in-flight"
        held.go.set()
        await first


async def test_an_answer_that_is_too_large_to_keep_is_never_executed_again(store_url: str) -> None:
    async with serving(store_url, rules=RULE + "    max_response_body: 1KiB\n") as product:
        large = b"HTTP/1.1 201 Created\r\nContent-Length: 4096\r\n\r\n" + b"x" * 4096
        product.api.respond = lambda exchange: exchange.send(large)
        assert len((await product.ask(post())).body) == 4096
        for _ in range(2):
            assert problem(await product.ask(post()))["slug"] == "answer-not-kept"
        assert len(product.api.requests) == 1


async def test_a_replay_has_its_status_and_location(store_url: str) -> None:
    async with serving(store_url) as product:
        made = b'HTTP/1.1 201 Created\r\nLocation: /v1/charges/7\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n'
        product.api.respond = lambda exchange: exchange.send(made)
        first, again = await product.ask(post()), await product.ask(post())
        assert (again.status, again.values(b"location"), again.values(b"etag")) == (201, [b"/v1/charges/7"], [b'"a"'])
        assert without_marker(again) == first.head.raw


def without_marker(reply: Reply) -> bytes:
    marker = b"Idempotent-Replayed: true\r\n"
    assert reply.head.raw.count(marker) == 1
    return reply.head.raw.replace(marker, b"")


async def test_a_stream_is_stored_with_all_that_it_said(store_url: str) -> None:
    async with serving(store_url) as product:

        async def stream(exchange: Exchange) -> None:
            await exchange.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for number in range(3):
                await exchange.send(b"9\r\ndata: %d\n\n\r\n" % number)
            await exchange.send(b"0\r\n\r\n")

        product.api.respond = stream
        first, again = await product.ask(post()), await product.ask(post())
        assert first.body == again.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert again.values(b"idempotent-replayed") == [b"true"]
        assert len(product.api.requests) == 1


async def test_a_record_does_not_expire_in_the_middle_of_its_operation(store_url: str) -> None:
    """`ttl` is shorter than the upstream takes."""
    rules = RULE + "    lease: 2s\n    ttl: 100ms\n"
    async with serving(store_url, rules=rules) as product, serving(store_url, rules=rules, api=product.api) as other:
        held = Held(product)
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        record_id, _ = await only_record(product)
        await past_leases(product, record_id, 3)
        second = asyncio.ensure_future(other.ask(post()))
        await eventually(lambda: seen(other).value("idemproxy_waiters", rule="charges") == 1)
        await past_leases(product, record_id, 1)
        assert len(product.api.requests) == 1
        held.go.set()
        assert (await first).status == 201
        await second


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
async def test_what_ended_is_the_same_for_everybody_for_good(store_url: str, state: State) -> None:
    async with serving(store_url) as product:
        status = 201 if state is State.COMPLETED else 500
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\n1" % status)
        replies = await asyncio.gather(*[product.ask(post()) for _ in range(20)])
        assert {(reply.status, reply.body) for reply in replies} == {(status, b"1")}
        assert (await only_record(product))[1].record.state is state
        assert len(product.api.requests) == 1
