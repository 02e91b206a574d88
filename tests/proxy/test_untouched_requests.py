"""Points 1 to 10 of the forwarding contract: what the upstream sees of a request that no rule names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.proxy.product import CREATED, Exchange, Product
from tests.proxy.wire import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def replaced(product: Product, serve: Serve) -> asyncio.Server:
    """An upstream in the place of the product's, that reads and writes as it likes."""
    await product.api.stop()
    return await asyncio.start_server(serve, "127.0.0.1", product.api.port)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: bytes, more: bytes = b"", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: api.test\r\n%b\r\n" % (method, target, more)


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb",
        b"/%2e%2e/x",
        b"//double//slash",
        b"/a;b=c;d",
        b"/?",
        b"/a?",
        b"/a?b?c=%20&d=+",
        b"/sp%20ace",
        b"/caf%C3%A9",
        b"/raw\xc3\xa9",
        b"/~user/./../x",
        b"/" + b"a" * 8_000,
        b'/a|b^c{d}`"<>\\',
    ],
)
async def test_point_1_target_raw(product: Product, target: bytes) -> None:
    assert (await product.ask(get(target))).status == 201
    assert product.api.requests[0].raw == get(target)


async def test_point_1_absolute_form_becomes_origin_form_with_the_targets_host(product: Product) -> None:
    await product.ask(b"GET http://other.test:81/p?q HTTP/1.1\r\nHost: api.test\r\nX: 1\r\n\r\n")
    assert product.api.requests[0].raw == b"GET /p?q HTTP/1.1\r\nHost: other.test:81\r\nX: 1\r\n\r\n"


async def test_point_1_absolute_form_without_a_path(product: Product) -> None:
    await product.ask(b"GET http://other.test?q HTTP/1.1\r\nHost: api.test\r\n\r\n")
    assert product.api.requests[0].raw.startswith(b"GET /?q HTTP/1.1\r\nHost: other.test\r\n")


async def test_point_1_asterisk_form(product: Product) -> None:
    await product.ask(get(b"*", method=b"OPTIONS"))
    assert product.api.requests[0].raw == get(b"*", method=b"OPTIONS")


async def test_point_1_connect_is_refused(product: Product) -> None:
    async with await product.connect() as wire:
        await wire.send(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        assert (await wire.answer()).status == 501
        await wire.until_gone()
    assert not product.api.requests


@pytest.mark.parametrize("method", [b"PROPFIND", b"QUERY", b"BREW", b"get", b"M-SEARCH", b"A!#$%&'*+-.^_`|~9"])
async def test_point_2_method_raw(product: Product, method: bytes) -> None:
    await product.ask(get(b"/x", method=method))
    assert product.api.requests[0].raw == get(b"/x", method=method)


async def test_point_3_names_values_order_and_repeats_raw(product: Product) -> None:
    more = (
        b"X-b: 2\r\nx-B: 3\r\nAccept: a\r\nX-Latin: caf\xe9 \xff\r\nX-Empty: \r\nCookie: a=1; b=2\r\nAccept: b\r\n"
        b"x-tab: a\tb\r\nUser-Agent: one\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n!#$%&'*+-.^_`|~09: odd\r\n"
    )
    await product.ask(get(b"/", more))
    assert product.api.requests[0].raw == get(b"/", more)


async def test_point_4_hop_by_hop_fields_are_removed(product: Product) -> None:
    more = (
        b"A: 1\r\nConnection: keep-alive, X-Mine\r\nX-Mine: x\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        b"TE: gzip\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\nProxy-Authenticate: Basic\r\nB: 2\r\n"
    )
    await product.ask(get(b"/", more))
    assert product.api.requests[0].raw == get(b"/", b"A: 1\r\nB: 2\r\n")


async def test_point_4_te_trailers_goes_on(product: Product) -> None:
    await product.ask(get(b"/", b"TE: trailers\r\nConnection: TE\r\n"))
    assert b"TE: trailers\r\n" in product.api.requests[0].raw


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Idempotency-Key", b"AUTHORIZATION"])
async def test_point_4_connection_must_not_make_an_end_to_end_field_vanish(product: Product, name: bytes) -> None:
    async with await product.connect() as wire:
        await wire.send(get(b"/", b"Connection: close, " + name + b"\r\n"))
        assert (await wire.answer()).status == 400
    assert not product.api.requests


async def test_point_5_nothing_is_added_and_host_is_kept(product: Product) -> None:
    request = b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nhOsT: What.Ever:99\r\n\r\n"
    await product.ask(request)
    assert product.api.requests[0].raw == request


@pytest.mark.parametrize(
    "framed",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
)
async def test_point_6_bodies_of_both_framings(product: Product, framed: bytes) -> None:
    request = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Encoding: x-any\r\n" + framed
    assert (await product.ask(request)).status == 201
    assert product.api.requests[0].body == b"hello"
    assert b"Content-Encoding: x-any\r\n" in product.api.requests[0].raw


async def test_point_6_a_body_is_streamed_as_it_comes(product: Product) -> None:
    """The upstream has the first piece before the client sends the second."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.append(await reader.readexactly(3))
        came.append(await reader.readexactly(3))
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await replaced(product, serve)
    async with await product.connect() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await eventually(lambda: came == [b"abc"])
        await wire.send(b"def")
        assert (await wire.answer(b"POST")).body == b"ok"
    server.close()
    await server.wait_closed()


async def test_point_6_trailers_pass_but_for_those_that_must_not(product: Product) -> None:
    request = (
        b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;ext=1\r\nabc\r\n0\r\n"
        b"X-Sum: 9\r\nContent-Length: 5\r\nAuthorization: x\r\nHost: b\r\nIdempotency-Key: k\r\nTransfer-Encoding: x\r\n\r\n"
    )
    async with await product.connect() as wire:
        await wire.send(request + get(b"/next"))
        await wire.answer(b"POST")
        await wire.answer()
    first, second = product.api.requests
    assert first.raw.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n")
    assert second.raw == get(b"/next")


async def test_point_7_expect_is_passed_on_and_the_upstreams_100_comes_back(product: Product) -> None:
    head = b"POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 100 Go On\r\n\r\n")
        seen.append(await reader.readexactly(3))
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await replaced(product, serve)
    async with await product.connect() as wire:
        await wire.send(head)
        assert (await wire.head()).status == 100
        await wire.send(b"abc")
        assert (await wire.answer(b"POST")).body == b"ok"
    assert seen == [head, b"abc"]
    server.close()
    await server.wait_closed()


async def test_point_8_an_early_answer_reaches_the_client_at_once(product: Product) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop")
        await writer.drain()
        await reader.read(1)
        writer.close()

    server = await replaced(product, serve)
    async with await product.connect() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + bytes(100_000))
        reply = await wire.answer(b"POST")
        assert (reply.status, reply.body) == (413, b"stop")
    server.close()
    await server.wait_closed()


async def test_point_9_pipelined_requests_are_answered_in_order(product: Product) -> None:
    async def echo(exchange: Exchange) -> None:
        path = exchange.raw.split(b" ")[1]
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    product.api.respond = echo
    async with await product.connect() as wire:
        await wire.send(b"".join(get(b"/%d" % number) for number in range(20)))
        assert [(await wire.answer()).body for _ in range(20)] == [b"/%d" % number for number in range(20)]


async def test_point_9_http_1_0(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    async with await product.connect() as wire:
        await wire.send(b"GET / HTTP/1.0\r\n\r\n")
        reply = await wire.answer()
        assert reply.body == b"ok"
        assert not reply.values(b"transfer-encoding")
        assert await wire.until_gone() == b""
    assert product.api.requests[0].raw.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
    product.api.respond = lambda exchange: exchange.send(CREATED)
    async with await product.connect() as wire:
        for _ in range(2):
            await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            reply = await wire.answer()
            assert reply.values(b"connection") == [b"keep-alive"]


AMBIGUOUS = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("request_", AMBIGUOUS)
async def test_point_10_ambiguity_is_refused(product: Product, request_: bytes) -> None:
    async with await product.connect() as wire:
        await wire.send(request_ + get(b"/smuggled"))
        reply = await wire.answer()
        assert reply.status == 400
        assert reply.values(b"connection") == [b"close"]
        assert b"HTTP/1.1" not in await wire.until_gone()
    assert not product.api.requests


async def test_point_10_heads_and_targets_have_limits(product: Product) -> None:
    for request, status in (
        (get(b"/", b"X: " + b"a" * 70_000 + b"\r\n"), 431),
        (get(b"/" + b"a" * 17_000), 414),
    ):
        async with await product.connect() as wire:
            await wire.send(request)
            assert (await wire.answer()).status == status
    assert not product.api.requests
