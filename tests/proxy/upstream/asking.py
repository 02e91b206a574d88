"""Requests to a scripted upstream, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import structs

from idemproxy.http1.heads import AnswerHead
from idemproxy.proxy.outcome import NotSent, Origin, Outgoing, Patience, Pieces, Reuse, SentNoAnswer, Upgrade
from idemproxy.proxy.pool import Limits
from idemproxy.proxy.tunnel import Switched
from idemproxy.proxy.upstream import Answering, Upstream
from idemproxy.proxy.upstream_socket import UpstreamSocket
from tests.proxy.scripted import Script, Scripted
from tests.proxy.wire import DEADLINE, eventually

HEAD = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MIB = 1 << 20
PATIENT = Patience(connect=0, response=0, idle=0)
"""Nothing runs out of time."""

Body = bytes | AsyncGenerator[bytes, None] | None
Outcome = NotSent | SentNoAnswer | Answering | Switched


def no_interim(head: AnswerHead) -> None:
    raise AssertionError(f"an interim answer: {head.status}")


def get(
    *,
    head: bytes = HEAD,
    patience: Patience = PATIENT,
    guard: Callable[[], bool] | None = None,
    reuse: Reuse = Reuse.POOLED,
    interim: Callable[[AnswerHead], None] = no_interim,
    upgrade: Upgrade = Upgrade.NEVER,
) -> Outgoing:
    """A request without a body."""
    return Outgoing(head, head.split(b" ", 1)[0], None, patience, guard, reuse, interim, upgrade)


def post(body: Body, size: int, *, patience: Patience = PATIENT, guard: Callable[[], bool] | None = None) -> Outgoing:
    """A request with a body of so many bytes."""
    head = b"POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n" % size
    return structs.replace(get(head=head, patience=patience, guard=guard), body=taken(body))


def taken(body: Body) -> bytes | Pieces | None:
    """A body as an exchange takes it."""
    if body is None or isinstance(body, bytes):
        return body

    async def piece() -> bytes | None:
        return await anext(body, None)

    return piece


async def pieces_of(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that was read to its end."""

    status: int
    body: bytes


class Watched(Upstream):
    """Remembers every connection it made."""

    def __init__(self, origin: Origin, limits: Limits, clock: Callable[[], float]) -> None:
        super().__init__(origin, limits, clock)
        self.sockets: list[UpstreamSocket] = []

    async def _connect(self) -> UpstreamSocket:
        connection = await super()._connect()
        self.sockets.append(connection)
        return connection


class Hop:
    """A server of scripts, and the Upstream that reaches it. `clock[0]` is the pool's time."""

    def __init__(self, server: Scripted, upstream: Watched, clock: list[float]) -> None:
        self.server = server
        self.upstream = upstream
        self.clock = clock

    async def exchange(self, outgoing: Outgoing) -> Outcome:
        async with asyncio.timeout(DEADLINE):
            return await self.upstream.exchange(outgoing)

    async def answer(self, outgoing: Outgoing) -> Answering:
        outcome = await self.exchange(outgoing)
        assert isinstance(outcome, Answering), outcome
        return outcome

    async def ask(self, outgoing: Outgoing | None = None) -> Whole:
        """A request, and its whole answer."""
        return await read(await self.answer(get() if outgoing is None else outgoing))

    async def lost(self, outgoing: Outgoing | None = None) -> SentNoAnswer:
        """A request that was sent and not answered; the connection it was sent on is gone."""
        outcome = await self.exchange(get() if outgoing is None else outgoing)
        assert isinstance(outcome, SentNoAnswer), outcome
        return outcome

    async def not_sent(self, outgoing: Outgoing | None = None) -> NotSent:
        outcome = await self.exchange(get() if outgoing is None else outgoing)
        assert isinstance(outcome, NotSent), outcome
        return outcome

    @property
    def idle(self) -> int:
        """Connections that are kept for a next exchange."""
        return len(self.upstream._pool._idle)

    async def end(self) -> None:
        """End everything. Raises AssertionError where an exchange left a task or its place in the pool behind."""
        self.upstream.close()
        failures = await self.server.stop()
        await eventually(lambda: len(asyncio.all_tasks()) == 1, "the end of every task")
        assert self.upstream._pool.used == 0, "places taken"
        if failures:
            raise failures[0]


class Reach(Protocol):
    async def __call__(
        self, *scripts: Script, limits: Limits | None = None, path: str | None = None, receive_buffer: int = 0
    ) -> Hop: ...


async def read(answering: Answering) -> Whole:
    """The rest of an answer."""
    pieces = []
    async with asyncio.timeout(DEADLINE):
        while (piece := await answering.piece()) is not None:
            pieces.append(piece)
    return Whole(answering.head.status, b"".join(pieces))


async def gone(hop: Hop, number: int = 1) -> bytes:
    """Wait until the server's side of a connection sees it ended. Gives all that was received on it."""
    accepted = await hop.server.connection(number)
    await accepted.until_over()
    return bytes(accepted.raw)
