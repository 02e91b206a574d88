"""How connections end: lingering, aborts, defects."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from idemproxy.http1.heads import Chunked, Framing, Length, UntilClose
from idemproxy.proxy.incoming import Incoming
from tests.proxy.downstream.serving import PATIENT, Held, Start, hello
from tests.proxy.wire import Ended, eventually

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
UPLOAD = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n"


# ------------------------------------------------------------------------------------------------------------ lingering


@pytest.mark.parametrize("head", [UPLOAD, UPLOAD.replace(b"HTTP/1.1", b"HTTP/1.0")], ids=["1.1", "1.0"])
async def test_an_answer_reaches_a_client_that_is_still_sending(start: Start, head: bytes) -> None:
    """It sends 5 MB without reading, against a server that reads none of it."""
    served = await start(hello)
    wire = await served.connect()
    await wire.send(head + b"x" * 1_000)
    await served.took(len(head))
    await wire.send(b"x" * 4_999_000)
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"hello", [b"close"])
    assert await wire.until_eof() == b""
    wire.close()
    await served.empty()


async def test_an_answer_reaches_a_client_that_was_held_back_for_its_pipeline(start: Start) -> None:
    """What it sends behind its last request is more than is kept, and is dropped."""
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    sending = asyncio.create_task(wire.send(GET.replace(b"Host", b"Connection: close\r\nHost") + GET * 150_000))
    await eventually(lambda: not served.last.transport.is_reading(), "the client's holding back")
    held.go.set()
    await sending
    assert (await wire.answer()).body == b"GET / "
    assert await wire.until_eof() == b""


async def test_lingering_ends_for_a_client_that_says_no_more(start: Start) -> None:
    served = await start(hello, replace(PATIENT, linger=0.05))
    wire = await served.connect()
    await wire.send(UPLOAD)
    assert (await wire.answer()).body == b"hello"
    assert await wire.until_eof() == b""
    await served.empty()


async def test_lingering_ends_for_a_client_that_never_stops(start: Start) -> None:
    served = await start(hello, replace(PATIENT, linger_total=0.1))
    wire = await served.connect()
    await wire.send(UPLOAD)
    assert (await wire.answer()).body == b"hello"

    async def send_on() -> None:
        while True:
            await wire.send(b"x" * 1_000)
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await send_on()
    await served.empty()


# --------------------------------------------------------------------------------------------------- aborts and defects


@pytest.mark.parametrize(
    ("framing", "version"), [(Length(10), b"1.1"), (Chunked(), b"1.1"), (UntilClose(), b"1.0"), (UntilClose(), b"1.1")]
)
async def test_an_answer_that_is_cut_short_is_never_passed_off_as_whole(
    start: Start, framing: Framing, version: bytes
) -> None:
    go = asyncio.Event()
    told: list[str] = []

    async def serve(incoming: Incoming) -> None:
        head = b"200 OK\r\nContent-Length: 10\r\n" if isinstance(framing, Length) else b"200 OK\r\n"
        await incoming.begin(head, framing)
        incoming.on_gone(lambda: told.append("gone"))
        await incoming.write(b"part")
        await go.wait()
        incoming.abort()
        assert incoming.gone
        assert not incoming.answered

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET.replace(b"1.1", version))
    assert (await wire.head()).status == 200
    await wire.until(b"part")
    go.set()
    with pytest.raises(ConnectionResetError):
        await wire.until_eof()
    await served.empty()
    assert not told, "who aborts knows it"


async def test_aborting_a_whole_answer_changes_nothing(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await hello(incoming)
        incoming.abort()

    wire = await (await start(serve)).connect()
    for _ in range(2):
        await wire.send(GET)
        assert (await wire.answer()).body == b"hello"


@pytest.mark.parametrize("begin", [False, True])
async def test_serving_that_ends_without_a_whole_answer_breaks_the_connection(start: Start, begin: bool) -> None:
    async def serve(incoming: Incoming) -> None:
        if begin:
            await incoming.begin(b"200 OK\r\n", Chunked())

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET + GET)
    with pytest.raises(ConnectionResetError):
        await wire.until_eof()
    await served.empty()


async def test_a_defect_before_the_answer_is_told_as_a_500(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        raise LookupError("a secret")

    served = await start(serve)
    served.expected_failures = 2
    wire = await served.connect()
    for _ in range(2):
        await wire.send(GET)
        reply = await wire.answer()
        assert reply.status == 500
        assert b"secret" not in reply.head.raw + reply.body
    assert all(isinstance(failure, LookupError) for failure in served.failures)


async def test_a_defect_within_the_answer_breaks_the_connection(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"200 OK\r\n", Chunked())
        await incoming.write(b"part")
        raise LookupError

    served = await start(serve)
    served.expected_failures = 1
    wire = await served.connect()
    await wire.send(GET)
    with pytest.raises((ConnectionResetError, Ended)):
        await wire.answer()
    await served.empty()


async def test_serving_that_is_cancelled_from_elsewhere_breaks_the_connection(start: Start) -> None:
    tasks: list[asyncio.Task[object]] = []

    async def serve(incoming: Incoming) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.Event().wait()

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET)
    await eventually(lambda: tasks, "the serving")
    tasks[0].cancel()
    with pytest.raises(ConnectionResetError):
        await wire.until_eof()
    await served.empty()
    assert tasks[0].cancelled()
