"""A counted store is the store itself, with its commands timed and its errors counted."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, Reason, State
from idemproxy.observe.cells import own_cells
from idemproxy.observe.counted import COMMANDS, CountedStore
from idemproxy.observe.exposition import exposition
from idemproxy.observe.metrics import Metrics
from idemproxy.stores.base import (
    Claim,
    Claimed,
    Completion,
    Done,
    MarkUnknown,
    NameNewest,
    NextAttempt,
    Page,
    Release,
    Renewal,
    SettleRelease,
    Store,
    TakeBack,
    TakeOver,
)
from tests.stores.memory import MemoryStore
from tests.unit.exposed import Exposed

ID = "0" * 64
TOKEN = b"t" * 16
ANSWER = Answer(200, b"200 OK\r\n", b"")
CLAIM = Claim(TOKEN, b"f" * 32, "recipe", "charges", OnUnknown.BLOCK, 30_000, 60_000)

Asking = Callable[[Store], Coroutine[Any, Any, object]]

ASKINGS: dict[str, Asking] = {
    "claim": lambda store: store.claim(ID, CLAIM),
    "take_over": lambda store: store.take_over(ID, TakeOver(TOKEN, b"s" * 16, 1, 30_000, 60_000)),
    "renew": lambda store: store.renew(ID, Renewal(TOKEN, 30_000, 60_000)),
    "next_attempt": lambda store: store.next_attempt(ID, NextAttempt(TOKEN, False, 30_000, 60_000)),
    "complete": lambda store: store.complete(ID, Completion(TOKEN, ANSWER, 60_000, None)),
    "mark_unknown": lambda store: store.mark_unknown(ID, MarkUnknown(TOKEN, Reason.RESET, 60_000, None)),
    "release": lambda store: store.release(ID, Release(TOKEN, 60_000)),
    "take_back": lambda store: store.take_back(ID, TakeBack(TOKEN, 30_000)),
    "settle": lambda store: store.settle(ID, SettleRelease(TOKEN, 1, 60_000)),
    "name_newest": lambda store: store.name_newest(ID, NameNewest(None, TOKEN, 60_000)),
    "get": lambda store: store.get(ID),
    "scan": lambda store: store.scan(state=State.UNKNOWN, rule="charges", limit=7, cursor="c"),
    "check": lambda store: store.check(),
}


class Clock:
    """Stands, but for what a command is made to take."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Inner(MemoryStore):
    """Each command takes a quarter of a second, and then fails where it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.error: StoreError | None = None
        self.scanned: list[object] = []
        self.closed = 0
        self._ticking = clock
        self.before = self.tick

    async def tick(self, command: str) -> None:
        self._ticking.now += 0.25
        if self.error is not None:
            raise self.error

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        await self.tick("scan")
        self.scanned.append((state, rule, limit, cursor))
        return Page((), None)

    async def check(self) -> Any:
        await self.tick("check")
        return await super().check()

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        if self.error is not None:
            raise self.error
        await super().watch(wake, listening)

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inner(clock: Clock) -> Inner:
    return Inner(clock)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(own_cells())


@pytest.fixture
def store(inner: Inner, metrics: Metrics, clock: Clock) -> Store:
    return CountedStore(inner, metrics, clock)


def read(metrics: Metrics) -> Exposed:
    return Exposed(exposition(metrics, "")[0].decode())


def test_every_command_of_a_store_is_tried_here() -> None:
    commands = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert commands - {"watch", "close"} == set(COMMANDS) == set(ASKINGS)


@pytest.mark.parametrize("command", ASKINGS)
async def test_a_command_is_timed(store: Store, inner: Inner, metrics: Metrics, command: str) -> None:
    await ASKINGS[command](store)
    found = read(metrics)
    assert found.positive()["idemproxy_store_seconds_count"] == [{"command": command}]
    assert found.value("idemproxy_store_seconds_count", command=command) == 1
    assert found.value("idemproxy_store_seconds_sum", command=command) == 0.25
    assert "idemproxy_store_errors_total" not in found.positive()


@pytest.mark.parametrize("command", ASKINGS)
async def test_an_error_is_counted_and_passed_on(store: Store, inner: Inner, metrics: Metrics, command: str) -> None:
    inner.error = StoreAmbiguous("no reply")
    with pytest.raises(StoreAmbiguous, match="no reply"):
        await ASKINGS[command](store)
    found = read(metrics)
    assert found.positive()["idemproxy_store_errors_total"] == [{"command": command, "kind": "ambiguous"}]
    assert found.value("idemproxy_store_seconds_count", command=command) == 1
    assert found.value("idemproxy_store_seconds_sum", command=command) == 0.25


async def test_a_fact_is_the_stores_own(store: Store, inner: Inner) -> None:
    assert await ASKINGS["claim"](store) == Claimed(1, 1)
    assert await ASKINGS["complete"](store) == Done(State.COMPLETED)
    await ASKINGS["scan"](store)
    assert inner.scanned == [(State.UNKNOWN, "charges", 7, "c")]
    await store.close()
    assert inner.closed == 1


async def test_a_command_that_is_cancelled_says_nothing_of_the_store(
    store: Store, inner: Inner, metrics: Metrics
) -> None:
    began = asyncio.Event()

    async def hang(_: str) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    inner.before = hang
    task = asyncio.ensure_future(ASKINGS["get"](store))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "idemproxy_store_seconds_count" not in read(metrics).positive()


async def test_listening_that_breaks_is_counted_and_not_timed(store: Store, inner: Inner, metrics: Metrics) -> None:
    woken: list[str | None] = []
    listening = asyncio.Event()
    task = asyncio.ensure_future(store.watch(woken.append, listening.set))
    await listening.wait()
    await ASKINGS["claim"](store)
    await ASKINGS["complete"](store)
    assert woken == [ID]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    inner.error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await store.watch(woken.append, listening.set)
    found = read(metrics)
    assert found.positive()["idemproxy_store_errors_total"] == [{"command": "watch", "kind": "unavailable"}]
    assert {"command": "watch"} not in found.positive()["idemproxy_store_seconds_count"]
