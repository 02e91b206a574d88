"""The suite's fourth part, for every backend: an owner's further attempts, when leases end, and the store's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import Reason, State
from idemproxy.stores.base import Claimed, Dead, Done, Found, Missing, SettleDelete, Store, TakeOver
from tests.stores.asking import (
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
    next_attempt,
    release,
    released,
    renewal,
    taking,
    unknown,
)
from tests.stores.conftest import Opener

SHORTER = LONG // 2
"""A lease that does not lapse in a test either."""
CLOSE = 5_000
"""Milliseconds: times that are one and the same, read one after another on a slow machine, are not further apart."""

# ------------------------------------------------------------------------------------------------------------ further attempts


async def test_an_owners_next_attempt_has_the_next_number(store: Store) -> None:
    record_id = await claimed(store, claim(lease=SHORTER))
    before = await found(store, record_id)
    assert await store.next_attempt(record_id, next_attempt()) == Claimed(2, 1)
    assert await store.next_attempt(record_id, next_attempt()) == Claimed(3, 1)
    after = await found(store, record_id)
    assert (after.record.state, after.record.token, after.record.attempt) == (State.PROCESSING, A, 3)
    assert (after.record.version, after.record.may_have_run, after.record.reason) == (1, False, Reason.NONE)
    assert (after.record.created_at, after.record.updated_at) == (before.record.created_at, before.record.updated_at)
    assert after.record.fingerprint == before.record.fingerprint


async def test_a_next_attempt_lets_the_lease_run_on(store: Store) -> None:
    record_id = await claimed(store, claim(lease=SHORTER))
    before = await found(store, record_id)
    await store.next_attempt(record_id, next_attempt())
    after = await found(store, record_id)
    assert after.lease_left > SHORTER >= before.lease_left
    assert after.record.expires_at >= before.record.expires_at + LONG - SHORTER
    await store.next_attempt(record_id, next_attempt(ttl=1))
    assert (await found(store, record_id)).record.expires_at == after.record.expires_at


async def test_numbers_of_attempts_asked_for_at_once_differ(store: Store, another: Opener) -> None:
    stores = [store, await another()]
    record_id = await claimed(store)
    facts = await asyncio.gather(*(stores[number % 2].next_attempt(record_id, next_attempt()) for number in range(20)))
    assert sorted(fact.attempt for fact in facts if isinstance(fact, Claimed)) == list(range(2, 22))


async def test_an_owner_asked_again_for_its_claim_keeps_the_number_of_its_last_attempt(store: Store) -> None:
    record_id = await claimed(store)
    await store.next_attempt(record_id, next_attempt())
    assert await store.claim(record_id, claim()) == Claimed(2, 1)


async def test_what_may_have_run_before_a_next_attempt_is_not_released(store: Store) -> None:
    record_id = await claimed(store)
    assert await store.next_attempt(record_id, next_attempt(may_have_run=True)) == Claimed(2, 1)
    assert (await found(store, record_id)).record.may_have_run
    assert await store.next_attempt(record_id, next_attempt(may_have_run=False)) == Claimed(3, 1)
    assert (await found(store, record_id)).record.may_have_run, "what has run once has run"
    assert await store.release(record_id, release()) == Done(State.UNKNOWN)
    record = (await found(store, record_id)).record
    assert (record.state, record.reason, record.attempt) == (State.UNKNOWN, Reason.RELEASED_AFTER_SEND, 3)


async def test_a_next_attempt_of_what_was_taken_over_keeps_the_evidence(store: Store) -> None:
    record_id = await left_unknown(store)
    await store.take_over(record_id, taking(await found(store, record_id)))
    assert await store.next_attempt(record_id, next_attempt(B)) == Claimed(3, 3)
    assert await store.release(record_id, release(B)) == Done(State.UNKNOWN)


async def test_after_a_release_attempts_are_numbered_on(store: Store) -> None:
    record_id = await claimed(store)
    await store.next_attempt(record_id, next_attempt())
    assert await store.release(record_id, release()) == Done(State.RELEASED)
    fact = await store.claim(record_id, claim(B))
    assert isinstance(fact, Claimed)
    assert fact.attempt == 3


async def test_a_next_attempt_after_the_lease_lapsed_revives_it_and_raises_the_version(store: Store) -> None:
    record_id = await lapsed(store)
    seen = await found(store, record_id)
    assert await store.next_attempt(record_id, next_attempt()) == Claimed(2, 2)
    now = await found(store, record_id)
    assert (now.record.state, now.lease_left > 0) == (State.PROCESSING, True)
    assert isinstance(await store.take_over(record_id, taking(seen)), Found)
    assert (await found(store, record_id)).record == now.record


async def test_a_next_attempt_is_its_owners_alone(store: Store) -> None:
    assert await store.next_attempt(new_id(), next_attempt()) == Missing()
    record_id = await released(store)
    assert await store.next_attempt(record_id, next_attempt()) == Dead()
    assert await store.next_attempt(record_id, next_attempt(B)) == Missing()
    assert await store.get(record_id) == Missing()
    for record_id in (
        await claimed(store, claim(B)),
        await lapsed(store, B),
        await completed(store),
        await left_unknown(store),
    ):
        before = await found(store, record_id)
        fact = await store.next_attempt(record_id, next_attempt(may_have_run=True))
        assert isinstance(fact, Found)
        assert fact.record == (await found(store, record_id)).record == before.record


# -------------------------------------------------------------------------------------------------------- when the lease ends


def shows_its_end(seen: Found) -> bool:
    return abs(seen.now + seen.lease_left - seen.record.lease_until) < CLOSE


async def test_a_record_says_when_its_lease_ends(store: Store) -> None:
    record_id = await claimed(store, claim(lease=SHORTER))
    first = await found(store, record_id)
    assert first.record.lease_until == first.record.created_at + SHORTER
    assert shows_its_end(first)


async def a_renewal(store: Store) -> str:
    record_id = await claimed(store, claim(lease=SHORTER))
    await store.renew(record_id, renewal())
    return record_id


async def a_late_renewal(store: Store) -> str:
    record_id = await lapsed(store)
    await store.renew(record_id, renewal())
    return record_id


async def an_attempt(store: Store) -> str:
    record_id = await claimed(store, claim(lease=SHORTER))
    await store.next_attempt(record_id, next_attempt())
    return record_id


async def a_late_attempt(store: Store) -> str:
    record_id = await lapsed(store)
    await store.next_attempt(record_id, next_attempt())
    return record_id


async def a_claim_asked_again(store: Store) -> str:
    record_id = await lapsed(store)
    await store.claim(record_id, claim())
    return record_id


async def a_take_over(store: Store) -> str:
    record_id = await lapsed(store)
    await store.take_over(record_id, taking(await found(store, record_id)))
    return record_id


async def a_claim_of_what_was_released(store: Store) -> str:
    record_id = await claimed(store, claim(lease=SHORTER))
    await store.release(record_id, release())
    await store.claim(record_id, claim(B))
    return record_id


GIVES = [
    a_renewal,
    a_late_renewal,
    an_attempt,
    a_late_attempt,
    a_claim_asked_again,
    a_take_over,
    a_claim_of_what_was_released,
]
"""What gives a lease of LONG to an operation that had a shorter one."""


@pytest.mark.parametrize("gives", GIVES, ids=lambda gives: gives.__name__)
async def test_what_gives_a_lease_moves_its_end(store: Store, gives: Callable[[Store], Awaitable[str]]) -> None:
    seen = await found(store, await gives(store))
    assert SHORTER < seen.lease_left <= LONG
    assert shows_its_end(seen)


KEEPS: dict[str, Callable[[Store, str], Awaitable[object]]] = {
    "complete": lambda store, record_id: store.complete(record_id, complete()),
    "mark_unknown": lambda store, record_id: store.mark_unknown(record_id, unknown()),
    "claim asked again": lambda store, record_id: store.claim(record_id, claim(lease=SHORT)),
    "refused claim": lambda store, record_id: store.claim(record_id, claim(B)),
    "refused renewal": lambda store, record_id: store.renew(record_id, renewal(B)),
    "refused next attempt": lambda store, record_id: store.next_attempt(record_id, next_attempt(B)),
}


@pytest.mark.parametrize("name", KEEPS)
async def test_the_end_of_the_last_lease_is_remembered(store: Store, name: str) -> None:
    record_id = await claimed(store)
    before = await found(store, record_id)
    await KEEPS[name](store, record_id)
    assert (await found(store, record_id)).record.lease_until == before.record.lease_until


async def test_a_lapsed_lease_has_ended_by_the_stores_clock(store: Store) -> None:
    seen = await found(store, await lapsed(store))
    assert seen.record.created_at + SHORT == seen.record.lease_until
    assert seen.now >= seen.record.lease_until - SHORT / 3


# ------------------------------------------------------------------------------------------------------------ the store's clock


LOOKS: dict[str, Callable[[Store, str], Awaitable[object]]] = {
    "get": lambda store, record_id: store.get(record_id),
    "claim": lambda store, record_id: store.claim(record_id, claim(B)),
    "take_over": lambda store, record_id: store.take_over(record_id, TakeOver(C, B, 1, LONG, TTL)),
    "renew": lambda store, record_id: store.renew(record_id, renewal(B)),
    "next_attempt": lambda store, record_id: store.next_attempt(record_id, next_attempt(B)),
    "complete": lambda store, record_id: store.complete(record_id, complete(B)),
    "mark_unknown": lambda store, record_id: store.mark_unknown(record_id, unknown(B)),
    "release": lambda store, record_id: store.release(record_id, release(B)),
    "settle": lambda store, record_id: store.settle(record_id, SettleDelete(B, 1)),
}


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
async def test_whatever_finds_a_record_tells_the_time(store: Store, size: int) -> None:
    record_id = await completed(store, answer=Answer(200, b"200 OK\r\n", bytes(size)))
    last = await found(store, record_id)
    assert last.now >= last.record.updated_at
    for name, look in LOOKS.items():
        fact = await look(store, record_id)
        assert isinstance(fact, Found), name
        assert fact.now >= last.now, name
        last = fact
    (page,) = (await store.scan(state=None, rule=None, limit=5, cursor=None)).found
    assert last.now <= page[1].now <= (await found(store, record_id)).now
