"""The one connection that all commands share: order, time limits, cancellation, and a server that goes and comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.messages import Answer
from idemproxy.stores import redis_wire
from idemproxy.stores.base import Claimed, Done, Found, LookFact, Missing, Refused, Release
from idemproxy.stores.redis import RedisStore
from tests.ports import free_port
from tests.stores.redis_cases import HOUR, TOKEN, claim, completion, eventually, record_id, store_at, until
from tests.stores.redis_server import RedisServer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that stays as it is."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def store(shared: RedisServer) -> AsyncIterator[RedisStore]:
    shared.client().flushall()
    async with store_at(shared.url) as opened:
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may stop."""
    with RedisServer(tmp_path) as running:
        yield running


def body_of(fact: LookFact) -> bytes:
    assert isinstance(fact, Found)
    assert isinstance(fact.record.answer, Answer)
    return fact.record.answer.body


async def fill(store: RedisStore, many: int) -> None:
    """Records 0 to many, each with its number as its body."""

    async def one(number: int) -> None:
        assert await store.claim(record_id(number), claim()) == Claimed(1, 1)
        assert isinstance(await store.complete(record_id(number), completion(b"%d" % number)), Done)

    await asyncio.gather(*(one(number) for number in range(many)))


async def test_many_commands_at_once_share_a_connection(store: RedisStore, shared: RedisServer) -> None:
    await fill(store, 200)
    facts = await asyncio.gather(*(store.get(record_id(number)) for number in range(200)))
    assert [body_of(fact) for fact in facts] == [b"%d" % number for number in range(200)]
    await until(lambda: len(shared.client().client_list()) == 2)  # the store's, and the test's own


async def test_a_cancelled_caller_does_not_shift_replies(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        await fill(store, 60)
        assert body_of(await store.get(record_id(0))) == b"0", "the script is loaded: what comes back below are records"
        server.pause()
        asking = [asyncio.ensure_future(store.get(record_id(number))) for number in range(60)]
        for _ in range(5):
            await asyncio.sleep(0)
        for task in asking[::2]:
            task.cancel()
        await asyncio.sleep(0)
        late = [asyncio.ensure_future(store.get(record_id(number))) for number in range(60)]
        await asyncio.sleep(0)
        for task in late[1::2]:
            task.cancel()
        server.resume()
        given = await asyncio.gather(*asking, *late, return_exceptions=True)
    for number, fact in enumerate(given[:60]):
        assert isinstance(fact, asyncio.CancelledError) if number % 2 == 0 else body_of(fact) == b"%d" % number  # type: ignore[arg-type]
    for number, fact in enumerate(given[60:]):
        assert isinstance(fact, asyncio.CancelledError) if number % 2 else body_of(fact) == b"%d" % number  # type: ignore[arg-type]


async def test_a_command_that_was_cancelled_before_it_was_written_is_not_applied(store: RedisStore) -> None:
    await fill(store, 1)
    asking = asyncio.ensure_future(store.claim(record_id(7), claim()))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert body_of(await store.get(record_id(0))) == b"0"
    assert await store.get(record_id(7)) == Missing()


async def test_scripts_that_the_server_forgot_are_loaded_again(store: RedisStore, shared: RedisServer) -> None:
    await fill(store, 3)
    shared.client().script_flush()
    assert await store.claim(record_id(8), claim()) == Claimed(1, 1)
    shared.client().script_flush()
    await asyncio.gather(*(store.get(record_id(number)) for number in range(3)), store.claim(record_id(9), claim()))
    assert isinstance(await store.complete(record_id(8), completion(b"x")), Done)
    assert isinstance(await store.release(record_id(9), Release(TOKEN, HOUR)), Done)


@pytest.mark.parametrize("size", [0, 65_000, 66_000, 8 * 2**20])
async def test_answers_of_any_size(store: RedisStore, size: int) -> None:
    body = bytes(range(256)) * (size // 256)
    await store.claim(record_id(1), claim())
    assert isinstance(await store.complete(record_id(1), completion(body)), Done)
    assert body_of(await store.get(record_id(1))) == body


async def test_a_restarted_server(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        await fill(store, 1)
        server.stop()
        await until(lambda: not_open(store))
        with pytest.raises(StoreUnavailable, match=f"redis at 127.0.0.1:{server.port} cannot be reached"):
            await store.get(record_id(0))
        server.start()
        assert await eventually(lambda: store.claim(record_id(0), claim())) == Claimed(1, 1)


def not_open(store: RedisStore) -> bool:
    wire = store._link._wire
    return wire is None or not wire.open


async def test_a_server_that_is_down_at_start(server: RedisServer) -> None:
    server.stop()
    async with store_at(server.url) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.get(record_id(0))
        server.start()
        assert await eventually(lambda: store.get(record_id(0))) == Missing()


async def test_a_server_that_stands_still(server: RedisServer) -> None:
    async with store_at(server.url, timeout_ms=500) as store:
        await eventually(lambda: store.get(record_id(0)))
        server.pause()
        asked = [asyncio.ensure_future(store.claim(record_id(number), claim())) for number in range(20)]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(error) for error in failed} == {StoreAmbiguous}
        assert "did not answer in time" in str(failed[0])
        server.resume()
        for number in range(20):
            asked_again = await eventually(lambda number=number: store.claim(record_id(number), claim()))  # type: ignore[misc]
            assert asked_again == Claimed(1, 1), "it may have been applied meanwhile; the token is the same"


async def test_what_was_never_written_was_not_applied(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_wire, "LEAST_RATE", 2**30)
    async with store_at(server.url, timeout_ms=1500) as store:
        large = bytes(32 * 2**20)
        await eventually(lambda: store.complete(record_id(0), completion(bytes(100_000))))
        server.pause()
        first = asyncio.ensure_future(store.complete(record_id(1), completion(large)))
        for _ in range(5):
            await asyncio.sleep(0)
        second = asyncio.ensure_future(store.complete(record_id(2), completion(bytes(100_000))))
        failed = await asyncio.gather(first, second, return_exceptions=True)
        server.resume()
    assert [type(error) for error in failed] == [StoreAmbiguous, StoreUnavailable]


async def test_closing(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        await fill(store, 1)
        server.pause()
        asking = asyncio.ensure_future(store.get(record_id(0)))
        for _ in range(5):
            await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreAmbiguous):
            await asking
        server.resume()
        with pytest.raises(StoreUnavailable, match="was closed"):
            await store.get(record_id(0))
        await store.close()


async def test_closing_while_it_connects(server: RedisServer) -> None:
    async with store_at(f"redis://:word@127.0.0.1:{server.port}") as store:
        server.pause()
        asking = asyncio.ensure_future(store.get(record_id(0)))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(StoreUnavailable, match="was closed"):
            await asking


async def test_a_caller_that_is_cancelled_while_it_connects(store: RedisStore) -> None:
    first = asyncio.ensure_future(store.get(record_id(0)))
    second = asyncio.ensure_future(store.get(record_id(0)))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == Missing()
    with pytest.raises(asyncio.CancelledError):
        await first


def test_on_the_other_event_loop(shared: RedisServer) -> None:
    async def run() -> None:
        shared.client().flushall()
        async with store_at(shared.url) as store:
            await fill(store, 20)
            facts = await asyncio.gather(*(store.get(record_id(number)) for number in range(20)))
            assert [body_of(fact) for fact in facts] == [b"%d" % number for number in range(20)]
            body = bytes(4 * 2**20)
            await store.claim(record_id(99), claim())
            await store.complete(record_id(99), completion(body))
            assert body_of(await store.get(record_id(99))) == body

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


# ------------------------------------------------------------------------------------------- servers that answer something else


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """A server that answers `reply` to whatever it reads; with nothing to answer it closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while reply and await reader.read(2**16):
            writer.write(reply)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"redis://127.0.0.1:{port}"


IN_A_SCRIPT = "ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: "


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("BUSY Redis is busy running a script.", Refused, "busy"),
        ("LOADING Redis is loading the dataset in memory", Refused, "loading"),
        ("READONLY You can't write against a read only replica.", Refused, "read-only"),
        ("MOVED 3999 127.0.0.1:6381", Refused, "cluster"),
        ("ASK 3999 127.0.0.1:6381", Refused, "cluster"),
        ("CLUSTERDOWN The cluster is down", Refused, "cluster"),
        ("MASTERDOWN Link with MASTER is down", Refused, "master"),
        ("OOM command not allowed when used memory > 'maxmemory'.", Refused, "maxmemory"),
        ("NOAUTH Authentication required.", Refused, "password"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", Refused, "ACL"),
        ("MISCONF Redis is configured to save RDB snapshots", Refused, "disk"),
        ("NOREPLICAS Not enough good replicas to write.", Refused, "replicas"),
        ("NOSCRIPT No matching script.", Refused, "forgets"),
        ("ERR max number of clients reached", StoreUnavailable, "maxclients"),
        ("ERR unknown command 'EVALSHA', with args beginning with: 'secret'", StoreUnavailable, "EVALSHA"),
        (IN_A_SCRIPT + "-OOM command not allowed when used memory > 'maxmemory'.", Refused, "maxmemory"),
        (IN_A_SCRIPT + "-READONLY You can't write against a read only replica.", Refused, "read-only"),
        (IN_A_SCRIPT + "PARTIAL -NOPERM secret", StoreAmbiguous, "in part"),
        ("ERR secret", StoreAmbiguous, "may have been applied"),
        ("WRONGTYPE Operation against a key", StoreError, "another program"),
    ],
)
async def test_errors_of_the_server(said: str, kind: type[StoreError], told: str) -> None:
    async with answering(b"-" + said.encode() + b"\r\n") as url, store_at(url) as store:
        with pytest.raises(StoreError, match=told) as raised:
            await store.claim(record_id(0), claim())
    assert type(raised.value) is kind
    assert "secret" not in str(raised.value)
    assert "redis at 127.0.0.1" in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the Redis protocol"),
        (b"+PONG\r\n+PONG\r\n", "gave an answer that is no fact"),
        (b":1\r\n", "gave an answer that is no fact"),
        (b"*2\r\n:99\r\n:1\r\n", "gave an answer that is no fact"),
    ],
)
async def test_something_that_is_no_redis(reply: bytes, told: str) -> None:
    async with answering(reply) as url, store_at(url) as store:
        with pytest.raises(StoreAmbiguous, match=told):
            await store.claim(record_id(0), claim())


async def test_a_server_that_hangs_up() -> None:
    async with answering(b"") as url, store_at(url) as store:
        with pytest.raises(StoreError, match=r"closed the connection|broke"):
            await store.claim(record_id(0), claim())
