"""The SQLite store's thread. It takes every command that waits, answers those that need no write, and applies the rest in one
transaction: their facts are given once it is on disk, so a claim is on disk before its request goes out."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.stores.base import Refused
from idemproxy.stores.semantics import Slot, current
from idemproxy.stores.sqlite_file import TEND_EVERY, Row, StoreFile, failure, passing

BATCH: Final = 512
"""Commands in one transaction, at most."""
SWEEP: Final = 64
"""Expired rows that are removed in one transaction, at least: twice the commands where these are more, so that it keeps up."""


class Kind(Enum):
    """What a command does to the file."""

    READS_FIRST = auto()
    """It often changes nothing: it is tried without the right to write, and so does not wait for other processes or the disk."""
    WRITES = auto()
    ENDS = auto()
    """It writes, and who waits for the operation is woken."""


class Stage(Enum):
    """How far a command is."""

    WAITING = auto()
    BEGUN = auto()
    """It will be in the next commit."""
    WITHDRAWN = auto()
    """Its caller has given it up in time: it will never be applied."""


@dataclass(slots=True, eq=False)
class Job:
    """Something that a caller waits for until `deadline`, on the event loop's clock."""

    future: asyncio.Future[Any]
    deadline: float
    stage: Stage = field(default=Stage.WAITING, init=False)


@dataclass(slots=True, eq=False)
class Command(Job):
    """A step of `semantics.py` on one operation."""

    record_id: bytes
    kind: Kind
    step: Callable[[Slot, Any, int], tuple[Slot, Any]]
    asked: object


@dataclass(slots=True, eq=False)
class Question(Job):
    """Something to read from the file."""

    ask: Callable[[StoreFile], Any]


Facts = list[tuple[Job, object]]
"""What each job is given: an exception is raised to its caller."""


class StoreThread:
    """Owns the file. `open_file` is called until it succeeds, by the first command and after a failure; `give` is called on the thread
    with facts as they come, and with None when the thread has ended."""

    def __init__(self, path: str, open_file: Callable[[], StoreFile], give: Callable[[Facts | None], None]) -> None:
        self._path = path
        self._open_file = open_file
        self._give = give
        self._file: StoreFile | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._staging = threading.Lock()
        self._tended = 0
        self._backlog = False
        self._thread = threading.Thread(target=self._run, name="idemproxy-sqlite", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Do it soon."""
        self._jobs.put(job)

    def withdraw(self, job: Job) -> Stage:
        """The job is not wanted any more: what has become of it."""
        with self._staging:
            if job.stage is Stage.WAITING:
                job.stage = Stage.WITHDRAWN
            return job.stage

    def finish(self) -> None:
        """Do what was put, and end."""
        self._jobs.put(None)

    def join(self) -> None:
        """Wait for the thread's last instruction."""
        self._thread.join()

    # ------------------------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            try:
                if batch:
                    self._do(batch)
                else:
                    self._idle()
            except StoreError as error:
                self._fail(batch, error)
            except sqlite3.Error as error:
                if not passing(error):
                    self._drop()
                self._fail(batch, failure(self._path, error))
            except Exception as error:  # were the thread to end, nobody would ever be told why
                self._fail(
                    batch, StoreUnavailable(f"{self._path}: {type(error).__name__}: {error}: please report this")
                )
        self._drop()
        self._give(None)

    def _take(self) -> list[Job] | None:
        """Every job that waits; none when it is time to tend the file; None at the end."""
        try:
            job = self._jobs.get(timeout=0 if self._backlog else TEND_EVERY / 1000)
        except queue.Empty:
            return []
        batch: list[Job] = []
        with contextlib.suppress(queue.Empty):
            while job is not None and len(batch) < BATCH:
                batch.append(job)
                job = self._jobs.get_nowait()
        if not batch:
            return None
        if job is not batch[-1]:
            self._jobs.put(job)
        return batch

    def _do(self, batch: Sequence[Job]) -> None:
        file = self._opened()
        facts: Facts = []
        commands: list[Command] = []
        for job in batch:
            match job:
                case Command() if job.stage is not Stage.WITHDRAWN:
                    commands.append(job)
                case Question():
                    facts.append((job, _answer(job, file)))
        left = self._try(file, commands, facts)
        if facts:
            self._give(facts)
        if left:
            self._give(self._apply(file, left))

    def _opened(self) -> StoreFile:
        if self._file is not None and self._file.moved():
            self._drop()
        if self._file is None:
            self._file = self._open_file()
        return self._file

    def _try(self, file: StoreFile, commands: Sequence[Command], facts: Facts) -> list[Command]:
        """Answer the commands that change nothing as things stand: gives the others."""
        tried = [command for command in commands if command.kind is Kind.READS_FIRST]
        now = file.now()  # before reading: else a lease that was renewed meanwhile would look lapsed
        slots = file.read(command.record_id for command in tried)
        answered = set()
        for command in tried:
            kept, fact = _step(slots[command.record_id], command, now)
            if kept is None:
                facts.append((command, fact))
                answered.add(command)
        return [command for command in commands if command not in answered]

    def _apply(self, file: StoreFile, commands: Sequence[Command]) -> Facts:
        """All of them in one transaction, one after another."""
        file.begin()
        begun = self._begin(commands)
        now = file.now()
        slots = file.read(command.record_id for command in begun)
        rows: dict[bytes, Row | None] = {}
        facts: Facts = []
        for command in begun:
            kept, fact = _step(slots[command.record_id], command, now)
            if kept is not None:
                try:
                    rows[command.record_id] = file.row(command.record_id, kept)
                    slots[command.record_id] = kept
                except Exception as error:  # what cannot be encoded is its caller's trouble alone
                    fact = error
            facts.append((command, fact))
        if rows:
            file.write(rows)
            self._tend(file, now, len(rows))
            file.commit()
        else:
            file.roll_back()
        return facts

    def _begin(self, commands: Sequence[Command]) -> list[Command]:
        """Those that are still wanted. From here on they may be applied."""
        with self._staging:
            begun = [command for command in commands if command.stage is Stage.WAITING]
            for command in begun:
                command.stage = Stage.BEGUN
        return begun

    def _tend(self, file: StoreFile, now: int, written: int) -> None:
        if self._backlog or now - self._tended >= TEND_EVERY:
            self._backlog = file.tend(now, max(SWEEP, 2 * written))
            self._tended = now

    def _idle(self) -> None:
        self._backlog = False
        if self._file is None or not self._file.expired():
            return
        self._file.begin()
        backlog = self._file.tend(self._file.now(), SWEEP)
        self._file.commit()
        self._backlog = backlog

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _fail(self, batch: Sequence[Job], error: StoreError) -> None:
        """Nobody is left waiting. A file that can be read still is kept open."""
        if self._file is not None and not (self._file.roll_back() and self._file.readable()):
            self._drop()
        text = str(error)
        doubt = isinstance(error, StoreAmbiguous)
        sure = Refused if isinstance(error, Refused) else StoreUnavailable
        self._give([(job, (StoreAmbiguous if doubt and job.stage is Stage.BEGUN else sure)(text)) for job in batch])


def _step(slot: Slot | RecordUnreadable, command: Command, now: int) -> tuple[Slot | None, object]:
    """What to keep (None: nothing changes), and the fact."""
    if isinstance(slot, RecordUnreadable):
        return None, slot
    before = current(slot, now)
    after, fact = command.step(before, command.asked, now)
    return None if after is before else after, fact


def _answer(question: Question, file: StoreFile) -> object:
    try:
        return question.ask(file)
    except RecordUnreadable as error:
        return error
