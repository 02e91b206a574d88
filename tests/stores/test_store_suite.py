"""One meaning for every backend: each command on each thing that can stand there. Here: claims, take-overs, renewals, expiry;
the rest is in `test_store_attempts.py`, `test_store_ends.py`, `test_store_operators.py` and `test_store_model.py`."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from idemproxy.idempotency.record import OnUnknown, Reason, State, Tombstone
from idemproxy.stores.base import (
    Anew,
    Claim,
    Claimed,
    Completion,
    Dead,
    Done,
    Found,
    Missing,
    Renewed,
    Store,
    TakeOver,
)
from tests.stores.asking import (
    ANSWER,
    FINGERPRINT,
    LONG,
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
    taking,
    unknown,
    until_gone,
    until_lapsed,
)
from tests.stores.conftest import Opener

# -------------------------------------------------------------------------------------------------------------------- claims


async def test_a_first_claim_owns_the_operation(store: Store) -> None:
    record_id = new_id()
    asked = Claim(bytes(range(16)), bytes(range(32)), "recipe-é", "règle", OnUnknown.PROBE, LONG, TTL)
    assert await store.get(record_id) == Missing()
    assert await store.claim(record_id, asked) == Claimed(1, 1)
    seen = await found(store, record_id)
    record = seen.record
    assert 0 < seen.lease_left <= LONG
    assert (record.state, record.token, record.fingerprint) == (State.PROCESSING, asked.token, asked.fingerprint)
    assert (record.recipe, record.rule, record.on_unknown) == ("recipe-é", "règle", OnUnknown.PROBE)
    assert (record.version, record.attempt, record.may_have_run, record.reason) == (1, 1, False, Reason.NONE)
    assert record.answer is None
    assert record.created_at == record.updated_at == record.expires_at - LONG - TTL


async def test_a_record_keeps_what_its_caller_showed(store: Store) -> None:
    """Through every end but a release, and with whatever rule and recipe."""
    shown, other = "0123abcd" * 4, "feedf00d" * 4
    for end in (complete(), complete(answer=Tombstone(200)), unknown()):
        record_id = await claimed(store, structs.replace(claim(), credential=shown))
        assert (await found(store, record_id)).record.credential == shown
        assert isinstance(await store.renew(record_id, renewal()), Renewed)
        if isinstance(end, Completion):
            await store.complete(record_id, end)
        else:
            await store.mark_unknown(record_id, end)
        seen = await found(store, record_id)
        assert (seen.record.credential, seen.record.recipe, seen.record.rule) == (shown, "recipe-1", "charges")
        fact = await store.claim(record_id, structs.replace(claim(B), credential=other))
        assert isinstance(fact, Found)
        assert fact.record.credential == shown
    assert isinstance(await store.take_over(record_id, taking(seen)), Claimed)
    assert (await found(store, record_id)).record.credential == shown
    assert (await found(store, record_id)).record.may_have_run


async def test_what_is_claimed_after_a_release_is_its_new_callers(store: Store) -> None:
    record_id = await claimed(store, structs.replace(claim(), credential="0123abcd" * 4))
    await store.release(record_id, release())
    assert isinstance(await store.claim(record_id, structs.replace(claim(B), credential="feedf00d" * 4)), Claimed)
    assert (await found(store, record_id)).record.credential == "feedf00d" * 4
    await store.release(record_id, release(B))
    assert isinstance(await store.claim(record_id, claim(C)), Claimed)
    assert (await found(store, record_id)).record.credential == ""


async def test_a_large_answer_and_one_that_is_written_anew_keep_it_too(store: Store) -> None:
    asked = structs.replace(claim(), credential="0123abcd" * 4)
    large = structs.replace(ANSWER, body=b"x" * 200_000)
    record_id = new_id()
    assert await store.complete(record_id, complete(answer=large, anew=Anew(asked, 1, 1))) == Done(State.COMPLETED)
    seen = await found(store, record_id)
    assert (seen.record.credential, seen.record.answer) == (asked.credential, large)


async def test_the_stores_clock_counts_milliseconds_from_the_epoch(store: Store) -> None:
    record = (await found(store, await claimed(store))).record
    assert 1_700_000_000_000 < record.created_at < 5_000_000_000_000


async def test_a_claim_asked_again_is_claimed_again(store: Store) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    assert await store.claim(record_id, claim()) == Claimed(1, 1)
    assert (await found(store, record_id)).record == before.record


async def test_a_claim_over_anothers_finds_it(store: Store) -> None:
    record_id = await claimed(store)
    fact = await store.claim(record_id, claim(B))
    assert isinstance(fact, Found)
    assert (fact.record.token, fact.record.state) == (A, State.PROCESSING)
    assert 0 < fact.lease_left <= LONG
    assert await store.complete(record_id, complete()) == Done(State.COMPLETED)


async def test_a_claim_over_a_lapsed_lease_finds_evidence_and_owns_nothing(store: Store) -> None:
    record_id = await lapsed(store)
    fact = await store.claim(record_id, claim(B))
    assert isinstance(fact, Found)
    assert (fact.record.token, fact.record.state, fact.lease_left) == (A, State.PROCESSING, 0)
    assert (await found(store, record_id)).record.token == A


async def test_a_claim_asked_again_after_its_lease_lapsed_revives_it_and_raises_the_version(store: Store) -> None:
    record_id = await lapsed(store)
    assert await store.claim(record_id, claim()) == Claimed(1, 2)
    seen = await found(store, record_id)
    assert (seen.record.version, seen.lease_left > 0) == (2, True)


async def test_a_claim_over_a_finished_operation_finds_its_answer(store: Store) -> None:
    record_id = await completed(store)
    for token in (A, B):
        fact = await store.claim(record_id, claim(token))
        assert isinstance(fact, Found)
        assert (fact.record.state, fact.record.answer, fact.lease_left) == (State.COMPLETED, ANSWER, 0)


async def test_a_claim_over_an_unknown_outcome_finds_it(store: Store) -> None:
    record_id = await left_unknown(store)
    for token in (A, B):
        fact = await store.claim(record_id, claim(token))
        assert isinstance(fact, Found)
        assert (fact.record.state, fact.record.reason, fact.lease_left) == (State.UNKNOWN, Reason.RESET, 0)


async def test_a_claim_over_a_released_operation_numbers_on(store: Store) -> None:
    record_id = await released(store)
    assert await store.claim(record_id, claim(B)) == Claimed(2, 3)
    await store.release(record_id, release(B))
    assert await store.claim(record_id, claim(C)) == Claimed(3, 5)
    record = (await found(store, record_id)).record
    assert (record.token, record.may_have_run, record.state) == (C, False, State.PROCESSING)


async def test_a_released_token_claims_no_more(store: Store) -> None:
    record_id = await released(store)
    assert await store.claim(record_id, claim()) == Dead()
    assert await store.get(record_id) == Missing()


async def test_of_fifty_claims_at_once_one_owns(store: Store, another: Opener) -> None:
    stores = [store, await another()]
    record_id = new_id()
    tokens = [bytes([number]) * 16 for number in range(1, 51)]
    facts = await asyncio.gather(
        *(stores[number % 2].claim(record_id, claim(token)) for number, token in enumerate(tokens))
    )
    owners = [token for token, fact in zip(tokens, facts, strict=True) if isinstance(fact, Claimed)]
    assert len(owners) == 1
    assert {fact.record.token for fact in facts if isinstance(fact, Found)} == set(owners)


# ----------------------------------------------------------------------------------------------------------------- take-overs


async def test_an_unknown_operation_is_taken_over(store: Store) -> None:
    record_id = await left_unknown(store)
    seen = await found(store, record_id)
    assert await store.take_over(record_id, taking(seen)) == Claimed(2, seen.record.version + 1)
    now = await found(store, record_id)
    assert (now.record.state, now.record.token, now.record.reason) == (State.PROCESSING, B, Reason.NONE)
    assert (now.record.may_have_run, now.record.fingerprint, now.record.rule) == (True, FINGERPRINT, "charges")
    assert 0 < now.lease_left <= LONG


async def test_an_operation_whose_owner_died_is_taken_over_and_the_owner_is_fenced(store: Store) -> None:
    record_id = await lapsed(store)
    assert await store.take_over(record_id, taking(await found(store, record_id))) == Claimed(2, 2)
    taken = await found(store, record_id)
    facts = (
        await store.renew(record_id, renewal()),
        await store.complete(record_id, complete()),
        await store.mark_unknown(record_id, unknown()),
        await store.release(record_id, release()),
        await store.claim(record_id, claim()),
    )
    assert [isinstance(fact, Found) and fact.record for fact in facts] == [taken.record] * 5
    await store.take_back(record_id, take_back())
    assert (await found(store, record_id)).record == taken.record


async def test_a_take_over_asked_again_is_claimed_again(store: Store) -> None:
    record_id = await left_unknown(store)
    asked = taking(await found(store, record_id))
    assert await store.take_over(record_id, asked) == await store.take_over(record_id, asked) == Claimed(2, 3)


async def test_a_take_over_is_refused_while_the_lease_runs(store: Store) -> None:
    record_id = await claimed(store)
    seen = await found(store, record_id)
    fact = await store.take_over(record_id, taking(seen))
    assert isinstance(fact, Found)
    assert (fact.record, fact.lease_left > 0) == (seen.record, True)


@pytest.mark.parametrize("moved", ["version", "token"])
async def test_a_take_over_on_an_old_look_is_refused(store: Store, moved: str) -> None:
    record_id = await left_unknown(store)
    seen = await found(store, record_id)
    old = (
        structs.replace(seen.record, version=seen.record.version - 1)
        if moved == "version"
        else structs.replace(seen.record, token=C)
    )
    fact = await store.take_over(record_id, taking(Found(old, 0)))
    assert isinstance(fact, Found)
    assert fact.record == (await found(store, record_id)).record == seen.record


async def test_a_take_over_is_refused_after_a_revival(store: Store) -> None:
    record_id = await lapsed(store)
    seen = await found(store, record_id)
    assert await store.renew(record_id, renewal(lease=SHORT)) == Renewed(2)
    await until_lapsed(store, record_id)
    assert isinstance(await store.take_over(record_id, taking(seen)), Found)
    assert (await found(store, record_id)).record.token == A


async def test_a_take_over_never_touches_a_finished_operation(store: Store) -> None:
    record_id = await completed(store)
    seen = await found(store, record_id)
    fact = await store.take_over(record_id, taking(seen))
    assert isinstance(fact, Found)
    assert fact.record.answer == ANSWER
    assert await found(store, record_id) == seen


async def test_there_is_nothing_to_take_over(store: Store) -> None:
    asked = TakeOver(B, A, 1, LONG, TTL)
    assert await store.take_over(new_id(), asked) == Missing()
    assert await store.take_over(await released(store), asked) == Missing()


async def test_of_many_take_overs_at_once_one_owns(store: Store, another: Opener) -> None:
    stores = [store, await another()]
    record_id = await left_unknown(store)
    seen = await found(store, record_id)
    tokens = [bytes([number]) * 16 for number in range(100, 140)]
    facts = await asyncio.gather(
        *(stores[number % 2].take_over(record_id, taking(seen, token)) for number, token in enumerate(tokens))
    )
    owners = [token for token, fact in zip(tokens, facts, strict=True) if isinstance(fact, Claimed)]
    assert len(owners) == 1
    assert (await found(store, record_id)).record.token == owners[0]


# ------------------------------------------------------------------------------------------------------------------- renewals


async def test_a_renewal_lets_the_lease_run_on(store: Store) -> None:
    record_id = await claimed(store, claim(lease=60_000))
    before = await found(store, record_id)
    assert await store.renew(record_id, renewal(lease=LONG)) == Renewed(1)
    after = await found(store, record_id)
    assert after.lease_left > 60_000 >= before.lease_left
    assert after.record.expires_at >= before.record.expires_at + LONG - 60_000


async def test_a_renewal_never_shortens_the_evidence(store: Store) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    await store.renew(record_id, renewal(ttl=1))
    assert (await found(store, record_id)).record.expires_at == before.record.expires_at


async def test_a_late_renewal_revives_the_lease_and_raises_the_version(store: Store) -> None:
    record_id = await lapsed(store)
    assert await store.renew(record_id, renewal()) == Renewed(2)
    seen = await found(store, record_id)
    assert (seen.record.state, seen.lease_left > 0) == (State.PROCESSING, True)


async def test_what_is_not_ones_own_and_running_is_not_renewed(store: Store) -> None:
    assert await store.renew(new_id(), renewal()) == Missing()
    record_id = await released(store)
    assert await store.renew(record_id, renewal()) == Dead()
    assert await store.renew(record_id, renewal(B)) == Missing()
    for record_id in (await claimed(store, claim(B)), await completed(store), await left_unknown(store)):
        before = await found(store, record_id)
        fact = await store.renew(record_id, renewal())
        assert isinstance(fact, Found)
        assert fact.record == (await found(store, record_id)).record == before.record


# --------------------------------------------------------------------------------------------------------------------- expiry


async def test_evidence_outlives_the_lease_by_ttl_and_then_is_gone(store: Store) -> None:
    record_id = await claimed(store, claim(lease=SHORT, ttl=SHORT))
    await until_gone(store, record_id, Missing())
    assert await store.claim(record_id, claim(B)) == Claimed(1, 1)


async def test_an_answer_is_gone_after_its_ttl(store: Store) -> None:
    record_id = await claimed(store)
    assert await store.complete(record_id, complete(ttl=SHORT)) == Done(State.COMPLETED)
    await until_gone(store, record_id, Missing())
    assert await store.claim(record_id, claim(B)) == Claimed(1, 1)


async def test_an_unknown_outcome_is_gone_after_its_ttl(store: Store) -> None:
    record_id = await claimed(store)
    assert await store.mark_unknown(record_id, unknown(ttl=SHORT)) == Done(State.UNKNOWN)
    await until_gone(store, record_id, Missing())


async def test_the_number_of_attempts_is_forgotten_with_the_remnant(store: Store) -> None:
    record_id = await claimed(store)
    await store.release(record_id, release(ttl=1))
    await asyncio.sleep(0.05)
    assert await store.claim(record_id, claim(B)) == Claimed(1, 1)
