"""A circuit around a store in memory that a test breaks, and everything that can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.record import State
from idemproxy.stores.base import Check, NameNewest, Page, SettleDelete, Store, TakeOver
from idemproxy.stores.circuit import Circuit, CircuitState, Open
from tests.stores.asking import (
    LONG,
    TTL,
    A,
    B,
    claim,
    complete,
    new_id,
    next_attempt,
    release,
    renewal,
    take_back,
    unknown,
)
from tests.stores.memory import MemoryStore, no_fault

NOT_ASKED = "is not asked now"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Memory(MemoryStore):
    """With all of a store's commands faultable."""

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        await self._named("watch")
        await super().watch(wake, listening)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        await self._named("scan")
        return Page((), None)

    async def check(self) -> Check:
        await self._named("check")
        return await super().check()

    async def _named(self, name: str) -> None:
        self.asked.append(name)
        await self.before(name)


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Memory(self.clock)
        self.circuit = Circuit(self.store, self.clock, run=5, pause=1.0)
        self.hold = asyncio.Event()
        """Let go, and commands of a store that hangs fail."""

    def dies(self, error: StoreError | None = None) -> None:
        """Every command fails at once from here on."""
        error = error or StoreUnavailable("no route to host")

        async def fail(_: str) -> None:
            raise error

        self.store.before = fail

    def hangs(self) -> None:
        """Every command fails from here on, but only once `hold` is let go."""
        self.hold.clear()

        async def fail_late(_: str) -> None:
            await self.hold.wait()
            raise StoreAmbiguous("no answer in time")

        self.store.before = fail_late

    def recovers(self) -> None:
        self.store.before = no_fault

    def stands(self) -> CircuitState:
        return self.circuit.state

    async def get(self) -> None:
        await self.circuit.get(new_id())

    async def fails(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(StoreError):
                await self.get()

    async def opened(self) -> None:
        self.dies()
        await self.fails(5)
        assert isinstance(self.stands(), Open)
        self.store.asked.clear()

    async def refused(self) -> None:
        """A request is refused without asking the store."""
        before = len(self.store.asked)
        with pytest.raises(StoreUnavailable, match=NOT_ASKED):
            await self.get()
        assert len(self.store.asked) == before


Act = Callable[[Store], Awaitable[object]]
REQUESTS: dict[str, Act] = {
    "claim": lambda store: store.claim(new_id(), claim()),
    "take_over": lambda store: store.take_over(new_id(), TakeOver(B, A, 1, LONG, TTL)),
    "name_newest": lambda store: store.name_newest(new_id(), NameNewest(None, A, TTL)),
    "get": lambda store: store.get(new_id()),
}
OWNERS: dict[str, Act] = {
    "renew": lambda store: store.renew(new_id(), renewal()),
    "next_attempt": lambda store: store.next_attempt(new_id(), next_attempt()),
    "complete": lambda store: store.complete(new_id(), complete()),
    "mark_unknown": lambda store: store.mark_unknown(new_id(), unknown()),
    "release": lambda store: store.release(new_id(), release()),
    "take_back": lambda store: store.take_back(new_id(), take_back()),
    "settle": lambda store: store.settle(new_id(), SettleDelete(A, 1)),
    "scan": lambda store: store.scan(state=None, rule=None, limit=1, cursor=None),
    "check": lambda store: store.check(),
}


async def cancelled(task: asyncio.Future[None]) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
