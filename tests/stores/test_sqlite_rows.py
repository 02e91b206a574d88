"""What is SQLite's alone: the clock, and what is done to rows."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.record import State
from idemproxy.stores import sqlite as sqlite_module
from idemproxy.stores import sqlite_thread
from idemproxy.stores.base import Claimed, Dead, Done, Found, Missing
from idemproxy.stores.sqlite import SqliteStore
from idemproxy.stores.sqlite_file import Machine
from tests.stores.asking import (
    TTL,
    B,
    claim,
    claimed,
    complete,
    completed,
    found,
    new_id,
    release,
    renewal,
    take_back,
    until,
)
from tests.stores.conftest import TIMEOUT_MS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    one = SqliteStore(str(path), namespace="test", timeout_ms=TIMEOUT_MS)
    yield one
    await one.close()


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        yield connection


# ------------------------------------------------------------------------------------------------------------------- the clock


class Clocks:
    """A machine's clocks, in milliseconds."""

    def __init__(self) -> None:
        self.boot, self.boottime, self.epoch = "boot-1", 5_000, 1_800_000_000_000

    def pass_by(self, milliseconds: int) -> None:
        self.boottime += milliseconds
        self.epoch += milliseconds

    def reboot(self) -> None:
        self.boot, self.boottime = "boot-2", 1_000

    def machine(self) -> Machine:
        return Machine(self.boot, lambda: self.boottime, lambda: self.epoch)


@contextlib.asynccontextmanager
async def by(clocks: Clocks, path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(path), namespace="test", timeout_ms=TIMEOUT_MS, machine=clocks.machine())
    try:
        yield store
    finally:
        await store.close()


async def test_a_lease_of_another_boot_has_lapsed(path: Path) -> None:
    clocks = Clocks()
    async with by(clocks, path) as store:
        record_id = await claimed(store)
    async with by(clocks, path) as store:
        assert (await found(store, record_id)).lease_left == 600_000
    clocks.reboot()
    async with by(clocks, path) as store:
        seen = await found(store, record_id)
        assert (seen.lease_left, seen.record.state) == (0, State.PROCESSING)
        assert await store.claim(record_id, claim()) == Claimed(1, 2)


async def test_a_claim_that_finds_a_lapsed_lease_writes_nothing(path: Path) -> None:
    clocks = Clocks()
    async with by(clocks, path) as store:
        record_id = await claimed(store)
        clocks.pass_by(600_000)
        with looking(path) as other:
            before = other.execute("PRAGMA data_version").fetchone()
            assert isinstance(await store.claim(record_id, claim(B)), Found)
            assert other.execute("PRAGMA data_version").fetchone() == before


async def test_a_step_of_the_wall_clock_moves_no_lease(path: Path) -> None:
    clocks = Clocks()
    async with by(clocks, path) as store, by(clocks, path) as other:
        record_id = await claimed(store)
        for step in (+86_400_000, -2 * 86_400_000):
            clocks.epoch += step
            assert (await found(other, record_id)).lease_left == 600_000
        clocks.pass_by(599_999)
        assert (await found(other, record_id)).lease_left == 1
    async with by(clocks, path) as store:
        clocks.pass_by(1)
        assert (await found(store, record_id)).lease_left == 0


async def test_time_does_not_go_back_in_a_new_boot(path: Path) -> None:
    clocks = Clocks()
    async with by(clocks, path) as store:
        await claimed(store)
        clocks.pass_by(3_600_000)
        last = (await found(store, await claimed(store))).record.created_at
    clocks.reboot()
    clocks.epoch = 0
    async with by(clocks, path) as store:
        assert (await found(store, await claimed(store))).record.created_at >= last


async def test_a_new_boot_goes_by_the_wall_clock(path: Path) -> None:
    clocks = Clocks()
    async with by(clocks, path) as store:
        done = await completed(store)
        await store.claim(done, claim())
    clocks.reboot()
    clocks.epoch += TTL
    async with by(clocks, path) as store:
        assert await store.get(done) == Missing()


# ------------------------------------------------------------------------------------------------------------------------ rows


async def test_what_changes_nothing_writes_nothing(store: SqliteStore, path: Path) -> None:
    done, running = await completed(store), await claimed(store)
    with looking(path) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        await store.claim(done, claim(B))
        await store.claim(running, claim(B))
        await store.complete(done, complete())
        await store.release(running, release(B))
        await store.get(running)
        await store.scan(state=None, rule=None, limit=10, cursor=None)
        await store.check()
        assert other.execute("PRAGMA data_version").fetchone() == before
        await store.release(running, release())
        assert other.execute("PRAGMA data_version").fetchone() != before


async def test_what_has_expired_is_swept_from_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "TEND_EVERY", 50)
    clocks = Clocks()
    async with by(clocks, path) as store:
        await asyncio.gather(*(claimed(store, claim(lease=1, ttl=1)) for _ in range(300)))
        kept = await completed(store)
        clocks.pass_by(2)
        with looking(path) as other:

            async def rows() -> int:
                return int(other.execute("SELECT count(*) FROM record").fetchone()[0])

            await until(rows, lambda count: count == 1)
        await found(store, kept)


async def test_what_was_taken_back_is_swept_with_its_record_or_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "TEND_EVERY", 50)
    clocks = Clocks()
    async with by(clocks, path) as store:
        alone, beside = new_id(), await claimed(store, claim(lease=1, ttl=1))
        for record_id in (alone, beside):
            await store.take_back(record_id, take_back(B, lease=1_000))
        with looking(path) as other:

            async def rows() -> int:
                return int(other.execute("SELECT count(*) FROM record").fetchone()[0])

            clocks.pass_by(999)
            await claimed(store)
            assert await rows() == 3
            for record_id in (alone, beside):
                assert await store.renew(record_id, renewal(B)) == Dead()
            clocks.pass_by(1)
            await until(rows, lambda count: count == 1)


async def test_what_was_taken_back_is_remembered_in_a_new_boot(path: Path) -> None:
    clocks, record_id = Clocks(), new_id()
    async with by(clocks, path) as store:
        await store.take_back(record_id, take_back(B))
    clocks.reboot()
    async with by(clocks, path) as store:
        assert await store.claim(record_id, claim(B)) == Dead()


async def test_sweeping_keeps_up_with_claims(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "TEND_EVERY", 0)
    clocks = Clocks()
    async with by(clocks, path) as store:
        for _ in range(10):
            await asyncio.gather(*(claimed(store, claim(lease=1, ttl=1)) for _ in range(100)))
            clocks.pass_by(2)
        with looking(path) as other:
            assert other.execute("SELECT count(*) FROM record").fetchone()[0] <= 300


async def test_an_unreadable_record_is_an_error_of_its_own_operation_alone(store: SqliteStore, path: Path) -> None:
    record_id, other_id = await claimed(store), new_id()
    with looking(path) as other:
        other.execute("UPDATE record SET value = ?", (b"I\x09" + bytes(200),))
    bad, also_bad, good = await asyncio.gather(
        store.claim(record_id, claim()),
        store.complete(record_id, complete()),
        store.claim(other_id, claim()),
        return_exceptions=True,
    )
    assert isinstance(bad, RecordUnreadable)
    assert isinstance(also_bad, RecordUnreadable)
    assert good == Claimed(1, 1)
    with looking(path) as other:
        assert other.execute("SELECT value FROM record ORDER BY lock_until").fetchone()[0].startswith(b"I\x09")


async def test_commands_on_one_operation_in_one_go_follow_one_another(store: SqliteStore) -> None:
    await store.check()
    record_id = new_id()
    facts = await asyncio.gather(
        store.claim(record_id, claim()),
        store.claim(record_id, claim(B)),
        store.release(record_id, release()),
        store.claim(record_id, claim(B)),
        store.complete(record_id, complete(B)),
    )
    assert facts[0] == Claimed(1, 1)
    assert list(facts[2:]) == [Done(State.RELEASED), Claimed(2, 3), Done(State.COMPLETED)]
    assert (await found(store, record_id)).record.attempt == 2


async def test_scans_page_through_many_rows_and_show_the_own_namespace_alone(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "SCANNED", 7)
    theirs = SqliteStore(str(path), namespace="theirs", timeout_ms=TIMEOUT_MS)
    try:
        await asyncio.gather(*(claimed(theirs) for _ in range(40)))
        ids = sorted(await asyncio.gather(*(claimed(store) for _ in range(40))))
    finally:
        await theirs.close()
    shown: list[str] = []
    cursor: str | None = None
    for limit in (1, 6, 7, 8, 18):
        page = await store.scan(state=State.PROCESSING, rule="charges", limit=limit, cursor=cursor)
        shown += [record_id for record_id, _ in page.found]
        cursor = page.cursor
        assert (cursor is None) == (len(shown) == 40)
        assert cursor is None or len(page.found) == limit
    assert shown == ids
