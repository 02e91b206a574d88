"""The modelled store as one process has it: what `stores.base.Store` is to the product."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from idemproxy.errors import StoreUnavailable
from idemproxy.idempotency.record import State
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Check,
    Claim,
    ClaimFact,
    Completion,
    EndFact,
    Found,
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
from idemproxy.stores.semantics import Slot
from tests.simulation.loop import Pace, ProcessLoop
from tests.simulation.store import Command, Server, Trouble, Watch
from tests.simulation.telling import Trace

A = TypeVar("A")
F = TypeVar("F")


class SimStore:
    """The store as one process has it."""

    def __init__(self, server: Server, loop: ProcessLoop, trace: Trace) -> None:
        self._server = server
        self._loop = loop
        self._trace = trace
        self._pending: dict[int, Command] = {}
        self._number = 0
        self._closed = False

    def break_connections(self) -> None:
        """Whatever has no reply yet is in doubt."""
        self._trace.say(self._loop.name, "its connections to the store break", len(self._pending))
        for command in list(self._pending.values()):
            self._server.broken(command)

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        return await self._ask("claim", record_id, claim, semantics.claim)

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        return await self._ask("take_over", record_id, take_over, semantics.take_over)

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        return await self._ask("renew", record_id, renewal, semantics.renew)

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact:
        return await self._ask("next_attempt", record_id, asked, semantics.next_attempt)

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        return await self._ask("complete", record_id, completion, semantics.complete)

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        return await self._ask("mark_unknown", record_id, mark, semantics.mark_unknown)

    async def release(self, record_id: str, release: Release) -> EndFact:
        return await self._ask("release", record_id, release, semantics.release)

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._ask("take_back", record_id, take_back, _taken_back)

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        return await self._ask("settle", record_id, settlement, semantics.settle)

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        return await self._ask("name_newest", marker_id, asked, semantics.name_newest)

    async def get(self, record_id: str) -> LookFact:
        return await self._ask("get", record_id, None, _looked)

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        if self._loop.pace is Pace.BURIED:
            raise asyncio.CancelledError
        if self._server.trouble is not Trouble.NONE:
            raise StoreUnavailable("the store is away")
        watch = Watch(self._loop, wake, self._loop.create_future())
        self._server.listen(watch)
        listening()
        try:
            await watch.broken
        finally:
            self._server.ignore(watch)
            _heard(watch.broken)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        found = [
            (record_id, fact)
            for record_id, slot in sorted(self._server.slots.items())
            if isinstance(fact := semantics.look(slot, self._server.now), Found)
            and (state is None or fact.record.state is state)
            and (rule is None or fact.record.rule == rule)
            and (cursor is None or record_id > cursor)
        ]
        return Page(tuple(found[:limit]), found[limit - 1][0] if len(found) > limit else None)

    async def check(self) -> Check:
        return Check("the simulated store", ())

    async def close(self) -> None:
        self._closed = True

    async def _ask(self, name: str, record_id: str, asked: A, step: Callable[[Slot, A, int], tuple[Slot, F]]) -> F:
        if self._loop.pace is Pace.BURIED:
            raise asyncio.CancelledError
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: asyncio.Future[F] = self._loop.create_future()
        command = Command(name, record_id, asked, step, self._loop, future)
        self._number += 1
        number = self._number
        self._pending[number] = command
        self._server.submit(command)
        try:
            return await future
        finally:
            del self._pending[number]
            _heard(future)


def _taken_back(slot: Slot, asked: TakeBack, now: int) -> tuple[Slot, None]:
    return semantics.take_back(slot, asked, now), None


def _looked(slot: Slot, asked: None, now: int) -> tuple[Slot, LookFact]:
    return slot, semantics.look(slot, now)


def _heard(future: asyncio.Future[Any]) -> None:
    """An error that came in the moment in which its waiter was cancelled needs no complaint."""
    if future.done() and not future.cancelled():
        future.exception()
