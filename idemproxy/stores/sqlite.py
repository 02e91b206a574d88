"""The SQLite store: the embedded default, for one machine and any number of its processes. The work is done by a thread
(`sqlite_thread.py`), on a file (`sqlite_file.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar

from idemproxy.errors import StoreAmbiguous, StoreUnavailable
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
from idemproxy.stores.sqlite_file import Machine, StoreFile, this_machine
from idemproxy.stores.sqlite_place import warnings_about
from idemproxy.stores.sqlite_thread import Command, Facts, Job, Kind, Question, Stage, StoreThread

T = TypeVar("T")
A = TypeVar("A")

LOOK_EVERY: Final = 0.025
"""Seconds between two looks for what other processes wrote, while somebody watches."""
SCANNED: Final = 500
"""Rows that a scan looks at in one go."""
CLOSING: Final = 5.0
"""Seconds past the time limit of a command that closing takes at most."""


class SqliteStore:
    """See `stores/base.py`. `timeout_ms` is the longest that one command takes; `machine` gives the time. The file is opened by the
    first command."""

    def __init__(self, path: str, *, namespace: str, timeout_ms: int, machine: Machine | None = None) -> None:
        self._path = path
        self._namespace = namespace
        self._timeout = timeout_ms / 1000
        self._machine = machine
        self._closed = False
        self._thread: StoreThread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._waiting: dict[Job, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes: list[Callable[[str | None], None]] = []

    # -------------------------------------------------------------------------------------------------------------- commands

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        return await self._command(record_id, Kind.READS_FIRST, semantics.claim, claim)

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        return await self._command(record_id, Kind.WRITES, semantics.take_over, take_over)

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        return await self._command(record_id, Kind.WRITES, semantics.renew, renewal)

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact:
        return await self._command(record_id, Kind.WRITES, semantics.next_attempt, asked)

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        return await self._command(record_id, Kind.ENDS, semantics.complete, completion)

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        return await self._command(record_id, Kind.ENDS, semantics.mark_unknown, mark)

    async def release(self, record_id: str, release: Release) -> EndFact:
        return await self._command(record_id, Kind.ENDS, semantics.release, release)

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._command(record_id, Kind.ENDS, _take_back, take_back)

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        return await self._command(record_id, Kind.ENDS, semantics.settle, settlement)

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        return await self._command(marker_id, Kind.WRITES, semantics.name_newest, asked)

    async def get(self, record_id: str) -> LookFact:
        return await self._command(record_id, Kind.READS_FIRST, _look, None)

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        """This process's ends are told as they come; of other processes' only that there was something, by a look at the file."""
        self._wakes.append(wake)
        try:
            seen = await self._question(_changes)
            listening()
            while True:
                await asyncio.sleep(LOOK_EVERY)
                now = await self._question(_changes)
                if now != seen:
                    seen = now
                    wake(None)
        finally:
            self._wakes.remove(wake)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        """In the order of the ids; the cursor is one. Raises ValueError for a cursor that is not."""
        found: list[tuple[bytes, Found]] = []
        after: bytes | None = bytes.fromhex(cursor or "")
        while after is not None and len(found) <= limit:
            some, after = await self._question(_some(after, state, rule, limit + 1 - len(found)))
            found += some
        page = tuple((record_id.hex(), fact) for record_id, fact in found[:limit])
        return Page(page, page[-1][0] if len(found) > limit else None)

    async def check(self) -> Check:
        """Raises StoreUnavailable when the file cannot be used."""
        await self._question(_changes)
        return Check(f"SQLite {sqlite3.sqlite_version}, {self._path}", warnings_about(self._path))

    async def close(self) -> None:
        """Finish what waits, and close the file. Nothing may be asked afterwards."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None or self._ended is None:
            return
        self._thread.finish()
        try:
            async with asyncio.timeout(self._timeout + CLOSING):
                await self._ended
            self._thread.join()
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._path} could not be closed: the disk gives no answer; what was acknowledged is kept"
            ) from None
        finally:
            if self._timer is not None:
                self._timer.cancel()

    # ------------------------------------------------------------------------------------------------------------- the waiting

    async def _command(self, record_id: str, kind: Kind, step: Callable[[Slot, A, int], tuple[Slot, T]], asked: A) -> T:
        loop = asyncio.get_running_loop()
        job = Command(loop.create_future(), loop.time() + self._timeout, bytes.fromhex(record_id), kind, step, asked)
        fact: T = await self._wait(loop, job)
        return fact

    async def _question(self, ask: Callable[[StoreFile], T]) -> T:
        loop = asyncio.get_running_loop()
        fact: T = await self._wait(loop, Question(loop.create_future(), loop.time() + self._timeout, ask))
        return fact

    async def _wait(self, loop: asyncio.AbstractEventLoop, job: Job) -> Any:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the store is closed, since the process is shutting down")
        thread = self._thread or self._start(loop)
        self._waiting[job] = None
        if self._timer is None:
            self._timer = loop.call_at(job.deadline, self._late, loop)
        thread.put(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            thread.withdraw(job)
            raise
        finally:
            del self._waiting[job]

    def _start(self, loop: asyncio.AbstractEventLoop) -> StoreThread:
        ended = self._ended = loop.create_future()

        def give(facts: Facts | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                if facts is None:
                    loop.call_soon_threadsafe(_end, ended)
                else:
                    loop.call_soon_threadsafe(self._resolve, facts)

        self._thread = StoreThread(self._path, self._open, give)
        return self._thread

    def _open(self) -> StoreFile:
        machine = self._machine or this_machine()
        return StoreFile(self._path, namespace=self._namespace, wait=self._timeout, machine=machine)

    def _resolve(self, facts: Facts) -> None:
        for job, fact in facts:
            if not job.future.done():
                if isinstance(fact, Exception):
                    job.future.set_exception(fact)
                else:
                    job.future.set_result(fact)
            if isinstance(job, Command) and job.kind is Kind.ENDS and not isinstance(fact, StoreUnavailable):
                for wake in tuple(self._wakes):
                    wake(job.record_id.hex())

    def _late(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for all that wait: they are in the order of their deadlines."""
        self._timer = None
        now = loop.time()
        for job in self._waiting:
            if job.deadline > now:
                self._timer = loop.call_at(job.deadline, self._late, loop)
                return
            if not job.future.done():
                job.future.set_exception(self._lateness(job))

    def _lateness(self, job: Job) -> StoreAmbiguous | StoreUnavailable:
        text = f"{self._path} gave no answer within {self._timeout:g} s (store_timeout): is the disk slow, or the file locked?"
        if self._thread is not None and self._thread.withdraw(job) is Stage.BEGUN:
            return StoreAmbiguous(text)
        return StoreUnavailable(text)


def _look(slot: Slot, _asked: None, now: int) -> tuple[Slot, LookFact]:
    return slot, semantics.look(slot, now)


def _take_back(slot: Slot, asked: TakeBack, now: int) -> tuple[Slot, None]:
    return semantics.take_back(slot, asked, now), None


def _changes(file: StoreFile) -> tuple[StoreFile, int]:
    """Equal to an earlier one when nobody else wrote since. The numbers of two openings cannot be compared."""
    return file, file.changes()


def _some(
    after: bytes, state: State | None, rule: str | None, wanted: int
) -> Callable[[StoreFile], tuple[list[tuple[bytes, Found]], bytes | None]]:
    return lambda file: file.some(after, state=state, rule=rule, wanted=wanted, looked_at=SCANNED)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
