"""The SQLite store's file: its schema, its clock, and what can be wrong with it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idemproxy.errors import StoreUnavailable

APPLICATION_ID: Final = 0x49444D50
"""Of idemproxy's files (PRAGMA application_id): "IDMP"."""
SCHEMA: Final = 1

_TABLES: Final = """
CREATE TABLE record (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    state INTEGER NOT NULL,
    rule TEXT NOT NULL,
    expires INTEGER NOT NULL,
    value BLOB NOT NULL,
    lock_token BLOB,
    lock_until INTEGER,
    lock_boot TEXT
) WITHOUT ROWID;
CREATE INDEX record_expires ON record (expires);
CREATE TABLE clock (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT NOT NULL,
    boottime INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    latest INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """The clocks of the machine, in milliseconds, and the name of its boot."""

    boot: str
    boottime: Callable[[], int]
    epoch: Callable[[], int]


def this_machine() -> Machine:
    """The real one."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return Machine(
        boot, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, lambda: time.time_ns() // 1_000_000
    )


class StoreClock:
    """The file's clock: within one boot it runs with the boot clock, whatever the wall clock does; a new boot sets it to the wall
    clock, or to the latest time that the file has seen where that is later."""

    def __init__(self, connection: sqlite3.Connection, machine: Machine) -> None:
        self._machine = machine
        row = connection.execute("SELECT boot, boottime, epoch, latest FROM clock").fetchone()
        if row is None or row[0] != machine.boot:
            now, latest = machine.epoch(), 0 if row is None else row[3]
            row = (machine.boot, machine.boottime(), max(now, latest), 0)
            connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)", (*row[:3], row[2]))
        self._offset = int(row[2]) - int(row[1])

    def now(self) -> int:
        """Milliseconds."""
        return self._machine.boottime() + self._offset


def open_file(path: str, machine: Machine, busy: float) -> tuple[sqlite3.Connection, StoreClock]:
    """Open the file, and make it where it is not there yet. Processes that do so at once agree: everything is looked at and made in
    one transaction. `busy` is how long to wait for another process, in seconds. Raises StoreUnavailable, in an operator's words."""
    try:
        connection = sqlite3.connect(
            path, timeout=busy, isolation_level=None, check_same_thread=False, cached_statements=64
        )
    except sqlite3.Error as error:
        raise StoreUnavailable(why(path, error)) from error
    try:
        _write_ahead(connection, busy)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("BEGIN IMMEDIATE")
        try:
            _make(connection, path)
            clock = StoreClock(connection, machine)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailable(why(path, error)) from error
    except BaseException:
        connection.close()
        raise
    return connection, clock


def _write_ahead(connection: sqlite3.Connection, busy: float) -> None:
    """The switch to WAL does not wait for other processes by itself."""
    until = time.monotonic() + busy
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                or time.monotonic() > until
            ):
                raise
            time.sleep(0.01)
        else:
            return


def _make(connection: sqlite3.Connection, path: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID:
        if tables or application:
            raise StoreUnavailable(f"{path} is a database of another program: name another file for the store")
        for statement in _TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    elif version != SCHEMA:
        raise StoreUnavailable(
            f"{path} was made by another version of idemproxy (its schema is {version}, this version's {SCHEMA}): run that version, "
            "or name another file"
        )


def why(path: str, error: sqlite3.Error) -> str:
    """What is wrong, and what to do."""
    match getattr(error, "sqlite_errorcode", None):
        case int() as code if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
            return f"{path} cannot be opened: see that its directory exists and that this user may write there"
        case int() as code if code & 0xFF == sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database: name another file for the store"
        case int() as code if code & 0xFF == sqlite3.SQLITE_READONLY:
            return f"{path} cannot be written: see its permissions and its directory's"
        case int() as code if code & 0xFF == sqlite3.SQLITE_FULL:
            return f"the disk that holds {path} is full: make room"
        case int() as code if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{path} is locked by another process for longer than store_timeout"
        case int() as code if code & 0xFF == sqlite3.SQLITE_IOERR:
            return f"{path} cannot be read or written ({error}): see the disk, and whether it is full"
        case _:
            return f"{path}: {error}"
