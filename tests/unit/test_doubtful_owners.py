"""An owner whose claim was asked more than once: an earlier asking may arrive after everything, and must own nothing."""

from __future__ import annotations

import pytest

from idemproxy.errors import StoreAmbiguous
from idemproxy.execution import End, Failed, Forward
from idemproxy.idempotency.operation import Complete, Free, LeaveUnknown, Transition
from idemproxy.idempotency.record import OnUnknown, Reason, State
from idemproxy.stores.base import Claim, Claimed, Dead, Done, Found, Missing, Release
from tests.unit.owning import ANSWER, ID, RULE, World, operation

OTHER = Claim(b"other-owner-----", b"f" * 32, "r", "charges", OnUnknown.BLOCK, 3_000, 60_000)
OF_THE_OWNER = Claim((1).to_bytes(16, "big"), b"f" * 32, "r", "charges", OnUnknown.BLOCK, RULE.lease, RULE.ttl)
"""World's first token."""


@pytest.fixture
def world() -> World:
    return World()


def ends_with(world: World, transition: Transition) -> None:
    async def respond(forward: Forward) -> End:
        return End(transition, Failed.lost(Reason.RESET, RULE))

    world.respond = respond


async def run_with_a_late_asking(world: World) -> Claim:
    """One execution whose first asking for its claim is still on its way: that asking."""

    async def delay_first(command: str) -> None:
        if command == "claim" and world.store.asked.count("claim") == 1:
            raise StoreAmbiguous("the connection broke")

    world.store.before = delay_first
    owner = world.begin(operation(), None)
    await owner.first
    await world.ownership.idle()
    assert world.store.asked[:2] == ["claim", "claim"]
    return OF_THE_OWNER


async def test_what_was_released_is_not_owned_again_by_an_earlier_asking(world: World) -> None:
    ends_with(world, Free())
    late = await run_with_a_late_asking(world)
    assert isinstance(await world.store.claim(ID, OTHER), Claimed)
    assert await world.store.release(ID, Release(OTHER.token, RULE.ttl)) == Done(State.RELEASED)
    assert await world.store.claim(ID, late) == Dead()
    assert await world.store.get(ID) == Missing()


async def test_an_earlier_asking_that_arrives_before_the_release_is_told_to_be_dead_is_freed(world: World) -> None:
    """Another owner came and went between the release and the taking back."""
    ends_with(world, Free())
    late: list[object] = []

    async def first_is_lost(command: str) -> None:
        if command == "claim" and world.store.asked.count("claim") == 1:
            raise StoreAmbiguous("the connection broke")
        if command == "take_back":
            await world.store.claim(ID, OTHER)
            await world.store.release(ID, Release(OTHER.token, RULE.ttl))
            late.append(await world.store.claim(ID, OF_THE_OWNER))

    world.store.before = first_is_lost
    owner = world.begin(operation(), None)
    await owner.first
    await world.ownership.idle()
    assert isinstance(late[0], Claimed)
    assert len(late) == 1
    assert await world.store.get(ID) == Missing()


async def test_a_release_that_is_refused_is_taken_back_too(world: World) -> None:
    """Whoever owns it now may release it before the earlier asking arrives."""

    async def settled_by_others(forward: Forward) -> End:
        world.store.slots.clear()
        await world.store.claim(ID, OTHER)
        return End(Free(), Failed.lost(Reason.RESET, RULE))

    world.respond = settled_by_others
    late = await run_with_a_late_asking(world)
    assert isinstance(await world.store.get(ID), Found), "another owner's, and untouched"
    await world.store.release(ID, Release(OTHER.token, RULE.ttl))
    assert await world.store.claim(ID, late) == Dead()


@pytest.mark.parametrize("transition", [Complete(ANSWER), LeaveUnknown(Reason.RESET)])
async def test_what_may_have_run_is_never_taken_back(world: World, transition: Transition) -> None:
    ends_with(world, transition)
    late = await run_with_a_late_asking(world)
    assert "take_back" not in world.store.asked
    assert isinstance(await world.store.claim(ID, late), Found)


async def test_a_release_without_doubt_costs_the_store_nothing_more(world: World) -> None:
    ends_with(world, Free())
    owner = world.begin(operation(), None)
    await owner.first
    await world.ownership.idle()
    assert world.store.asked == ["claim", "release"]
