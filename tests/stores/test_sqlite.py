"""What is SQLite's alone: the file and its making, crashes, full disks, other processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from idemproxy.errors import StoreAmbiguous, StoreUnavailable
from idemproxy.idempotency.record import State
from idemproxy.stores.base import Claimed, Found, Missing
from idemproxy.stores.sqlite import SqliteStore
from idemproxy.stores.sqlite_file import APPLICATION_ID, StoreFile, certainly_lost
from tests.stores.asking import (
    ANSWER,
    B,
    claim,
    claimed,
    completed,
    found,
    new_id,
    until,
)
from tests.stores.conftest import TIMEOUT_MS
from tests.stores.sqlite_child import shared_ids

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with contextlib.AsyncExitStack() as stack:
        yield await opened(stack, path)


async def opened(stack: contextlib.AsyncExitStack, path: Path, timeout_ms: int = TIMEOUT_MS) -> SqliteStore:
    one = SqliteStore(str(path), namespace="test", timeout_ms=timeout_ms)
    stack.push_async_callback(one.close)
    return one


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        yield connection


def child(*arguments: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.sqlite_child", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True)


# ------------------------------------------------------------------------------------------------------------ making the file


def test_processes_that_make_the_file_at_once_all_work_and_each_operation_is_claimed_once(tmp_path: Path) -> None:
    children = [child("race", str(number), stdin=subprocess.PIPE) for number in range(1, 7)]
    try:
        for number in range(8):
            for one in children:
                assert one.stdin is not None
                one.stdin.write(f"{tmp_path / f'{number}.db'}\n")
            for one in children:
                assert one.stdin is not None
                one.stdin.flush()
            won = [json.loads(one.stdout.readline()) for one in children if one.stdout is not None]
            assert sorted(record_id for ids in won for record_id in ids) == sorted(shared_ids(20))
    finally:
        for one in children:
            one.kill()
            one.communicate()


async def test_the_file_is_the_owners_alone(store: SqliteStore, path: Path) -> None:
    await claimed(store)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file


async def test_an_empty_file_is_made_a_store(store: SqliteStore, path: Path) -> None:
    path.touch()
    await claimed(store)
    with looking(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("statements", "word"),
    [
        (["CREATE TABLE theirs (x)"], "another program"),
        (["PRAGMA application_id = 77", "CREATE TABLE theirs (x)"], "another program"),
        ([f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 99", "CREATE TABLE x (x)"], "version"),
    ],
    ids=["foreign", "foreign-with-id", "newer"],
)
async def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    store: SqliteStore, path: Path, statements: list[str], word: str
) -> None:
    with looking(path) as connection:
        for statement in statements:
            connection.execute(statement)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"{path}.*{word}.*another file"):
            await store.claim(new_id(), claim())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_what_is_not_a_database_is_refused_and_left_as_it_is(store: SqliteStore, path: Path) -> None:
    path.write_bytes(b"precious notes\n" * 100)
    with pytest.raises(StoreUnavailable, match="not a SQLite database: name another file"):
        await store.check()
    assert path.read_bytes() == b"precious notes\n" * 100


async def test_a_damaged_file_is_named_and_works_once_it_is_restored(path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first, second = await opened(stack, path), await opened(stack, path)
        record_id = await claimed(first)
        await first.close()
        good = path.read_bytes()
        with looking(path) as other:
            page = other.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_record_1'"
            ).fetchone()[0]
        path.write_bytes(good[: 4096 * (page - 1)] + bytes([0xFF]) * 4096 + good[4096 * page :])
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"damaged.*backup"):
                await second.claim(record_id, claim(B))
        path.write_bytes(good)
        assert isinstance(await second.claim(record_id, claim(B)), Found)


async def test_a_missing_directory_is_named_and_the_store_works_once_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    async with contextlib.AsyncExitStack() as stack:
        store = await opened(stack, folder / "store.db")
        record_id = new_id()
        with pytest.raises(StoreUnavailable, match="its directory does not exist; make it") as caught:
            await store.claim(record_id, claim())
        assert record_id not in str(caught.value)
        folder.mkdir()
        assert await store.claim(record_id, claim()) == Claimed(1, 1)


async def test_a_directory_is_no_store(store: SqliteStore, path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailable, match="is a directory: name a file"):
        await store.check()


@contextlib.contextmanager
def nobody_in_particular() -> Iterator[None]:
    """A user for whom permissions hold."""
    before = os.geteuid()
    if before == 0:
        try:
            os.seteuid(65534)
        except PermissionError:
            pytest.skip("the superuser may not become another user here")
    try:
        yield
    finally:
        os.seteuid(before)


async def test_a_file_that_may_not_be_written_is_named_and_works_once_it_may() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "store.db"
        async with contextlib.AsyncExitStack() as stack:
            first = await opened(stack, path)
            record_id = await claimed(first)
            await first.close()
            path.chmod(0o444)
            folder.chmod(0o555)
            with nobody_in_particular():
                store = await opened(stack, path)
                with pytest.raises(StoreUnavailable, match=r"let this user .*write the file and its directory"):
                    await store.claim(new_id(), claim())
            folder.chmod(0o777)
            path.chmod(0o666)
            assert isinstance(await store.claim(record_id, claim(B)), Found)


async def test_a_file_that_is_removed_is_made_anew(store: SqliteStore, path: Path) -> None:
    record_id = await claimed(store)
    for file in path.parent.iterdir():
        file.unlink()
    assert await store.claim(record_id, claim(B)) == Claimed(1, 1)
    async with contextlib.AsyncExitStack() as stack:
        assert (await found(await opened(stack, path), record_id)).record.token == B


# ------------------------------------------------------------------------------------------------------- crashes and full disks


async def test_a_claim_is_kept_before_its_fact_is_given(store: SqliteStore, path: Path) -> None:
    with child("claim_on", str(path)) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(50)]
        process.kill()
        told += [line.strip() for line in process.stdout if line.endswith("\n")]
    for record_id in told:
        assert (await found(store, record_id)).record.state is State.PROCESSING


async def test_without_room_nothing_is_claimed_and_answers_are_given_and_with_room_all_works(
    store: SqliteStore, path: Path
) -> None:
    with child("fill", str(path)) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    assert told["failure"].startswith("Refused: ")
    assert "disk" in told["failure"]
    assert told["names"] == []
    assert (told["replayed"], told["missing"], told["again"]) == ("Found", "Missing", "Claimed")
    assert len(told["ids"]) > 3
    for record_id in told["ids"]:
        await found(store, record_id)


async def test_a_commit_in_doubt_says_so_and_the_next_command_is_answered(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = await completed(store)

    def sync_fails(file: StoreFile) -> None:
        file.roll_back()
        raise StoreAmbiguous("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(StoreFile, "commit", sync_fails)
        record_id = new_id()
        facts = await asyncio.gather(
            store.claim(record_id, claim()), store.claim(done, claim(B)), return_exceptions=True
        )
        assert isinstance(facts[0], StoreAmbiguous)
        assert isinstance(facts[1], Found)
    assert await store.claim(record_id, claim()) == Claimed(1, 1)


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_IOERR_FSYNC, False),
        (sqlite3.SQLITE_IOERR, False),
    ],
)
def test_a_failed_commit_is_in_doubt_unless_the_log_cannot_hold_it(code: int, lost: bool) -> None:
    error = sqlite3.OperationalError("disk trouble")
    error.sqlite_errorcode = code
    assert certainly_lost(error) is lost


# -------------------------------------------------------------------------------------------------------------- other processes


async def ready(store: SqliteStore) -> None:
    """The file is open, and all that was asked before is done, however short the store's time limit."""

    async def checked() -> bool:
        try:
            await store.check()
        except StoreUnavailable:
            return False
        return True

    await until(checked, bool)


async def test_while_another_process_writes_answers_are_given_and_a_claim_given_up_is_never_applied(
    store: SqliteStore, path: Path
) -> None:
    done, record_id = await completed(store), new_id()
    async with contextlib.AsyncExitStack() as stack:
        hasty = await opened(stack, path, timeout_ms=300)
        await ready(hasty)
        with looking(path) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="store_timeout") as caught:
                    await hasty.claim(record_id, claim())
                assert record_id not in str(caught.value)
            fact = await store.claim(done, claim(B))
            assert isinstance(fact, Found)
            assert fact.record.answer == ANSWER
            assert await store.get(record_id) == Missing()
            other.execute("ROLLBACK")
        await ready(hasty)
        assert await store.claim(record_id, claim(B)) == Claimed(1, 1)


async def test_a_command_waits_for_another_process_within_its_time(store: SqliteStore, path: Path) -> None:
    await store.check()
    with looking(path) as other:
        other.execute("BEGIN IMMEDIATE")
        asked = asyncio.create_task(store.claim(new_id(), claim()))
        assert not (await asyncio.wait([asked], timeout=0.2))[0]
        other.execute("ROLLBACK")
    assert await asked == Claimed(1, 1)


async def test_a_switch_to_the_write_ahead_log_waits_for_other_processes(path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first, second = await opened(stack, path), await opened(stack, path)
        record_id = await claimed(first)
        await first.close()
        with looking(path) as other:
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN")
            other.execute("SELECT * FROM record").fetchall()
            asked = asyncio.create_task(second.get(record_id))
            assert not (await asyncio.wait([asked], timeout=0.2))[0]
            other.execute("COMMIT")
        assert isinstance(await asked, Found)


async def test_a_file_that_is_locked_while_it_is_opened_is_waited_for(store: SqliteStore, path: Path) -> None:
    with looking(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        asked = asyncio.create_task(store.claim(new_id(), claim()))
        assert not (await asyncio.wait([asked], timeout=0.2))[0]
        other.execute("ROLLBACK")
    assert await asked == Claimed(1, 1)


async def test_a_command_past_its_time_in_the_commit_is_in_doubt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()
    commit = StoreFile.commit

    def slow(file: StoreFile) -> None:
        reached.set()
        assert go_on.wait(60)
        commit(file)

    monkeypatch.setattr(StoreFile, "commit", slow)
    async with contextlib.AsyncExitStack() as stack:
        store = await opened(stack, path, timeout_ms=2_000)
        stack.callback(go_on.set)
        await ready(store)
        record_id, behind = new_id(), new_id()
        begun = asyncio.create_task(store.claim(record_id, claim()))
        await asyncio.to_thread(reached.wait, 60)
        withdrawn = asyncio.create_task(store.claim(behind, claim()))
        with pytest.raises(StoreAmbiguous):
            await begun
        with pytest.raises(StoreUnavailable):
            await withdrawn
        go_on.set()
        await ready(store)
        assert (await found(store, record_id)).record.state is State.PROCESSING
        assert await store.get(behind) == Missing()


async def test_closing_finishes_what_was_asked_and_leaves_one_file(store: SqliteStore, path: Path) -> None:
    ids = [new_id() for _ in range(200)]
    asked = [asyncio.create_task(store.claim(record_id, claim())) for record_id in ids]
    await asyncio.sleep(0)
    await store.close()
    assert [await one for one in asked] == [Claimed(1, 1)] * 200
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not any(thread.name == "idemproxy-sqlite" for thread in threading.enumerate())
    with looking(path) as other:
        assert other.execute("SELECT count(*) FROM record").fetchone() == (200,)


async def test_a_store_that_was_never_used_makes_no_file(store: SqliteStore, path: Path) -> None:
    await store.close()
    assert not path.exists()
