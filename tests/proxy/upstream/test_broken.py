"""Exchanges that break after a byte was sent: what is said of them, and that the connection is gone when it is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from idemproxy.http1.heads import AnswerHead
from idemproxy.proxy.outcome import AnswerBroken, Lost, Patience
from idemproxy.proxy.upstream_socket import UpstreamSocket
from tests.proxy.scripted import Accepted, Script
from tests.proxy.upstream.asking import HEAD, MIB, OK, PATIENT, Reach, Whole, get, gone, post, read
from tests.proxy.wire import eventually

SOON = 0.05
"""Seconds that a timeout under test takes; nothing here has to be faster."""
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def breaking(*, reset: bool, after: bytes = b"") -> Script:
    """Reads a request, sends a part of an answer, and ends the connection."""

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        if after:
            await accepted.send_in(after)
        if reset:
            accepted.reset()
        else:
            accepted.close()

    return script


def ignored(head: AnswerHead) -> None:
    pass


@pytest.mark.parametrize(("reset", "reason"), [(True, Lost.RESET), (False, Lost.CLOSED)], ids=["reset", "closed"])
@pytest.mark.parametrize(
    ("after", "began"),
    [(b"", False), (b"HTTP/1.1 200 OK\r\nContent-", True), (EARLY_HINTS, True)],
    ids=["nothing", "half-a-head", "interim"],
)
async def test_no_answer(reach: Reach, reset: bool, reason: Lost, after: bytes, began: bool) -> None:
    hop = await reach(breaking(reset=reset, after=after))
    outcome = await hop.lost(get(interim=ignored))
    assert (outcome.reason, outcome.answer_began) == (reason, began)
    assert hop.idle == 0
    assert (await hop.server.connection()).raw == HEAD


@pytest.mark.parametrize(("reset", "reason"), [(True, Lost.RESET), (False, Lost.CLOSED)], ids=["reset", "closed"])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
    ids=["length", "chunks", "trailers"],
)
async def test_an_answer_cut_short_is_never_whole(reach: Reach, reset: bool, reason: Lost, answer: bytes) -> None:
    hop = await reach(breaking(reset=reset, after=answer))
    got = await hop.answer(get())
    with pytest.raises(AnswerBroken) as broken:
        await read(got)
    assert broken.value.reason is reason
    assert hop.idle == 0


async def test_a_reset_does_not_end_a_body_that_ends_with_a_close(reach: Reach) -> None:
    hop = await reach(breaking(reset=True, after=b"HTTP/1.1 200 OK\r\n\r\nabc"))
    got = await hop.answer(get())
    with pytest.raises(AnswerBroken) as broken:
        await read(got)
    assert broken.value.reason is Lost.RESET


async def test_an_answer_that_broke_stays_broken(reach: Reach) -> None:
    hop = await reach(breaking(reset=False, after=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))
    got = await hop.answer(get())
    assert await got.piece() == b"abc"
    for _ in range(2):
        with pytest.raises(AnswerBroken):
            await got.piece()


async def test_no_answer_in_time(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()

    hop = await reach(script)
    outcome = await hop.lost(get(patience=Patience(0, SOON, 0)))
    assert (outcome.reason, outcome.answer_began) == (Lost.TIMEOUT, False)
    assert await gone(hop) == HEAD


async def test_a_head_that_drips_in_does_not_put_off_the_time_for_it(reach: Reach) -> None:
    """Else an upstream could hold an exchange for ever."""

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        while True:
            await accepted.send_in(b"X")

    hop = await reach(script)
    outcome = await hop.lost(get(patience=Patience(0, 0.3, 0)))
    assert (outcome.reason, outcome.answer_began) == (Lost.TIMEOUT, True)
    await gone(hop)


async def test_an_interim_answer_does_not_end_the_time_for_the_answer(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(EARLY_HINTS)

    hop = await reach(script)
    outcome = await hop.lost(get(patience=Patience(0, SOON, 0), interim=ignored))
    assert (outcome.reason, outcome.answer_began) == (Lost.TIMEOUT, True)
    await gone(hop)


async def test_the_time_for_the_answer_counts_from_the_requests_end(reach: Reach) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"a"
        await asyncio.sleep(0.3)
        yield b"b"

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(OK)

    hop = await reach(script)
    assert await hop.ask(post(body(), 2, patience=Patience(0, 0.2, 0))) == Whole(200, b"ok")


async def test_an_answer_that_falls_silent(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    hop = await reach(script)
    got = await hop.answer(get(patience=Patience(0, 0, SOON)))
    assert await got.piece() == b"abc"
    with pytest.raises(AnswerBroken) as broken:
        await got.piece()
    assert broken.value.reason is Lost.TIMEOUT
    await gone(hop)


async def test_an_answer_that_goes_on_is_not_silent(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            await accepted.send_in(b"a")

    hop = await reach(script)
    assert await hop.ask(get(patience=Patience(0, 0, 5))) == Whole(200, b"a" * 20)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_upstream_that_stops_reading_the_request(reach: Reach, streamed: bool) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"a" * MIB

    size = 64 * MIB
    body = endless() if streamed else bytes(size)
    hop = await reach(receive_buffer=8192)
    outcome = await hop.lost(post(body, size, patience=Patience(0, 0, 0.2)))
    assert (outcome.reason, outcome.answer_began) == (Lost.TIMEOUT, False)
    assert len(await gone(hop)) < size


async def test_an_upstream_that_reads_slowly_is_waited_for(reach: Reach) -> None:
    """The idle time is between bytes, not for a piece: each wait here is short, the whole is not."""

    async def script(accepted: Accepted) -> None:
        while len(accepted.raw) < 4 * MIB:
            await accepted.receive()
            accepted.pending.clear()
            await asyncio.sleep(0.002)
        await accepted.send(OK)

    hop = await reach(script, receive_buffer=8192)
    assert await hop.ask(post(bytes(4 * MIB), 4 * MIB, patience=Patience(0, 0, 5))) == Whole(200, b"ok")


async def test_an_upstream_that_takes_a_little_now_and_then_is_not_silent(
    reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a piece shrinks at each look, for longer than the idle time."""
    left = list(range(1, 61))

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await eventually(lambda: not left)
        await accepted.send(OK)

    hop = await reach(script)
    monkeypatch.setattr(UpstreamSocket, "unsent", property(lambda _: left.pop() if left else 0))
    assert await hop.ask(post(b"abc", 3, patience=Patience(0, 0, 0.2))) == Whole(200, b"ok")


async def test_a_cancelled_exchange_drops_its_connection(reach: Reach) -> None:
    hop = await reach()
    asking = asyncio.ensure_future(hop.upstream.exchange(get()))
    accepted = await hop.server.connection()
    assert await accepted.request() == HEAD
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await gone(hop)
    assert hop.idle == 0


async def test_a_cancelled_upload_drops_its_connection_and_takes_no_more_of_its_body(reach: Reach) -> None:
    taken = 0

    async def body() -> AsyncGenerator[bytes, None]:
        nonlocal taken
        while True:
            taken += 1
            yield b"a" * MIB

    hop = await reach(receive_buffer=8192)
    asking = asyncio.ensure_future(hop.upstream.exchange(post(body(), 1 << 40)))
    accepted = await hop.server.connection()
    await accepted.head()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    before = taken
    await gone(hop)
    assert taken == before


async def test_a_cancelled_wait_for_a_piece_loses_nothing(reach: Reach) -> None:
    go = asyncio.Event()

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await go.wait()
        await accepted.send(b"def")

    hop = await reach(script)
    got = await hop.answer(get())
    assert await got.piece() == b"abc"
    for _ in range(3):
        waiting = asyncio.ensure_future(got.piece())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    go.set()
    assert await read(got) == Whole(200, b"def")


async def test_a_closed_answer_drops_its_connection(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")

    hop = await reach(script)
    got = await hop.answer(get(patience=PATIENT))
    got.close()
    got.close()
    await gone(hop)
    await eventually(lambda: hop.idle == 0)
