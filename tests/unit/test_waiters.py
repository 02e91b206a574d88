"""Waiting for what another process executes: one vigil an operation, told by the store, by the lease's end, or by a poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from idemproxy.errors import StoreError, StoreUnavailable
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, State
from idemproxy.stores.base import Claim, Completion, Found, LookFact, Missing, Release
from idemproxy.waiters import Places, Waiters
from tests.stores.memory import MemoryStore

ID = "cd" * 32
ANSWER = Answer(200, b"200 OK\r\n", b"")
LONG = 3_600_000


class Clock:
    """Real time, that a test may push forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def never(error: StoreError) -> None:
    raise AssertionError(f"listening broke: {error}")


async def claimed(store: MemoryStore, lease: int = LONG) -> None:
    await store.claim(ID, Claim(b"t" * 16, b"f" * 32, "r", "rule", OnUnknown.BLOCK, lease, LONG))


async def waiting(store: MemoryStore, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


async def test_many_waiters_read_the_store_once_and_once_more_when_told() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=LONG)
    await claimed(store)
    store.asked.clear()
    asking = [asyncio.ensure_future(waiters.outcome(ID, 20)) for _ in range(1000)]
    await waiting(store, lambda: store.asked.count("get") == 2)
    await asyncio.sleep(0.05)
    assert store.asked == ["get", "get"], "read, subscribe, read again: and no more"
    await store.complete(ID, Completion(b"t" * 16, ANSWER, LONG, None))
    found = await asyncio.gather(*asking)
    assert all(isinstance(fact, Found) and fact.record.state is State.COMPLETED for fact in found)
    assert store.asked.count("get") == 3
    await waiters.close()


async def test_a_release_is_told() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=LONG)
    await claimed(store)
    asking = asyncio.ensure_future(waiters.outcome(ID, 20))
    await waiting(store, lambda: "get" in store.asked)
    await store.release(ID, Release(b"t" * 16, LONG))
    assert await asking == Missing()
    await waiters.close()


async def test_a_dead_owners_waiter_learns_at_the_leases_end() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=LONG)
    await claimed(store, lease=200)
    fact = await waiters.outcome(ID, 20)
    assert isinstance(fact, Found)
    assert fact.lease_left == 0
    assert fact.record.state is State.PROCESSING
    await waiters.close()


async def test_patience_ends() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=LONG)
    await claimed(store)
    assert await waiters.outcome(ID, 0.05) is None
    await waiters.close()


async def test_a_lost_notice_is_made_good_by_the_poll() -> None:
    class Deaf(MemoryStore):
        async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
            await asyncio.get_running_loop().create_future()

    store = Deaf(Clock())
    waiters = Waiters(store, never, poll=0.05)
    await claimed(store)
    asking = asyncio.ensure_future(waiters.outcome(ID, 20))
    await waiting(store, lambda: "get" in store.asked)
    await store.complete(ID, Completion(b"t" * 16, ANSWER, LONG, None))
    assert isinstance(await asking, Found)
    await waiters.close()


async def test_listening_that_breaks_is_begun_again_and_everybody_reads_again() -> None:
    class Breaking(MemoryStore):
        begun = 0

        async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
            self.begun += 1
            if self.begun == 1:
                raise StoreUnavailable("connection lost")
            await super().watch(wake, listening)

    told: list[StoreError] = []
    store = Breaking(Clock())
    waiters = Waiters(store, told.append, poll=LONG)
    await claimed(store)
    asking = asyncio.ensure_future(waiters.outcome(ID, 20))
    await waiting(store, lambda: store.begun == 2)
    await store.complete(ID, Completion(b"t" * 16, ANSWER, LONG, None))
    assert isinstance(await asking, Found)
    await waiters.close()
    assert [str(error) for error in told] == ["connection lost"]


async def test_a_store_that_fails_is_read_again() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=LONG)
    await claimed(store, lease=100)
    failures = 2

    async def fail(command: str) -> None:
        nonlocal failures
        if command == "get" and failures:
            failures -= 1
            raise StoreUnavailable("down")

    store.before = fail
    fact: LookFact | None = await waiters.outcome(ID, 20)
    assert isinstance(fact, Found)
    await waiters.close()


async def test_a_waiter_that_leaves_takes_its_vigil_with_it() -> None:
    store = MemoryStore(Clock())
    waiters = Waiters(store, never, poll=0.01)
    await claimed(store)
    asking = asyncio.ensure_future(waiters.outcome(ID, 20))
    await waiting(store, lambda: "get" in store.asked)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    store.asked.clear()
    await asyncio.sleep(0.1)
    assert store.asked == []
    await waiters.close()


class Level:
    """How many are said to wait."""

    def __init__(self) -> None:
        self.stands = 0

    def up(self) -> None:
        self.stands += 1

    def down(self) -> None:
        self.stands -= 1


def test_only_so_many_have_a_place_for_one_operation() -> None:
    places, level = Places(), Level()
    with places.place(ID, 2, 5.0, level) as one, places.place(ID, 2, 5.0, level) as two:
        with places.place(ID, 2, 5.0, level) as none, places.place("another", 2, 5.0, level) as other:
            assert (one, two, none, other) == (5.0, 5.0, 0.0, 5.0)
            assert level.stands == 3
        with places.place(ID, 2, 5.0, level) as still_none:
            assert still_none == 0.0
    assert level.stands == 0
    assert not places.taken
    with places.place(ID, 1, 5.0, level) as free_again:
        assert free_again == 5.0
