"""The suite's fifth part, for every backend: claims that are taken back. Whatever becomes of the operation meanwhile, a claim or take-over
that arrives late owns nothing: nobody would serve it, and its key would be unknown although nothing was sent."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.record import Reason, State
from idemproxy.stores.base import (
    Anew,
    Claimed,
    Dead,
    Done,
    Found,
    Missing,
    Renewed,
    SettleComplete,
    SettleDelete,
    SettleRelease,
    Store,
)
from tests.stores.asking import (
    ANSWER,
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
    next_attempt,
    release,
    released,
    renewal,
    take_back,
    taking,
    unknown,
    until,
)
from tests.stores.conftest import Opener

# ------------------------------------------------------------------------------------------------------ one claim, taken back


async def test_a_claim_taken_back_before_it_arrives_is_refused(store: Store) -> None:
    record_id = new_id()
    await store.take_back(record_id, take_back())
    assert await store.get(record_id) == Missing()
    assert await store.claim(record_id, claim()) == Dead()
    assert await store.claim(record_id, claim(B)) == Claimed(1, 1)


async def test_a_claim_taken_back_after_it_was_applied_is_free_again(store: Store) -> None:
    record_id = await claimed(store)
    await store.take_back(record_id, take_back())
    assert await store.get(record_id) == Missing()
    assert await store.claim(record_id, claim()) == Dead()
    assert await store.renew(record_id, renewal()) == Dead()
    assert await store.claim(record_id, claim(B)) == Claimed(2, 3)


async def test_a_claim_taken_back_over_a_remnant_is_refused_and_numbers_are_kept(store: Store) -> None:
    record_id = await released(store)
    await store.take_back(record_id, take_back(B))
    assert await store.claim(record_id, claim(B)) == Dead()
    fact = await store.claim(record_id, claim(C))
    assert isinstance(fact, Claimed)
    assert fact.attempt == 2


async def test_a_claim_taken_back_after_its_lease_lapsed_is_free_again(store: Store) -> None:
    record_id = await lapsed(store)
    await store.take_back(record_id, take_back())
    assert await store.get(record_id) == Missing()
    assert await store.claim(record_id, claim()) == Dead()


async def test_a_take_over_taken_back_before_it_arrives_is_refused(store: Store) -> None:
    for record_id in (await left_unknown(store), await lapsed(store)):
        before = await found(store, record_id)
        await store.take_back(record_id, take_back(B))
        assert await store.take_over(record_id, taking(before)) == Dead()
        assert await found(store, record_id) == before
        assert isinstance(await store.take_over(record_id, taking(before, C)), Claimed)


async def test_a_take_over_taken_back_after_it_was_applied_leaves_unknown(store: Store) -> None:
    record_id = await left_unknown(store)
    await store.take_over(record_id, taking(await found(store, record_id)))
    await store.take_back(record_id, take_back(B))
    record = (await found(store, record_id)).record
    assert (record.state, record.reason, record.attempt) == (State.UNKNOWN, Reason.RELEASED_AFTER_SEND, 2)


async def test_taking_back_never_touches_anothers_lease(store: Store) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    await store.take_back(record_id, take_back(B))
    assert (await found(store, record_id)).record == before.record
    assert await store.renew(record_id, renewal()) == Renewed(1)


async def test_taking_back_never_moves_what_an_operator_has_seen(store: Store) -> None:
    record_id = await left_unknown(store)
    seen = (await found(store, record_id)).record
    await store.take_back(record_id, take_back(B))
    assert await store.settle(record_id, SettleComplete(seen.token, seen.version, ANSWER, TTL)) == Done(State.COMPLETED)


# --------------------------------------------------------------------------------- whatever becomes of the operation meanwhile


async def assert_free_for_others_alone(store: Store, record_id: str, *dead: bytes) -> None:
    """No late claim of theirs wins: before, while and after another owns the operation."""
    for token in dead:
        assert await store.claim(record_id, claim(token)) == Dead()
    assert await store.get(record_id) == Missing()
    assert isinstance(await store.claim(record_id, claim(C)), Claimed)
    for token in dead:
        assert isinstance(await store.claim(record_id, claim(token)), Found)
    assert await store.release(record_id, release(C)) == Done(State.RELEASED)
    for token in dead:
        assert await store.claim(record_id, claim(token)) == Dead()
    assert await store.get(record_id) == Missing()


async def test_two_claims_that_were_taken_back_are_both_refused(store: Store) -> None:
    """The store stood still, and the claims wait in connections that were given up."""
    record_id = new_id()
    await store.take_back(record_id, take_back(B))
    await store.take_back(record_id, take_back(A))
    await assert_free_for_others_alone(store, record_id, A, B)


async def test_a_claim_that_was_taken_back_while_another_owned_is_refused_after_its_release(store: Store) -> None:
    record_id = await claimed(store)
    assert isinstance(await store.claim(record_id, claim(B)), Found)
    await store.take_back(record_id, take_back(B))
    assert await store.release(record_id, release()) == Done(State.RELEASED)
    await assert_free_for_others_alone(store, record_id, B)


async def test_a_claim_that_was_taken_back_while_another_owned_is_refused_after_that_was_taken_back(
    store: Store,
) -> None:
    record_id = await claimed(store)
    await store.take_back(record_id, take_back(B))
    await store.take_back(record_id, take_back(A))
    await assert_free_for_others_alone(store, record_id, A, B)


async def test_an_earlier_asking_of_a_claim_that_was_released_and_taken_back_is_refused(store: Store) -> None:
    record_id = await released(store)
    await store.take_back(record_id, take_back())
    await store.claim(record_id, claim(B))
    await store.release(record_id, release(B))
    await assert_free_for_others_alone(store, record_id, A)


async def test_an_earlier_asking_that_arrives_between_release_and_taking_back_is_freed(store: Store) -> None:
    record_id = await released(store)
    await store.claim(record_id, claim(B))
    await store.release(record_id, release(B))
    assert isinstance(await store.claim(record_id, claim()), Claimed)
    await store.take_back(record_id, take_back())
    await assert_free_for_others_alone(store, record_id, A)


@pytest.mark.parametrize("word", ["release", "delete"])
async def test_an_operators_word_forgets_no_token_that_was_taken_back(store: Store, word: str) -> None:
    record_id = await left_unknown(store)
    seen = (await found(store, record_id)).record
    await store.take_back(record_id, take_back(B))
    if word == "release":
        await store.settle(record_id, SettleRelease(seen.token, seen.version, TTL))
    else:
        await store.settle(record_id, SettleDelete(seen.token, seen.version))
    await assert_free_for_others_alone(store, record_id, B)


async def test_the_end_of_the_record_forgets_no_token_that_was_taken_back(store: Store) -> None:
    record_id = await claimed(store)
    await store.take_back(record_id, take_back(B))
    await store.complete(record_id, complete(ttl=1))
    await until(lambda: store.get(record_id), lambda fact: fact == Missing())
    await assert_free_for_others_alone(store, record_id, B)


async def test_who_was_taken_back_owns_nothing_whatever_it_asks(store: Store) -> None:
    missing, running, done, lost = new_id(), await claimed(store), await completed(store), await left_unknown(store)
    anew = Anew(claim(B), 1, 1)
    for record_id in (missing, running, done, lost):
        before = await store.get(record_id)
        await store.take_back(record_id, take_back(B))
        fact = await store.claim(record_id, claim(B))
        assert isinstance(fact, Found) if isinstance(before, Found) else fact == Dead()
        if isinstance(before, Found):
            assert await store.take_over(record_id, taking(before)) == Dead()
        assert await store.renew(record_id, renewal(B)) == Dead()
        assert await store.next_attempt(record_id, next_attempt(B)) == Dead()
        assert await store.complete(record_id, complete(B, anew=anew)) == Dead()
        assert await store.mark_unknown(record_id, unknown(B, anew=anew)) == Dead()
        await store.release(record_id, release(B))
        after = await store.get(record_id)
        if isinstance(before, Found) and isinstance(after, Found):
            assert after.record == before.record
        else:
            assert after == before == Missing()


# ------------------------------------------------------------------------------------------------------------------ how long


async def test_a_token_is_dead_for_one_lease_each_for_its_own(store: Store) -> None:
    record_id = new_id()
    await store.take_back(record_id, take_back(A))
    await store.take_back(record_id, take_back(B, lease=SHORT))
    await until(lambda: store.claim(record_id, claim(B)), lambda fact: fact != Dead())
    assert await store.renew(record_id, renewal(B)) == Renewed(1)
    await store.release(record_id, release(B))
    await store.take_back(record_id, take_back(C))
    assert await store.claim(record_id, claim(A)) == Dead()


async def test_taking_back_again_never_shortens(store: Store) -> None:
    record_id = new_id()
    await store.take_back(record_id, take_back(A))
    await store.take_back(record_id, take_back(A, lease=1))
    await store.take_back(record_id, take_back(B, lease=SHORT))
    await until(lambda: store.claim(record_id, claim(B)), lambda fact: fact != Dead())
    assert await store.renew(record_id, renewal(A)) == Dead()


async def test_many_claims_of_one_operation_may_be_taken_back(store: Store) -> None:
    record_id = new_id()
    tokens = [number.to_bytes(16, "big") for number in range(1, 101)]
    for token in tokens:
        await store.take_back(record_id, take_back(token))
    for token in tokens:
        assert await store.claim(record_id, claim(token)) == Dead()
    assert await store.claim(record_id, claim()) == Claimed(1, 1)


async def test_what_was_taken_back_is_known_to_every_process_and_outlives_them(store: Store, another: Opener) -> None:
    record_id, running = new_id(), await claimed(store)
    for one in (record_id, running):
        await store.take_back(one, take_back(B))
    assert await (await another()).claim(record_id, claim(B)) == Dead()
    await store.close()
    later = await another()
    for one in (record_id, running):
        assert await later.renew(one, renewal(B)) == Dead()


async def test_a_scan_shows_records_and_not_what_was_taken_back(store: Store) -> None:
    nothing, running = new_id(), await claimed(store)
    for record_id in (nothing, running):
        await store.take_back(record_id, take_back(B))
    for state in (None, State.PROCESSING):
        page = await store.scan(state=state, rule=None, limit=10, cursor=None)
        assert [record_id for record_id, _ in page.found] == [running]
