"""Rules that only observe: a store that is slow or away, the limits of what is observed, and what is left for enforcing."""

from __future__ import annotations

import asyncio
import time

import pytest

from idemproxy import observing
from idemproxy.errors import StoreAmbiguous
from idemproxy.idempotency.record import State
from tests.proxy.observing.watching import OBSERVE, Held, memory, stored, told, watching
from tests.proxy.product import RULE, post, serving
from tests.proxy.wire import eventually


async def test_a_store_that_hangs_delays_nothing() -> None:
    """The request is on its way before the store was asked, and its answer does not wait for it."""
    held = asyncio.Event()

    async def hangs(command: str) -> None:
        await held.wait()

    store = memory()
    store.before = hangs
    async with watching(store) as watched:
        began = time.monotonic()
        for number in range(20):
            assert (await watched.product.ask(post(f"k{number}"))).status == 201
        assert time.monotonic() - began < 5
        assert watched.now() == []
        held.set()
        assert {told(line) for line in await watched.lines(20)} == {("would_execute", "completed")}


async def test_a_store_that_fails_is_told_once_and_fails_nothing() -> None:
    async def fails(command: str) -> None:
        raise StoreAmbiguous("no reply")

    store = memory()
    store.before = fails
    for more, expected in (
        ("", ("would_refuse", "store-unavailable")),
        ("    on_store_failure: fail_open\n    guarantee: at_least_once\n", ("would_execute", "unprotected")),
    ):
        async with watching(store, rules=OBSERVE + more) as watched:
            for _ in range(3):
                assert (await watched.product.ask(post("k1"))).status == 201
            assert [told(line) for line in await watched.lines(3)] == [expected] * 3
            assert len(watched.warnings()) == 1


async def test_a_drain_writes_what_became_of_the_last_requests() -> None:
    held = asyncio.Event()
    asked: list[str] = []

    async def slow(command: str) -> None:
        asked.append(command)
        if command == "complete":
            await held.wait()

    store = memory()
    store.before = slow
    async with watching(store) as watched:
        await watched.product.ask(post("k1"))
        await eventually(lambda: "complete" in asked, "the shadow's end")
        draining = asyncio.ensure_future(watched.product.service.drain(asyncio.get_running_loop().create_future()))
        done, _ = await asyncio.wait([draining], timeout=0.5)
        assert not done
        held.set()
        await draining
        (slot,) = store.slots.values()
        assert slot.record is not None
        assert slot.record.state is State.COMPLETED


async def test_beyond_the_limit_requests_pass_unobserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MOST", 1)
    held = Held()
    await held.api.start()
    async with watching(memory(), held.api) as watched:
        asking = asyncio.ensure_future(watched.product.ask(post("k1")))
        await held.api.got(1)
        held.go.set()
        # the first is still observed: its client has not read its answer, the upstream has not given it
        await asking
        await watched.lines(1)
        held.go.clear()
        asking = asyncio.ensure_future(watched.product.ask(post("k2")))
        await held.api.got(2)
        other = asyncio.ensure_future(watched.product.ask(post("k3")))
        await held.api.got(3)
        held.go.set()
        assert (await asking).status == (await other).status == 201
        lines = (await watched.lines(3))[1:]
        assert [told(line) for line in lines] == [("not_judged", "busy"), ("would_execute", "completed")]
    await held.api.stop()


async def test_bodies_beyond_the_room_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MOST_KEPT", 100)
    async with watching(memory()) as watched:
        await watched.product.ask(post("k1", b"x" * 101))
        for _ in range(3):
            await watched.product.ask(post("k2", b"x" * 60))
        lines = await watched.lines(4)
        assert [told(line)[0] for line in lines] == ["not_judged", "would_execute", "would_replay", "would_replay"]


async def test_a_body_that_is_too_large_for_the_rule_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "MOST_KEPT", 100)
    async with watching(memory(), rules=OBSERVE + "    max_request_body: 8\n") as watched:
        await watched.product.ask(post("k1", b"x" * 101))
        assert [told(line) for line in await watched.lines(1)] == [("would_refuse", "request-too-large")]
        head = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n"
        await watched.product.ask(b"%b65\r\n%b\r\n0\r\n\r\n" % (head, b"x" * 101))
        assert [told(line) for line in await watched.lines(2)] == [("would_refuse", "request-too-large")] * 2


async def test_enforcing_later_finds_no_shadow(store_url: str) -> None:
    async with stored(store_url) as store, watching(store) as watched:
        await watched.product.ask(post("k1"))
        await watched.lines(1)
        await eventually(lambda: not watched.product.service._shared.watch._tasks, "the shadow's end")
        ((_, found),) = (await store.scan(state=None, rule=None, limit=5, cursor=None)).found
        assert found.record.rule == "charges (observed)"
        assert found.record.state is State.COMPLETED
        assert b"ch" not in repr(found.record.answer).encode()
        page = await store.scan(state=None, rule="charges", limit=5, cursor=None)
        assert page.found == ()
    async with serving(store_url, rules=RULE) as product:
        reply = await product.ask(post("k1"))
        assert reply.values(b"idempotent-replayed") == []
        assert len(product.api.requests) == 1
