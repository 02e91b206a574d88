"""Whatever an upstream answers, nobody gets an answer to another's request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.proxy.product import Api, Exchange, Product, serving, sqlite
from tests.proxy.wire import Ended, Wire
from tests.smuggling.odd_answers import BEHIND, CUT, FRAMED, ODD, POISON, Odd

HOST = b"Host: api.test\r\n"
RULE = """
  - match: {methods: [], path: "/safe/**"}
"""


def is_odd(target: bytes) -> bool:
    return target.startswith((b"/odd/", b"/safe/"))


class OddApi(Api):
    """Answers a request for /odd/N or /safe/N oddly, and any other with its target."""

    def __init__(self) -> None:
        super().__init__()
        self.respond = self._respond
        self.odd: Exchange | None = None

    async def _respond(self, exchange: Exchange) -> None:
        target = exchange.raw.split(b" ")[1]
        if is_odd(target):
            odd = ODD[int(target.rpartition(b"/")[2])]
            self.odd = exchange
            await exchange.send(odd.answer)
            if odd.ends and not odd.late:
                exchange.close()
        else:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async def say_late(self, odd: Odd) -> None:
        """What comes behind an answer that was read already."""
        assert self.odd is not None
        await self.odd.send(odd.late)
        await self.odd.delivered()
        if odd.ends:
            self.odd.close()


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    api = OddApi()
    await api.start()
    try:
        async with serving(sqlite(tmp_path), rules=RULE, api=api) as running:
            yield running
    finally:
        await api.stop()


def asking(odd: Odd, path: bytes, key: bytes = b"") -> bytes:
    return b"%b %b/%d HTTP/1.1\r\n%b%b%b\r\n" % (odd.method, path, ODD.index(odd), HOST, odd.more, key)


async def gets(wire: Wire, odd: Odd) -> None:
    """Its client gets what the table says. One that is cut short never looks whole."""
    if odd.status is None:
        with pytest.raises((Ended, ConnectionError)):
            await wire.answer(odd.method)
        return
    reply = await wire.answer(odd.method)
    assert reply.status == odd.status
    if odd.status != 502:
        assert reply.body == odd.body


async def own(wire: Wire, target: bytes) -> None:
    """A request of this connection gets its own answer, and nothing comes behind it."""
    await wire.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST))
    assert (await wire.answer()).body == target
    wire.half_close()
    assert await wire.until_gone() == b""


Attempt = Callable[[Product, Odd], Awaitable[None]]


async def another_client(product: Product, odd: Odd) -> None:
    """Another client's request, and a later one of the same client."""
    assert isinstance(product.api, OddApi)
    async with await product.connect() as first, await product.connect() as second:
        await first.send(asking(odd, b"/odd"))
        await gets(first, odd)
        if odd.late:
            await product.api.say_late(odd)
        await own(second, b"/mine")
        if odd.status is not None:
            await own(first, b"/also-mine")


async def a_pipelined_request(product: Product, odd: Odd) -> None:
    """A request that the same client has sent already, so that nothing can come late."""
    if odd.late:
        return
    async with await product.connect() as wire:
        await wire.send(asking(odd, b"/odd") + b"GET /mine HTTP/1.1\r\n%b\r\n" % HOST)
        await gets(wire, odd)
        if odd.status is not None:
            assert (await wire.answer()).body == b"/mine"
            wire.half_close()
        assert b"POISON" not in await wire.until_gone()
    async with await product.connect() as another:
        await own(another, b"/another")


async def a_rules_request(product: Product, odd: Odd) -> None:
    """Another client's request, and a retry: on a rule's path an answer that cannot be read leaves the outcome unknown."""
    assert isinstance(product.api, OddApi)
    key = b"Idempotency-Key: k%d\r\n" % ODD.index(odd)
    async with await product.connect() as first, await product.connect() as second:
        await first.send(asking(odd, b"/safe", key))
        await gets(first, replace(odd, status=odd.status or 502))
        if odd.late:
            await product.api.say_late(odd)
        await own(second, b"/mine")
    async with await product.connect() as retry:
        await retry.send(asking(odd, b"/safe", key))
        again = await retry.answer(odd.method)
    if odd.status in (None, 502):
        assert again.status == 409
    else:
        assert (again.status, again.body) == (odd.status, odd.body)
    assert [exchange.raw.split(b" ")[1] for exchange in product.api.requests].count(b"/safe/%d" % ODD.index(odd)) == 1


@pytest.mark.parametrize("attempt", [another_client, a_pipelined_request, a_rules_request])
@pytest.mark.parametrize("odd", [BEHIND, FRAMED, CUT], ids=["behind", "framed", "cut"])
async def test_everybody_gets_their_own_answer(product: Product, odd: tuple[Odd, ...], attempt: Attempt) -> None:
    faults = []
    for each in odd:
        try:
            await attempt(product, each)
        except Exception as error:
            faults.append(f"{each.name}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)
    for exchange in product.api.requests:
        before = [raw.split(b" ")[1] for raw in exchange.carried[:-1]]
        assert not any(map(is_odd, before)), f"a connection was used again behind {before}"


async def test_what_comes_behind_a_switch_stays_in_its_tunnel(product: Product) -> None:
    async def switch(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + POISON)

    usual, product.api.respond = product.api.respond, switch
    async with await product.connect() as first, await product.connect() as second:
        await first.send(b"GET /x HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: x\r\n\r\n" % HOST)
        assert (await first.answer()).status == 101
        product.api.respond = usual
        await own(second, b"/mine")
        assert await first.read(len(POISON)) == POISON


def test_the_corpus_is_whole() -> None:
    assert len({odd.name for odd in ODD}) == len(ODD) >= 20


async def test_many_at_once_each_get_their_own(product: Product) -> None:
    async def ask(number: int) -> None:
        async with await product.connect() as wire:
            await own(wire, b"/mine/%d" % number)

    async def provoke(odd: Odd) -> None:
        async with await product.connect() as wire:
            await wire.send(asking(odd, b"/odd"))
            await gets(wire, odd)

    await asyncio.gather(*(task for number, odd in enumerate(ODD) for task in (provoke(odd), ask(number))))
