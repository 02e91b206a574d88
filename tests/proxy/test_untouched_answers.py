"""Points 11 to 21 of the forwarding contract: what the client sees of an answer, and what becomes of connections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.proxy.product import CREATED, Api, Exchange, Product, serving, sqlite
from tests.proxy.wire import Ended

GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"


@pytest.mark.parametrize(
    "status_line",
    [b"200 OK", b"200 ", b"200", b"299 Quite Fine", b"599 So it is", b"404 caf\xe9 ferm\xe9", b"200 OK  two  spaces"],
)
async def test_point_11_status_line_and_fields_raw(product: Product, status_line: bytes) -> None:
    fields = (
        b"Date: yesterday\r\nserver: Mine/1\r\nSet-Cookie: a=1\r\nX-A: 1\r\nSET-COOKIE: b=2\r\nx-latin: \xe9\r\nX-Empty: \r\n"
        b"Content-Length: 2\r\n"
    )
    answer = b"HTTP/1.1 " + status_line + b"\r\n" + fields + b"\r\nok"
    product.api.respond = lambda exchange: exchange.send(answer)
    async with await product.connect() as wire:
        await wire.send(GET)
        assert await wire.read(len(answer)) == answer


async def test_point_11_hop_by_hop_fields_are_removed(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive, X-Mine\r\nX-Mine: x\r\nKeep-Alive: timeout=9\r\nUpgrade: h2c\r\n"
        b"Content-Length: 2\r\nB: 2\r\n\r\nok"
    )
    async with await product.connect() as wire:
        await wire.send(GET)
        assert await wire.until(b"ok") == b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\nB: 2\r\n\r\nok"


async def test_point_12_interim_answers(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n"
        + CREATED
    )
    async with await product.connect() as wire:
        await wire.send(GET)
        reply = await wire.answer()
    assert [head.raw for head in reply.interim] == [
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n",
    ]
    assert reply.status == 201


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
    ],
)
async def test_point_13_bodiless(product: Product, method: bytes, answer: bytes) -> None:
    product.api.respond = lambda exchange: exchange.send(answer)
    async with await product.connect() as wire:
        for _ in range(2):
            await wire.send(GET.replace(b"GET", method))
            assert await wire.read(len(answer)) == answer
    assert product.api.connections == 1


async def test_point_14_chunked_stays_chunked_with_its_trailers(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    reply = await product.ask(GET)
    assert reply.values(b"transfer-encoding") == [b"chunked"]
    assert reply.values(b"trailer") == [b"X-Sum"]
    assert (reply.body, reply.trailers) == (b"abc", b"X-Sum: 1\r\n")


async def test_point_14_close_delimited_becomes_chunked_and_close_for_1_0(product: Product) -> None:
    async def close(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it")
        exchange.close()

    product.api.respond = close
    new = await product.ask(GET)
    assert (new.body, new.values(b"transfer-encoding")) == (b"all of it", [b"chunked"])
    old = await product.ask(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (old.body, old.values(b"transfer-encoding")) == (b"all of it", [])


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_point_14_a_body_cut_short_is_never_passed_off_as_whole(product: Product, cut: bytes, how: str) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send(cut)
        await asyncio.sleep(0.05)
        if how == "reset":
            exchange.reset()
        else:
            exchange.close()

    product.api.respond = break_off
    async with await product.connect() as wire:
        await wire.send(GET)
        with pytest.raises((Ended, ConnectionResetError)):
            await wire.answer()


async def test_point_14_a_cut_close_delimited_body_is_seen_cut_when_reset(product: Product) -> None:
    async def reset(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        await asyncio.sleep(0.05)
        exchange.reset()

    product.api.respond = reset
    async with await product.connect() as wire:
        await wire.send(GET)
        with pytest.raises((Ended, ConnectionResetError)):
            await wire.answer()


async def test_point_15_each_piece_goes_on_as_it_comes(product: Product) -> None:
    steps = [asyncio.Event() for _ in range(5)]

    async def events(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, step in enumerate(steps):
            await step.wait()
            await exchange.send(b"8\r\ndata: %d\n\r\n" % number)
        await exchange.send(b"0\r\n\r\n")

    product.api.respond = events
    async with await product.connect() as wire:
        await wire.send(GET)
        await wire.head()
        for number, step in enumerate(steps):
            step.set()
            await wire.until(b"data: %d\n" % number)


async def test_point_15_a_slow_client_holds_back_its_upstream_and_nobody_else(product: Product) -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        if b"/flood" not in exchange.raw:
            await exchange.send(CREATED)
            return
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        for _ in range(2000):
            await exchange.send(bytes(100_000))
            sent += 100_000

    product.api.respond = flood
    async with await product.connect() as slow:
        await slow.send(GET.replace(b"/x", b"/flood"))
        await slow.head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 100_000_000, "everything was taken although the client reads nothing"
        assert (await product.ask(GET)).status == 201


@pytest.mark.parametrize(
    "junk",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"hello, world\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
)
async def test_point_16_malformed_answers_are_502(product: Product, junk: bytes) -> None:
    product.api.respond = lambda exchange: exchange.send(junk)
    reply = await product.ask(GET)
    assert reply.status == 502
    assert b"upstream-failed" in reply.body
    assert b"hello" not in reply.body
    product.api.respond = lambda exchange: exchange.send(CREATED)
    assert (await product.ask(GET)).status == 201
    assert product.api.connections == 2, "the connection of a malformed answer must not be used again"


async def test_point_16_bare_lf_and_obs_fold_are_repaired(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\nX-A: one\n two\nContent-Length: 2\n\nok")
    reply = await product.ask(GET)
    assert (reply.status, reply.body) == (200, b"ok")
    assert reply.values(b"x-a") == [b"one two"]


async def test_point_16_bytes_behind_an_answer_never_answer_the_next_request(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(CREATED + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    async with await product.connect() as wire:
        for _ in range(3):
            await wire.send(GET)
            reply = await wire.answer()
            assert b"evil" not in reply.body
    assert product.api.connections == 3


async def test_point_17_connections_are_kept_and_reused(product: Product) -> None:
    for _ in range(5):
        await product.ask(GET)
    assert product.api.connections == 1


async def test_point_17_a_connection_that_the_upstream_announces_to_close_is_not_kept(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    for _ in range(3):
        reply = await product.ask(GET)
        assert not reply.values(b"connection"), "the upstream's connection is not the client's"
    assert product.api.connections == 3


async def test_point_18_a_close_before_the_first_byte_counts_as_never_sent(product: Product) -> None:
    """An upstream that closes after each answer, without a word: not one request fails, not one is sent twice."""

    async def close_after(exchange: Exchange) -> None:
        await exchange.send(CREATED)
        exchange.close()

    product.api.respond = close_after
    for number in range(20):
        request = b"POST /p%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % number
        before = len(product.api.requests)
        assert (await product.ask(request)).status == 201
        assert len(product.api.requests) == before + 1
        await asyncio.sleep(0.005)


async def test_point_18_an_idempotent_request_is_sent_once_more_and_others_are_not(tmp_path: Path) -> None:
    """The first connection dies on the second request that it carries."""

    async def dies(exchange: Exchange) -> None:
        if len(exchange.carried) == 2:
            exchange.reset()
        else:
            await exchange.send(CREATED)

    for method, body, status, count in ((b"GET", b"", 201, 3), (b"POST", b"x", 502, 2), (b"PUT", b"x", 502, 2)):
        api = Api()
        await api.start()
        api.respond = dies
        async with serving(sqlite(tmp_path), api=api) as product:
            request = b"%b /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (method, len(body), body)
            if not body:
                request = GET
            assert (await product.ask(request)).status == 201
            assert (await product.ask(request)).status == status
        assert len(api.requests) == count
        await api.stop()


async def test_point_18_fresh_connection(tmp_path: Path) -> None:
    rules = "\n  - name: charges\n    match: {methods: [POST], path: /v1/charges}\n    fresh_connection: true\n"
    async with serving(sqlite(tmp_path), rules=rules) as product:
        for key in (b"a", b"b", b"c"):
            request = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: %b\r\nContent-Length: 0\r\n\r\n" % key
            assert (await product.ask(request)).status == 201
        assert product.api.connections == 3


async def test_point_20_a_client_that_leaves_takes_its_exchange_along(product: Product) -> None:
    ended = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        try:
            await exchange.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            while True:
                await exchange.send(b"8\r\ndata: 1\n\r\n")
                await asyncio.sleep(0.01)
        except ConnectionError:
            ended.set()

    product.api.respond = endless
    async with await product.connect() as wire:
        await wire.send(GET)
        await wire.until(b"data: 1")
        wire.reset()
    async with asyncio.timeout(25):
        await ended.wait()


async def test_point_20_a_client_that_only_half_closes_gets_its_answer(product: Product) -> None:
    go = asyncio.Event()

    async def later(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    product.api.respond = later
    async with await product.connect() as wire:
        await wire.send(GET)
        wire.half_close()
        await product.api.got(1)
        go.set()
        assert (await wire.answer()).status == 201
        assert await wire.until_eof() == b""


@pytest.mark.parametrize(
    ("timeouts", "behave", "expected"),
    [("response: 150ms", b"", 504), ("idle: 150ms", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None)],
)
async def test_point_21_timeouts(tmp_path: Path, timeouts: str, behave: bytes, expected: int | None) -> None:
    async with serving(sqlite(tmp_path), more=f"upstream_timeouts: {{{timeouts}}}\n") as product:

        async def stall(exchange: Exchange) -> None:
            await exchange.send(behave)
            await asyncio.sleep(25)

        product.api.respond = stall
        async with await product.connect() as wire:
            await wire.send(GET)
            if expected is None:
                with pytest.raises((Ended, ConnectionResetError)):
                    await wire.answer()
            else:
                reply = await wire.answer()
                assert reply.status == expected
                assert b"upstream-timeout" in reply.body


async def test_point_21_zero_turns_a_timeout_off(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), more="upstream_timeouts: {connect: 0, response: 0, idle: 0}\n") as product:
        assert (await product.ask(GET)).status == 201


async def test_point_22_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    from idemproxy.config import load_text
    from idemproxy.observe.cells import own_cells
    from idemproxy.observe.metrics import Metrics
    from idemproxy.runtime import Service
    from idemproxy.stores.opening import open_store
    from tests.proxy.wire import Wire

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CREATED)
        await writer.drain()
        writer.close()

    api = await asyncio.start_unix_server(serve, tmp_path / "api.sock")
    text = f"listen: unix:{tmp_path}/proxy.sock\nupstream: unix:{tmp_path}/api.sock\nstore: {sqlite(tmp_path)}\nroutes: []\n"
    settings = load_text(text, "test.yaml", {})
    store = await open_store(settings.store, namespace=settings.namespace, timeout_ms=settings.store_timeout)
    service = Service(settings, store, Metrics(own_cells()))
    try:
        await service.start()
        async with await Wire.connect_unix(f"{tmp_path}/proxy.sock") as wire:
            await wire.send(GET)
            assert (await wire.answer()).status == 201
    finally:
        await service.close()
        await store.close()
        api.close()
        await api.wait_closed()


async def test_an_unreachable_upstream_is_502(product: Product) -> None:
    await product.api.stop()
    reply = await product.ask(GET)
    assert reply.status == 502
    assert b"upstream-unreachable" in reply.body
