"""A data port on a real socket, served by a coroutine of the test's own, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from idemproxy.idempotency.messages import Answer
from idemproxy.proxy.data_port import DataPort
from idemproxy.proxy.downstream import Downstream, Limits, Serve
from idemproxy.proxy.incoming import ClientGone, Incoming
from tests.proxy.wire import Wire, eventually

PATIENT = Limits(head_timeout=60, idle_timeout=60, body_idle=60, linger=20, linger_total=60)
"""Nothing runs out of time."""


class Tap:
    """A transport whose writes are noted, each for itself, while `writes` is a list."""

    writes: list[bytes] | None = None

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if self.writes is not None:
            self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


class Watched(Downstream):
    """A connection whose transport and received bytes the test can look at."""

    tap: Tap
    transport: asyncio.Transport
    received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.tap = Tap(self.transport)
        super().connection_made(cast("asyncio.Transport", self.tap))

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


class WatchedPort(DataPort):
    """Remembers its last connection."""

    last: Watched | None = None

    def __call__(self) -> Watched:
        self.last = Watched(self._serve, self._refuse, self._failed, self._limits, self.connections)
        return self.last


@dataclass
class Served:
    """A running data port."""

    data_port: WatchedPort
    server: asyncio.Server
    address: int | str
    failures: list[BaseException]
    expected_failures: int = 0
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, *, receive_buffer: int = 0) -> Wire:
        """A client, closed at the end of the test. When this returns, its connection was accepted."""
        before = self.data_port.last
        if isinstance(self.address, int):
            wire = await Wire.connect(self.address, receive_buffer=receive_buffer)
        else:
            wire = await Wire.connect_unix(self.address)
        self.wires.append(wire)
        await eventually(
            lambda: self.data_port.last is not before and self.last in self.data_port.connections.open,
            "the connection's acceptance",
        )
        return wire

    @property
    def port(self) -> int:
        """The TCP port."""
        assert isinstance(self.address, int)
        return self.address

    @property
    def last(self) -> Watched:
        """The connection that was made last, as the server has it."""
        assert self.data_port.last is not None
        return self.data_port.last

    async def took(self, size: int) -> None:
        """Wait until the last connection received `size` bytes since its beginning."""
        await eventually(lambda: self.last.received >= size, f"the receipt of {size} bytes")

    async def empty(self) -> None:
        """Wait until no connection is left."""
        await eventually(lambda: not self.data_port.connections.open, "the end of every connection")

    async def close(self) -> None:
        """End everything. Raises AssertionError where a connection, a task or a defect is left behind."""
        self.server.close()
        for wire in self.wires:
            wire.close()
        for connection in list(self.data_port.connections.open):
            connection.abort()
        await self.empty()
        await self.server.wait_closed()
        await eventually(lambda: len(asyncio.all_tasks()) == 1, "the end of every serving task")
        assert len(self.failures) == self.expected_failures, self.failures


Start = Callable[..., Awaitable[Served]]


def refuse(status: int, detail: str) -> Answer:
    """The refusals of these tests."""
    body = detail.encode()
    head = b"%d Refused\r\nContent-Length: %d\r\n" % (status, len(body))
    return Answer(status, head, body)


def ok(body: bytes) -> Answer:
    """An answer with a length."""
    return Answer(200, b"200 OK\r\nContent-Length: %d\r\n" % len(body), body)


async def hello(incoming: Incoming) -> None:
    """Answers at once, and reads nothing."""
    await incoming.answer(ok(b"hello"))


async def echo(incoming: Incoming) -> None:
    """Answers with the request's own method, target and body."""
    body = await incoming.body(1 << 30)
    await incoming.answer(ok(b"%b %b %b" % (incoming.head.method, incoming.head.target, body)))


class Held:
    """Serves requests that wait to be let go, and notes who is gone."""

    def __init__(self) -> None:
        self.serving = asyncio.Event()
        self.go = asyncio.Event()
        self.gone = 0
        self.outcome: list[str] = []

    async def serve(self, incoming: Incoming) -> None:
        incoming.on_gone(self._on_gone)
        self.serving.set()
        await self.go.wait()
        try:
            await echo(incoming)
            self.outcome.append("answered")
        except ClientGone:
            self.outcome.append("gone")

    def _on_gone(self) -> None:
        self.gone += 1
        self.go.set()


async def start_serving(serve: Serve, limits: Limits, path: str | None) -> Served:
    """Listen, on a free port or on a unix socket at `path`."""
    failures: list[BaseException] = []
    data_port = WatchedPort(serve, refuse, failures.append, limits)
    loop = asyncio.get_running_loop()
    if path is not None:
        return Served(data_port, await loop.create_unix_server(data_port, path), path, failures)
    server = await loop.create_server(data_port, "127.0.0.1", 0)
    return Served(data_port, server, server.sockets[0].getsockname()[1], failures)
