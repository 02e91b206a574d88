"""The suite's second part, for every backend: how operations end."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import Reason, State, Tombstone
from idemproxy.stores.base import (
    Anew,
    Dead,
    Done,
    Found,
    Missing,
    Store,
)
from tests.stores.asking import (
    ANSWER,
    FINGERPRINT,
    OTHER,
    TTL,
    A,
    B,
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
    take_back,
    taking,
    unknown,
)

# ------------------------------------------------------------------------------------------------------------------ completion


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (ANSWER, State.COMPLETED),
        (Answer(404, b"404 Not Found\r\n", b""), State.FAILED),
        (Answer(200, b"200 OK\r\nX: \xff\xfe\r\n", bytes(range(256)) * 3, b"Sum: \x00\xff\r\n"), State.COMPLETED),
        (Answer(200, b"200 OK\r\n", bytes(range(256)) * 4096), State.COMPLETED),
        (Answer(200, b"200 OK\r\n", b""), State.COMPLETED),
        (Tombstone(201), State.COMPLETED),
        (Tombstone(500), State.FAILED),
    ],
    ids=["created", "not-found", "binary", "a-mebibyte", "empty", "tombstone", "failed-tombstone"],
)
async def test_an_answer_is_recorded_byte_for_byte(store: Store, answer: Answer | Tombstone, state: State) -> None:
    record_id = await claimed(store)
    assert await store.complete(record_id, complete(answer=answer)) == Done(state)
    seen = await found(store, record_id)
    assert (seen.record.state, seen.lease_left, seen.record.version) == (state, 0, 2)
    assert seen.record.answer == answer
    assert seen.record.expires_at == seen.record.updated_at + TTL


async def test_completing_again_changes_nothing(store: Store) -> None:
    record_id = await completed(store)
    before = await found(store, record_id)
    assert await store.complete(record_id, complete(answer=OTHER)) == Done(State.COMPLETED)
    assert await found(store, record_id) == before


async def test_a_finished_operation_is_changed_by_no_other_end(store: Store) -> None:
    record_id = await completed(store)
    before = await found(store, record_id)
    for token in (A, B):
        assert await store.mark_unknown(record_id, unknown(token)) == before
        assert await store.release(record_id, release(token)) == before
    assert await store.complete(record_id, complete(B, OTHER)) == before
    for token in (A, B):
        await store.take_back(record_id, take_back(token))
    assert await found(store, record_id) == before


async def test_an_owner_completes_after_its_lease_lapsed(store: Store) -> None:
    record_id = await lapsed(store)
    assert await store.complete(record_id, complete()) == Done(State.COMPLETED)
    assert (await found(store, record_id)).record.answer == ANSWER


async def test_an_owner_completes_what_it_had_left_unknown(store: Store) -> None:
    record_id = await left_unknown(store)
    assert await store.complete(record_id, complete()) == Done(State.COMPLETED)
    record = (await found(store, record_id)).record
    assert (record.state, record.reason, record.answer) == (State.COMPLETED, Reason.NONE, ANSWER)


async def test_who_does_not_own_does_not_end(store: Store) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    for fact in (
        await store.complete(record_id, complete(B)),
        await store.mark_unknown(record_id, unknown(B)),
        await store.release(record_id, release(B)),
    ):
        assert isinstance(fact, Found)
        assert (fact.record, fact.lease_left > 0) == (before.record, True)
    assert (await found(store, record_id)).record == before.record


async def test_a_released_token_ends_nothing(store: Store) -> None:
    record_id = await released(store)
    anew = Anew(claim(), 1, 1)
    assert await store.complete(record_id, complete(anew=anew)) == Dead()
    assert await store.mark_unknown(record_id, unknown(anew=anew)) == Dead()
    assert await store.complete(record_id, complete(B)) == Missing()
    assert await store.get(record_id) == Missing()


# ---------------------------------------------------------------------------------------------------------------- missing records


async def test_a_missing_record_is_not_written_without_leave(store: Store) -> None:
    record_id = new_id()
    assert await store.complete(record_id, complete()) == Missing()
    assert await store.mark_unknown(record_id, unknown()) == Missing()
    assert await store.release(record_id, release()) == Missing()
    assert await store.get(record_id) == Missing()


async def test_a_missing_record_is_completed_anew(store: Store) -> None:
    record_id = new_id()
    asked = complete(anew=Anew(claim(), 3, 7))
    assert await store.complete(record_id, asked) == Done(State.COMPLETED)
    record = (await found(store, record_id)).record
    assert (record.state, record.attempt, record.version, record.token) == (State.COMPLETED, 3, 8, A)
    assert (record.fingerprint, record.rule, record.recipe, record.answer) == (
        FINGERPRINT,
        "charges",
        "recipe-1",
        ANSWER,
    )


async def test_a_missing_record_is_marked_unknown_anew(store: Store) -> None:
    record_id = new_id()
    asked = unknown(reason=Reason.TIMEOUT, anew=Anew(claim(), 1, 1))
    assert await store.mark_unknown(record_id, asked) == Done(State.UNKNOWN)
    record = (await found(store, record_id)).record
    assert (record.state, record.reason, record.version) == (State.UNKNOWN, Reason.TIMEOUT, 2)


async def test_anew_never_overwrites_anothers(store: Store) -> None:
    record_id = await claimed(store, claim(B))
    assert isinstance(await store.complete(record_id, complete(anew=Anew(claim(), 1, 1))), Found)
    assert (await found(store, record_id)).record.token == B


# ------------------------------------------------------------------------------------------------------- unknown, released


async def test_marking_unknown_again_keeps_the_first_reason(store: Store) -> None:
    record_id = await left_unknown(store)
    before = await found(store, record_id)
    assert await store.mark_unknown(record_id, unknown(reason=Reason.TIMEOUT)) == Done(State.UNKNOWN)
    assert await found(store, record_id) == before


async def test_releasing_again_is_done_again(store: Store) -> None:
    record_id = await released(store)
    assert await store.release(record_id, release()) == Done(State.RELEASED)
    assert await store.release(record_id, release(B)) == Missing()


async def test_a_release_of_what_may_have_run_leaves_it_unknown(store: Store) -> None:
    record_id = await left_unknown(store)
    await store.take_over(record_id, taking(await found(store, record_id)))
    assert await store.release(record_id, release(B)) == Done(State.UNKNOWN)
    record = (await found(store, record_id)).record
    assert (record.state, record.reason, record.attempt) == (State.UNKNOWN, Reason.RELEASED_AFTER_SEND, 2)
    assert await store.release(record_id, release(B)) == Done(State.UNKNOWN)
    assert (await found(store, record_id)).record == record


async def test_what_was_left_unknown_is_not_released_by_its_owner(store: Store) -> None:
    record_id = await left_unknown(store)
    before = await found(store, record_id)
    assert await store.release(record_id, release()) == before
    assert await found(store, record_id) == before
