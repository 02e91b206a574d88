"""What outlives requests: the registry of what this process executes (DESIGN.md section 4, *One process, one execution*), claims that
are taken back, and drain."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self

import structlog

from idemproxy.clocks import Clock
from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.execution import End, Forward, Operation
from idemproxy.observe.metrics import Metrics
from idemproxy.outcomes import Outcome, Seen
from idemproxy.owner import FIRST_PAUSE, Owner
from idemproxy.stores.base import Store, TakeBack

log = structlog.get_logger()

LONGEST_BACK: Final = 10.0
"""Seconds between two askings for a claim to be taken back, of which there may be very many."""


class Ownership:
    """The registry of what this process executes (DESIGN.md section 4, *One process, one execution*)."""

    def __init__(
        self,
        store: Store,
        forward: Callable[[Forward], Coroutine[Any, Any, End]],
        clock: Clock,
        tokens: Callable[[], bytes],
        metrics: Metrics,
    ) -> None:
        self.store = store
        self.forward = forward
        self.clock = clock
        self.tokens = tokens
        self.metrics = metrics
        self._executing: dict[str, Owner] = {}
        self._tasks: dict[asyncio.Task[None], Owner] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._cut = asyncio.Event()
        self._abandoned = asyncio.Event()

    def forwarding_by(self, forward: Callable[[Forward], Coroutine[Any, Any, End]]) -> Self:
        """The same registry, for requests that are forwarded otherwise: a reload must not allow a second execution. Executions that
        began before go on as they began, with their further attempts."""
        other = copy.copy(self)
        other.forward = forward
        return other

    def executing(self, record_id: str) -> Owner | None:
        """The owner in this process, asked before the store is."""
        return self._executing.get(record_id)

    async def execute(self, operation: Operation, seen: Seen | None) -> Outcome:
        """Claim the operation (or, with `seen`, take it over), and execute it where that is won. Gives what the request gets that asks for
        it; when its client goes away meanwhile, the execution goes on without it."""
        owner = self._enter(operation, seen)
        try:
            lost = await owner.claim()
            if lost is not None:
                return lost
            self._start(owner, owner.execute())
        except asyncio.CancelledError:
            owner.nobody()
            if self._abandoned.is_set():
                owner.end_badly()
            else:
                self._start(owner, owner.run())
            raise
        try:
            return await asyncio.shield(owner.first)
        except asyncio.CancelledError:
            owner.nobody()
            raise

    def _enter(self, operation: Operation, seen: Seen | None) -> Owner:
        """Enter the registry: only then is the claim asked for."""
        owner = self._executing[operation.record_id] = Owner(self, operation, seen)
        owner.draining = self._cut.is_set()
        return owner

    def _start(self, owner: Owner, running: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(running)
        self._tasks[task] = owner
        task.add_done_callback(self._over)

    def take_back(self, record_id: str, asked: TakeBack, until: float) -> None:
        """Ask for it until it is acknowledged, or `until` on this process's clock. Holds nothing of the request."""
        task = asyncio.ensure_future(self._ask_back(record_id, asked, until))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _ask_back(self, record_id: str, asked: TakeBack, until: float) -> None:
        pause = FIRST_PAUSE
        while self.clock() < until:
            try:
                await self.store.take_back(record_id, asked)
            except (StoreUnavailable, StoreAmbiguous):
                await asyncio.sleep(pause * (1 + asked.token[0] / 255))
                pause = min(pause * 2, LONGEST_BACK)
            except StoreError:
                return
            else:
                return

    def left(self, owner: Owner) -> None:
        """The owner does not execute any more."""
        if self._executing.get(owner.operation.record_id) is owner:
            del self._executing[owner.operation.record_id]

    async def idle(self) -> None:
        """Return once nothing is executed in this process."""
        while self._tasks or self._later or self._executing:
            over: list[asyncio.Future[Any]] = [owner.ended for owner in self._executing.values()]
            await asyncio.wait([*self._tasks, *self._later, *over])

    def cut(self) -> None:
        """The drain time is over: every execution stops, and records how far it came."""
        self._cut.set()
        for owner in {*self._tasks.values(), *self._executing.values()}:
            owner.cut()

    async def abandon(self) -> None:
        """Leave what could not be recorded to its lease: it lapses, and the outcome is unknown."""
        self._abandoned.set()
        for claiming in {*self._executing.values()}.difference(self._tasks.values()):
            claiming.draining = True
        left = list(self._tasks)
        if left:
            log.error("ends not recorded at exit", count=len(left), doing="their leases lapse, and they become unknown")
        for task in (*left, *self._later):
            task.cancel()
        await asyncio.gather(*left, *self._later, return_exceptions=True)

    def _over(self, task: asyncio.Task[None]) -> None:
        owner = self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("owner failed", rule=owner.operation.rule.name, error=repr(type(error)), exc_info=error)
