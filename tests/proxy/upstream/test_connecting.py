"""Exchanges of which not a byte was sent, and the ways to an upstream (FORWARDING.md, points 21 to 23)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from idemproxy.proxy.outcome import NotSent, Origin, Outgoing, Patience, SentNoAnswer, Unsent
from idemproxy.proxy.pool import Limits
from idemproxy.proxy.upstream import Answering, Upstream
from tests.proxy.scripted import Accepted, Scripted, answering
from tests.proxy.upstream.asking import HEAD, MIB, OK, Reach, Whole, get, post, read
from tests.proxy.wire import DEADLINE

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


async def exchange(origin: Origin, outgoing: Outgoing | None = None) -> NotSent | SentNoAnswer | Whole:
    """One request on an Upstream of its own."""
    upstream = Upstream(origin, Limits())
    try:
        async with asyncio.timeout(DEADLINE):
            outcome = await upstream.exchange(outgoing or get())
            if isinstance(outcome, Answering):
                return await read(outcome)
        assert isinstance(outcome, NotSent | SentNoAnswer)
        assert upstream._pool.used == 0
        return outcome
    finally:
        upstream.close()


def at(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Origin:
    return Origin(host, port, None, tls, "api.test" if tls is not None else None)


def resolving(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int]) -> None:
    """The loop's resolver says this of every name; of an address it says that address, as any resolver does."""

    async def resolve(host: str, port: int, **_: object) -> Found:
        return [entry(host, port)] if host[:1].isdigit() or ":" in host else [entry(*each) for each in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


def entry(address: str, port: int) -> tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (address, port)


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port of 127.0.0.1 on which nobody listens, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_refused(nobody: int) -> None:
    outcome = await exchange(at(nobody))
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Unsent.UNREACHABLE


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    outcome = await exchange(Origin("", 0, str(tmp_path / "none"), None, None))
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Unsent.UNREACHABLE


async def test_a_unix_socket(reach: Reach, tmp_path: Path) -> None:
    hop = await reach(answering(OK, OK), path=str(tmp_path / "api"))
    assert await hop.ask() == Whole(200, b"ok")
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 1


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    outcome = await exchange(at(1, "api.invalid"))
    assert outcome == NotSent(Unsent.UNREACHABLE, "Name or service not known")


async def test_a_name_that_cannot_be_one() -> None:
    outcome = await exchange(at(1, "a" * 64 + ".invalid"))
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Unsent.UNREACHABLE


async def test_a_connection_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ("127.0.0.1", 1))

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    outcome = await exchange(at(1, "api.test"), get(patience=Patience(0.05, 0, 0)))
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Unsent.TIMEOUT


async def test_a_handshake_that_does_not_come() -> None:
    async with Scripted() as server:
        outcome = await exchange(at(server.port, tls=ssl.create_default_context()), get(patience=Patience(0.3, 0, 0)))
        assert isinstance(outcome, NotSent)
        assert outcome.reason is Unsent.TIMEOUT
        accepted = await server.connection()
        assert HEAD not in await accepted.until_over()


async def test_a_server_that_does_not_speak_tls() -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.receive()
        await accepted.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with Scripted(script) as server:
        outcome = await exchange(at(server.port, tls=ssl.create_default_context()))
        assert isinstance(outcome, NotSent)
        assert outcome.reason is Unsent.TLS


@pytest.fixture
async def encrypted() -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """The port of a server that speaks TLS as api.test and answers each request with the size of its body, and who trusts it."""
    authority = trustme.CA()
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.test").configure_cert(own)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length or b"0"))
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d" % len(body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=own)
    yield server.sockets[0].getsockname()[1], trusting
    server.close()
    for writer in writers:
        writer.transport.abort()


async def test_a_certificate_that_is_not_trusted(encrypted: tuple[int, ssl.SSLContext]) -> None:
    outcome = await exchange(at(encrypted[0], tls=ssl.create_default_context()))
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Unsent.TLS


@pytest.mark.parametrize("size", [0, 3 * MIB])
async def test_a_request_over_tls(
    encrypted: tuple[int, ssl.SSLContext], size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is ended by its server, and nothing is logged of that."""
    port, trusting = encrypted
    with caplog.at_level(logging.WARNING):
        outcome = await exchange(at(port, tls=trusting), post(bytes(size), size))
    assert outcome == Whole(200, b"%d" % size)
    assert caplog.records == []


@pytest.mark.parametrize("end", [Accepted.close, Accepted.reset])
async def test_a_new_connection_that_is_closed_before_a_byte_was_written(
    monkeypatch: pytest.MonkeyPatch, end: object
) -> None:
    """As a load balancer does that has nobody behind it. It counts as never sent."""
    assert callable(end)
    async with Scripted() as server:
        upstream = Upstream(at(server.port), Limits())
        connect = upstream._connect

        async def and_close() -> object:
            connection = await connect()
            end(await server.connection())
            return connection

        monkeypatch.setattr(upstream, "_connect", and_close)
        outcome = await upstream.exchange(get())
        assert isinstance(outcome, NotSent)
        assert outcome.reason is Unsent.UNREACHABLE
        upstream.close()


async def test_of_several_addresses_the_one_that_listens(monkeypatch: pytest.MonkeyPatch, nobody: int) -> None:
    async with Scripted(answering(OK)) as server:
        resolving(monkeypatch, ("::1", nobody), ("127.0.0.1", server.port))
        assert await exchange(at(server.port, "localhost")) == Whole(200, b"ok")


async def test_an_address_that_says_nothing_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def mute(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "127.0.0.2":
            await asyncio.Event().wait()
        await connect(sock, address)

    async with Scripted(answering(OK)) as server:
        resolving(monkeypatch, ("127.0.0.2", server.port), ("127.0.0.1", server.port))
        monkeypatch.setattr(loop, "sock_connect", mute)
        assert await exchange(at(server.port, "api.test")) == Whole(200, b"ok")


async def test_a_name_is_resolved_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    closing = answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    async with Scripted(closing) as first, Scripted(closing) as second:
        upstream = Upstream(at(1, "api.test"), Limits())
        for server in (first, second):
            resolving(monkeypatch, ("127.0.0.1", server.port))
            outcome = await upstream.exchange(get())
            assert isinstance(outcome, Answering)
            await read(outcome)
        assert (len(first.connections), len(second.connections)) == (1, 1)
        upstream.close()


async def test_a_wait_for_a_connection_that_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ("127.0.0.1", 1))
    connecting = asyncio.Event()

    async def never(*_: object) -> None:
        connecting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    upstream = Upstream(at(1, "api.test"), Limits())
    asking = asyncio.ensure_future(upstream.exchange(get()))
    await connecting.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert upstream._pool.used == 0
    upstream.close()
