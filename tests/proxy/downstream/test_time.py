"""Idle limits, drain and shutdown; TLS and unix sockets."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from idemproxy.http1.heads import Chunked
from idemproxy.proxy.incoming import Incoming
from tests.proxy.downstream.serving import PATIENT, Held, Start, echo, hello
from tests.proxy.wire import DEADLINE, Wire, eventually

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
GRACE = 60.0
"""Long enough never to end in a test."""
UPLOAD = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n"


# ------------------------------------------------------------------------------------------------------- time and drain


async def test_an_idle_connection_is_closed_silently(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        served.last._limits = replace(PATIENT, idle_timeout=0.05)
        await hello(incoming)

    served = await start(serve)
    used = await served.connect()
    await used.send(GET)
    assert (await used.answer()).body == b"hello"
    assert await used.until_eof() == b""
    await served.empty()


async def test_a_connection_that_says_nothing_is_closed_silently(start: Start) -> None:
    served = await start(limits=replace(PATIENT, idle_timeout=0.05))
    async with await Wire.connect(served.port) as wire:
        assert await wire.until_eof() == b""
    await served.empty()


async def test_serving_takes_no_time_off_the_idle_limit(start: Start) -> None:
    """The second request is there already when the short limits come into force."""

    async def serve(incoming: Incoming) -> None:
        if incoming.head.method == b"POST":
            served.last._limits = replace(PATIENT, idle_timeout=0.05, head_timeout=0.05, body_idle=0.05)
        else:
            await asyncio.sleep(0.2)
        await echo(incoming)

    served = await start(serve)
    wire = await served.connect()
    await wire.send(POST + GET)
    assert (await wire.answer()).body == b"POST / abcde"
    assert (await wire.answer()).body == b"GET / "


async def test_zero_turns_the_limits_off(start: Start) -> None:
    served = await start(limits=replace(PATIENT, idle_timeout=0, head_timeout=0, body_idle=0))
    wire = await served.connect()
    await wire.send(GET[:5])
    await served.took(5)
    await wire.send(GET[5:])
    assert (await wire.answer()).body == b"hello"


async def test_shutdown_closes_idle_connections_and_busy_ones_after_their_answer(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    fresh, used, busy = await served.connect(), await served.connect(), await served.connect()
    await busy.send(GET)
    await held.serving.wait()
    served.data_port.pre_shutdown()
    assert await fresh.until_eof() == b""
    assert await used.until_eof() == b""
    assert len(served.data_port.connections.open) == 1
    held.go.set()
    reply = await busy.answer()
    assert (reply.body, reply.values(b"connection")) == (b"GET / ", [b"close"])
    assert await busy.until_eof() == b""
    busy.close()
    await served.empty()


async def test_drain_answers_every_request_that_is_here_and_says_so_in_the_last_answer(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(GET + POST)
    await held.serving.wait()
    await served.took(len(GET + POST))
    served.data_port.begin_drain(GRACE)
    held.go.set()
    first, last = await wire.answer(), await wire.answer()
    assert (first.body, first.values(b"connection")) == (b"GET / ", [])
    assert (last.body, last.values(b"connection")) == (b"POST / abcde", [b"close"])
    assert await wire.until_eof() == b""


async def test_drain_serves_a_connection_that_was_idle_once_more(start: Start) -> None:
    served = await start()
    kept, fresh = await served.connect(), await served.connect()
    await kept.send(GET)
    assert (await kept.answer()).values(b"connection") == []
    served.data_port.begin_drain(GRACE)
    late = await served.connect()
    for wire in (kept, fresh, late):
        await wire.send(GET)
        assert (await wire.answer()).values(b"connection") == [b"close"]
        assert await wire.until_eof() == b""


async def test_drain_closes_a_connection_that_asks_for_nothing(start: Start) -> None:
    served = await start()
    used, fresh = await served.connect(), await served.connect()
    await used.send(GET + b"\r\n")
    await used.answer()
    served.data_port.begin_drain(0.1)
    late = await served.connect()
    for wire in (used, fresh, late):
        assert await wire.until_eof() == b""
    await served.empty()


async def test_a_request_that_is_in_the_kernel_when_the_time_is_over_is_answered(start: Start) -> None:
    """The timer is seen before the bytes, in one turn of the loop."""
    served = await start()
    wire = await served.connect()
    served.data_port.begin_drain(GRACE)
    assert wire.push(GET) == len(GET)
    served.last._late()
    assert (await wire.answer()).body == b"hello"


async def test_drain_lets_an_answer_end_that_began_before_it_and_its_client_ask_once_more(start: Start) -> None:
    go = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"200 OK\r\n", Chunked())
        await go.wait()
        await incoming.end()

    served = await start(serve)
    wire = await served.connect()
    await wire.send(GET)
    assert (await wire.head()).values(b"connection") == []
    served.data_port.begin_drain(GRACE)
    go.set()
    assert await wire.read(5) == b"0\r\n\r\n"
    await wire.send(GET)
    assert (await wire.answer()).values(b"connection") == [b"close"]
    assert await wire.until_eof() == b""


async def test_drain_answers_a_request_whose_head_is_on_its_way(start: Start) -> None:
    served = await start()
    wire = await served.connect()
    await wire.send(GET[:-1])
    await served.took(len(GET) - 1)
    served.data_port.pre_shutdown()
    await wire.send(GET[-1:])
    assert (await wire.answer()).values(b"connection") == [b"close"]
    assert await wire.until_eof() == b""


async def test_a_shutdown_that_runs_out_of_time_breaks_what_is_left(start: Start) -> None:
    held = Held()
    served = await start(held.serve)
    wire = await served.connect()
    await wire.send(GET)
    await held.serving.wait()
    await served.data_port.shutdown(0.05)
    with pytest.raises(ConnectionResetError):
        await wire.until_eof()
    await eventually(lambda: held.outcome == ["gone"], "the end of serving")
    assert held.gone == 1


# ----------------------------------------------------------------------------------------------------- other transports


async def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    async def serve(incoming: Incoming) -> None:
        assert incoming.peer == ""
        await echo(incoming)

    served = await start(serve, path=str(tmp_path / "s"))
    wire = await served.connect()
    await wire.send(GET + POST)
    wire.half_close()
    assert (await wire.answer()).body == b"GET / "
    assert (await wire.answer()).body == b"POST / abcde"
    assert await wire.until_eof() == b""


async def test_tls(start: Start) -> None:
    authority = trustme.CA()
    inside, outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(inside)
    authority.configure_trust(outside)
    served = await start(echo, replace(PATIENT, linger=0.1))
    server = await asyncio.get_running_loop().create_server(served.data_port, "127.0.0.1", 0, ssl=inside)
    port = server.sockets[0].getsockname()[1]

    async def talk(request_: bytes, more: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=outside, server_hostname="localhost")
        try:
            writer.write(request_)
            await writer.drain()
            writer.write(more)
            async with asyncio.timeout(DEADLINE):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    try:
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answers = await talk(POST + last)
        assert answers.split(b"\r\n\r\n")[1:] == [
            b"POST / abcdeHTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close",
            b"GET / ",
        ]
        assert (await talk(b"BAD\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    finally:
        server.close()
        await server.wait_closed()
