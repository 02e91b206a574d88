"""A store in memory that runs `semantics.py`, for tests that need to break it at a chosen moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from idemproxy.idempotency.record import State
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Check,
    Claim,
    ClaimFact,
    Completion,
    EndFact,
    LookFact,
    MarkUnknown,
    NameNewest,
    Newest,
    NextAttempt,
    NextFact,
    Page,
    Release,
    Renewal,
    RenewFact,
    Settlement,
    TakeBack,
    TakeOver,
    TakeOverFact,
)
from idemproxy.stores.semantics import EMPTY, Slot

T = TypeVar("T")
Fault = Callable[[str], Awaitable[None]]


async def no_fault(command: str) -> None:
    """Everything works."""


class MemoryStore:
    """`before` and `after` are awaited around each command's application, with its name: they may raise, or wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.slots: dict[str, Slot] = {}
        self.asked: list[str] = []
        self.before: Fault = no_fault
        self.after: Fault = no_fault
        self._clock = clock
        self._wakes: list[Callable[[str | None], None]] = []

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        return await self._run("claim", record_id, lambda slot, now: semantics.claim(slot, claim, now))

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        return await self._run("take_over", record_id, lambda slot, now: semantics.take_over(slot, take_over, now))

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        return await self._run("renew", record_id, lambda slot, now: semantics.renew(slot, renewal, now))

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact:
        return await self._run("next_attempt", record_id, lambda slot, now: semantics.next_attempt(slot, asked, now))

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        return await self._run("complete", record_id, lambda slot, now: semantics.complete(slot, completion, now))

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        return await self._run("mark_unknown", record_id, lambda slot, now: semantics.mark_unknown(slot, mark, now))

    async def release(self, record_id: str, release: Release) -> EndFact:
        return await self._run("release", record_id, lambda slot, now: semantics.release(slot, release, now))

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._run("take_back", record_id, lambda slot, now: (semantics.take_back(slot, take_back, now), None))

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        return await self._run("settle", record_id, lambda slot, now: semantics.settle(slot, settlement, now))

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        return await self._run("name_newest", marker_id, lambda slot, now: semantics.name_newest(slot, asked, now))

    async def get(self, record_id: str) -> LookFact:
        return await self._run("get", record_id, lambda slot, now: (slot, semantics.look(slot, now)))

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        self._wakes.append(wake)
        listening()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._wakes.remove(wake)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        raise NotImplementedError

    async def check(self) -> Check:
        return Check("in memory", ())

    async def close(self) -> None:
        pass

    async def _run(self, name: str, record_id: str, step: Callable[[Slot, int], tuple[Slot, T]]) -> T:
        self.asked.append(name)
        await self.before(name)
        slot, fact = step(self.slots.get(record_id, EMPTY), int(self._clock() * 1000))
        self.slots[record_id] = slot
        if name not in ("get", "claim", "take_over", "renew", "next_attempt", "name_newest"):
            for wake in self._wakes:
                wake(record_id)
        await self.after(name)
        return fact
