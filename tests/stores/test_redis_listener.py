"""Ends are told to whoever listens, in any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from idemproxy.errors import StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import Reason
from idemproxy.stores import redis_listener
from idemproxy.stores.base import (
    MarkUnknown,
    Release,
    Renewal,
    SettleComplete,
    SettleDelete,
    SettleRelease,
    TakeBack,
)
from idemproxy.stores.redis import RedisStore
from tests.stores.redis_cases import DEADLINE, HOUR, TOKEN, claim, completion, record_id, store_at, until
from tests.stores.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


class Ear:
    """What a listener was told."""

    def __init__(self, store: RedisStore) -> None:
        self.ids: list[str | None] = []
        self.begun = 0
        self.task = asyncio.ensure_future(store.watch(self.ids.append, self._begin))

    def _begin(self) -> None:
        self.begun += 1

    async def end(self) -> BaseException | None:
        async with asyncio.timeout(DEADLINE):
            (error,) = await asyncio.gather(self.task, return_exceptions=True)
        return error


@asynccontextmanager
async def listening(store: RedisStore) -> AsyncIterator[Ear]:
    ear = Ear(store)
    try:
        await until(lambda: ear.begun == 1 or ear.task.done())
        yield ear
    finally:
        ear.task.cancel()
        await asyncio.gather(ear.task, return_exceptions=True)


async def test_every_end_wakes(server: RedisServer) -> None:
    answer = Answer(200, b"200 OK\r\n", b"")
    async with store_at(server.url) as store, store_at(server.url) as other, listening(other) as ear:
        for number in range(7):
            await store.claim(record_id(number), claim())
        await store.renew(record_id(0), Renewal(TOKEN, HOUR, HOUR))
        await store.complete(record_id(0), completion(b""))
        await store.mark_unknown(record_id(1), MarkUnknown(TOKEN, Reason.RESET, HOUR, None))
        await store.release(record_id(2), Release(TOKEN, HOUR))
        await store.take_back(record_id(3), TakeBack(TOKEN, HOUR))
        for number in range(4, 7):
            await store.mark_unknown(record_id(number), MarkUnknown(TOKEN, Reason.RESET, HOUR, None))
        await until(lambda: len(ear.ids) >= 7)
        await store.settle(record_id(4), SettleComplete(TOKEN, 2, answer, HOUR))
        await store.settle(record_id(5), SettleRelease(TOKEN, 2, HOUR))
        await store.settle(record_id(6), SettleDelete(TOKEN, 2))
        await until(lambda: len(ear.ids) >= 10)
    assert ear.ids == [record_id(number) for number in (0, 1, 2, 3, 4, 5, 6, 4, 5, 6)]
    assert ear.begun == 1


async def test_only_its_own_namespace_wakes(server: RedisServer) -> None:
    async with store_at(server.url, namespace="a") as a, store_at(server.url, namespace="b") as b, listening(b) as ear:
        for store, number in ((a, 1), (b, 2)):
            await store.claim(record_id(number), claim())
            await store.complete(record_id(number), completion(b""))
        await until(lambda: len(ear.ids) >= 1)
    assert ear.ids == [record_id(2)]


async def test_a_server_that_goes_away_and_comes_back(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        async with listening(store) as ear:
            server.stop()
            assert isinstance(await ear.end(), StoreError)
        async with listening(store) as ear:
            assert isinstance(await ear.end(), StoreError), "still down"
            assert ear.begun == 0
        server.start()
        async with listening(store) as ear:
            await store.claim(record_id(1), claim())
            await store.release(record_id(1), Release(TOKEN, HOUR))
            await until(lambda: ear.ids == [record_id(1)])


async def test_a_connection_that_has_died_without_a_word(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_listener, "PING_EVERY", 0.05)
    async with store_at(server.url, timeout_ms=1000) as store:
        while True:
            async with listening(store) as ear:
                if ear.begun:
                    server.pause()
                    assert isinstance(await ear.end(), StoreError)
                    server.resume()
                    return


async def test_pings_come_between_messages(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_listener, "PING_EVERY", 0.001)
    async with store_at(server.url) as store, listening(store) as ear:
        for number in range(200):
            await store.claim(record_id(number), claim())
            await store.release(record_id(number), Release(TOKEN, HOUR))
        await until(lambda: len(ear.ids) >= 200)
        assert not ear.task.done()
    assert ear.ids == [record_id(number) for number in range(200)]


async def test_a_listener_that_is_cancelled_leaves_no_connection(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        async with listening(store):
            assert server.client().pubsub_numsub("shop:ends") == [(b"shop:ends", 1)]
        await until(lambda: server.client().pubsub_numsub("shop:ends") == [(b"shop:ends", 0)])
