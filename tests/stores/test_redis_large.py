"""Large answers have a connection of their own and more time; what is small does not wait for them, and misses nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial

import pytest
import uvloop
from msgspec import structs

from idemproxy.errors import RecordUnreadable, StoreAmbiguous
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import Reason, State, Tombstone, decode, encode
from idemproxy.stores import redis_wire
from idemproxy.stores.base import (
    Claimed,
    Completion,
    Dead,
    Done,
    EndFact,
    Found,
    MarkUnknown,
    Missing,
    Release,
    Renewal,
    Renewed,
    RenewFact,
    SettleComplete,
    SettleDelete,
    TakeBack,
    TakeOver,
)
from idemproxy.stores.redis import RedisStore
from idemproxy.stores.redis_wire import Replied, Wire
from tests.stores.redis_cases import (
    DEADLINE,
    HOUR,
    TOKEN,
    Line,
    claim,
    completion,
    eventually,
    record_id,
    store_at,
    until,
)
from tests.stores.redis_server import RedisServer

OTHER = b"u" * 16
RELEASE = Release(TOKEN, HOUR)
LARGE = bytes(range(256)) * (2**13)
"""2 MiB."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """With a large answer recorded for 0, by TOKEN."""
    server.client().flushall()
    async with store_at(server.url) as opened:
        await opened.claim(record_id(0), claim())
        answer = Answer(201, b"201 Created\r\n", LARGE, b"T: x\r\n")
        assert await opened.complete(record_id(0), Completion(TOKEN, answer, HOUR, None)) == Done(State.COMPLETED)
        yield opened


def key(number: int) -> str:
    return f"shop:{{{record_id(number)}}}:record"


def stored(server: RedisServer, number: int) -> bytes:
    value = server.client().get(key(number))
    assert isinstance(value, bytes)
    return value


# --------------------------------------------------------------------------------------------------------- what is answered


async def test_who_may_replay_gets_the_whole_answer(server: RedisServer, store: RedisStore) -> None:
    whole = Found(decode(stored(server, 0)), 0)
    assert await store.get(record_id(0)) == whole
    assert await store.claim(record_id(0), claim(OTHER)) == whole
    assert await store.claim(record_id(0), claim(TOKEN)) == whole
    assert await store.take_over(record_id(0), TakeOver(OTHER, TOKEN, 1, HOUR, HOUR)) == whole
    (page,) = (await store.scan(state=None, rule=None, limit=10, cursor=None)).found
    assert page == (record_id(0), whole)


async def test_an_end_or_a_renewal_gets_all_but_the_answer(server: RedisServer, store: RedisStore) -> None:
    rest = Found(structs.replace(decode(stored(server, 0)), answer=None), 0)
    small = Answer(200, b"200 OK\r\n", b"")
    asked: list[Coroutine[object, object, EndFact | RenewFact]] = [
        store.renew(record_id(0), Renewal(TOKEN, HOUR, HOUR)),
        store.renew(record_id(0), Renewal(OTHER, HOUR, HOUR)),
        store.complete(record_id(0), completion(b"", OTHER)),
        store.complete(record_id(0), completion(LARGE, OTHER)),
        store.mark_unknown(record_id(0), MarkUnknown(TOKEN, Reason.RESET, HOUR, None)),
        store.release(record_id(0), RELEASE),
        store.settle(record_id(0), SettleDelete(TOKEN, 7)),
        store.settle(record_id(0), SettleComplete(TOKEN, 2, small, HOUR)),
    ]
    for number, fact in enumerate(await asyncio.gather(*asked)):
        assert fact == rest, number
    await store.take_back(record_id(0), TakeBack(OTHER, HOUR))
    assert decode(stored(server, 0)).answer == Answer(201, b"201 Created\r\n", LARGE, b"T: x\r\n"), "untouched"
    assert await store.complete(record_id(0), Completion(TOKEN, Tombstone(201), HOUR, None)) == Done(State.COMPLETED)
    assert await store.settle(record_id(0), SettleDelete(TOKEN, 2)) == Done(State.RELEASED)


@pytest.mark.parametrize("by", [-1, 0, 1])
async def test_around_the_size_that_is_large(server: RedisServer, store: RedisStore, by: int) -> None:
    await store.claim(record_id(1), claim())
    await store.complete(record_id(1), completion(b""))
    await store.settle(record_id(1), SettleDelete(TOKEN, 2))
    await store.claim(record_id(1), claim())
    body = bytes(2**16 - len(stored(server, 1)) - len(b"200 OK\r\n") + by)
    await store.complete(record_id(1), completion(body))
    assert len(stored(server, 1)) == 2**16 + by
    assert await store.claim(record_id(1), claim(OTHER)) == Found(decode(stored(server, 1)), 0)


@pytest.mark.parametrize("value", [b"x" * 100_000, b"I\x01\x09" + bytes(100_000)], ids=["text", "state"])
async def test_a_large_value_that_is_no_record(server: RedisServer, store: RedisStore, value: bytes) -> None:
    server.client().set(key(1), value)
    for asked in (store.get(record_id(1)), store.claim(record_id(1), claim()), store.release(record_id(1), RELEASE)):
        with pytest.raises(RecordUnreadable):
            await asked
    assert stored(server, 1) == value


# ------------------------------------------------------------------------------- what happens while the answer is fetched


def meanwhile(store: RedisStore, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """`act` each time before a large command is sent."""
    ask = store._large.ask

    async def late(command: bytes, size: int = 0) -> Replied:
        act()
        return await ask(command, size)

    monkeypatch.setattr(store._large, "ask", late)


async def test_a_record_that_goes_while_its_answer_is_fetched(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = stored(server, 0)
    meanwhile(store, monkeypatch, lambda: server.client().delete(key(0)))
    assert await store.get(record_id(0)) == Missing()
    server.client().set(key(0), value)
    assert await store.take_over(record_id(0), TakeOver(OTHER, TOKEN, 1, HOUR, HOUR)) == Missing()
    server.client().set(key(0), value)
    assert await store.claim(record_id(0), claim(OTHER)) == Claimed(1, 1)


async def test_a_record_that_is_released_while_its_answer_is_fetched(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    remnant = encode(structs.replace(decode(stored(server, 0)), state=State.RELEASED, token=OTHER, answer=None))
    meanwhile(store, monkeypatch, lambda: server.client().set(key(0), remnant))
    assert await store.claim(record_id(0), claim(OTHER)) == Dead(), "not what is left of it, and not the old answer"


async def test_a_record_that_changes_each_time(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = decode(stored(server, 0))
    versions = iter(range(10, 100))
    meanwhile(
        store,
        monkeypatch,
        lambda: server.client().set(key(0), encode(structs.replace(record, version=next(versions)))),
    )
    with pytest.raises(RecordUnreadable, match="changes each time"):
        await store.claim(record_id(0), claim(OTHER))


# ------------------------------------------------------------------------------------------------------------ on a slow line


async def connected(store: RedisStore) -> None:
    """Both connections are there, and the scripts are loaded."""
    await eventually(lambda: store.claim(record_id(9), claim()))
    await eventually(lambda: store.complete(record_id(9), completion(bytes(70_000))))


async def test_small_commands_do_not_wait_behind_large_answers(server: RedisServer, store: RedisStore) -> None:
    await store.claim(record_id(1), claim())
    line = Line(server.port, most=2**20)
    async with line.laid(), store_at(line.url) as slow:
        replays = [asyncio.ensure_future(slow.claim(record_id(0), claim(OTHER))) for _ in range(10)]
        await until(lambda: line.waiting > 0)
        async with asyncio.timeout(DEADLINE):
            assert await slow.renew(record_id(1), Renewal(TOKEN, HOUR, HOUR)) == Renewed(1)
            assert await slow.claim(record_id(2), claim(OTHER)) == Claimed(1, 1)
            assert await slow.complete(record_id(0), completion(b"", OTHER)) != Done(State.COMPLETED)
        assert not any(replay.done() for replay in replays)
        line.let_go()
        whole = Found(decode(stored(server, 0)), 0)
        assert await asyncio.gather(*replays) == [whole] * 10


@pytest.mark.parametrize("new_loop", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_large_answer_has_longer_than_a_small_command(
    server: RedisServer, new_loop: Callable[[], asyncio.AbstractEventLoop] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_wire, "LEAST_RATE", 2**16)
    server.client().flushall()
    limit = 0.5

    async def run() -> None:
        line = Line(server.port, most=2**19)
        async with line.laid(), store_at(line.url, timeout_ms=round(limit * 1000)) as slow:
            await connected(slow)
            await eventually(lambda: slow.claim(record_id(0), claim()))
            end = asyncio.ensure_future(slow.complete(record_id(0), completion(LARGE)))
            await until(lambda: line.waiting == 1)
            await asyncio.sleep(2 * limit)
            assert await eventually(lambda: slow.claim(record_id(1), claim())) == Claimed(1, 1)
            assert not end.done()
            line.let_go()
            assert await end == Done(State.COMPLETED)
            assert isinstance(await eventually(lambda: slow.get(record_id(0))), Found)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def test_a_large_answer_has_not_for_ever(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_wire, "LEAST_RATE", 2**24)
    server.client().flushall()
    line = Line(server.port, most=2**19)
    async with line.laid(), store_at(line.url, timeout_ms=1000) as slow:
        await connected(slow)
        await eventually(lambda: slow.claim(record_id(0), claim()))
        with pytest.raises(StoreAmbiguous, match="did not answer in time"):
            await slow.complete(record_id(0), completion(LARGE))
        wire = slow._link._wire
        assert wire is not None
        assert wire.open, "small commands have another connection"


async def test_a_small_command_is_missed_in_time_on_a_connection_of_large_ones(server: RedisServer) -> None:
    """Also where a large one was answered before, and the timer is set for that one's deadline."""
    ping = redis_wire.command(b"PING")
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire("redis"), "127.0.0.1", server.port)
    try:
        assert await wire.ask(ping, DEADLINE, 2**40) == b"PONG"
        server.pause()
        missing = wire.ask(ping, 0.05)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreAmbiguous, match="in time"):
                await missing
    finally:
        server.resume()
        await wire.close()


async def test_large_commands_wait_for_those_before_them(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command may take counts from when those before it would be through."""
    monkeypatch.setattr(redis_wire, "LEAST_RATE", 2**10)
    ping = redis_wire.command(b"PING")
    _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire("redis"), "127.0.0.1", server.port)
    try:
        server.pause()
        replies = [wire.ask(ping, 0.1, 2**16), wire.ask(ping, 0.1, 1)]
        await asyncio.wait(replies, timeout=0.5)
        server.resume()
        assert await asyncio.gather(*replies) == [b"PONG", b"PONG"]
    finally:
        server.resume()
        await wire.close()


# ----------------------------------------------------------------------------------------------------- connecting, and the end


async def test_connecting_takes_nothing_from_the_time_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps while it connects, as far as the limit."""
    loop = asyncio.get_running_loop()
    read, jumped = loop.time, [0.0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)
        await asyncio.sleep(0.3)
        writer.write(b"*1\r\n:3\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with store_at(f"redis://127.0.0.1:{port}", timeout_ms=30_000) as store:
            connect = store._address.connect

            async def slowly(make: Callable[[], Wire]) -> Wire:
                wire = await connect(make)
                jumped[0] += 30.0
                return wire

            monkeypatch.setattr(store._address, "connect", slowly)
            monkeypatch.setattr(loop, "time", lambda: read() + jumped[0])
            assert await store.get(record_id(0)) == Missing()


@pytest.mark.parametrize("new_loop", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_was_given_up_is_not_sent_later(new_loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """A server that stands still, with little room: what was written lies on this machine when the time is over."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(give_up(listening.getsockname()[1]))
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(DEADLINE)
            came = read_all(accepted)
    assert record_id(2).encode() not in came


async def give_up(port: int) -> None:
    async with store_at(f"redis://127.0.0.1:{port}", timeout_ms=1500) as store:
        asked = [store.complete(record_id(1), completion(bytes(60_000))), store.claim(record_id(2), claim())]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in failed] == [StoreAmbiguous, StoreAmbiguous]


def read_all(connection: socket.socket) -> bytes:
    came = bytearray()
    try:
        for data in iter(partial(connection.recv, 2**16), b""):
            came += data
    except ConnectionResetError:
        pass
    return bytes(came)
