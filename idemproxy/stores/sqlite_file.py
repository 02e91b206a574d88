"""The SQLite store's file: its schema, its clock, its rows, and what can be wrong with it. Used by one thread."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import mknod
from pathlib import Path
from typing import Any, Final, TypeVar

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreUnavailable
from idemproxy.idempotency.record import State, decode, encode
from idemproxy.stores.base import Found, Refused
from idemproxy.stores.semantics import EMPTY, Lock, Slot, look

T = TypeVar("T")

APPLICATION_ID: Final = 0x49444D50
"""PRAGMA application_id of idemproxy's files: "IDMP"."""
SCHEMA: Final = 3

TEND_EVERY: Final = 5_000
"""Milliseconds after which the first write also notes the time and sweeps."""

_TABLES: Final = (
    """CREATE TABLE record (
        id BLOB PRIMARY KEY NOT NULL,
        namespace TEXT NOT NULL,
        state INTEGER,
        rule TEXT,
        updated INTEGER,
        expires INTEGER NOT NULL,
        lock_token BLOB,
        lock_until INTEGER,
        lock_boot TEXT,
        dead BLOB,
        newest BLOB,
        value BLOB
    )""",
    "CREATE INDEX record_expires ON record (expires)",
    """CREATE TABLE clock (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        boot TEXT NOT NULL,
        boottime INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        latest INTEGER NOT NULL
    )""",
)

# A statement lets go of the interpreter's lock, and a busy event loop gives it back late: so a batch is few statements, of many rows.
_SIZES: Final = (64, 16, 4, 1)
_READ: Final = {
    size: f"SELECT id, value, lock_token, lock_until, lock_boot, dead, newest FROM record WHERE id IN ({', '.join('?' * size)})"
    for size in _SIZES
}
_COLUMNS: Final = (
    "id",
    "namespace",
    "state",
    "rule",
    "updated",
    "expires",
    "lock_token",
    "lock_until",
    "lock_boot",
    "dead",
    "newest",
    "value",
)
_ONE: Final = f"({', '.join('?' * len(_COLUMNS))})"
_UPDATE: Final = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])
_WRITE: Final = {
    size: f"INSERT INTO record ({', '.join(_COLUMNS)}) VALUES {', '.join([_ONE] * size)} ON CONFLICT (id) DO UPDATE SET {_UPDATE}"
    for size in _SIZES
}
_DELETE: Final = "DELETE FROM record WHERE id = ?"
_SWEEP: Final = "DELETE FROM record WHERE rowid IN (SELECT rowid FROM record WHERE expires <= ? LIMIT ?)"
_SOME: Final = "SELECT id, namespace, state, rule, expires FROM record WHERE id > ? ORDER BY id LIMIT ?"

_NO_RECORD: Final[tuple[int | None, str | None, int | None]] = (None, None, None)
_TOKEN_AND_TIME: Final = struct.Struct(">16sQ")

Row = tuple[int | bytes | str | None, ...]
"""In the order of the columns."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The clocks of the machine, in milliseconds, and the name of its boot."""

    boot: str
    boottime: Callable[[], int]
    epoch: Callable[[], int]


def this_machine() -> Machine:
    """The real one. Raises StoreUnavailable where the system does not name its boots."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError as error:
        raise StoreUnavailable(
            f"the SQLite store needs Linux and its /proc/sys/kernel/random/boot_id ({error.strerror}): use Redis here"
        ) from error
    return Machine(
        boot, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, lambda: time.time_ns() // 1_000_000
    )


class StoreFile:
    """An open file. What goes wrong before a commit is StoreUnavailable or sqlite3.Error, and nothing was applied."""

    def __init__(self, path: str, *, namespace: str, wait: float, machine: Machine) -> None:
        """Open the file, and make it where there is none. `wait` is how long to wait for other processes, in seconds."""
        self.path = path
        self._namespace = namespace
        self._wait = wait
        self._machine = machine
        with contextlib.suppress(OSError):
            # Answers are nobody else's business. Not open(): closing it would drop the locks of this process's other connections.
            mknod(path, 0o600 | stat.S_IFREG)
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=64)
        except sqlite3.Error as error:
            raise StoreUnavailable(why(path, error)) from error
        try:
            self._offset = self._prepare()
            self._identity = _identity(path)
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreUnavailable(why(path, error)) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """The last process that closes the file leaves everything in it, and no log beside it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def moved(self) -> bool:
        """Whether the path leads elsewhere now: what is written here would be seen by no process that comes later."""
        return _identity(self.path) != self._identity

    def now(self) -> int:
        """The store's time: within one boot it runs with the boot clock, whatever the wall clock does."""
        return self._machine.boottime() + self._offset

    def readable(self) -> bool:
        """Whether the file can still be read."""
        with contextlib.suppress(sqlite3.Error):
            return bool(self._execute("SELECT 1 FROM clock"))
        return False

    # -------------------------------------------------------------------------------------------------------- transactions

    def begin(self) -> None:
        """From here on no other process writes."""
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """What was written is on disk. Raises StoreUnavailable when it certainly is not, and StoreAmbiguous when it may be: a log
        whose sync failed may still reach the disk, and a crash would find it there."""
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            sure = self.roll_back() and certainly_lost(error)
            raise (failure(self.path, error) if sure else StoreAmbiguous(why(self.path, error))) from error

    def roll_back(self) -> bool:
        """Whether no transaction is open any more."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return not self._connection.in_transaction

    # ------------------------------------------------------------------------------------------------------------------ rows

    def read(self, ids: Iterable[bytes]) -> dict[bytes, Slot | RecordUnreadable]:
        """What stands under each id; nothing where there is no row."""
        slots: dict[bytes, Slot | RecordUnreadable] = dict.fromkeys(ids, EMPTY)
        for portion in _portions(list(slots)):
            for record_id, value, token, until, boot, dead, newest in self._execute(_READ[len(portion)], portion):
                # A lease of another boot has lapsed: its owner is gone.
                lock = Lock(token, until) if boot == self._machine.boot else None
                try:
                    record = decode(value) if value is not None else None
                    slots[record_id] = Slot(record, lock, _locks(dead), next(iter(_locks(newest)), None))
                except RecordUnreadable as error:
                    slots[record_id] = error
        return slots

    def row(self, record_id: bytes, slot: Slot) -> Row | None:
        """The row that keeps the slot; None for an empty one."""
        record, lock = slot.record, slot.lock
        if record is None and not slot.dead and slot.newest is None:
            return None
        expires, shown, value = 0, _NO_RECORD, None
        if record is not None:
            expires, value = record.expires_at, encode(record)
            shown = (record.state, record.rule, record.updated_at)
        beside = slot.dead if slot.newest is None else (*slot.dead, slot.newest)
        expires = max([expires, *(each.until for each in beside)])
        locked = (lock.token, lock.until, self._machine.boot) if lock is not None else (None, None, None)
        newest = () if slot.newest is None else (slot.newest,)
        return (record_id, self._namespace, *shown, expires, *locked, _packed(slot.dead), _packed(newest), value)

    def write(self, rows: dict[bytes, Row | None]) -> None:
        """Keep the rows, and remove those that are None."""
        for portion in _portions([row for row in rows.values() if row is not None]):
            self._connection.execute(_WRITE[len(portion)], [value for row in portion for value in row])
        for record_id in [record_id for record_id, row in rows.items() if row is None]:
            self._connection.execute(_DELETE, (record_id,))

    def some(
        self, after: bytes, *, state: State | None, rule: str | None, wanted: int, looked_at: int
    ) -> tuple[list[tuple[bytes, Found]], bytes | None]:
        """At most `wanted` records of this namespace, in the order of their ids, and the id up to which they were looked for: None
        at the end. At most `looked_at` rows are looked at, so that nobody waits long behind a scan."""
        now = self.now()
        rows = self._execute(_SOME, (after, looked_at))
        chosen = [
            row[0]
            for row in rows
            if row[1] == self._namespace
            and row[2] not in (None, State.RELEASED)
            and (state is None or row[2] == state)
            and (rule is None or row[3] == rule)
            and row[4] > now
        ]
        last = rows[-1][0] if len(rows) == looked_at else None
        if len(chosen) > wanted:
            chosen = chosen[:wanted]
            last = chosen[-1]
        found = []
        for record_id, slot in self.read(chosen).items():
            if isinstance(slot, RecordUnreadable):
                raise slot
            fact = look(slot, now)
            if isinstance(fact, Found):
                found.append((record_id, fact))
        return found, last

    def expired(self) -> bool:
        """Whether there is anything to sweep."""
        return bool(self._execute("SELECT 1 FROM record WHERE expires <= ? LIMIT 1", (self.now(),)))

    def tend(self, now: int, portion: int) -> bool:
        """In a transaction: note the time, and remove at most `portion` expired rows. Whether there may be more."""
        self._connection.execute("UPDATE clock SET latest = ? WHERE latest < ?", (now, now))
        return self._connection.execute(_SWEEP, (now, portion)).rowcount == portion

    def changes(self) -> int:
        """A number that changes when another connection has written."""
        return int(self._execute("PRAGMA data_version")[0][0])

    # --------------------------------------------------------------------------------------------------------------- opening

    def _prepare(self) -> int:
        """Several processes may come to a new file at once: all of it is looked at and made in one transaction. The clock's offset
        from the boot clock."""
        self._execute("BEGIN IMMEDIATE")
        try:
            self._make()
            offset = self._set_clock()
        except BaseException:
            self.roll_back()
            raise
        self._execute("COMMIT")
        # The switch fails while another process uses the file, without waiting for it.
        mode = self._execute("PRAGMA journal_mode = WAL")[0][0]
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.path} cannot have a write-ahead log (it stays in mode {mode}): name a file on a local disk"
            )
        self._execute("PRAGMA synchronous = FULL")
        self._execute("PRAGMA wal_autocheckpoint = 4000")
        self._execute(f"PRAGMA journal_size_limit = {64 << 20}")
        return offset

    def _make(self) -> None:
        application, version = (self._execute(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))
        if not self._execute("SELECT 1 FROM sqlite_master LIMIT 1"):
            for statement in _TABLES:
                self._execute(statement)
            self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute(f"PRAGMA user_version = {SCHEMA}")
        elif application != APPLICATION_ID:
            raise StoreUnavailable(f"{self.path} is the database of another program: name another file for the store")
        elif version != SCHEMA:
            raise StoreUnavailable(
                f"{self.path} was made by another version of idemproxy (its schema is {version}, this version's is {SCHEMA}): run that "
                "version, or name another file for the store"
            )

    def _set_clock(self) -> int:
        """In a new boot the clock is set to the wall clock, or past the latest time that the file can have seen."""
        machine = self._machine
        rows = self._execute("SELECT boot, boottime, epoch, latest FROM clock")
        if rows and rows[0][0] == machine.boot:
            return int(rows[0][2] - rows[0][1])
        boottime, epoch = machine.boottime(), machine.epoch()
        if rows:
            epoch = max(epoch, rows[0][3] + TEND_EVERY)
        self._execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)", (machine.boot, boottime, epoch, epoch))
        return epoch - boottime

    def _execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """SQLite's own waiting sleeps up to 100 ms at a time, and not everywhere."""
        until, pause = time.monotonic() + self._wait, 0.0002
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 0.005)


def _locks(value: bytes | None) -> tuple[Lock, ...]:
    return () if value is None else tuple(Lock(token, until) for token, until in _TOKEN_AND_TIME.iter_unpack(value))


def _packed(locks: tuple[Lock, ...]) -> bytes | None:
    return b"".join(_TOKEN_AND_TIME.pack(each.token, each.until) for each in locks) or None


def _portions(items: list[T]) -> Iterator[list[T]]:
    """The items in as few portions of the sizes of `_SIZES` as there can be."""
    at = 0
    for size in _SIZES:
        while len(items) - at >= size:
            yield items[at : at + size]
            at += size


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(error: sqlite3.Error) -> int:
    """The primary code; 0 where SQLite itself was not asked."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def certainly_lost(error: sqlite3.Error) -> bool:
    """Whether a commit that failed so, and was rolled back, is nowhere: the log has no room for its last page, without which it is
    not read. After any other failure a crash might find it in the log."""
    return (
        _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
        or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE
    )


def passing(error: sqlite3.Error) -> bool:
    """Whether what is open can be used again once the cause is gone. Else what was read of a bad file would be remembered."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def failure(path: str, error: sqlite3.Error) -> StoreUnavailable:
    """What the caller of a command is told that certainly was not applied. A file that takes no writes can still be read."""
    unwritable = (
        _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
        or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE
    )
    return (Refused if unwritable else StoreUnavailable)(why(path, error))


def why(path: str, error: sqlite3.Error) -> str:
    """What is wrong with the file, and what to do."""
    match _code(error):
        case sqlite3.SQLITE_CANTOPEN if Path(path).is_dir():
            return f"{path} is a directory: name a file for the store"
        case sqlite3.SQLITE_CANTOPEN if not Path(path).parent.is_dir():
            return f"{path} cannot be made: its directory does not exist; make it, or mount the volume"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return f"{path} cannot be opened: let this user read and write the file and its directory"
        case sqlite3.SQLITE_READONLY:
            return f"{path} cannot be written: let this user write the file and its directory"
        case sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database: name another file for the store"
        case sqlite3.SQLITE_CORRUPT:
            return f"{path} is damaged ({error}): restore it from a backup, or name another file for the store"
        case sqlite3.SQLITE_FULL:
            return f"the disk that holds {path} is full: make room"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return f"{path} stays locked by another process: see what else has it open, or raise store_timeout"
        case sqlite3.SQLITE_IOERR:
            return f"{path} cannot be read or written ({error}): see whether the disk is full or failing, or a size limit is met"
        case _:
            return f"{path}: {error}: see the disk and the file"
