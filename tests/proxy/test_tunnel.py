"""Point 19: a switch of protocols, then bytes both ways; with raw sockets, and with a WebSocket library on both ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.proxy.product import RULE, Api, Exchange, Product, post, serving, sqlite
from tests.proxy.wire import Wire, eventually

ASK = b"GET /chat HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\nX-Key: a\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\nX-Accept: b\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


@contextlib.asynccontextmanager
async def behind(folder: Path, serve_: Serve, more: str = "", rules: str = RULE) -> AsyncIterator[Product]:
    """The product before an upstream that reads one head and then does as it likes."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve_(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    api = Api()
    api.port = server.sockets[0].getsockname()[1]
    try:
        async with serving(sqlite(folder), api=api, more=more, rules=rules) as product:
            yield product
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
    """Switch, then send everything back, and half-close when the client did."""
    writer.write(SWITCH)
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")
    writer.write_eof()
    await writer.drain()


async def test_bytes_both_ways_and_half_close(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        heads.append(head)
        await echo(reader, writer, head)

    async with behind(tmp_path, noted) as product, await product.connect() as wire:
        await wire.send(ASK)
        head = await wire.head()
        assert head.status == 101
        assert head.reason == b"Switching"
        assert head.values(b"upgrade") == [b"echo/1"]
        assert [value.lower() for value in head.values(b"connection")] == [b"upgrade"]
        assert head.values(b"x-accept") == [b"b"]
        for piece in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000)):
            await wire.send(piece)
            assert await wire.read(len(piece)) == piece
        wire.half_close()
        assert await wire.until_eof() == b"bye"
    assert heads[0].startswith(b"GET /chat HTTP/1.1\r\nHost: api.test\r\n")
    assert b"Upgrade: echo/1\r\n" in heads[0]
    assert b"Connection: Upgrade\r\n" in heads[0]
    assert b"X-Key: a\r\n" in heads[0]


async def test_bytes_that_came_with_the_heads_are_not_lost(tmp_path: Path) -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(SWITCH + b"hello from the upstream")
        writer.write(await reader.readexactly(5))
        await writer.drain()

    async with behind(tmp_path, hasty) as product, await product.connect() as wire:
        await wire.send(ASK + b"early")
        await wire.head()
        assert await wire.until_eof() == b"hello from the upstreamearly"


async def test_a_client_that_half_closed_before_the_switch(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        await go.wait()
        await echo(reader, writer, head)

    async with behind(tmp_path, slow) as product, await product.connect() as wire:
        await wire.send(ASK + b"all there is")
        wire.half_close()
        await asyncio.sleep(0.05)
        go.set()
        assert (await wire.head()).status == 101
        assert await wire.until_eof() == b"all there isbye"


async def test_a_refused_switch_is_an_ordinary_answer(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path)) as product, await product.connect() as wire:
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno")
        await wire.send(ASK + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await wire.answer()).body == b"no"
        assert (await wire.answer()).body == b"no"
        assert product.api.requests[1].raw.startswith(b"GET /next ")


@pytest.mark.parametrize(
    ("offered", "goes_on"), [(b"h2c", None), (b"H2C", None), (b"websocket, h2c", b"Upgrade: websocket\r\n")]
)
async def test_h2c_is_not_passed_on(product: Product, offered: bytes, goes_on: bytes | None) -> None:
    more = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + offered + b"\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    await product.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n")
    raw = product.api.requests[0].raw
    assert b"h2c" not in raw.lower()
    assert b"HTTP2-Settings" not in raw
    assert (b"Upgrade" in raw) is (goes_on is not None)
    if goes_on is not None:
        assert goes_on in raw


@pytest.mark.parametrize("key", ["k", None])
async def test_a_rules_route_does_not_switch(tmp_path: Path, key: str | None) -> None:
    async with serving(sqlite(tmp_path)) as product:
        await product.ask(post(key, more="Connection: Upgrade\r\nUpgrade: echo/1\r\n"))
        assert b"Upgrade" not in product.api.requests[0].raw


async def test_a_request_with_a_body_does_not_switch(product: Product) -> None:
    await product.ask(ASK.replace(b"GET", b"POST").replace(b"X-Key: a\r\n", b"Content-Length: 2\r\n") + b"ab")
    assert b"Upgrade" not in product.api.requests[0].raw


async def test_a_101_that_nobody_asked_for_is_no_answer(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(SWITCH)
    assert (await product.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 502


async def test_a_slow_client_holds_the_upstream_back(tmp_path: Path) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        nonlocal sent
        writer.write(SWITCH)
        for _ in range(2_000):
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    async with behind(tmp_path, flood) as product, await product.connect() as wire:
        await wire.send(ASK)
        await wire.head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 100_000_000


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_on_one_side_ends_the_other(tmp_path: Path, who: str) -> None:
    ended = asyncio.Event()

    async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(SWITCH)
        await writer.drain()
        if who == "upstream":
            await reader.readexactly(1)
            Exchange(b"", b"", [], writer).reset()
            return
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with behind(tmp_path, until_gone) as product, await product.connect() as wire:
        await wire.send(ASK)
        await wire.head()
        if who == "client":
            wire.reset()
            async with asyncio.timeout(25):
                await ended.wait()
        else:
            await wire.send(b"x")
            await wire.until_gone()
        await eventually(lambda: product.service._plan.upstream._pool.used == 0)


async def test_a_silent_tunnel_ends_after_the_idle_time(tmp_path: Path) -> None:
    async with (
        behind(tmp_path, echo, more="upstream_timeouts: {idle: 200ms}\n") as product,
        await product.connect() as wire,
    ):
        await wire.send(ASK)
        await wire.head()
        await wire.until_gone()


async def answer_each(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.fixture
async def websocket(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a WebSocket echo server, through the product."""
    async with serve(answer_each, "127.0.0.1", 0, max_size=None) as server:
        api = Api()
        api.port = next(iter(server.sockets)).getsockname()[1]
        async with serving(sqlite(tmp_path), api=api) as product:
            yield f"ws://127.0.0.1:{product.port}/chat"


async def test_websocket_messages(websocket: str) -> None:
    async with connect(websocket, max_size=None, proxy=None) as client:
        for number in range(10_000):
            await client.send(f"message {number}")
            assert await client.recv() == f"message {number}"
        big = os.urandom(16 << 20)
        await client.send(big)
        assert await client.recv() == big
        await client.send([b"in ", b"several ", b"frames"])
        assert await client.recv() == b"in several frames"
        pong = await client.ping()
        async with asyncio.timeout(25):
            await pong
        await client.close(4001, "done here")
        assert client.close_code == 4001


async def test_websocket_close_codes_of_the_server(tmp_path: Path) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(4002, "not now")

    async with serve(close, "127.0.0.1", 0) as server:
        api = Api()
        api.port = next(iter(server.sockets)).getsockname()[1]
        async with (
            serving(sqlite(tmp_path), api=api) as product,
            connect(f"ws://127.0.0.1:{product.port}/", proxy=None) as client,
        ):
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4002, "not now")


async def test_wire_is_free_after_a_tunnel(websocket: str, tmp_path: Path) -> None:
    async with connect(websocket, proxy=None) as client:
        await client.send("x")
        await client.recv()
    port = int(websocket.split(":")[2].split("/")[0])
    async with await Wire.connect(port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await wire.answer()).status == 426
