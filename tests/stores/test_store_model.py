"""Every backend against `semantics.py`: the same commands, step by step, whatever stands there."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from msgspec import structs

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, Reason, State, Tombstone
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Anew,
    Completion,
    Found,
    Locked,
    MarkUnknown,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    Store,
    TakeOver,
)
from idemproxy.stores.semantics import EMPTY, Slot
from tests.stores.asking import (
    ANSWER,
    LONG,
    TTL,
    claim,
    new_id,
    next_attempt,
    release,
    renewal,
    take_back,
    until_lapsed,
)

STEPS = 60
LAPSES = 1
"""A lease, in milliseconds, that is waited for after each step."""
TOKENS = [bytes([number]) * 16 for number in (1, 2, 3)]
CREDENTIALS = dict(zip(TOKENS, ["", "1" * 32, "2" * 32], strict=True))
ANSWERS: list[Answer | Tombstone] = [ANSWER, Answer(500, b"500 Oops\r\n", b"\0"), Tombstone(200)]


@dataclass(frozen=True)
class Asked:
    """A command, for the store and for the model."""

    name: str
    of_store: Callable[[Store, str], Awaitable[object]]
    of_model: Callable[[Slot, int], tuple[Slot, object]]


def choose(chance: random.Random, slot: Slot) -> Asked:
    """Any command; what it claims to have seen is mostly what stands there."""
    token = chance.choice(TOKENS)
    lease = chance.choice([LONG, LONG, LAPSES])
    seen = slot.record
    version = (seen.version if seen is not None else 1) - chance.choice([0, 0, 0, 1])
    seen_token = seen.token if seen is not None and chance.random() < 0.8 else NO_TOKEN
    claiming = structs.replace(claim(token), credential=CREDENTIALS[token])
    anew = Anew(claiming, chance.randint(1, 4), chance.randint(1, 4)) if chance.random() < 0.3 else None
    answer = chance.choice(ANSWERS)
    match chance.choice(
        [
            "claim",
            "claim",
            "claim",
            "take_over",
            "take_over",
            "renew",
            "next",
            "complete",
            "mark",
            "release",
            "back",
            "back",
            "settle",
        ]
    ):
        case "claim":
            asked = structs.replace(claiming, lease=lease)
            return Asked(
                "claim", lambda store, one: store.claim(one, asked), lambda slot, now: semantics.claim(slot, asked, now)
            )
        case "take_over":
            over = TakeOver(token, seen_token, version, lease, TTL)
            return Asked(
                "take_over",
                lambda store, one: store.take_over(one, over),
                lambda slot, now: semantics.take_over(slot, over, now),
            )
        case "renew":
            more = renewal(token, lease=lease)
            return Asked(
                "renew", lambda store, one: store.renew(one, more), lambda slot, now: semantics.renew(slot, more, now)
            )
        case "next":
            number = next_attempt(token, may_have_run=chance.random() < 0.5, lease=lease)
            return Asked(
                "next_attempt",
                lambda store, one: store.next_attempt(one, number),
                lambda slot, now: semantics.next_attempt(slot, number, now),
            )
        case "complete":
            end = Completion(token, answer, TTL, anew)
            return Asked(
                "complete",
                lambda store, one: store.complete(one, end),
                lambda slot, now: semantics.complete(slot, end, now),
            )
        case "mark":
            mark = MarkUnknown(token, chance.choice([Reason.RESET, Reason.TIMEOUT]), TTL, anew)
            return Asked(
                "mark_unknown",
                lambda store, one: store.mark_unknown(one, mark),
                lambda slot, now: semantics.mark_unknown(slot, mark, now),
            )
        case "release":
            free = release(token)
            return Asked(
                "release",
                lambda store, one: store.release(one, free),
                lambda slot, now: semantics.release(slot, free, now),
            )
        case "back":
            back = take_back(token)
            return Asked(
                "take_back",
                lambda store, one: store.take_back(one, back),
                lambda slot, now: (semantics.take_back(slot, back, now), None),
            )
        case _:
            words: list[Settlement]
            words = [
                SettleRelease(seen_token, version, TTL),
                SettleComplete(seen_token, version, ANSWER, TTL),
                SettleDelete(seen_token, version),
            ]
            word = chance.choice(words)
            return Asked(
                "settle",
                lambda store, one: store.settle(one, word),
                lambda slot, now: semantics.settle(slot, word, now),
            )


def without_times(fact: object) -> object:
    """The store's clock is not the model's."""
    match fact:
        case Found(record, lease_left):
            return Found(
                structs.replace(record, created_at=0, updated_at=0, expires_at=0, lease_until=0), min(lease_left, 1)
            )
        case Locked():
            return Locked(1)
        case _:
            return fact


@pytest.mark.parametrize("seed", range(6))
async def test_a_store_does_what_the_semantics_say(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    record_id, slot, now = new_id(), EMPTY, 1_000_000
    told: list[str] = []
    for _ in range(STEPS):
        asked = choose(chance, slot)
        fact = await asked.of_store(store, record_id)
        slot, expected = asked.of_model(slot, now)
        told.append(f"{asked.name} -> {expected}")
        assert without_times(fact) == without_times(expected), "\n".join(told)
        if slot.lock is not None and slot.lock.until - now == LAPSES:
            now += LAPSES
            await until_lapsed(store, record_id)
        assert without_times(await store.get(record_id)) == without_times(semantics.look(slot, now)), "\n".join(told)
        if slot.record is not None and slot.record.state in (State.COMPLETED, State.FAILED) and chance.random() < 0.5:
            record_id, slot = new_id(), EMPTY
            told.clear()
