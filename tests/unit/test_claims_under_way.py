"""What becomes of a claim that is asked while its client leaves, the process drains, or gives up; and of executions in the same case."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.errors import StoreUnavailable
from idemproxy.execution import End, Failed, Forward
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import Reason, State
from idemproxy.outcomes import Outcome
from tests.unit.owning import ID, WHOLE, World, operation


class Asked:
    """A request whose first claim is held: where it is held, the store says."""

    def __init__(self, world: World) -> None:
        self.waits = asyncio.Event()
        self.go = asyncio.Event()
        self.request: asyncio.Future[Outcome] = asyncio.ensure_future(world.ownership.execute(operation(), None))
        self._world = world

    async def hold(self, command: str) -> None:
        if command == "claim" and self._world.store.asked.count("claim") == 1:
            self.waits.set()
            await self.go.wait()

    async def leave(self) -> None:
        """The client goes away."""
        self.request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.request


pytestmark = pytest.mark.timeout(30)


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def asked(world: World) -> Asked:
    """A claim that is held before it reaches the store."""
    asked = Asked(world)
    world.store.before = asked.hold
    await asked.waits.wait()
    return asked


async def turns() -> None:
    """Whatever can go on by itself has done so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_client_that_leaves_before_its_claim_is_applied_leaves_one_execution(
    world: World, asked: Asked
) -> None:
    assert world.ownership.executing(ID) is not None
    await asked.leave()
    await world.ownership.idle()
    assert world.sent == [1]
    assert world.state() is State.COMPLETED


async def test_a_client_that_leaves_after_its_claim_was_applied_leaves_one_execution(world: World) -> None:
    asked = Asked(world)
    world.store.after = asked.hold
    await asked.waits.wait()
    assert world.state() is State.PROCESSING
    await asked.leave()
    await world.ownership.idle()
    assert world.sent == [1]
    assert world.state() is State.COMPLETED


async def test_a_claim_whose_client_left_is_taken_back_where_nothing_came_of_it(world: World, asked: Asked) -> None:
    """It may still be on its way, and must not wedge the key."""
    world.ownership.cut()
    await asked.leave()
    await world.ownership.idle()
    assert world.sent == []
    assert "take_back" in world.store.asked


async def test_nothing_is_begun_for_a_client_that_leaves_when_the_process_has_given_up(
    world: World, asked: Asked
) -> None:
    await world.ownership.abandon()
    await asked.leave()
    await turns()
    assert world.store.asked == ["claim"]
    assert world.ownership.executing(ID) is None


async def test_a_claim_that_is_won_after_the_process_has_given_up_sends_nothing(world: World, asked: Asked) -> None:
    await world.ownership.abandon()
    asked.go.set()
    assert isinstance(await asked.request, Failed)
    await world.ownership.idle()
    assert world.sent == []


async def test_the_drain_waits_for_a_claim_that_is_asked_and_its_end_sends_nothing(world: World, asked: Asked) -> None:
    idle = asyncio.ensure_future(world.ownership.idle())
    await turns()
    assert not idle.done()
    world.ownership.cut()
    asked.go.set()
    outcome = await asked.request
    await idle
    assert isinstance(outcome, Failed)
    assert outcome.problem.slug is Slug.SHUTTING_DOWN
    assert world.sent == []
    assert world.state() in (None, State.RELEASED)


async def test_no_byte_may_go_once_an_owner_was_cut(world: World) -> None:
    asked: list[bool] = []

    async def deaf(forward: Forward) -> End:
        world.ownership.cut()
        asked.append(forward.guard())
        return WHOLE

    world.respond = deaf
    await world.begin(operation(), None).first
    await world.ownership.idle()
    assert asked == [False]


async def test_an_execution_that_is_cut_twice_says_how_far_it_came(world: World) -> None:
    sending = asyncio.Event()

    async def never(forward: Forward) -> End:
        sending.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.respond = never
    world.begin(operation(), None)
    await sending.wait()
    world.ownership.cut()
    world.ownership.cut()
    await world.ownership.idle()
    record = world.store.slots[ID].record
    assert record is not None
    assert (record.state, record.reason) == (State.UNKNOWN, Reason.DRAINED)


async def test_a_process_that_gives_up_does_not_wait_for_an_end_though_the_forward_takes_its_time_to_stop(
    world: World,
) -> None:
    sending, stopping = asyncio.Event(), asyncio.Event()

    async def slow_to_stop(forward: Forward) -> End:
        sending.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await asyncio.Event().wait()
        raise AssertionError

    async def away(command: str) -> None:
        if command != "claim":
            raise StoreUnavailable("away")

    world.respond = slow_to_stop
    world.store.before = away
    world.begin(operation(), None)
    await sending.wait()
    world.ownership.cut()
    await stopping.wait()
    await world.ownership.abandon()
    assert world.store.asked == ["claim"]
    assert world.state() is State.PROCESSING


async def test_an_execution_that_is_over_renews_no_lease(world: World) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_later = loop.call_later

    def seen(delay: float, *arguments: object) -> asyncio.TimerHandle:
        timer = call_later(delay, *arguments)  # type: ignore[arg-type] # whatever they are, they go on
        timers.append(timer)
        return timer

    loop.call_later = seen  # type: ignore[method-assign, assignment] # to see what is left of it
    try:
        await world.begin(operation(), None).first
        await world.ownership.idle()
    finally:
        loop.call_later = call_later  # type: ignore[method-assign]
    assert timers
    assert all(timer.cancelled() for timer in timers)
