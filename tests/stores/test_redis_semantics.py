"""The Lua scripts against stores/semantics.py: the same commands from the same start give the same facts and leave the same record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from idemproxy.errors import RecordUnreadable, StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, OnUnknown, Reason, Tombstone, encode
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Anew,
    Claim,
    Completion,
    MarkUnknown,
    NextAttempt,
    Release,
    Renewal,
    SettleComplete,
    SettleDelete,
    SettleRelease,
    TakeBack,
    TakeOver,
)
from idemproxy.stores.redis import RedisStore
from idemproxy.stores.semantics import Slot
from tests.stores.redis_pair import TOKENS, UNIT, Evict, Lapse, Outlive, Pair, Step, slots, steps
from tests.stores.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


Play = Callable[[Slot, list[Step]], None]


@pytest.fixture(scope="module")
def play(server: RedisServer) -> Iterator[Play]:
    """Take the steps in one operation of the server's and in the model."""
    ids = count(1)
    with asyncio.Runner() as runner:
        store = RedisStore(server.url, namespace="shop", timeout_ms=30_000)

        async def one(start: Slot, taken: list[Step]) -> None:
            pair = Pair(server.client(), store, f"{next(ids):064x}", start)
            for step in taken:
                await pair.step(step)

        yield lambda start, taken: runner.run(one(start, taken))
        runner.run(store.close())


quiet = settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@quiet
@given(st.lists(steps, min_size=1, max_size=8))
def test_from_nothing(play: Play, taken: list[Step]) -> None:
    play(Slot(), taken)


@quiet
@given(slots, st.lists(steps, min_size=1, max_size=3))
def test_from_any_slot(play: Play, start: Slot, taken: list[Step]) -> None:
    play(start, taken)


LIVES: list[list[Step]] = [
    [
        claim := Claim(TOKENS[0], b"f" * 32, "recipe", "r", OnUnknown.RETRY, UNIT, UNIT),
        Renewal(TOKENS[0], UNIT, 2 * UNIT),
    ],
    [claim, Lapse(), Renewal(TOKENS[0], UNIT, UNIT), Completion(TOKENS[0], Answer(200, b"h", b"b", b"t"), UNIT, None)],
    [
        claim,
        Lapse(),
        TakeOver(TOKENS[1], TOKENS[0], 1, UNIT, UNIT),
        Lapse(),
        TakeOver(TOKENS[1], NO_TOKEN, 0, 2 * UNIT, 5 * UNIT),
    ],
    [
        claim,
        Lapse(),
        structs.replace(claim, lease=2 * UNIT, ttl=5 * UNIT),
        Lapse(),
        structs.replace(claim, lease=UNIT, ttl=UNIT),
    ],
    [claim, Lapse(), TakeOver(TOKENS[1], TOKENS[0], 1, UNIT, UNIT), Release(TOKENS[1], UNIT), Release(TOKENS[1], UNIT)],
    [
        claim,
        Lapse(),
        SettleComplete(TOKENS[0], 1, Answer(200, b"h", b"b"), UNIT),
        Completion(TOKENS[0], Tombstone(200), UNIT, None),
    ],
    [claim, Release(TOKENS[0], UNIT), claim, structs.replace(claim, token=TOKENS[1]), Release(TOKENS[1], UNIT)],
    [
        claim,
        Evict(),
        MarkUnknown(TOKENS[0], Reason.RESET, UNIT, Anew(claim, 1, 1)),
        SettleRelease(TOKENS[0], 2, UNIT),
        claim,
    ],
    [
        claim,
        NextAttempt(TOKENS[0], False, 2 * UNIT, UNIT),
        NextAttempt(TOKENS[0], True, UNIT, UNIT),
        Lapse(),
        NextAttempt(TOKENS[0], False, 5 * UNIT, UNIT),
        Release(TOKENS[0], UNIT),
        NextAttempt(TOKENS[0], False, UNIT, UNIT),
    ],
    [TakeBack(TOKENS[0], UNIT), claim, structs.replace(claim, token=TOKENS[1]), Lapse(), TakeBack(TOKENS[2], UNIT)],
    [claim, TakeBack(TOKENS[0], UNIT), claim, structs.replace(claim, token=TOKENS[1]), TakeBack(TOKENS[1], 5 * UNIT)],
    [
        claim,
        Lapse(),
        TakeOver(TOKENS[1], TOKENS[0], 1, UNIT, UNIT),
        TakeBack(TOKENS[1], UNIT),
        TakeBack(TOKENS[0], UNIT),
    ],
    [claim, Lapse(), TakeOver(TOKENS[1], TOKENS[0], 1, UNIT, UNIT), Lapse(), TakeBack(TOKENS[1], 5 * UNIT)],
    [
        TakeBack(TOKENS[0], 5 * UNIT),
        TakeBack(TOKENS[1], UNIT),
        TakeBack(TOKENS[0], 2 * UNIT),
        claim,
        Outlive(),
        structs.replace(claim, token=TOKENS[1]),
        claim,
        TakeBack(TOKENS[1], 2 * UNIT),
        claim,
        Outlive(),
        claim,
    ],
    [
        claim,
        Evict(),
        TakeBack(TOKENS[1], UNIT),
        TakeBack(TOKENS[0], UNIT),
        Completion(TOKENS[0], Tombstone(200), UNIT, Anew(claim, 1, 1)),
        MarkUnknown(TOKENS[0], Reason.RESET, UNIT, Anew(claim, 1, 1)),
        structs.replace(claim, token=TOKENS[2]),
        Lapse(),
        TakeOver(TOKENS[0], TOKENS[2], 1, UNIT, UNIT),
        SettleDelete(TOKENS[2], 1),
        claim,
    ],
    [claim, Lapse(), SettleDelete(TOKENS[0], 1), Completion(TOKENS[0], Tombstone(500), UNIT, Anew(claim, 3, 7)), claim],
]


@pytest.mark.parametrize("taken", LIVES)
def test_lives(play: Play, taken: list[Step]) -> None:
    play(Slot(), taken)


def commands(store: RedisStore, record_id: str) -> list[Callable[[], Awaitable[object]]]:
    anew = Anew(claim, 1, 1)
    return [
        lambda: store.claim(record_id, claim),
        lambda: store.take_over(record_id, TakeOver(TOKENS[0], TOKENS[1], 1, UNIT, UNIT)),
        lambda: store.renew(record_id, Renewal(TOKENS[0], UNIT, UNIT)),
        lambda: store.next_attempt(record_id, NextAttempt(TOKENS[0], True, UNIT, UNIT)),
        lambda: store.complete(record_id, Completion(TOKENS[0], Tombstone(200), UNIT, anew)),
        lambda: store.mark_unknown(record_id, MarkUnknown(TOKENS[0], Reason.RESET, UNIT, anew)),
        lambda: store.release(record_id, Release(TOKENS[0], UNIT)),
        lambda: store.take_back(record_id, TakeBack(TOKENS[0], UNIT)),
        lambda: store.settle(record_id, SettleDelete(TOKENS[0], 1)),
        lambda: store.get(record_id),
    ]


known = encode(semantics.claim(Slot(), claim, 0)[0].record or pytest.fail("no record"))


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"I\x01" + known[2:], known[:60], known[:2] + b"\x09" + known[3:], known[:2] + b"\x00" + known[3:]],
    ids=["empty", "text", "version", "short", "state 9", "state 0"],
)
async def test_an_encoding_that_is_not_known_is_never_touched(server: RedisServer, value: bytes) -> None:
    store = RedisStore(server.url, namespace="shop", timeout_ms=30_000)
    try:
        key = f"shop:{{{'e' * 64}}}:"
        for number, command in enumerate(commands(store, "e" * 64)):
            server.client().set(key + "record", value)
            with pytest.raises(RecordUnreadable):
                await command()
            assert server.client().mget(key + "record", key + "lock", key + "dead") == [value, None, None], number
    finally:
        await store.close()


async def test_a_key_of_another_type_is_never_touched(server: RedisServer) -> None:
    key = f"shop:{{{'d' * 64}}}:record"
    server.client().rpush(key, "of another program")
    store = RedisStore(server.url, namespace="shop", timeout_ms=30_000)
    try:
        for command in commands(store, "d" * 64):
            with pytest.raises(StoreError, match="another program shares the database") as raised:
                await command()
            assert type(raised.value) is StoreError
            assert "shop:" not in str(raised.value)
        assert server.client().lrange(key, 0, -1) == [b"of another program"]
    finally:
        await store.close()
