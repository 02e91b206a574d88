"""An owner's life against a store that fails at chosen moments: what is sent, what is recorded, what the client gets."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreUnavailable
from idemproxy.execution import Answered, End, Failed, Forward, Streaming
from idemproxy.http1.heads import Chunked
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Complete, Free, LeaveUnknown
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import OnUnknown, Reason, State, Tombstone
from idemproxy.idempotency.routes import OnStoreFailure
from idemproxy.outcomes import TRIES_WHOLE, Fenced, NotWon, StoreDown
from idemproxy.stores.base import Claim, Claimed, Found, Missing, SettleRelease, TakeOver
from idemproxy.tee import BUFFERED, Tee
from tests.unit.owning import ANSWER, ID, RULE, WHOLE, World, operation


@pytest.fixture
def world() -> World:
    return World()


async def test_executes_records_then_answers(world: World) -> None:
    async def respond(forward: Forward) -> End:
        assert world.state() is State.PROCESSING
        return WHOLE

    world.respond = respond
    owner = world.begin(operation(), None)
    assert await owner.first == WHOLE.delivery
    assert world.state() is State.COMPLETED
    assert await owner.ended is None
    assert world.ownership.executing(ID) is None
    assert world.sent == [1]


async def test_a_claim_whose_reply_was_lost_is_asked_again_and_owns(world: World) -> None:
    async def lose(command: str) -> None:
        if world.store.asked.count("claim") == 1 and command == "claim":
            raise StoreAmbiguous("no reply")

    world.store.after = lose
    owner = world.begin(operation(), None)
    assert await owner.first == WHOLE.delivery
    assert world.store.asked.count("claim") == 2
    assert world.sent == [1]


async def test_a_store_that_keeps_a_claim_waiting_is_not_asked_again(world: World) -> None:
    """Its client would wait for several time limits; the claim is taken back all the same."""

    async def lose(command: str) -> None:
        if command == "claim":
            world.clock.now += 1
            raise StoreAmbiguous("no answer in time")

    world.store.after = lose
    owner = world.begin(operation(), None)
    assert await owner.first == StoreDown()
    await world.ownership.idle()
    assert world.store.asked.count("claim") == 1
    assert "take_back" in world.store.asked
    assert await world.store.get(ID) == Missing()


async def test_a_claim_that_stays_unconfirmed_is_taken_back_and_sends_nothing(world: World) -> None:
    async def lose(command: str) -> None:
        if command == "claim":
            raise StoreAmbiguous("no reply")

    world.store.after = lose
    owner = world.begin(operation(), None)
    assert await owner.first == StoreDown()
    await world.ownership.idle()
    assert world.sent == []
    assert await world.store.get(ID) == Missing()
    world.store.after = lambda _: asyncio.sleep(0)
    again = world.begin(operation(), None)
    assert await again.first == WHOLE.delivery


async def test_a_doubtful_claim_that_was_not_won_is_taken_back(world: World) -> None:
    """Its first asking may still be on its way: applied after the other owner's release, it would wedge the key."""
    other = Claim(b"other-owner-----", b"f" * 32, "r", "charges", OnUnknown.BLOCK, 3_000, 60_000)

    async def lose_first(command: str) -> None:
        if command == "claim" and world.store.asked.count("claim") == 1:
            world.store.before = lambda _: asyncio.sleep(0)
            await world.store.claim(ID, other)
            raise StoreAmbiguous("never arrived")

    world.store.before = lose_first
    owner = world.begin(operation(), None)
    outcome = await owner.first
    assert isinstance(outcome, NotWon)
    assert isinstance(outcome.fact, Found)
    await world.ownership.idle()
    assert "take_back" in world.store.asked
    assert world.sent == []


async def test_a_store_that_is_down_fails_closed_and_tells_the_followers(world: World) -> None:
    async def down(command: str) -> None:
        raise StoreUnavailable("refused")

    world.store.before = down
    owner = world.begin(operation(), None)
    assert await owner.first == StoreDown()
    assert await owner.ended == StoreDown()
    assert world.sent == []


async def test_fail_open_executes_and_still_completes(world: World) -> None:
    async def claims_fail(command: str) -> None:
        if command == "claim":
            raise StoreUnavailable("refused")

    world.store.before = claims_fail
    owner = world.begin(operation(replace(RULE, on_store_failure=OnStoreFailure.FAIL_OPEN)), None)
    assert await owner.first == WHOLE.delivery
    await world.ownership.idle()
    assert world.sent == [1]
    assert world.state() is State.COMPLETED


async def test_fail_open_does_not_execute_beside_an_owner_of_the_same_process(world: World) -> None:
    release = asyncio.Event()

    async def held(forward: Forward) -> End:
        await release.wait()
        return WHOLE

    world.respond = held
    rule = replace(RULE, on_store_failure=OnStoreFailure.FAIL_OPEN)
    first = world.begin(operation(rule), None)
    while not world.sent:
        await asyncio.sleep(0)
    assert world.ownership.executing(ID) is first
    release.set()
    await world.ownership.idle()


async def test_the_client_gets_the_answer_when_the_store_is_lost_and_the_end_is_asked_until_acknowledged(
    world: World,
) -> None:
    failures = 3

    async def fail_complete(command: str) -> None:
        nonlocal failures
        if command == "complete" and failures:
            failures -= 1
            raise StoreAmbiguous("no reply")

    world.store.before = fail_complete
    owner = world.begin(operation(), None)
    assert await owner.first == WHOLE.delivery
    assert world.ownership.executing(ID) is owner, "a duplicate must be held until the end is acknowledged"
    await world.ownership.idle()
    assert world.state() is State.COMPLETED
    assert world.ownership.executing(ID) is None


async def test_a_wiped_store_is_written_anew_and_does_not_execute_again(world: World) -> None:
    async def wiped(forward: Forward) -> End:
        world.store.slots.clear()
        return WHOLE

    world.respond = wiped
    owner = world.begin(operation(), None)
    assert await owner.first == WHOLE.delivery
    assert world.state() is State.COMPLETED


async def test_nothing_is_written_anew_past_the_ttl(world: World) -> None:
    async def wiped(forward: Forward) -> End:
        world.store.slots.clear()
        world.clock.now += 61
        return WHOLE

    world.respond = wiped
    owner = world.begin(operation(), None)
    assert isinstance(await owner.first, Fenced)
    assert world.state() is None


async def test_an_owner_that_was_taken_over_records_nothing_and_is_fenced(world: World) -> None:
    async def taken(forward: Forward) -> End:
        world.clock.now += 4
        record = world.store.slots[ID].record
        assert record is not None
        seen = TakeOver(b"the-next-owner--", record.token, record.version, 3_000, 60_000)
        assert await world.store.take_over(ID, seen) == Claimed(2, 2)
        return WHOLE

    world.respond = taken
    owner = world.begin(operation(), None)
    assert isinstance(await owner.first, Fenced)
    assert world.state() is State.PROCESSING


async def test_a_late_owner_that_nobody_replaced_completes(world: World) -> None:
    async def late(forward: Forward) -> End:
        world.clock.now += 30
        return WHOLE

    world.respond = late
    owner = world.begin(operation(), None)
    assert await owner.first == WHOLE.delivery
    assert world.state() is State.COMPLETED


async def test_an_operators_release_on_an_old_look_is_refused(world: World) -> None:
    await world.store.claim(ID, Claim(b"dead-owner------", b"f" * 32, "r", "charges", OnUnknown.RETRY, 3_000, 60_000))
    world.clock.now += 4
    look = await world.store.get(ID)
    assert isinstance(look, Found)
    owner = world.begin(operation(), (look.record.token, look.record.version))
    assert await owner.first == WHOLE.delivery
    refused = await world.store.settle(ID, SettleRelease(look.record.token, look.record.version, 60_000))
    assert isinstance(refused, Found)
    assert world.state() is State.COMPLETED
    assert world.sent == [2]


async def test_the_guard_holds_back_an_owner_that_stalled_between_claim_and_send(world: World) -> None:
    async def stall(command: str) -> None:
        if command == "claim":
            world.clock.now += 2.8

    world.store.after = stall
    owner = world.begin(operation(), None)
    outcome = await owner.first
    assert world.sent == []
    assert isinstance(outcome, Failed)
    assert await world.store.get(ID) == Missing()


async def test_drain_releases_what_was_not_sent_and_leaves_the_rest_unknown(world: World) -> None:
    async def never(forward: Forward) -> End:
        await asyncio.get_running_loop().create_future()
        return WHOLE

    world.respond = never
    owner = world.begin(operation(), None)
    while not world.sent:
        await asyncio.sleep(0)
    world.ownership.cut()
    outcome = await owner.first
    assert isinstance(outcome, Failed)
    assert outcome.problem.slug is Slug.SHUTTING_DOWN
    assert world.state() is State.UNKNOWN


async def test_drain_before_sending_frees_the_key(world: World) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def hold(command: str) -> None:
        if command == "claim":
            arrived.set()
            await go.wait()

    world.store.after = hold
    owner = world.begin(operation(), None)
    await arrived.wait()
    world.ownership.cut()
    go.set()
    outcome = await owner.first
    assert isinstance(outcome, Failed)
    assert outcome.problem.slug is Slug.SHUTTING_DOWN
    assert world.sent == []
    assert await world.store.get(ID) == Missing()


async def test_a_defect_in_the_forward_never_says_that_nothing_was_executed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect(forward: Forward) -> End:
        raise ZeroDivisionError

    world.respond = defect
    owner = world.begin(operation(), None)
    outcome = await owner.first
    assert isinstance(outcome, Failed)
    assert outcome.problem.slug is Slug.UPSTREAM_FAILED
    assert await owner.ended is None
    assert world.state() is State.UNKNOWN


async def test_an_owner_that_knows_that_it_was_replaced_never_gives_its_own_answer(world: World) -> None:
    """Also where its end could not be asked: else one operation has two answers."""
    renewed = asyncio.Event()

    async def respond(forward: Forward) -> End:
        slot = world.store.slots[ID]
        assert slot.record is not None
        world.store.slots[ID] = replace(slot, record=structs.replace(slot.record, token=b"another-owner---"))
        await renewed.wait()
        return WHOLE

    async def lose(command: str) -> None:
        if command == "renew":
            asyncio.get_running_loop().call_later(0.05, renewed.set)
        if command == "complete" and world.store.asked.count("complete") == 1:
            raise StoreAmbiguous("no reply")

    world.respond = respond
    world.store.after = lose
    owner = world.begin(operation(replace(RULE, lease=300)), None)
    async with asyncio.timeout(30):
        assert await owner.first == Fenced()
        await world.ownership.idle()


async def test_a_release_after_an_earlier_attempt_leaves_unknown(world: World) -> None:
    await world.store.claim(ID, Claim(b"dead-owner------", b"f" * 32, "r", "charges", OnUnknown.RETRY, 3_000, 60_000))
    world.clock.now += 4

    async def unsent(forward: Forward) -> End:
        return End(Free(), Failed.lost(Reason.RESET, RULE))

    world.respond = unsent
    look = await world.store.get(ID)
    assert isinstance(look, Found)
    owner = world.begin(operation(), (look.record.token, look.record.version))
    await owner.first
    await world.ownership.idle()
    assert world.state() is State.UNKNOWN


async def test_a_lost_answer_is_unknown(world: World) -> None:
    async def lost(forward: Forward) -> End:
        return End(LeaveUnknown(Reason.RESET), Failed.lost(Reason.RESET, RULE))

    world.respond = lost
    owner = world.begin(operation(), None)
    await owner.first
    assert world.state() is State.UNKNOWN


async def test_the_lease_is_renewed_while_the_owner_works(world: World) -> None:
    done = asyncio.Event()

    async def long(forward: Forward) -> End:
        await done.wait()
        return WHOLE

    world.respond = long
    owner = world.begin(operation(replace(RULE, lease=300)), None)
    async with asyncio.timeout(20):
        while world.store.asked.count("renew") < 3:
            await asyncio.sleep(0.01)
    done.set()
    assert await owner.first == WHOLE.delivery


async def test_what_begins_after_the_drain_time_sends_nothing_and_frees_its_key(world: World) -> None:
    world.ownership.cut()
    owner = world.begin(operation(), None)
    outcome = await owner.first
    assert isinstance(outcome, Failed)
    assert outcome.problem.slug is Slug.SHUTTING_DOWN
    await world.ownership.idle()
    assert world.sent == []
    assert await world.store.get(ID) == Missing()


@pytest.mark.parametrize("when", ["before it streams", "while it streams"])
async def test_a_stream_whose_client_is_gone_is_not_held_back(world: World, when: str) -> None:
    streaming = asyncio.Event()

    async def stream(forward: Forward) -> End:
        tee = Tee()
        answer = Streaming(200, b"200 OK\r\n", Chunked(), tee)
        forward.give(answer)
        streaming.set()
        for _ in range(5):
            await tee.put(bytes(BUFFERED), 0)
        tee.finish(b"")
        return End(Complete(ANSWER), answer)

    world.respond = stream
    owner = world.begin(operation(), None)
    if when == "while it streams":
        await streaming.wait()
    owner.nobody()
    async with asyncio.timeout(20):
        await world.ownership.idle()
    assert world.state() is State.COMPLETED


async def test_a_record_that_cannot_be_read_is_never_nothing(world: World) -> None:
    async def unreadable(command: str) -> None:
        raise RecordUnreadable("written by another version")

    world.store.after = unreadable
    owner = world.begin(operation(replace(RULE, on_store_failure=OnStoreFailure.FAIL_OPEN)), None)
    assert await owner.first == StoreDown()
    async with asyncio.timeout(20):
        await world.ownership.idle()
    assert world.sent == []


async def test_a_large_answer_that_the_store_does_not_take_becomes_a_tombstone(world: World) -> None:
    large = Answer(201, b"201 Created\r\n", bytes(2 << 20))

    async def respond(forward: Forward) -> End:
        return End(Complete(large), Answered(large, "completed"), 201)

    refused = 0

    async def too_large(command: str) -> None:
        nonlocal refused
        if command == "complete" and refused < TRIES_WHOLE:
            refused += 1
            raise StoreUnavailable("too large")

    world.respond = respond
    world.store.before = too_large
    owner = world.begin(operation(), None)
    assert await owner.first == Answered(large, "completed")
    async with asyncio.timeout(30):
        await world.ownership.idle()
    record = world.store.slots[ID].record
    assert record is not None
    assert record.answer == Tombstone(201)
