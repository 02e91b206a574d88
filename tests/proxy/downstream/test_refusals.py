"""Expectations, and what is refused: bad heads, and requests that come too slowly."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from idemproxy.proxy.incoming import BodyTooLarge, ClientGone, Incoming
from tests.proxy.downstream.serving import PATIENT, Start, echo, ok

GET = b"GET /a%2Fb?c HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nSum: 7\r\n\r\n"
)


# --------------------------------------------------------------------------------------------------------- expectations

EXPECTING = POST[:-9].replace(b"Host", b"Expect: 100-continue\r\nHost") + b"\r\n\r\n"


async def test_an_accepted_expectation(start: Start) -> None:
    expecting: list[bool] = []

    async def serve(incoming: Incoming) -> None:
        expecting.append(incoming.expecting)
        incoming.accept()
        incoming.accept()
        expecting.append(incoming.expecting)
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    assert (await wire.head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"abcde" + GET)
    reply = await wire.answer()
    assert (reply.body, reply.interim, reply.values(b"connection")) == (b"POST /p abcde", (), [])
    reply = await wire.answer()
    assert (reply.body, reply.interim) == (b"GET /a%2Fb?c ", ())
    assert expecting == [True, False, False, False]


async def test_a_refused_expectation_gets_no_100_and_a_clean_end(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        with pytest.raises(BodyTooLarge):
            await incoming.body(1)
        await incoming.answer(ok(b"no"))
        incoming.accept()

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    reply = await wire.answer()
    assert (reply.body, reply.interim, reply.values(b"connection")) == (b"no", (), [b"close"])
    assert await wire.until_eof() == b""


async def test_no_100_when_the_body_came_unbidden(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        assert not incoming.expecting
        incoming.accept()
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING + b"ab")
    await wire.send(b"cde")
    reply = await wire.answer()
    assert (reply.body, reply.interim) == (b"POST /p abcde", ())


async def test_no_100_to_who_did_not_ask(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.accept()
        incoming.interim(b"100 Continue\r\n")
        await echo(incoming)

    served = await start(serve)
    for request_ in (POST[:-5], EXPECTING.replace(b"1.1", b"1.0")):
        wire = await served.connect()
        await wire.send(request_)
        await served.took(len(request_))
        await wire.send(b"abcde")
        reply = await wire.answer()
        assert (reply.body, reply.interim) == (b"POST /p abcde", ())


async def test_the_upstream_s_own_100_answers_the_expectation(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.interim(b"100 Go on\r\nX: 1\r\n")
        assert not incoming.expecting
        incoming.accept()
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    assert (await wire.head()).raw == b"HTTP/1.1 100 Go on\r\nX: 1\r\n\r\n"
    await wire.send(b"abcde")
    assert (await wire.answer()).interim == ()


# ------------------------------------------------------------------------------------------------------------- refusals

BAD = [
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    (b"GET /" + b"a" * 80_000, 414),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 80_000, 431),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize(
    ("request_", "status"), BAD, ids=[f"{status}-{number}" for number, (_, status) in enumerate(BAD)]
)
async def test_bad_heads_are_refused_and_the_connection_ends(start: Start, request_: bytes, status: int) -> None:
    async def serve(incoming: Incoming) -> None:
        raise AssertionError("served")

    wire = await (await start(serve)).connect()
    await wire.send(request_)
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (status, [b"close"])
    assert reply.body, "the detail is told"
    assert await wire.until_eof() == b""


async def test_a_head_whose_end_comes_past_the_limit_is_refused(start: Start) -> None:
    served = await start()
    wire = await served.connect()
    await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 60_000)
    await served.took(60_000)
    await wire.send(b"a" * 6_000 + b"\r\n\r\n")
    assert (await wire.answer()).status == 431


async def test_a_bare_line_feed_is_found_wherever_the_head_is_split(start: Start) -> None:
    served = await start()
    request_ = b"GET / HTTP/1.1\r\nHost: h\nX"
    for at in range(len(request_) - 4, len(request_)):
        wire = await served.connect()
        await wire.send(request_[:at])
        await served.took(at)
        await wire.send(request_[at:])
        assert (await wire.answer()).status == 400
    wire = await served.connect()
    await wire.send_by_byte(GET)
    assert (await wire.answer()).status == 200, "the line ends themselves are none"


async def test_a_bad_head_in_a_pipeline_is_refused_in_its_turn(start: Start) -> None:
    wire = await (await start(echo)).connect()
    await wire.send(GET + b"BAD\r\n\r\n" + GET)
    assert (await wire.answer()).body == b"GET /a%2Fb?c "
    assert (await wire.answer()).status == 400
    assert await wire.until_eof() == b""


async def test_a_refusal_reaches_a_client_that_is_still_sending(start: Start) -> None:
    wire = await (await start()).connect()
    await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5_000_000)
    assert (await wire.answer()).status == 431
    assert await wire.until_eof() == b""


async def test_a_head_that_is_too_slow_gets_a_408(start: Start) -> None:
    wire = await (await start(limits=replace(PATIENT, head_timeout=0.05))).connect()
    await wire.send(GET)
    assert (await wire.answer()).status == 200, "waiting for a request takes no time off its head"
    await wire.send(GET[:-1])
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (408, [b"close"])
    assert await wire.until_eof() == b""


async def test_a_body_that_is_too_slow_gets_a_408(start: Start) -> None:
    gone = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        incoming.on_gone(gone.set)
        with pytest.raises(ClientGone):
            await incoming.body(100)

    wire = await (await start(serve, replace(PATIENT, body_idle=0.05))).connect()
    await wire.send(POST[:-1])
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (408, [b"close"])
    assert await wire.until_eof() == b""
    assert gone.is_set()


async def test_a_body_that_nobody_waits_for_is_not_too_slow(start: Start) -> None:
    waited, came = asyncio.Event(), asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(incoming.piece(), 0.01)
        await asyncio.sleep(0.2)
        waited.set()
        await came.wait()
        await echo(incoming)

    served = await start(serve, replace(PATIENT, body_idle=0.1))
    wire = await served.connect()
    await wire.send(POST[:-5])
    await waited.wait()
    await wire.send(POST[-5:])
    await served.took(len(POST))
    came.set()
    assert (await wire.answer()).body == b"POST /p abcde"
