"""The proxy's own further attempts: when there is one, under which number, and what the client and the record get in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from msgspec import structs

from idemproxy.errors import StoreAmbiguous, StoreUnavailable
from idemproxy.execution import Answered, End, Failed, Forward, Streaming, asked_pause
from idemproxy.http1.heads import Chunked
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Complete, Free, LeaveUnknown
from idemproxy.idempotency.problems import Problem, Retry, Slug
from idemproxy.idempotency.record import OnUnknown, Reason, State
from idemproxy.idempotency.routes import AT_LEAST_ONCE_RELEASES, Guarantee, OnStoreFailure, OwnRetry, RetryCause
from idemproxy.outcomes import Fenced
from idemproxy.stores.base import Found, Missing, TakeOver
from idemproxy.tee import Tee
from tests.unit.owning import ID, RULE, WHOLE, World, operation

ALL = frozenset({RetryCause.UNREACHABLE, RetryCause.UNKNOWN})
THREE = OwnRetry(attempts=3, causes=ALL, statuses=frozenset({503}), backoff=1, max_backoff=1_000)
RETRYING = replace(
    RULE,
    guarantee=Guarantee.AT_LEAST_ONCE,
    on_unknown=OnUnknown.RETRY,
    release_statuses=AT_LEAST_ONCE_RELEASES,
    retry=THREE,
)

UNREACHABLE = End(Free(), Failed(Problem(Slug.UPSTREAM_UNREACHABLE, "no"), "released"))
LOST = End(LeaveUnknown(Reason.RESET), Failed.lost(Reason.RESET, RETRYING))


def busy(*lines: str) -> End:
    head = "".join(f"{line}\r\n" for line in ("503 Busy", *lines)).encode()
    answer = Answer(503, head, b"busy")
    return End(Free(), Answered(answer, "released"), 503)


class Script:
    """An upstream that ends each attempt as written. An attempt that is not sent does not ask the guard."""

    def __init__(self, world: World, *ends: End) -> None:
        self.world = world
        self.asked: list[int] = []
        self.sent: list[int] = []
        self._ends: Iterator[End] = iter(ends)
        world.ownership.forward = self.forward

    async def forward(self, forward: Forward) -> End:
        self.asked.append(forward.attempt)
        end = next(self._ends)
        if end is not UNREACHABLE:
            assert forward.guard()
            self.sent.append(forward.attempt)
        return end


@pytest.fixture
def world() -> World:
    return World()


async def outcome(world: World, rule: object = RETRYING) -> object:
    owner = world.begin(operation(rule), None)  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        first = await owner.first
        await world.ownership.idle()
    return first


async def test_what_was_never_sent_is_sent_again_under_the_same_number(world: World) -> None:
    script = Script(world, UNREACHABLE, UNREACHABLE, WHOLE)
    assert await outcome(world) == WHOLE.delivery
    assert (script.asked, script.sent) == ([1, 1, 1], [1])
    assert "next_attempt" not in world.store.asked
    assert world.state() is State.COMPLETED


async def test_attempts_are_bounded_and_the_key_is_free_in_the_end(world: World) -> None:
    script = Script(world, *[UNREACHABLE] * 9)
    assert await outcome(world) == UNREACHABLE.delivery
    assert script.asked == [1, 1, 1]
    assert await world.store.get(ID) == Missing()


async def test_what_was_lost_is_sent_again_under_a_number_of_its_own(world: World) -> None:
    script = Script(world, LOST, LOST, WHOLE)
    assert await outcome(world) == WHOLE.delivery
    assert script.sent == [1, 2, 3]
    look = await world.store.get(ID)
    assert isinstance(look, Found)
    assert (look.record.state, look.record.attempt) == (State.COMPLETED, 3)


async def test_an_attempt_that_was_not_sent_leaves_its_number_to_the_next(world: World) -> None:
    script = Script(world, LOST, UNREACHABLE, WHOLE)
    assert await outcome(world) == WHOLE.delivery
    assert (script.asked, script.sent) == ([1, 2, 2], [1, 2])


async def test_a_release_after_an_attempt_that_may_have_run_leaves_unknown_and_says_so(world: World) -> None:
    Script(world, LOST, UNREACHABLE, UNREACHABLE)
    given = await outcome(world)
    assert isinstance(given, Failed)
    assert (given.problem.slug, given.problem.retry, given.state) == (Slug.UPSTREAM_FAILED, Retry.SAME_KEY, "unknown")
    look = await world.store.get(ID)
    assert isinstance(look, Found)
    assert (look.record.state, look.record.reason) == (State.UNKNOWN, Reason.RELEASED_AFTER_SEND)


async def test_an_answer_that_refuses_after_an_attempt_that_may_have_run_leaves_unknown(world: World) -> None:
    answer = Answer(429, b"429 Slow\r\n", b"")
    Script(world, LOST, End(Free(), Answered(answer, "released"), 429))
    assert await outcome(world) == Answered(answer, "unknown")
    assert world.state() is State.UNKNOWN


async def test_a_chosen_status_is_sent_again_and_the_last_answer_is_given(world: World) -> None:
    script = Script(world, busy(), busy(), busy("X-Last: yes"))
    given = await outcome(world)
    assert isinstance(given, Answered)
    assert b"X-Last" in given.answer.head
    assert script.sent == [1, 2, 3]
    assert await world.store.get(ID) == Missing()


async def test_the_next_claim_does_not_use_a_number_again(world: World) -> None:
    Script(world, busy(), busy(), busy())
    await outcome(world)
    script = Script(world, WHOLE)
    await outcome(world)
    assert script.sent == [4]


@pytest.mark.parametrize("end", [LOST, busy()], ids=["lost", "status"])
async def test_nothing_that_was_sent_is_sent_again_by_default(world: World, end: End) -> None:
    script = Script(world, end)
    await outcome(
        world, replace(RETRYING, retry=replace(THREE, causes=frozenset({RetryCause.UNREACHABLE}), statuses=frozenset()))
    )
    assert script.sent == [1]


async def test_an_upstream_that_asks_for_more_patience_than_the_rule_has_is_not_asked_again(world: World) -> None:
    script = Script(world, busy("Retry-After: 2"))
    given = await outcome(world)
    assert isinstance(given, Answered)
    assert b"Retry-After: 2" in given.answer.head
    assert script.sent == [1]


async def test_an_upstream_that_asks_for_a_pause_gets_it(world: World) -> None:
    script = Script(world, busy("Retry-After: 1"), WHOLE)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await outcome(world) == WHOLE.delivery
    assert loop.time() - began >= 0.99
    assert script.sent == [1, 2]


Stop = Callable[[World], None]


@pytest.mark.parametrize("by", ["client", "drain"])
async def test_a_pause_ends_when_nobody_wants_the_next_attempt(world: World, by: str) -> None:
    script = Script(world, LOST, WHOLE)
    owner = world.begin(operation(replace(RETRYING, retry=replace(THREE, backoff=600_000, max_backoff=600_000))), None)
    async with asyncio.timeout(30):
        while not script.sent:
            await asyncio.sleep(0)
        if by == "client":
            owner.nobody()
        else:
            world.ownership.cut()
        await world.ownership.idle()
    assert script.sent == [1]
    assert world.state() is State.UNKNOWN


async def test_an_answer_that_its_client_has_seen_is_never_sent_again(world: World) -> None:
    tee = Tee()
    streaming = Streaming(503, b"503 Busy\r\n", Chunked(), tee)
    sent: list[int] = []

    async def forward(forward: Forward) -> End:
        assert forward.guard()
        sent.append(forward.attempt)
        forward.give(streaming)
        tee.cut()
        return End(LeaveUnknown(Reason.CUT_BODY), streaming, 503)

    world.ownership.forward = forward
    assert await outcome(world) is streaming
    assert sent == [1]


@pytest.mark.parametrize("error", [StoreUnavailable, StoreAmbiguous])
async def test_without_a_number_of_its_own_nothing_is_sent_again(world: World, error: type[Exception]) -> None:
    async def refuse(command: str) -> None:
        if command == "next_attempt":
            raise error("away")

    world.store.after = refuse
    script = Script(world, LOST, WHOLE)
    assert await outcome(world) == LOST.delivery
    assert script.sent == [1]
    assert world.state() is State.UNKNOWN


async def test_a_number_whose_reply_was_lost_is_never_sent_under(world: World) -> None:
    async def lose(command: str) -> None:
        if command == "next_attempt":
            raise StoreAmbiguous("no reply")

    world.store.after = lose
    Script(world, LOST)
    await outcome(world)
    look = await world.store.get(ID)
    assert isinstance(look, Found)
    assert (look.record.state, look.record.attempt) == (State.UNKNOWN, 2)


async def test_an_owner_that_was_replaced_in_its_pause_sends_nothing_more(world: World) -> None:
    script = Script(world, LOST, WHOLE)

    async def take_over(command: str) -> None:
        if command == "next_attempt":
            world.store.before = lambda _: asyncio.sleep(0)
            world.clock.now += 4
            look = await world.store.get(ID)
            assert isinstance(look, Found)
            taking = TakeOver(b"another-owner---", look.record.token, look.record.version, 3_000, 60_000)
            await world.store.take_over(ID, taking)

    world.store.before = take_over
    assert await outcome(world) == Fenced()
    assert script.sent == [1]
    assert world.state() is State.PROCESSING


async def test_an_owner_whose_record_has_another_token_sends_nothing_more(world: World) -> None:
    """Also where its own clock says that the lease still holds."""
    script = Script(world, LOST, WHOLE)

    async def replace_owner(command: str) -> None:
        if command == "next_attempt":
            slot = world.store.slots[ID]
            assert slot.record is not None
            world.store.slots[ID] = replace(slot, record=structs.replace(slot.record, token=b"another-owner---"))

    world.store.before = replace_owner
    assert await outcome(world) == Fenced()
    assert script.sent == [1]


async def test_an_owner_that_is_replaced_in_its_pause_waits_no_longer(world: World) -> None:
    unhurried = replace(RETRYING, lease=300, retry=replace(THREE, backoff=600_000, max_backoff=600_000))
    script = Script(world, LOST, WHOLE)
    owner = world.begin(operation(unhurried), None)
    async with asyncio.timeout(30):
        while not script.sent:
            await asyncio.sleep(0)
        slot = world.store.slots[ID]
        assert slot.record is not None
        world.store.slots[ID] = replace(slot, record=structs.replace(slot.record, token=b"another-owner---"))
        assert await owner.first == Fenced()
    assert script.sent == [1]


async def test_a_number_is_a_sign_of_life_too(world: World) -> None:
    """The lease runs on from when it was asked for, as after a renewal."""
    sent: list[int] = []

    async def forward(forward: Forward) -> End:
        world.clock.now += 2.0
        assert forward.guard(), "the lease ran on"
        sent.append(forward.attempt)
        return LOST if len(sent) == 1 else WHOLE

    world.ownership.forward = forward
    assert await outcome(world) == WHOLE.delivery
    assert sent == [1, 2]


async def test_a_record_that_the_store_lost_is_not_sent_for_again(world: World) -> None:
    script = Script(world, LOST, WHOLE)

    async def wipe(command: str) -> None:
        if command == "next_attempt":
            world.store.slots.clear()

    world.store.before = wipe
    assert await outcome(world) == LOST.delivery
    assert script.sent == [1]
    assert world.state() is State.UNKNOWN


async def test_unprotected_only_what_was_never_sent_is_sent_again(world: World) -> None:
    async def down(command: str) -> None:
        raise StoreUnavailable("down")

    world.store.before = down
    rule = replace(RETRYING, on_store_failure=OnStoreFailure.FAIL_OPEN)
    script = Script(world, UNREACHABLE, LOST, WHOLE)
    owner = world.begin(operation(rule), None)
    async with asyncio.timeout(30):
        assert await owner.first == LOST.delivery
    assert script.sent == [1]
    await world.ownership.abandon()


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ((), None),
        (("Retry-After: 0",), 0),
        (("retry-after:  17 ",), 17_000),
        (("Retry-After: soon",), None),
        (("Retry-After: -1",), None),
        (("Retry-After: 999999999999",), 999_999_999_000),
        (("Date: Wed, 25 Nov 2026 10:00:00 GMT", "Retry-After: Wed, 25 Nov 2026 10:00:07 GMT"), 7_000),
        (("Date: Wed, 25 Nov 2026 10:00:00 GMT", "Retry-After: Wed, 25 Nov 2026 09:00:00 GMT"), 0),
        (("Retry-After: Wed, 25 Nov 2026 10:00:07 GMT",), None),
        (("Date: today", "Retry-After: Wed, 25 Nov 2026 10:00:07 GMT"), None),
    ],
)
def test_what_an_answer_asks_for(lines: tuple[str, ...], asked: int | None) -> None:
    delivery = busy(*lines).delivery
    assert asked_pause(delivery) == asked


def test_who_got_no_answer_was_asked_for_nothing() -> None:
    assert asked_pause(LOST.delivery) is None
    assert isinstance(WHOLE.transition, Complete)
