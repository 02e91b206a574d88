"""Waiting for an outcome that another process is making: one vigil an operation, however many wait (DESIGN.md section 4, *Wait*).

A vigil listens, then reads; it reads again when the store tells of an end, when the lease ends (a dead owner tells nothing), and
now and then in case a notice was lost. Waiting costs the store nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from idemproxy.errors import StoreError
from idemproxy.idempotency.operation import Stand, stand
from idemproxy.stores.base import Found, Locked, LookFact, Missing, Store

POLL: Final = 2.0
"""Seconds between two readings of a vigil that hears nothing."""
RESTART: Final = 0.5
"""Seconds before listening is begun again after it broke."""


class Gauge(Protocol):
    """Tells how many wait."""

    def up(self) -> None:
        """One more."""

    def down(self) -> None:
        """One less."""


class Places:
    """How many requests of this process wait for each operation."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def place(self, record_id: str, most: int, patience: float, gauge: Gauge) -> Place:
        """One more, where fewer than `most` wait, for so many seconds."""
        return Place(self.taken, record_id, most, patience, gauge)


class Place:
    """Entered, it gives the seconds to wait: 0 where there is no room."""

    def __init__(self, taken: Counter[str], record_id: str, most: int, patience: float, gauge: Gauge) -> None:
        self._taken = taken
        self._record_id = record_id
        self._most = most
        self._patience = patience
        self._gauge = gauge
        self._has = False

    def __enter__(self) -> float:
        self._has = self._taken[self._record_id] < self._most
        if not self._has:
            return 0.0
        self._taken[self._record_id] += 1
        self._gauge.up()
        return self._patience

    def __exit__(self, *_: object) -> None:
        if not self._has:
            return
        self._gauge.down()
        self._taken[self._record_id] -= 1
        if not self._taken[self._record_id]:
            del self._taken[self._record_id]


class Vigil:
    """The waiting for one operation, shared by all who wait for it in this process."""

    def __init__(self) -> None:
        self.waiting = 0
        self.bell = asyncio.Event()
        self.outcome: asyncio.Future[LookFact] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None


class Waiters:
    """Every vigil of the process, and the listening that serves them."""

    def __init__(self, store: Store, deaf: Callable[[StoreError], None], *, poll: float = POLL) -> None:
        """`deaf` is told each time that listening broke."""
        self._store = store
        self._deaf = deaf
        self._poll = poll
        self._vigils: dict[str, Vigil] = {}
        self._listening: asyncio.Task[None] | None = None

    async def outcome(self, record_id: str, patience: float) -> LookFact | None:
        """What stands there once the operation does not run any more; None after `patience` seconds."""
        vigil = self._vigils.get(record_id) or self._begin(record_id)
        vigil.waiting += 1
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(vigil.outcome)
        except TimeoutError:
            return None
        finally:
            vigil.waiting -= 1
            if not vigil.waiting:
                self._end(record_id, vigil)

    async def close(self) -> None:
        """Stop listening and reading. Whoever still waits hears nothing more."""
        tasks = [vigil.task for vigil in self._vigils.values() if vigil.task is not None]
        if self._listening is not None:
            tasks.append(self._listening)
            self._listening = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, record_id: str) -> Vigil:
        vigil = self._vigils[record_id] = Vigil()
        vigil.task = asyncio.create_task(self._keep(record_id, vigil))
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        return vigil

    def _end(self, record_id: str, vigil: Vigil) -> None:
        if self._vigils.get(record_id) is vigil:
            del self._vigils[record_id]
        if vigil.task is not None:
            vigil.task.cancel()

    async def _keep(self, record_id: str, vigil: Vigil) -> None:
        """Read until the operation does not run any more, then tell everybody."""
        while True:
            vigil.bell.clear()
            pause = self._poll
            try:
                fact = await self._store.get(record_id)
            except StoreError:
                pause = min(pause, RESTART)
            else:
                match fact:
                    case Found(record, lease_left) if stand(record, lease_left) is Stand.RUNNING:
                        pause = min(pause, lease_left / 1000 + 0.005)
                    case Locked(lease_left):
                        pause = min(pause, lease_left / 1000 + 0.005)
                    case Found() | Missing():
                        if self._vigils.get(record_id) is vigil:
                            del self._vigils[record_id]
                        vigil.outcome.set_result(fact)
                        return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await vigil.bell.wait()

    async def _listen(self) -> None:
        """Listen while anybody waits; a break is mended, and everybody reads again once it is."""
        while self._vigils:
            try:
                await self._until_idle()
            except StoreError as error:
                self._deaf(error)
                await asyncio.sleep(RESTART)

    async def _until_idle(self) -> None:
        watching = asyncio.ensure_future(self._store.watch(self._wake, self._ring_all))
        try:
            while self._vigils and not watching.done():
                await asyncio.wait([watching], timeout=self._poll)
            if watching.done():
                watching.result()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _wake(self, record_id: str | None) -> None:
        if record_id is None:
            self._ring_all()
        elif (vigil := self._vigils.get(record_id)) is not None:
            vigil.bell.set()

    def _ring_all(self) -> None:
        for vigil in self._vigils.values():
            vigil.bell.set()
