"""A rule that only observes changes no byte of what goes to the upstream or to the client, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from idemproxy.errors import StoreUnavailable
from tests.proxy.observing.watching import OBSERVE, memory, watching
from tests.proxy.product import post
from tests.proxy.scripted import Accepted, Script, Scripted
from tests.proxy.wire import Wire
from tests.stores.memory import MemoryStore, no_fault

STRICT = (
    OBSERVE
    + """
    key: {required: true, max_length: 20}
    max_request_body: 1MiB
    max_response_body: 1KiB
    in_flight: reject
"""
)
ELSEWHERE = "\n  - match: {path: /elsewhere}\n"
LARGE = bytes(range(256)) * 40_960
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Case: Kept\r\n\r\nok"
CLOSE = "Connection: close\r\n"
ASK_UPGRADE = (
    b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
CHUNKED = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n%b\r\n"


@dataclass(frozen=True)
class Case:
    """What the client does on its connection, and what each connection of the upstream does."""

    client: Callable[[Wire], Awaitable[None]]
    script: Script


def sends(*pieces: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Sends these, each for itself."""

    async def client(wire: Wire) -> None:
        for piece in pieces:
            await wire.send(piece)
            await asyncio.sleep(0.01)

    return client


def answers(*pieces: bytes, close: bool = False, behind: bytes = b"") -> Script:
    """Reads a whole request (`behind`: up to its last bytes), then sends these, each for itself."""

    async def script(accepted: Accepted) -> None:
        await (accepted.until(behind) if behind else accepted.request())
        for piece in pieces:
            await accepted.send(piece)
            await asyncio.sleep(0.01)
        if close:
            accepted.close()

    return script


async def early(accepted: Accepted) -> None:
    await accepted.head()
    await accepted.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")


async def continues(accepted: Accepted) -> None:
    await accepted.head()
    await accepted.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await accepted.read(8)
    await accepted.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)


async def expects(wire: Wire) -> None:
    await wire.send(post("k", b"amount=5", more=f"Expect: 100-continue\r\n{CLOSE}")[:-8])
    await wire.until(b"100 Continue\r\n\r\n")
    await wire.send(b"amount=5")


async def echoes(accepted: Accepted) -> None:
    await accepted.head()
    await accepted.send(SWITCH)
    await accepted.send(await accepted.read(4) + b"bye")
    accepted.close()


async def switches(wire: Wire) -> None:
    await wire.send(ASK_UPGRADE)
    await wire.until(b"\r\n\r\n")
    await wire.send(b"ping")


async def twice(wire: Wire) -> None:
    for more in ("", CLOSE):
        await wire.send(post("k", more=more))
        if not more:
            await wire.answer(b"POST")


async def answers_twice(accepted: Accepted) -> None:
    for _ in range(2):
        await accepted.request()
        await accepted.send(OK)


CASES = {
    "a key": Case(sends(post("k", more=CLOSE)), answers(OK)),
    "no key": Case(sends(post(None, more=CLOSE)), answers(OK)),
    "a bad key": Case(sends(post("k" * 21, more=CLOSE)), answers(OK)),
    "an absurd key": Case(sends(post('a", "b', more=CLOSE)), answers(OK)),
    "a field that an option drops": Case(
        sends(post("k", more="Connection: close, Content-Type\r\nContent-Type: a/b\r\n")), answers(OK)
    ),
    "the same again": Case(twice, answers_twice),
    "chunks with trailers": Case(
        sends(CHUNKED % CLOSE.encode(), b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"),
        answers(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nab\r\n",
            b"0\r\nX-Trailer: 1\r\n\r\n",
            behind=b"X-Sum: 1\r\n\r\n",
        ),
    ),
    "malformed chunks": Case(sends(CHUNKED % b"", b"3\r\nabc\r\n", b"zz\r\n"), answers(OK)),
    "until the close": Case(sends(post("k", more=CLOSE)), answers(b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b", close=True)),
    "HEAD": Case(
        sends(post("k", b"", method="HEAD", more=CLOSE)), answers(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    ),
    "an expectation and interim answers": Case(expects, continues),
    "another protocol": Case(switches, echoes),
    "an early answer": Case(sends(post("k", b"x" * 300_000, more=CLOSE)[:100_000]), early),
    "10 MiB each way": Case(
        sends(post("k", LARGE, more=CLOSE)),
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE), LARGE),
    ),
    "10 MiB without a length": Case(
        sends(CHUNKED % CLOSE.encode(), b"%x\r\n%b\r\n" % (len(LARGE), LARGE), b"0\r\n\r\n"), answers(OK)
    ),
    "no answer": Case(sends(post("k", more=CLOSE)), answers(close=True)),
    "a cut answer": Case(
        sends(post("k", more=CLOSE)), answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"cut", close=True)
    ),
    "a garbled answer": Case(sends(post("k", more=CLOSE)), answers(b"what?\r\n\r\n", close=True)),
    "a server's error": Case(sends(post("k", more=CLOSE)), answers(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")),
}


async def fails(command: str) -> None:
    raise StoreUnavailable(f"{command} is refused")


async def hangs(command: str) -> None:
    await asyncio.Event().wait()


STORES = {"a store": no_fault, "a broken store": fails, "a store that hangs": hangs}


async def exchanged(case: Case, rules: str, store: MemoryStore) -> tuple[bytes, bytes]:
    """What came to the client, and to the upstream."""
    async with (
        Scripted(case.script) as upstream,
        watching(store, port=upstream.port, rules=rules) as watched,
        await watched.product.connect() as wire,
    ):
        await case.client(wire)
        came = await wire.until_gone()
        return joined(came), b"|".join(joined(bytes(each.raw)) for each in upstream.connections)


def joined(raw: bytes) -> bytes:
    """A message whose chunks are one, since where they end is the kernel's choice: a piece goes on as it was received."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return raw
    pieces = []
    while (line := rest.partition(b"\r\n"))[0] not in (b"", b"0"):
        size = int(line[0], 16)
        pieces.append(line[2][:size])
        rest = line[2][size + 2 :]
    return b"%b|%b|%b" % (head, b"".join(pieces), rest)


@pytest.mark.parametrize("name", CASES)
async def test_every_byte_is_as_without_a_rule(name: str) -> None:
    case = CASES[name]
    came, sent = await exchanged(case, ELSEWHERE, memory())
    assert came
    assert sent
    for rules in (OBSERVE, STRICT):
        for how, fault in STORES.items():
            store = memory()
            store.before = fault
            assert await exchanged(case, rules, store) == (came, sent), how


async def test_an_upstream_that_is_not_there_is_told_as_without_a_rule() -> None:
    async with Scripted() as upstream:
        port = upstream.port
    found = []
    for rules in (ELSEWHERE, OBSERVE):
        async with (
            watching(memory(), port=port, rules=rules) as watched,
            await watched.product.connect() as wire,
        ):
            await wire.send(post("k", more=CLOSE))
            found.append(await wire.until_gone())
    assert found[0] == found[1]
    assert b"502" in found[0]
