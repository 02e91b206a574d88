"""Short forms of the store's commands, and waiting for what time brings."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, Reason, State, Tombstone
from idemproxy.stores.base import (
    Anew,
    Claim,
    Claimed,
    Completion,
    Found,
    LookFact,
    MarkUnknown,
    NextAttempt,
    Release,
    Renewal,
    Store,
    TakeBack,
    TakeOver,
)

T = TypeVar("T")

LONG = 600_000
"""A lease, in milliseconds, that does not lapse in a test."""
SHORT = 150
"""One that is waited for."""
TTL = 3_600_000
DEADLINE = 30.0
"""Seconds that only guard against hanging."""

ANSWER = Answer(201, b"201 Created\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n", b"paid")
OTHER = Answer(200, b"200 OK\r\nContent-Length: 5\r\n", b"other")
FINGERPRINT = b"f" * 32 + b"\0marks of parts\xff"
A, B, C = b"A" * 16, b"B" * 16, b"C" * 16
"""Tokens."""


def new_id() -> str:
    return os.urandom(32).hex()


def claim(token: bytes = A, *, lease: int = LONG, ttl: int = TTL, rule: str = "charges") -> Claim:
    return Claim(token, FINGERPRINT, "recipe-1", rule, OnUnknown.BLOCK, lease, ttl)


def complete(
    token: bytes = A, answer: Answer | Tombstone = ANSWER, *, ttl: int = TTL, anew: Anew | None = None
) -> Completion:
    return Completion(token, answer, ttl, anew)


def unknown(
    token: bytes = A, reason: Reason = Reason.RESET, *, ttl: int = TTL, anew: Anew | None = None
) -> MarkUnknown:
    return MarkUnknown(token, reason, ttl, anew)


def release(token: bytes = A, *, ttl: int = TTL) -> Release:
    return Release(token, ttl)


def renewal(token: bytes = A, *, lease: int = LONG, ttl: int = TTL) -> Renewal:
    return Renewal(token, lease, ttl)


def next_attempt(token: bytes = A, *, may_have_run: bool = False, lease: int = LONG, ttl: int = TTL) -> NextAttempt:
    return NextAttempt(token, may_have_run, lease, ttl)


def take_back(token: bytes = A, *, lease: int = LONG) -> TakeBack:
    return TakeBack(token, lease)


def taking(seen: Found, token: bytes = B, *, lease: int = LONG, ttl: int = TTL) -> TakeOver:
    return TakeOver(token, seen.record.token, seen.record.version, lease, ttl)


async def found(store: Store, record_id: str) -> Found:
    fact = await store.get(record_id)
    assert isinstance(fact, Found), fact
    return fact


async def claimed(store: Store, asked: Claim | None = None) -> str:
    """The id of an operation that was just claimed."""
    record_id = new_id()
    assert isinstance(await store.claim(record_id, asked or claim()), Claimed)
    return record_id


async def completed(store: Store, token: bytes = A, answer: Answer | Tombstone = ANSWER) -> str:
    record_id = await claimed(store, claim(token))
    await store.complete(record_id, complete(token, answer))
    return record_id


async def left_unknown(store: Store, token: bytes = A) -> str:
    record_id = await claimed(store, claim(token))
    await store.mark_unknown(record_id, unknown(token))
    return record_id


async def released(store: Store, token: bytes = A) -> str:
    record_id = await claimed(store, claim(token))
    await store.release(record_id, release(token))
    return record_id


async def lapsed(store: Store, token: bytes = A) -> str:
    """The id of an operation whose owner has died."""
    record_id = await claimed(store, claim(token, lease=SHORT))
    await until_lapsed(store, record_id)
    return record_id


async def until_lapsed(store: Store, record_id: str) -> Found:
    fact = await until(lambda: store.get(record_id), lambda fact: not isinstance(fact, Found) or not fact.lease_left)
    assert isinstance(fact, Found), fact
    assert fact.record.state is State.PROCESSING
    return fact


async def until(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """The first answer for which it holds."""
    deadline = time.monotonic() + DEADLINE
    while True:
        fact = await ask()
        if holds(fact):
            return fact
        assert time.monotonic() < deadline, fact
        await asyncio.sleep(0.01)


async def until_gone(store: Store, record_id: str, gone: LookFact) -> None:
    await until(lambda: store.get(record_id), lambda fact: fact == gone)
