"""An exchange with the upstream, event by event: what comes between two turns of the event loop is not lost, and a place among the
connections is given back once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from idemproxy.http1.heads import AnswerHead
from idemproxy.proxy.outcome import Lost, NotSent, Origin, Outgoing, Patience, Reuse, SentNoAnswer, Unsent
from idemproxy.proxy.pool import Limits
from idemproxy.proxy.upstream import Answering, Upstream
from idemproxy.proxy.upstream_socket import UpstreamSocket
from tests.proxy.upstream.asking import Body, taken
from tests.proxy.wire import eventually

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


class Transport(asyncio.Transport):
    """Takes everything, and has the upstream answer as soon as the first bytes are written. `unsent` is what the kernel did not take."""

    def __init__(self, connection: UpstreamSocket, answer: bytes, unsent: int = 0) -> None:
        super().__init__()
        self.closed = False
        self._connection = connection
        self._answer = answer
        self._unsent = unsent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._answer:
            asyncio.get_running_loop().call_soon(self._connection.data_received, self._answer)
            self._answer = b""

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Fake(Upstream):
    """An upstream without a network."""

    def __init__(self, answer: bytes, *, unsent: int = 0, limits: Limits | None = None) -> None:
        super().__init__(Origin("api.test", 80, None, None, None), limits or Limits())
        self.answer = answer
        self._unsent = unsent

    async def _connect(self) -> UpstreamSocket:
        connection = self.connection = UpstreamSocket()
        self.transport = Transport(connection, self.answer, self._unsent)
        connection.connection_made(self.transport)
        return connection


def outgoing(body: Body, *, idle: float = 25, method: bytes = b"POST") -> Outgoing:
    return Outgoing(
        head=b"%b / HTTP/1.1\r\nHost: api.test\r\n\r\n" % method,
        method=method,
        body=taken(body),
        patience=Patience(25, 25, idle),
        guard=None,
        reuse=Reuse.FRESH,
        interim=lambda _: None,
    )


async def test_an_answer_that_comes_at_once_is_seen_while_a_body_is_sent() -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"{}"

    async with asyncio.timeout(20):
        answering = await Fake(ANSWER).exchange(outgoing(body()))
        assert isinstance(answering, Answering)
        assert await answering.piece() == b"{}"


async def test_an_answer_that_comes_before_the_body_is_sent_whole_is_seen() -> None:
    never = asyncio.Event()

    async def body() -> AsyncGenerator[bytes, None]:
        await never.wait()
        yield b"{}"

    upstream = Fake(ANSWER)
    async with asyncio.timeout(20):
        answering = await upstream.exchange(outgoing(body()))
    assert isinstance(answering, Answering)
    assert answering.early
    assert await answering.piece() == b"{}"
    assert upstream.transport.closed, "the rest of that body would be read as a request"


async def test_an_answer_that_comes_in_the_turn_in_which_its_time_runs_out_is_taken() -> None:
    upstream = Fake(b"")
    async with asyncio.timeout(20):
        asking = asyncio.ensure_future(upstream.exchange(outgoing(None)))
        await eventually(lambda: hasattr(upstream, "transport") and upstream.connection._waiter is not None)
        upstream.connection._ring()
        upstream.connection.data_received(ANSWER)
        answering = await asking
    assert isinstance(answering, Answering)
    assert await answering.piece() == b"{}"


async def test_an_exchange_that_is_cancelled_once_it_gave_its_connection_back_does_not_break_the_next_one() -> None:
    upstream = Fake(b"HTTP/1.1 204 No Content\r\n\r\n", limits=Limits(connections=1))
    async with asyncio.timeout(20):
        first = asyncio.ensure_future(upstream.exchange(outgoing(b"a" * 40_000)))
        given_back = upstream.over

        def over(connection: UpstreamSocket, head: AnswerHead, *, early: bool) -> None:
            given_back(connection, head, early=early)
            connection.holder = "the next exchange"
            asyncio.get_running_loop().call_soon(first.cancel)

        upstream.over = over  # type: ignore[method-assign] # the moment that matters
        await asyncio.gather(first, return_exceptions=True)
    assert not upstream.transport.closed


async def test_an_upstream_that_reads_no_further_is_given_up() -> None:
    upstream = Fake(b"", unsent=1_000)
    async with asyncio.timeout(20):
        outcome = await upstream.exchange(outgoing(b"{}", idle=0.05))
    assert isinstance(outcome, SentNoAnswer)
    assert outcome.reason is Lost.TIMEOUT
    assert upstream.transport.closed


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
)
async def test_point_17_a_place_is_given_back_once(method: bytes, answer: bytes) -> None:
    upstream = Fake(answer, limits=Limits(connections=1, queue=0))
    async with asyncio.timeout(20):
        for _ in range(3):
            answering = await upstream.exchange(outgoing(None, method=method))
            assert isinstance(answering, Answering)
            while await answering.piece() is not None:
                pass
            answering.close()
        upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        held = await upstream.exchange(outgoing(None))
        assert isinstance(held, Answering)
        refused = await upstream.exchange(outgoing(None))
        assert isinstance(refused, NotSent)
        assert refused.reason is Unsent.BUSY
        held.close()
        assert isinstance(await upstream.exchange(outgoing(None)), Answering)
