"""What the tests of the Redis store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from idemproxy.errors import StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown
from idemproxy.stores.base import Claim, Completion
from idemproxy.stores.redis import RedisStore

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that only guard against hanging."""

HOUR = 3_600_000
TOKEN = b"t" * 16


def record_id(number: int) -> str:
    return f"{number:064x}"


def claim(token: bytes = TOKEN, rule: str = "charges") -> Claim:
    return Claim(token, b"f" * 32, "recipe", rule, OnUnknown.BLOCK, HOUR, HOUR)


def completion(body: bytes, token: bytes = TOKEN, status: int = 200) -> Completion:
    return Completion(token, Answer(status, b"200 OK\r\n", body), HOUR, None)


@asynccontextmanager
async def store_at(url: str, *, namespace: str = "shop", timeout_ms: int = 30_000) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, namespace=namespace, timeout_ms=timeout_ms)
    try:
        yield store
    finally:
        await store.close()


async def eventually(ask: Callable[[], Awaitable[T]]) -> T:
    """The first fact that the store gives."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await ask()
            except StoreError:
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)
