"""Which connections are used again (FORWARDING.md, points 16 to 18)."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.proxy.outcome import NotSent, Reuse, Unsent
from idemproxy.proxy.pool import Limits
from tests.proxy.scripted import Accepted, answering
from tests.proxy.upstream.asking import HEAD, OK, Reach, Whole, get, gone, read
from tests.proxy.wire import eventually

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [OK, CHUNKED, NO_CONTENT, EMPTY, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"],
    ids=["length", "chunked", "204", "empty", "old"],
)
async def test_a_connection_whose_answer_was_read_whole_is_used_again(reach: Reach, answer: bytes) -> None:
    hop = await reach(answering(*[answer] * 4))
    for _ in range(4):
        await hop.ask()
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD * 4]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        OK + b"x",
        CHUNKED + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake",
        NO_CONTENT + b"x",
    ],
    ids=["close", "old", "204", "leftover", "answer-nobody-asked-for", "204-leftover"],
)
async def test_a_connection_that_may_not_be_used_again_is_ended(reach: Reach, answer: bytes) -> None:
    hop = await reach(answering(answer), answering(OK))
    await hop.ask()
    assert await gone(hop) == HEAD
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 2


async def test_the_connection_is_back_before_the_last_piece_is_given(reach: Reach) -> None:
    hop = await reach(answering(OK, OK))
    got = await hop.answer(get())
    assert await got.piece() == b"ok"
    assert await hop.ask() == Whole(200, b"ok")
    assert await got.piece() is None
    assert len(hop.server.connections) == 1


async def test_an_answer_that_is_being_read_keeps_its_connection(reach: Reach) -> None:
    go = asyncio.Event()

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(OK[:-1])
        await go.wait()
        await accepted.send(OK[-1:])

    hop = await reach(script)
    first = await hop.answer(get())
    second = await hop.answer(get())
    assert len(hop.server.connections) == 2
    go.set()
    assert [await read(first), await read(second)] == [Whole(200, b"ok")] * 2
    assert hop.idle == 2


async def test_the_one_used_last_is_used_first(reach: Reach) -> None:
    hop = await reach(answering(OK, OK, OK))
    both = [await hop.answer(get()) for _ in range(2)]
    for answer in both:
        await read(answer)
    for _ in range(2):
        await hop.ask()
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD, HEAD * 3]


async def test_a_close_that_only_the_kernel_knows_of_is_never_sent(reach: Reach) -> None:
    """The server's FIN is there, and the loop had no turn to see it: not a byte goes out on that connection."""
    hop = await reach(answering(OK))
    await hop.ask()
    hop.server.connections[0].close()
    assert await hop.ask() == Whole(200, b"ok")
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD, HEAD]


async def test_a_reset_that_only_the_kernel_knows_of_is_never_sent(reach: Reach) -> None:
    hop = await reach(answering(OK))
    await hop.ask()
    hop.server.connections[0].reset()
    assert await hop.ask() == Whole(200, b"ok")
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD, HEAD]


async def test_bytes_that_nobody_asked_for_are_nobodys_answer(reach: Reach) -> None:
    hop = await reach(answering(OK), answering(OK))
    await hop.ask()
    hop.server.connections[0].push(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake")
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 2


@pytest.mark.parametrize("end", [Accepted.close, Accepted.reset, Accepted.half_close, lambda it: it.push(b"x")])
async def test_an_idle_connection_that_its_server_is_done_with_is_closed_at_once(reach: Reach, end: object) -> None:
    """Not only once somebody wants it: a quiet proxy would hold dead sockets for ever."""
    assert callable(end)
    hop = await reach(answering(OK))
    await hop.ask()
    kept = hop.upstream._pool._idle[-1].connection
    end(hop.server.connections[0])
    await eventually(kept.transport.is_closing, "the end of the idle connection")
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 2


async def test_every_idle_connection_dead_and_still_an_answer(reach: Reach) -> None:
    hop = await reach(answering(OK))
    for answer in [await hop.answer(get()) for _ in range(5)]:
        await read(answer)
    assert hop.idle == 5
    for accepted in hop.server.connections:
        accepted.close()
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 6


@pytest.mark.parametrize(
    ("field", "after", "connections"),
    [
        (b"", 59.0, 1),
        (b"", 61.0, 2),
        (b"Keep-Alive: timeout=5, max=100\r\n", 3.0, 1),
        (b"Keep-Alive: timeout=5, max=100\r\n", 4.5, 2),
        (b"Keep-Alive: Timeout = 5\r\n", 4.5, 2),
        (b"Keep-Alive: timeout=1\r\n", 0.0, 2),
        (b"Keep-Alive: timeout=600\r\n", 61.0, 2),
        (b"Keep-Alive: timeout=soon\r\n", 59.0, 1),
    ],
)
async def test_an_idle_connection_past_its_time_is_not_used(
    reach: Reach, field: bytes, after: float, connections: int
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + field + b"Content-Length: 0\r\n\r\n"
    hop = await reach(answering(answer, answer))
    await hop.ask()
    hop.clock[0] += after
    await hop.ask()
    assert len(hop.server.connections) == connections


async def test_an_idle_connection_past_its_time_is_closed_though_nobody_asks(reach: Reach) -> None:
    hop = await reach(answering(OK), limits=Limits(idle=0.05))
    await hop.ask()
    hop.clock[0] += 1
    assert await gone(hop) == HEAD
    assert hop.idle == 0


async def test_fresh_takes_no_connection_that_was_used_and_leaves_one_that_may_be(reach: Reach) -> None:
    hop = await reach(answering(OK, OK))
    await hop.ask()
    await hop.ask(get(reuse=Reuse.FRESH))
    assert len(hop.server.connections) == 2
    await hop.ask()
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD, HEAD * 2]


async def test_a_large_answer_leaves_a_connection_that_is_read_from(reach: Reach) -> None:
    """Its reading was paused for backpressure. Idle, it must see its server close."""

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))

    hop = await reach(script)
    assert len((await hop.ask()).body) == 3_000_000
    kept = hop.upstream._pool._idle[-1].connection
    hop.server.connections[0].close()
    await eventually(kept.transport.is_closing, "the end of the idle connection")


@pytest.mark.parametrize("answer", [OK, NO_CONTENT, EMPTY], ids=["body", "204", "empty"])
async def test_the_limit_holds_whatever_was_answered_before(reach: Reach, answer: bytes) -> None:
    hop = await reach(answering(*[answer] * 5), limits=Limits(connections=2, queue=0))
    for _ in range(4):
        await hop.ask()
    assert hop.upstream._pool.used == 0
    held = [asyncio.ensure_future(hop.upstream.exchange(get(head=b"GET /hold HTTP/1.1\r\n"))) for _ in range(2)]
    await eventually(lambda: hop.upstream._pool.used == 2)
    refused = await hop.exchange(get())
    assert isinstance(refused, NotSent)
    assert refused.reason is Unsent.BUSY
    for each in held:
        each.cancel()
    await asyncio.wait(held)


async def test_a_queue_is_served_one_at_a_time(reach: Reach) -> None:
    """A bodiless answer frees one place, not two."""
    hop = await reach(answering(*[NO_CONTENT] * 9), limits=Limits(connections=1, queue=8))
    await asyncio.gather(*[hop.ask() for _ in range(9)])
    assert len(hop.server.connections) == 1


async def test_nothing_is_kept_once_the_upstream_is_closed(reach: Reach) -> None:
    hop = await reach(answering(OK))
    got = await hop.answer(get())
    hop.upstream.close()
    assert await read(got) == Whole(200, b"ok")
    await gone(hop)
    assert hop.idle == 0
