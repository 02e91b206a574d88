"""The suite's third part, for every backend: operators, scans, watching, opening and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from idemproxy.errors import StoreUnavailable
from idemproxy.idempotency.record import NO_TOKEN, Reason, State
from idemproxy.stores.base import (
    Claimed,
    Dead,
    Done,
    Found,
    Missing,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    Store,
)
from tests.stores.asking import (
    ANSWER,
    DEADLINE,
    LONG,
    OTHER,
    SHORT,
    TTL,
    A,
    B,
    C,
    claim,
    claimed,
    complete,
    completed,
    found,
    lapsed,
    left_unknown,
    new_id,
    release,
    released,
    renewal,
    take_back,
    unknown,
)
from tests.stores.conftest import Opener

# ------------------------------------------------------------------------------------------------------------------ operators


async def test_an_operator_releases_and_the_number_of_attempts_is_kept(store: Store) -> None:
    for record_id in (await left_unknown(store), await lapsed(store), await completed(store)):
        seen = await found(store, record_id)
        assert await store.settle(record_id, SettleRelease(seen.record.token, seen.record.version, TTL)) == Done(
            State.RELEASED
        )
        assert await store.get(record_id) == Missing()
        assert await store.complete(record_id, complete(answer=OTHER)) == Dead()
        fact = await store.claim(record_id, claim(C))
        assert isinstance(fact, Claimed)
        assert (fact.attempt, fact.version > seen.record.version) == (2, True)
        assert not (await found(store, record_id)).record.may_have_run


async def test_an_operator_completes_and_the_owner_is_fenced(store: Store) -> None:
    for record_id in (await left_unknown(store), await lapsed(store)):
        seen = await found(store, record_id)
        assert await store.settle(
            record_id, SettleComplete(seen.record.token, seen.record.version, OTHER, TTL)
        ) == Done(State.COMPLETED)
        settled = await found(store, record_id)
        assert (settled.record.answer, settled.record.token, settled.record.reason) == (OTHER, NO_TOKEN, Reason.NONE)
        assert await store.complete(record_id, complete()) == settled


async def test_an_operator_does_not_complete_a_finished_operation(store: Store) -> None:
    record_id = await completed(store)
    seen = await found(store, record_id)
    assert await store.settle(record_id, SettleComplete(seen.record.token, seen.record.version, OTHER, TTL)) == seen
    assert await found(store, record_id) == seen


async def test_an_operator_deletes_and_everything_is_forgotten(store: Store) -> None:
    for record_id in (await left_unknown(store), await lapsed(store), await completed(store)):
        seen = await found(store, record_id)
        assert await store.settle(record_id, SettleDelete(seen.record.token, seen.record.version)) == Done(
            State.RELEASED
        )
        assert await store.get(record_id) == Missing()
        assert await store.claim(record_id, claim(C)) == Claimed(1, 1)


SETTLEMENTS: list[Settlement] = [SettleRelease(A, 1, TTL), SettleComplete(A, 1, OTHER, TTL), SettleDelete(A, 1)]


@pytest.mark.parametrize("asked", SETTLEMENTS, ids=["release", "complete", "delete"])
async def test_settling_is_refused_while_a_lease_runs(store: Store, asked: Settlement) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    fact = await store.settle(record_id, asked)
    assert isinstance(fact, Found)
    assert (fact.record, fact.lease_left > 0) == (before.record, True)
    assert (await found(store, record_id)).record == before.record


@pytest.mark.parametrize("moved", ["end", "revival"])
@pytest.mark.parametrize("asked", SETTLEMENTS, ids=["release", "complete", "delete"])
async def test_settle_on_an_old_look_is_refused(store: Store, asked: Settlement, moved: str) -> None:
    """The operator saw version 1, lapsed."""
    record_id = await lapsed(store)
    if moved == "end":
        await store.mark_unknown(record_id, unknown())
    else:
        await store.renew(record_id, renewal(lease=SHORT))
        while (await found(store, record_id)).lease_left:
            await asyncio.sleep(0.01)
    before = await found(store, record_id)
    assert await store.settle(record_id, asked) == before
    assert await found(store, record_id) == before


@pytest.mark.parametrize(
    "asked",
    [SettleRelease(A, 2, TTL), SettleComplete(A, 2, OTHER, TTL), SettleDelete(A, 2)],
    ids=["release", "complete", "delete"],
)
async def test_settle_on_a_look_at_anothers_record_is_refused(store: Store, asked: Settlement) -> None:
    """The record that was seen is gone, and another one has come to the same version."""
    record_id = await left_unknown(store)
    assert await store.settle(record_id, SettleDelete(A, 2)) == Done(State.RELEASED)
    await store.claim(record_id, claim(B))
    await store.mark_unknown(record_id, unknown(B))
    before = await found(store, record_id)
    assert (before.record.token, before.record.version) == (B, 2)
    assert await store.settle(record_id, asked) == before
    assert await found(store, record_id) == before


async def test_there_is_nothing_to_settle(store: Store) -> None:
    for asked in SETTLEMENTS:
        assert await store.settle(new_id(), asked) == Missing()
        assert await store.settle(await released(store), asked) == Missing()


# ---------------------------------------------------------------------------------------------------------------------- scans


async def every(store: Store, state: State | None = None, rule: str | None = None, limit: int = 3) -> dict[str, Found]:
    """All pages. No record is on two of them."""
    seen: dict[str, Found] = {}
    cursor: str | None = None
    for _ in range(50):
        page = await store.scan(state=state, rule=rule, limit=limit, cursor=cursor)
        assert len(page.found) <= limit
        assert not seen.keys() & dict(page.found).keys()
        seen |= dict(page.found)
        if page.cursor is None:
            return seen
        cursor = page.cursor
    raise AssertionError("pages without end")


async def test_a_scan_shows_every_record_once(store: Store) -> None:
    ids = {await claimed(store) for _ in range(8)}
    shown = await every(store)
    assert shown.keys() == ids
    assert all(0 < fact.lease_left <= LONG and fact.record.token == A for fact in shown.values())


async def test_a_scan_chooses_by_state_and_rule(store: Store) -> None:
    running, done, lost = await claimed(store), await completed(store), await left_unknown(store)
    other = await claimed(store, claim(rule="refunds"))
    gone = await released(store)
    assert (await every(store)).keys() == {running, done, lost, other}
    assert (await every(store, State.PROCESSING)).keys() == {running, other}
    assert (await every(store, State.COMPLETED)).keys() == {done}
    assert (await every(store, State.UNKNOWN)).keys() == {lost}
    assert (await every(store, State.FAILED)) == {}
    assert (await every(store, rule="refunds")).keys() == {other}
    assert (await every(store, State.PROCESSING, "charges")).keys() == {running}
    assert (await every(store, State.COMPLETED, "refunds")) == {}
    assert gone not in await every(store)


async def test_a_scan_shows_a_lapsed_operation_without_a_lease(store: Store) -> None:
    record_id = await lapsed(store)
    fact = (await every(store, State.PROCESSING))[record_id]
    assert (fact.record.state, fact.lease_left) == (State.PROCESSING, 0)


async def test_a_scan_does_not_show_what_has_expired(store: Store) -> None:
    record_id = await claimed(store)
    await store.complete(record_id, complete(ttl=1))
    while await store.get(record_id) != Missing():
        await asyncio.sleep(0.01)
    assert await every(store) == {}


# ------------------------------------------------------------------------------------------------------------------- watching


End = Callable[[Store, str], Awaitable[object]]
ENDS: dict[str, End] = {
    "complete": lambda store, record_id: store.complete(record_id, complete()),
    "mark_unknown": lambda store, record_id: store.mark_unknown(record_id, unknown()),
    "release": lambda store, record_id: store.release(record_id, release()),
    "take_back": lambda store, record_id: store.take_back(record_id, take_back()),
    "settle": lambda store, record_id: store.settle(record_id, SettleDelete(A, 2)),
}


@pytest.mark.parametrize("name", ENDS)
async def test_every_end_wakes_who_watches_here_and_elsewhere(store: Store, another: Opener, name: str) -> None:
    elsewhere = await another()
    for watched in (store, elsewhere):
        record_id = await (left_unknown(store) if name == "settle" else claimed(store))
        async with Watch(watched) as watch:
            await ENDS[name](store, record_id)
            await watch.hears(record_id)


class Watch:
    """Watches a store from the moment that it is entered until it is left."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard: asyncio.Queue[str | None] = asyncio.Queue()
        self._listening = asyncio.Event()

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._store.watch(self._heard.put_nowait, self._listening.set))
        async with asyncio.timeout(DEADLINE):
            await self._listening.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        assert isinstance((await asyncio.gather(self._task, return_exceptions=True))[0], asyncio.CancelledError)

    async def hears(self, record_id: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while await self._heard.get() not in (record_id, None):
                pass


# ----------------------------------------------------------------------------------------------------------------- opening


async def test_a_store_says_what_it_is(store: Store, url: str) -> None:
    check = await store.check()
    assert url.partition(":")[2].strip("/").partition("/")[0] in check.description


async def test_records_outlive_the_store_object(store: Store, another: Opener) -> None:
    record_id = await completed(store)
    await store.close()
    assert (await found(await another(), record_id)).record.answer == ANSWER


async def test_commands_after_closing_are_refused_and_closing_again_is_harmless(store: Store) -> None:
    await claimed(store)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.get(new_id())


async def test_a_caller_that_is_cancelled_disturbs_nobody(store: Store) -> None:
    ids = [new_id() for _ in range(40)]
    tasks = [asyncio.create_task(store.claim(record_id, claim())) for record_id in ids]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    facts: list[object] = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(fact == Claimed(1, 1) for fact in facts[1::2])
    for record_id in ids[::2]:
        assert isinstance(await store.claim(record_id, claim(B)), Claimed | Found)
