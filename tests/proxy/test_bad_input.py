"""Upstreams and clients that behave as badly as they can: each costs little, and gets an answer or a clean close."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.proxy.product import CREATED, Api, Exchange, Product, post, serving, sqlite
from tests.proxy.wire import eventually

GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"

Behave = Callable[[Exchange], Awaitable[None]]


async def endless(exchange: Exchange, begin: bytes, more: bytes) -> None:
    """Send for ever, until nobody takes it any more."""
    with contextlib.suppress(ConnectionError):
        await exchange.send(begin)
        while True:
            await exchange.send(more)
            await asyncio.sleep(0)


async def nothing(exchange: Exchange) -> None:
    exchange.close()


async def half_a_head(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.close()


async def a_header_without_end(exchange: Exchange) -> None:
    await endless(exchange, b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000)


async def header_fields_without_end(exchange: Exchange) -> None:
    await endless(exchange, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000)


async def interim_answers_without_end(exchange: Exchange) -> None:
    await endless(exchange, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10)


async def garbage(exchange: Exchange) -> None:
    await endless(exchange, b"", bytes(range(256)) * 100)


@pytest.mark.parametrize(
    "behave",
    [nothing, half_a_head, a_header_without_end, header_fields_without_end, interim_answers_without_end, garbage],
    ids=lambda behave: behave.__name__,
)
@pytest.mark.parametrize("request_", [GET, post()], ids=["unmatched", "on a rule's route"])
async def test_an_upstream_without_an_answer(tmp_path: Path, behave: Behave, request_: bytes) -> None:
    async with serving(sqlite(tmp_path), more="upstream_timeouts: {response: 1s}\n") as product:
        product.api.respond = behave
        reply = await product.ask(request_)
        assert reply.status in (502, 504)
        assert reply.values(b"content-type") == [b"application/problem+json"]
        product.api.respond = lambda exchange: exchange.send(CREATED)
        assert (await product.ask(GET)).status == 201
        if request_ is not GET:
            assert (await product.ask(request_)).status == 409, "sent, and never answered"


async def test_a_body_without_end_ends_with_its_client(product: Product) -> None:
    ended = asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        await endless(exchange, b"HTTP/1.1 200 OK\r\n\r\n", bytes(10_000))
        ended.set()

    product.api.respond = flood
    async with await product.connect() as wire:
        await wire.send(GET)
        await wire.head()
        await wire.read(1_000_000)
        wire.reset()
    async with asyncio.timeout(25):
        await ended.wait()
    await eventually(lambda: product.service._plan.upstream._pool.used == 0)


async def test_an_answer_before_the_request_is_nobodys(tmp_path: Path) -> None:
    """It comes with the connection: whoever's request follows, it is not the answer to that."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CREATED)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    api = Api()
    api.port = server.sockets[0].getsockname()[1]
    async with serving(sqlite(tmp_path), api=api) as product:
        await product.ask(GET)
        assert not product.service._plan.upstream._pool._idle, (
            "what came too early or too late must not wait for the next request"
        )
    server.close()
    await server.wait_closed()


async def test_a_thousand_pipelined_requests(product: Product) -> None:
    async def echo(exchange: Exchange) -> None:
        path = exchange.raw.split(b" ")[1]
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    product.api.respond = echo
    async with await product.connect() as wire:
        sending = asyncio.ensure_future(
            wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(1_000)))
        )
        for number in range(1_000):
            assert (await wire.answer()).body == b"/%d" % number
        await sending


PHASES = {
    "in the head": post()[:40],
    "in the body": post(body=b"0123456789")[:-5],
    "while the upstream works": post(),
    "in the answer": post("k2"),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_in_the_middle(product: Product, phase: str, how: str) -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if phase == "in the answer":
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(1_000_000))
            await go.wait()
            await exchange.send(bytes(1_000_000))
        else:
            await go.wait()
            await exchange.send(CREATED)

    product.api.respond = slow
    async with await product.connect() as wire:
        await wire.send(PHASES[phase])
        if phase == "while the upstream works":
            await product.api.got(1)
        if phase == "in the answer":
            await wire.read(10_000)
        if how == "reset":
            wire.reset()
    go.set()
    await eventually(lambda: not product.service._port.connections.open)
    await eventually(lambda: product.service._plan.upstream._pool.used == 0)
    product.api.respond = lambda exchange: exchange.send(CREATED)
    assert (await product.ask(GET)).status == 201
    if phase in ("while the upstream works", "in the answer"):
        replayed = await product.ask(PHASES[phase])
        assert replayed.values(b"idempotent-replayed") == [b"true"], "the execution went on without its client"


async def test_http_behind_a_refused_upgrade_is_another_request(product: Product) -> None:
    request = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET
    async with await product.connect() as wire:
        await wire.send(request)
        assert (await wire.answer()).status == 201
        assert (await wire.answer()).status == 201
    assert [exchange.raw.split(b" ")[1] for exchange in product.api.requests] == [b"/chat", b"/x"]
