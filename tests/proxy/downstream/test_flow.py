"""Slow clients and slow servers: whoever is slow holds the other back, and memory stays bounded."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from idemproxy.http1.heads import Chunked, Length
from idemproxy.proxy.incoming import ClientGone, Incoming
from tests.proxy.downstream.serving import PATIENT, Start, hello, ok
from tests.proxy.wire import eventually

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PIECE = bytes(range(256)) * 256
"""64 KiB."""
PIECES = 512
"""More than the buffers of both kernels hold."""
READ_AT_ONCE = 1 << 18
"""What an event loop reads from a socket in one go, at most."""


async def write_on(incoming: Incoming) -> None:
    while True:
        await incoming.write(PIECE)


async def test_a_slow_client_holds_a_large_answer_back(start: Start) -> None:
    written, most = 0, 0

    async def serve(incoming: Incoming) -> None:
        nonlocal written, most
        await incoming.begin(b"200 OK\r\n", Chunked())
        for _ in range(PIECES):
            await incoming.write(PIECE)
            written += 1
            most = max(most, served.last.transport.get_write_buffer_size())
        await incoming.end()

    served = await start(serve)
    wire = await served.connect(receive_buffer=16_384)
    await wire.send(GET)
    await eventually(lambda: served.last.transport.get_write_buffer_size() > len(PIECE), "the transport's filling")
    for _ in range(100):
        await asyncio.sleep(0)
    assert written < PIECES, "an answer that nobody reads is not written to its end"
    reply = await wire.answer()
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(PIECE * PIECES).digest()
    assert most <= 2 * len(PIECE), "one piece past the mark, and no more"


async def test_one_slow_client_does_not_hold_back_another(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        if incoming.head.method == b"GET":
            await incoming.begin(b"200 OK\r\n", Chunked())
            await write_on(incoming)
        await hello(incoming)

    served = await start(serve)
    slow = await served.connect()
    await slow.send(GET)
    await eventually(lambda: served.last.transport.get_write_buffer_size() > len(PIECE), "the transport's filling")
    other = await served.connect()
    await other.send(GET.replace(b"GET", b"PUT"))
    assert (await other.answer()).body == b"hello"


async def test_the_next_request_waits_until_a_large_answer_is_read(start: Start) -> None:
    begun = 0

    async def serve(incoming: Incoming) -> None:
        nonlocal begun
        begun += 1
        await incoming.answer(ok(PIECE * 192))

    served = await start(serve)
    wire = await served.connect(receive_buffer=16_384)
    await wire.send(GET * 3)
    await eventually(lambda: begun, "the first request")
    for _ in range(100):
        await asyncio.sleep(0)
    assert begun == 1
    for _ in range(3):
        assert (await wire.answer()).body == PIECE * 192
    assert begun == 3


async def test_a_client_that_reads_nothing_is_given_up(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.on_gone(gone.set)
        await incoming.begin(b"200 OK\r\n", Chunked())
        with pytest.raises(ClientGone):
            await write_on(incoming)

    gone = asyncio.Event()
    served = await start(serve, replace(PATIENT, body_idle=0.2))
    wire = await served.connect(receive_buffer=16_384)
    await wire.send(GET)
    await eventually(gone.is_set, "the client's giving up")
    await served.empty()


async def test_a_slow_server_holds_an_upload_back(start: Start) -> None:
    go = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await go.wait()
        digest = hashlib.sha256()
        while (piece := await incoming.piece()) is not None:
            digest.update(piece)
        await incoming.answer(ok(digest.digest()))

    served = await start(serve)
    wire = await served.connect()
    await wire.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE)))
    sending = asyncio.create_task(wire.send(PIECE * PIECES))
    await eventually(lambda: not served.last.transport.is_reading(), "the client's holding back")
    taken = served.last.received
    for _ in range(100):
        await asyncio.sleep(0)
    assert served.last.received == taken <= PATIENT.buffer + 2 * READ_AT_ONCE
    assert not sending.done()
    go.set()
    assert (await wire.answer()).body == hashlib.sha256(PIECE * PIECES).digest()
    await sending
    await wire.send(GET)
    assert (await wire.head()).status == 200


async def test_a_body_is_taken_piece_by_piece(start: Start) -> None:
    """What was taken is never far ahead of what was read."""
    ahead = 0

    async def serve(incoming: Incoming) -> None:
        nonlocal ahead
        read = 0
        while (piece := await incoming.piece()) is not None:
            read += len(piece)
            ahead = max(ahead, served.last.received - read)
            for _ in range(3):
                await asyncio.sleep(0)
        await incoming.answer(ok(b"%d" % read))

    served = await start(serve)
    wire = await served.connect()
    await wire.send(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = (b"10000\r\n" + PIECE + b"\r\n") * 128 + b"0\r\n\r\n"
    sending = asyncio.create_task(wire.send(chunks))
    assert (await wire.answer()).body == b"%d" % (128 * len(PIECE))
    await sending
    overhead = len(chunks) - 128 * len(PIECE) + 1_024
    assert ahead <= PATIENT.buffer + 2 * READ_AT_ONCE + overhead


async def test_a_flood_of_pipelined_requests_is_held_back(start: Start) -> None:
    go = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await go.wait()
        await hello(incoming)

    served = await start(serve)
    wire = await served.connect()
    sending = asyncio.create_task(
        wire.send(GET.replace(b"Host", b"X: " + PIECE.hex().encode()[:60_000] + b"\r\nHost") * 400)
    )
    await eventually(lambda: not served.last.transport.is_reading(), "the client's holding back")
    assert served.last.received <= PATIENT.buffer + 2 * READ_AT_ONCE
    go.set()
    for _ in range(400):
        assert (await wire.answer()).body == b"hello"
    await sending


async def test_an_unread_upload_that_came_whole_leaves_the_connection_usable(start: Start) -> None:
    """Held back for its body, then answered without reading it."""
    size = 100_000
    upload = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (size, PIECE[:1] * size)

    async def serve(incoming: Incoming) -> None:
        await eventually(lambda: incoming.body_came or not served.last.transport.is_reading(), "the upload")
        await hello(incoming)

    served = await start(serve)
    wire = await served.connect()
    for _ in range(5):
        await wire.send(upload)
        reply = await wire.answer()
        assert reply.body == b"hello"
        if reply.values(b"connection") == [b"close"]:
            assert await wire.until_eof() == b""
            wire = await served.connect()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_sends_all_before_it_reads_gets_an_early_answer(start: Start, framing: str) -> None:
    """A large answer, to a client that is still sending 5 MB, and reads nothing until it has: neither waits for the other, and
    the answer is not lost to a reset."""
    head = b"413 Too large\r\n"

    async def serve(incoming: Incoming) -> None:
        await eventually(lambda: not served.last.transport.is_reading(), "the client's holding back")
        if framing == "length":
            await incoming.begin(head + b"Content-Length: %d\r\n" % (64 * len(PIECE)), Length(64 * len(PIECE)))
        else:
            await incoming.begin(head, Chunked())
        for _ in range(64):
            await incoming.write(PIECE)
        await incoming.end()

    served = await start(serve)
    wire = await served.connect(receive_buffer=16_384)
    await wire.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 5_000_000)
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (413, [b"close"])
    assert reply.body == PIECE * 64
    assert await wire.until_eof() == b""
    await wire.send(b"x" * 100_000)
    wire.close()
    await served.empty()
