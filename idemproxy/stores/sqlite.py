"""The SQLite store: the embedded default, for one machine and any number of its processes.

One thread owns the connection. It takes every command that waits, runs them through `semantics.py` in one transaction, commits to disk
(WAL, synchronous=FULL), and only then gives their facts: a claim is on disk before its request goes out."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.record import Record, State, decode, encode
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
    Page,
    Release,
    Renewal,
    RenewFact,
    Settlement,
    TakeBack,
    TakeOver,
    TakeOverFact,
)
from idemproxy.stores.semantics import EMPTY, Lock, Slot
from idemproxy.stores.sqlite_file import Machine, StoreClock, open_file, this_machine, why

T = TypeVar("T")

BATCH: Final = 256
SWEEP: Final = 200
"""Expired records that are removed at a time."""
SWEEP_EVERY: Final = 5.0
LOOK_EVERY: Final = 0.025
"""Seconds between two looks for other processes' ends, while somebody waits for one."""

_GET: Final = "SELECT value, lock_token, lock_until, lock_boot FROM record WHERE id = ?"
_PUT: Final = (
    "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, rule = excluded.rule, "
    "expires = excluded.expires, value = excluded.value, lock_token = excluded.lock_token, lock_until = excluded.lock_until, "
    "lock_boot = excluded.lock_boot"
)
_DELETE: Final = "DELETE FROM record WHERE id = ?"
_SWEEP: Final = "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE expires <= ? LIMIT ?)"

Step = Callable[[Slot, int], tuple[Slot, T]]


@dataclass(slots=True)
class Job(Generic[T]):
    """Something to do on the thread. `run` gives the fact; it is withdrawn when its caller no longer waits before it began."""

    run: Callable[[sqlite3.Connection, StoreClock], T]
    future: asyncio.Future[T]
    ends: str | None = None
    begun: bool = False


class SqliteStore:
    """See stores/base.py. `timeout_ms` is the longest that a command takes."""

    def __init__(self, path: str, *, namespace: str, timeout_ms: int, machine: Machine | None = None) -> None:
        self._path = path
        self._namespace = namespace
        self._timeout = timeout_ms / 1000
        self._machine = machine or this_machine()
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: list[Callable[[str | None], None]] = []
        self._closed = False

    # -------------------------------------------------------------------------------------------------------------- commands

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        return await self._command(record_id, lambda slot, now: semantics.claim(slot, claim, now))

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        return await self._command(record_id, lambda slot, now: semantics.take_over(slot, take_over, now))

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        return await self._command(record_id, lambda slot, now: semantics.renew(slot, renewal, now))

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        return await self._command(record_id, lambda slot, now: semantics.complete(slot, completion, now), record_id)

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        return await self._command(record_id, lambda slot, now: semantics.mark_unknown(slot, mark, now), record_id)

    async def release(self, record_id: str, release: Release) -> EndFact:
        return await self._command(record_id, lambda slot, now: semantics.release(slot, release, now), record_id)

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._command(record_id, lambda slot, now: (semantics.take_back(slot, take_back, now), None), record_id)

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        return await self._command(record_id, lambda slot, now: semantics.settle(slot, settlement, now), record_id)

    async def get(self, record_id: str) -> LookFact:
        return await self._command(record_id, lambda slot, now: (slot, semantics.look(slot, now)))

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        """This process's ends are told as they come, other processes' by a look at the file's change counter."""
        self._wakes.append(wake)
        try:
            seen = await self._ask(_changes)
            listening()
            while True:
                await asyncio.sleep(LOOK_EVERY)
                now = await self._ask(_changes)
                if now != seen:
                    seen = now
                    wake(None)
        finally:
            self._wakes.remove(wake)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        def run(connection: sqlite3.Connection, clock: StoreClock) -> Page:
            now = clock.now()
            rows = connection.execute(
                "SELECT id, value, lock_token, lock_until, lock_boot FROM record WHERE namespace = ? AND id > ? AND expires > ? "
                "AND state <> ? AND (? IS NULL OR state = ?) AND (? IS NULL OR rule = ?) ORDER BY id LIMIT ?",
                (self._namespace, cursor or "", now, State.RELEASED, state, state, rule, rule, limit + 1),
            ).fetchall()
            found = [(row[0], semantics.look(self._slot(row[1:]), now)) for row in rows[:limit]]
            last = rows[limit - 1][0] if len(rows) > limit else None
            return Page(tuple((record_id, fact) for record_id, fact in found if isinstance(fact, Found)), last)

        return await self._ask(run)

    async def check(self) -> Check:
        mode = await self._ask(lambda connection, _: str(connection.execute("PRAGMA journal_mode").fetchone()[0]))
        warnings = () if mode == "wal" else (f"{self._path} is not in WAL mode: is it on a network file system?",)
        return Check(f"SQLite {sqlite3.sqlite_version}, {self._path}", warnings)

    async def close(self) -> None:
        """Finish what waits, and close the file."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------------------------------------------------------- the queue

    async def _command(self, record_id: str, step: Step[T], ends: str | None = None) -> T:
        def run(connection: sqlite3.Connection, clock: StoreClock) -> T:
            return self._step(connection, clock.now(), record_id, step)

        return await self._ask(run, ends)

    async def _ask(self, run: Callable[[sqlite3.Connection, StoreClock], T], ends: str | None = None) -> T:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: the store is closed")
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._loop = loop
            self._thread = threading.Thread(target=self._work, name="idemproxy-sqlite", daemon=True)
            self._thread.start()
        job: Job[T] = Job(run, loop.create_future(), ends)
        self._jobs.put(job)
        timer = loop.call_later(self._timeout, self._late, job)
        try:
            return await job.future
        finally:
            timer.cancel()

    def _late(self, job: Job[T]) -> None:
        """A command that has begun may still be applied; one that has not is withdrawn (the thread looks before it begins)."""
        if not job.future.done():
            what = f"{self._path} did not answer within {self._timeout:g} s (store_timeout): is the disk slow, or the file locked?"
            job.future.set_exception(StoreAmbiguous(what) if job.begun else StoreUnavailable(what))

    # ------------------------------------------------------------------------------------------------------------ the thread

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        clock: StoreClock | None = None
        swept = time.monotonic()
        while (batch := self._next()) is not None:
            try:
                if connection is None or clock is None:
                    connection, clock = open_file(self._path, self._machine, self._timeout)
            except StoreError as error:
                self._give([(job, error) for job in batch])
                continue
            self._run(connection, clock, batch)
            if connection.in_transaction or self._gone():
                connection.close()
                connection = None
            elif time.monotonic() - swept > SWEEP_EVERY:
                swept = time.monotonic()
                self._sweep(connection, clock)
        if connection is not None:
            connection.close()

    def _next(self) -> list[Job[Any]] | None:
        """Every command that waits, at least one; None at the end."""
        first = self._jobs.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._jobs.put(None)
                break
            batch.append(more)
        return batch

    def _run(self, connection: sqlite3.Connection, clock: StoreClock, batch: list[Job[Any]]) -> None:
        """One transaction for the batch."""
        given: list[tuple[Job[Any], object]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                if job.future.done():
                    continue
                job.begun = True
                try:
                    given.append((job, job.run(connection, clock)))
                except RecordUnreadable as error:
                    given.append((job, error))
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._give([(job, StoreUnavailable(why(self._path, error))) for job in batch])
            return
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            failure = StoreAmbiguous(why(self._path, error))
            given = [(job, failure) for job, _ in given]
        self._give(given)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                return

    def _gone(self) -> bool:
        """The file was removed or replaced: what is written to it is seen by nobody else."""
        return False

    def _sweep(self, connection: sqlite3.Connection, clock: StoreClock) -> None:
        try:
            now = clock.now()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE clock SET latest = ? WHERE latest < ?", (now, now))
            connection.execute(_SWEEP, (now, SWEEP))
            connection.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back(connection)

    def _give(self, given: list[tuple[Job[Any], object]]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._resolve, given)
        except RuntimeError:
            return

    def _resolve(self, given: list[tuple[Job[Any], object]]) -> None:
        for job, fact in given:
            failed = isinstance(fact, StoreError)
            if not job.future.done():
                if isinstance(fact, StoreError):
                    job.future.set_exception(fact)
                else:
                    job.future.set_result(fact)
            if job.ends is not None and not failed:
                for wake in self._wakes:
                    wake(job.ends)

    # ----------------------------------------------------------------------------------------------------------------- slots

    def _step(self, connection: sqlite3.Connection, now: int, record_id: str, step: Step[T]) -> T:
        row = connection.execute(_GET, (record_id,)).fetchone()
        before = EMPTY if row is None else self._slot(row)
        after, fact = step(before, now)
        if after is not before and after != before:
            self._put(connection, record_id, after)
        return fact

    def _slot(self, row: tuple[bytes, bytes | None, int | None, str | None]) -> Slot:
        """A lease of another boot has lapsed."""
        value, token, until, boot = row
        held = token is not None and until is not None and boot == self._machine.boot
        return Slot(decode(value), Lock(token, until) if held and token is not None and until is not None else None)

    def _put(self, connection: sqlite3.Connection, record_id: str, slot: Slot) -> None:
        record, lock = slot.record, slot.lock
        if record is None:
            connection.execute(_DELETE, (record_id,))
            return
        locked = (lock.token, lock.until, self._machine.boot) if lock is not None else (None, None, None)
        row = (record_id, self._namespace, record.state, record.rule, record.expires_at, encode(record), *locked)
        connection.execute(_PUT, row)


def _changes(connection: sqlite3.Connection, _: StoreClock) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
