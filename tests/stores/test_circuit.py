"""The circuit: what opens it, what it refuses then, and what closes it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from idemproxy.clocks import boottime
from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.stores.base import Claimed, Found, Missing, Refused
from idemproxy.stores.circuit import Circuit, Closed, Open, Trying
from idemproxy.stores.opening import open_store
from tests.stores.asking import (
    ANSWER,
    B,
    claim,
    completed,
    new_id,
    renewal,
    until,
)
from tests.stores.circuits import NOT_ASKED, OWNERS, REQUESTS, World, cancelled
from tests.stores.redis_cases import eventually, store_at
from tests.stores.redis_server import RedisServer


@pytest.fixture
async def world() -> World:
    return World()


# -------------------------------------------------------------------------------------------------------------------- opening


async def test_a_store_that_works_is_asked_as_it_is(world: World) -> None:
    record_id = new_id()
    assert await world.circuit.claim(record_id, claim()) == Claimed(1, 1)
    assert isinstance(await world.circuit.get(record_id), Found)
    assert await world.circuit.get(new_id()) == Missing()
    assert world.stands() == Closed(0)


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreAmbiguous])
async def test_a_run_of_failures_opens_it(world: World, kind: type[StoreError]) -> None:
    world.dies(kind("broken pipe"))
    for number in range(1, 5):
        with pytest.raises(kind, match="broken pipe"):
            await world.get()
        assert world.stands() == Closed(number)
    await world.fails()
    assert world.stands() == Open(5, "broken pipe", world.clock.now + 1)
    await world.refused()


async def test_a_success_in_between_begins_the_count_anew(world: World) -> None:
    for _ in range(3):
        world.dies()
        await world.fails(4)
        world.recovers()
        await world.get()
    assert world.stands() == Closed(0)


async def test_what_fails_together_is_not_believed_before_a_later_command_fails_too(world: World) -> None:
    """A connection breaks, and all commands on it fail: the next one comes through on another."""
    world.hangs()
    under_way = [asyncio.ensure_future(world.get()) for _ in range(20)]
    await asyncio.sleep(0)
    world.hold.set()
    await asyncio.gather(*under_way, return_exceptions=True)
    assert world.stands() == Closed(20)
    world.recovers()
    await world.get()
    assert world.stands() == Closed(0)
    world.hangs()
    under_way = [asyncio.ensure_future(world.get()) for _ in range(20)]
    await asyncio.sleep(0)
    world.hold.set()
    await asyncio.gather(*under_way, return_exceptions=True)
    await world.fails()
    assert isinstance(world.stands(), Open)


@pytest.mark.parametrize(
    "error", [RecordUnreadable("x"), StoreError("x"), Refused("x")], ids=["unreadable", "store error", "refused"]
)
async def test_a_store_that_answers_with_an_error_is_there(world: World, error: StoreError) -> None:
    world.dies()
    await world.fails(4)
    world.dies(error)
    await world.fails(1)
    world.dies()
    await world.fails(4)
    assert world.stands() == Closed(4)
    world.dies(error)
    await world.fails(20)
    assert world.stands() == Closed(0)


async def test_a_defect_and_a_cancelled_caller_say_nothing(world: World) -> None:
    world.dies()
    await world.fails(2)

    async def defect(_: str) -> None:
        raise ZeroDivisionError

    world.store.before = defect
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await world.get()
    world.hangs()
    for _ in range(10):
        await cancelled(asyncio.ensure_future(world.get()))
    assert world.stands() == Closed(2)


@pytest.mark.parametrize("name", OWNERS)
async def test_failures_of_owners_open_it_too(world: World, name: str) -> None:
    world.dies()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await OWNERS[name](world.circuit)
    await world.refused()


# ------------------------------------------------------------------------------------------------------------------ while open


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_is_refused_at_once_and_told_why(world: World, name: str) -> None:
    await world.opened()
    with pytest.raises(StoreUnavailable) as refused:
        await REQUESTS[name](world.circuit)
    assert world.store.asked == []
    assert str(refused.value) == (
        "the store failed 5 times in a row, and is not asked now: it is tried again every 1 s; "
        "the last failure: no route to host"
    )


@pytest.mark.parametrize("name", OWNERS)
async def test_what_owners_ask_goes_through_and_its_failures_count(world: World, name: str) -> None:
    await world.opened()
    world.dies(StoreAmbiguous("reset"))
    with pytest.raises(StoreAmbiguous, match="reset"):
        await OWNERS[name](world.circuit)
    assert world.store.asked == [name]
    with pytest.raises(StoreUnavailable, match=r"failed 6 times in a row.*the last failure: reset$"):
        await world.get()


@pytest.mark.parametrize("name", OWNERS)
async def test_a_success_of_what_owners_ask_closes_it(world: World, name: str) -> None:
    await world.opened()
    world.recovers()
    await OWNERS[name](world.circuit)
    assert world.stands() == Closed(0)
    await world.get()


async def test_listening_that_has_begun_closes_it_and_listening_that_broke_counts(world: World) -> None:
    world.dies()
    await world.fails(4)
    with pytest.raises(StoreUnavailable):
        await world.circuit.watch(lambda _: None, lambda: None)
    await world.refused()
    world.recovers()
    listening = asyncio.Event()
    watching = asyncio.ensure_future(world.circuit.watch(lambda _: None, listening.set))
    await listening.wait()
    assert world.stands() == Closed(0)
    await cancelled(watching)


async def test_a_success_of_a_request_that_was_asked_before_closes_it(world: World) -> None:
    slow = asyncio.Event()

    async def wait(_: str) -> None:
        await slow.wait()

    world.store.before = wait
    early = asyncio.ensure_future(world.get())
    await asyncio.sleep(0)
    await world.opened()
    slow.set()
    await early
    assert world.stands() == Closed(0)


async def test_closing_closes_the_store_and_is_no_success(world: World) -> None:
    closed = False

    async def close() -> None:
        nonlocal closed
        closed = True

    world.store.close = close  # type: ignore[method-assign]
    await world.opened()
    await world.circuit.close()
    assert closed
    assert isinstance(world.stands(), Open)


# --------------------------------------------------------------------------------------------------------------------- trials


@pytest.mark.parametrize("name", REQUESTS)
async def test_after_the_pause_one_request_is_a_trial_and_its_success_closes_it(world: World, name: str) -> None:
    await world.opened()
    world.recovers()
    world.clock.now += 0.999
    await world.refused()
    world.clock.now += 0.001
    await REQUESTS[name](world.circuit)
    assert world.store.asked == [name]
    assert world.stands() == Closed(0)


async def test_while_a_trial_is_under_way_all_others_are_refused(world: World) -> None:
    await world.opened()
    world.hangs()
    world.clock.now += 1
    trial = asyncio.ensure_future(world.get())
    await asyncio.sleep(0)
    assert isinstance(world.stands(), Trying)
    for _ in range(3):
        world.clock.now += 10
        await world.refused()
    assert world.store.asked == ["get"]
    world.recovers()
    world.hold.set()
    with pytest.raises(StoreAmbiguous):
        await trial


async def test_trials_begin_a_pause_apart(world: World) -> None:
    await world.opened()
    world.clock.now += 1
    for number in range(1, 4):
        world.hangs()
        trial = asyncio.ensure_future(world.get())
        await asyncio.sleep(0)
        world.clock.now += 0.5
        world.hold.set()
        with pytest.raises(StoreAmbiguous):
            await trial
        assert world.store.asked == ["get"] * number
        await world.refused()
        world.clock.now += 0.25
        await world.refused()
        world.clock.now += 0.25
    world.recovers()
    await world.get()


async def test_a_trial_that_took_longer_than_the_pause_is_followed_by_another_at_once(world: World) -> None:
    await world.opened()
    world.hangs()
    for _ in range(3):
        world.clock.now += 5
        trial = asyncio.ensure_future(world.get())
        await asyncio.sleep(0)
        world.clock.now += 5
        world.hold.set()
        with pytest.raises(StoreAmbiguous):
            await trial
        world.hold.clear()
    assert world.store.asked == ["get"] * 3


@pytest.mark.parametrize("ending", ["cancelled", "defect"])
async def test_a_trial_that_ends_in_nothing_makes_room_for_another(world: World, ending: str) -> None:
    await world.opened()
    world.clock.now += 1
    if ending == "cancelled":
        world.hangs()
        await cancelled(asyncio.ensure_future(world.get()))
    else:

        async def defect(_: str) -> None:
            raise ZeroDivisionError

        world.store.before = defect
        with pytest.raises(ZeroDivisionError):
            await world.get()
    assert isinstance(world.stands(), Open)
    world.recovers()
    await world.get()
    assert world.stands() == Closed(0)


@pytest.mark.parametrize("error", [RecordUnreadable("x"), Refused("x")], ids=["unreadable", "refused"])
async def test_a_trial_that_the_store_answers_with_an_error_closes_it(world: World, error: StoreError) -> None:
    await world.opened()
    world.clock.now += 1
    world.dies(error)
    with pytest.raises(type(error)):
        await world.get()
    assert world.stands() == Closed(0)


async def test_a_failure_beside_a_trial_does_not_end_it(world: World) -> None:
    await world.opened()
    world.hangs()
    world.clock.now += 1
    trial = asyncio.ensure_future(world.get())
    await asyncio.sleep(0)
    world.dies()
    with pytest.raises(StoreUnavailable):
        await world.circuit.renew(new_id(), renewal())
    assert isinstance(world.stands(), Trying)
    world.hold.set()
    with pytest.raises(StoreAmbiguous):
        await trial
    assert isinstance(world.stands(), Open)


async def test_a_trial_that_fails_after_another_success_opens_nothing(world: World) -> None:
    await world.opened()
    world.hangs()
    world.clock.now += 1
    trial = asyncio.ensure_future(world.get())
    await asyncio.sleep(0)
    world.recovers()
    await world.circuit.renew(new_id(), renewal())
    world.hold.set()
    with pytest.raises(StoreAmbiguous):
        await trial
    assert world.stands() == Closed(1)
    await world.get()


# --------------------------------------------------------------------------------------------------------------- a real server


async def test_a_server_that_hangs_costs_a_few_requests_their_time_and_works_again_by_itself(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        circuit = await open_store(server.url, namespace="shop", timeout_ms=300)
        try:
            record_id = await eventually(lambda: completed(circuit))
            server.pause()

            async def opened() -> bool:
                with contextlib.suppress(StoreError):
                    await circuit.get(record_id)
                return isinstance(circuit.state, Open)

            await until(opened, bool)
            refused = 0
            for _ in range(500):
                with pytest.raises(StoreError) as raised:
                    await circuit.get(record_id)
                refused += NOT_ASKED in str(raised.value)
            assert refused >= 400, "all but a few trials"
            server.resume()
            fact = await eventually(lambda: circuit.get(record_id))
            assert isinstance(fact, Found)
            assert fact.record.answer == ANSWER
            assert isinstance(circuit.state, Closed)
        finally:
            await circuit.close()


async def test_a_server_whose_memory_is_full_goes_on_giving_answers(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with store_at(server.url) as store:
            circuit = Circuit(store, boottime)
            record_id = await completed(circuit)
            server.client().config_set("maxmemory", 1)
            for _ in range(20):
                with pytest.raises(Refused, match="memory is full"):
                    await circuit.claim(new_id(), claim())
            fact = await circuit.claim(record_id, claim(B))
            assert isinstance(fact, Found)
            assert fact.record.answer == ANSWER


# --------------------------------------------------------------------------------------------------------------- who is told


async def test_its_operator_is_told_when_it_opens_and_when_it_closes_and_at_no_other_time(world: World) -> None:
    told: list[bool] = []
    circuit = Circuit(world.store, world.clock, lambda state: told.append(isinstance(state, Closed)))
    record_id = new_id()
    await circuit.get(record_id)
    world.dies()
    for _ in range(8):
        with pytest.raises(StoreUnavailable):
            await circuit.get(record_id)
    assert told == [False]
    world.clock.now += 1
    with pytest.raises(StoreUnavailable):
        await circuit.get(record_id)
    assert told == [False]
    world.recovers()
    world.clock.now += 1
    await circuit.get(record_id)
    await circuit.get(record_id)
    assert told == [False, True]


async def test_it_closes_by_itself_when_nobody_asks(world: World) -> None:
    """Else the first of a morning's requests would be refused by the night's failure."""
    circuit = Circuit(world.store, boottime, pause=0.01)
    world.dies()
    for _ in range(8):
        with pytest.raises(StoreUnavailable):
            await circuit.get(new_id())

    def stands() -> str:
        return type(circuit.state).__name__

    assert stands() != "Closed"
    world.recovers()
    async with asyncio.timeout(20):
        while stands() != "Closed":
            await asyncio.sleep(0.01)
    facts = await asyncio.gather(*[circuit.get(new_id()) for _ in range(20)])
    assert facts == [Missing()] * 20
    await circuit.close()
