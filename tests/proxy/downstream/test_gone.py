"""Clients that half-close wait for their answers; clients that reset are gone."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.http1.heads import Chunked
from idemproxy.proxy.incoming import ClientGone, Incoming
from tests.proxy.downstream.serving import Held, Start
from tests.proxy.wire import eventually

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
UPLOAD = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n"


# ---------------------------------------------------------------------------------------------------------- half-closes


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_client_that_half_closes_after_its_request_gets_its_answer(start: Start, request_: bytes) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(request_)
    wire.half_close()
    await held.serving.wait()
    await eventually(lambda: served.last._eof, "the end of the client's sending")
    assert held.gone == 0
    held.go.set()
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (200, [b"close"])
    assert await wire.until_eof() == b""
    assert (held.gone, held.outcome) == (0, ["answered"])
    await served.empty()


async def test_a_half_closed_pipeline_is_answered_to_its_end(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(GET + POST + GET)
    wire.half_close()
    await eventually(lambda: served.last._eof, "the end of the client's sending")
    held.go.set()
    assert [(await wire.answer()).body for _ in range(3)] == [b"GET / ", b"POST / abcde", b"GET / "]
    assert await wire.until_eof() == b""
    await served.empty()


@pytest.mark.parametrize("sent", [b"", GET[:-2], GET + GET[:5]], ids=["nothing", "half a head", "one and a half"])
async def test_a_half_close_without_a_whole_request_ends_the_connection(start: Start, sent: bytes) -> None:
    served = await start()
    wire = await served.connect()
    await wire.send(sent)
    wire.half_close()
    got = await wire.until_eof()
    assert got.count(b"HTTP/1.1") == sent.count(GET)
    await served.empty()


async def test_a_half_close_within_the_body_is_a_client_that_is_gone(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(POST[:-1])
    await held.serving.wait()
    wire.half_close()
    assert await wire.until_gone() == b"", "no answer to a request that never was whole"
    assert (held.gone, held.outcome) == (1, ["gone"])


async def test_a_half_close_within_a_later_body_of_a_pipeline(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(GET + POST[:-1])
    wire.half_close()
    await eventually(lambda: served.last._eof, "the end of the client's sending")
    held.go.set()
    assert (await wire.until_gone()).count(b"HTTP/1.1") <= 1
    await eventually(lambda: held.outcome == ["answered", "gone"], "the end of serving")
    assert held.gone == 1


async def test_an_early_answer_is_finished_for_a_client_that_stops_its_upload(start: Start) -> None:
    held = Held()

    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"413 No\r\n", Chunked())
        await incoming.write(b"too ")
        await held.go.wait()
        await incoming.write(b"large")
        await incoming.end()

    served = await start(serve)
    wire = await served.connect()
    await wire.send(UPLOAD + b"x" * 10_000)
    assert (await wire.head()).status == 413
    wire.half_close()
    await eventually(lambda: served.last._eof, "the end of the client's sending")
    held.go.set()
    assert await wire.until_eof() == b"4\r\ntoo \r\n5\r\nlarge\r\n0\r\n\r\n"
    await served.empty()


# --------------------------------------------------------------------------------------------------------- gone clients


@pytest.mark.parametrize("request_", [GET, POST, POST[:-1]])
async def test_a_client_that_resets_is_gone(start: Start, request_: bytes) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(request_)
    await held.serving.wait()
    wire.reset()
    await served.empty()
    await eventually(lambda: held.outcome == ["gone"], "the end of serving")
    assert held.gone == 1


async def test_a_client_that_is_gone_already_calls_back_at_once(start: Start) -> None:
    calls: list[str] = []
    serving = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        serving.set()
        await eventually(lambda: incoming.gone, "the client's going")
        incoming.on_gone(lambda: calls.append("late"))
        with pytest.raises(ClientGone):
            await incoming.begin(b"200 OK\r\n", Chunked())
        with pytest.raises(ClientGone):
            await incoming.write(b"x")
        with pytest.raises(ClientGone):
            await incoming.end()
        incoming.interim(b"103 Hints\r\n")
        incoming.abort()
        calls.append("end")

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET)
    await serving.wait()
    wire.reset()
    await eventually(lambda: calls == ["late", "end"], "the end of serving")


async def test_serving_may_be_cancelled_by_the_client_s_going(start: Start) -> None:
    served_to_end = asyncio.Event()
    serving = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        task = asyncio.current_task()
        assert task is not None
        incoming.on_gone(task.cancel)
        serving.set()
        try:
            await asyncio.Event().wait()
        finally:
            served_to_end.set()

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET)
    await serving.wait()
    wire.reset()
    await eventually(served_to_end.is_set, "the cancellation")


async def write_on(incoming: Incoming) -> None:
    while True:
        await incoming.write(b"x" * 65_536)


async def test_a_client_that_goes_while_an_answer_is_on_its_way(start: Start) -> None:
    ended = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"200 OK\r\n", Chunked())
        with pytest.raises(ClientGone):
            await write_on(incoming)
        ended.set()

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET)
    await wire.read(100_000)
    wire.close()
    await eventually(ended.is_set, "the end of serving")
    await served.empty()
