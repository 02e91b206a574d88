"""What goes out, until when, and what is known of it (DESIGN.md section 4, *Send guard* and *Stop, then say*)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable

import pytest
from msgspec import structs

from idemproxy.errors import IdemproxyError
from idemproxy.proxy.outcome import Lost, Unsent
from tests.proxy.scripted import Accepted, answering
from tests.proxy.upstream.asking import HEAD, MIB, OK, Reach, Whole, get, gone, pieces_of, post, read

POST = b"POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n"
LARGE = 64 * MIB
"""More than the kernel takes for a server that does not read."""


def yes_times(count: int) -> Callable[[], bool]:
    """A guard that says yes so many times, then no."""
    answers = itertools.chain([True] * count, itertools.repeat(False))
    return lambda: next(answers)


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_request_arrives_as_it_was_given(reach: Reach, size: int, streamed: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    hop = await reach(answering(OK))
    given = pieces_of(*(body[at : at + 30_000] for at in range(0, size, 30_000))) if streamed else body
    assert await hop.ask(post(given, size)) == Whole(200, b"ok")
    assert hop.server.connections[0].raw == POST % size + body
    assert hop.idle == 1


async def test_two_exchanges_at_once_use_two_connections(reach: Reach) -> None:
    both = asyncio.Barrier(2)

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await both.wait()
        await accepted.send(OK)

    hop = await reach(script)
    first, second = await asyncio.gather(hop.ask(), hop.ask())
    assert first == second == Whole(200, b"ok")
    assert [accepted.raw for accepted in hop.server.connections] == [HEAD] * 2


async def test_a_guard_that_says_no_at_the_start(reach: Reach) -> None:
    hop = await reach()
    outcome = await hop.not_sent(get(guard=yes_times(0)))
    assert outcome.reason is Unsent.GUARD
    assert await gone(hop) == b""


async def test_a_guard_that_says_no_on_a_connection_that_was_used_before(reach: Reach) -> None:
    hop = await reach(answering(OK, OK))
    await hop.ask()
    assert (await hop.not_sent(get(guard=yes_times(0)))).reason is Unsent.GUARD
    assert hop.server.connections[0].raw == HEAD


async def test_the_guard_is_asked_once_for_a_small_request(reach: Reach) -> None:
    """Head and body leave in one write."""
    hop = await reach(answering(OK))
    assert await hop.ask(post(b"abc", 3, guard=yes_times(1))) == Whole(200, b"ok")


async def test_a_guard_that_says_no_between_two_pieces(reach: Reach) -> None:
    hop = await reach()
    outcome = await hop.lost(post(pieces_of(b"ab", b"cd", b"ef"), 6, guard=yes_times(2)))
    assert (outcome.reason, outcome.answer_began) == (Lost.GUARD, False)
    assert await gone(hop) == POST % 6 + b"ab"
    assert hop.idle == 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_guard_that_says_no_while_the_upstream_does_not_read(reach: Reach, streamed: bool) -> None:
    holds = True
    body = pieces_of(bytes(LARGE)) if streamed else bytes(LARGE)
    hop = await reach(receive_buffer=8192)
    asking = asyncio.ensure_future(hop.exchange(post(body, LARGE, guard=lambda: holds)))
    accepted = await hop.server.connection()
    await accepted.head()
    holds = False
    outcome = await asking
    assert getattr(outcome, "reason", None) is Lost.GUARD
    assert len(await gone(hop)) < LARGE


async def test_a_large_body_is_written_in_pieces_each_with_the_guards_leave(reach: Reach) -> None:
    """A process that was stopped and wakes must not find a whole body in its transport's buffer, to be sent unasked."""
    most = 0

    def guard() -> bool:
        nonlocal most
        most = max(most, *(connection.unsent for connection in hop.upstream.sockets))
        return True

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(OK)

    hop = await reach(script, receive_buffer=8192)
    assert await hop.ask(post(bytes(8 * MIB), 8 * MIB, guard=guard)) == Whole(200, b"ok")
    assert most <= 65_536 + 200


@pytest.mark.parametrize("error", [IdemproxyError("gone"), ConnectionResetError()])
async def test_a_body_that_breaks(reach: Reach, error: Exception) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"ab"
        raise error

    hop = await reach()
    outcome = await hop.lost(post(body(), 6))
    assert (outcome.reason, outcome.answer_began) == (Lost.CLOSED, False)
    assert await gone(hop) == POST % 6 + b"ab"


async def test_a_body_with_a_defect_is_no_outcome_and_its_connection_is_gone(reach: Reach) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"ab"
        raise ZeroDivisionError

    hop = await reach()
    with pytest.raises(ZeroDivisionError):
        await hop.exchange(post(body(), 6))
    assert await gone(hop) == POST % 6 + b"ab"


async def test_an_upstream_that_closes_while_the_request_goes_out(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.head()
        accepted.reset()

    hop = await reach(script)
    outcome = await hop.lost(post(bytes(LARGE), LARGE))
    assert outcome.reason in (Lost.RESET, Lost.CLOSED)
    assert hop.idle == 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_early_answer_is_given_at_once_and_the_upload_stops(reach: Reach, streamed: bool) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield bytes(MIB)

    async def script(accepted: Accepted) -> None:
        await accepted.head()
        await accepted.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo")
        await finish.wait()
        await accepted.send(b" large")

    finish = asyncio.Event()
    hop = await reach(script, receive_buffer=8192)
    got = await hop.answer(post(endless() if streamed else bytes(LARGE), LARGE))
    assert (got.head.status, got.early) == (413, True)
    finish.set()
    assert await read(got) == Whole(413, b"too large")
    assert hop.idle == 0
    assert len(await gone(hop)) < LARGE


@pytest.mark.parametrize("status", [b"401 Unauthorized\r\nContent-Length: 0", b"304 Not Modified"])
async def test_an_early_answer_without_a_body_ends_the_connection_too(reach: Reach, status: bytes) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.head()
        await accepted.send(b"HTTP/1.1 " + status + b"\r\n\r\n")

    hop = await reach(script, receive_buffer=8192)
    got = await hop.answer(post(bytes(LARGE), LARGE))
    assert got.early
    assert hop.idle == 0
    assert len(await gone(hop)) < LARGE


async def test_an_answer_before_the_last_bytes_left_is_early(reach: Reach) -> None:
    """The body was given whole, and a part of it waits for a server that does not read: the connection is not used again."""

    async def script(accepted: Accepted) -> None:
        await accepted.head()
        await given.wait()
        await accepted.send(OK)

    async def body() -> AsyncGenerator[bytes, None]:
        yield bytes(LARGE)
        given.set()

    given = asyncio.Event()
    hop = await reach(script, receive_buffer=8192)
    asking = asyncio.ensure_future(hop.answer(post(body(), LARGE)))
    got = await asking
    assert got.early
    assert await read(got) == Whole(200, b"ok")
    assert hop.idle == 0
    await gone(hop)


async def test_an_answer_whose_server_then_resets_is_not_lost(reach: Reach) -> None:
    """A server that closes with the request unread sends a RST behind its answer (FORWARDING.md, point 8)."""

    async def script(accepted: Accepted) -> None:
        await accepted.head()
        await accepted.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\ntoo")
        accepted.close()

    hop = await reach(script)
    for _ in range(20):
        assert await hop.ask(post(bytes(4 * MIB), 4 * MIB)) == Whole(413, b"too")


@pytest.mark.parametrize("ready", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["final", "behind-an-interim"])
async def test_an_answer_and_a_reset_that_only_the_kernel_knows_of(reach: Reach, ready: bytes) -> None:
    """The next piece's write would fail, and take the unread answer along."""

    async def body() -> AsyncGenerator[bytes, None]:
        yield b"ab"
        accepted = await hop.server.connection()
        await hop.server.got(len(POST % 4) + 2)
        accepted.push(ready + b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\ntoo")
        accepted.reset()
        yield b"cd"

    async def script(accepted: Accepted) -> None:
        await accepted.head()
        await accepted.read(2)

    hop = await reach(script)
    outgoing = structs.replace(post(body(), 4), interim=lambda _: None)
    assert await hop.ask(outgoing) == Whole(413, b"too")


async def test_a_slow_reader_holds_the_upstream_back(reach: Reach) -> None:
    size = 64 * MIB
    sent = 0

    async def script(accepted: Accepted) -> None:
        nonlocal sent
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await accepted.send(bytes(MIB))
            sent += MIB

    hop = await reach(script)
    got = await hop.answer(get())
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < size
    assert len(hop.upstream.sockets[0].received) < MIB
    assert len((await read(got)).body) == size


async def test_a_slow_body_sends_each_piece_as_it_comes(reach: Reach) -> None:
    go = asyncio.Event()

    async def body() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await go.wait()
        yield b"second"

    hop = await reach(answering(OK))
    asking = asyncio.ensure_future(hop.ask(post(body(), 11)))
    assert (await hop.server.got(len(POST % 11) + 5)).endswith(b"first")
    go.set()
    assert await asking == Whole(200, b"ok")
