"""The whole product in the test's own process, between a raw client and an upstream whose every byte the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from fcntl import ioctl
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from termios import TIOCOUTQ

from idemproxy.config import load_text
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import Service, store_of
from idemproxy.stores.base import Store
from tests.proxy.wire import Reply, Wire, eventually

CREATED = (
    b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nX-Case: Kept\r\nContent-Length: 11\r\n\r\n{"id":"ch"}'
)


class Exchange:
    """One request that reached the upstream, and the means to answer it."""

    def __init__(self, raw: bytes, body: bytes, carried: list[bytes], writer: asyncio.StreamWriter) -> None:
        self.raw = raw
        self.body = body
        self.carried = carried
        """Every request that came on the same connection, this one included."""
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def delivered(self) -> None:
        """Wait until the other side's kernel has everything that was sent."""
        raw = self._writer.get_extra_info("socket")
        await eventually(lambda: not any(ioctl(raw.fileno(), TIOCOUTQ, bytes(4))), "the delivery")

    def close(self) -> None:
        """End the connection with a FIN."""
        self._writer.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Respond = Callable[[Exchange], Awaitable[None]]


async def created(exchange: Exchange) -> None:
    """What the upstream does unless a test says otherwise."""
    await exchange.send(CREATED)


class Api:
    """The upstream: keeps the raw bytes of each request, and lets the test answer."""

    def __init__(self) -> None:
        self.requests: list[Exchange] = []
        self.connections = 0
        self.respond: Respond = created
        self.arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def got(self, count: int) -> Exchange:
        """The request of that number, once it is there."""
        async with asyncio.timeout(25), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried: list[bytes] = []
        try:
            while True:
                raw, body = await _read(reader)
                carried = [*carried, raw]
                exchange = Exchange(raw, body, carried, writer)
                async with self.arrived:
                    self.requests.append(exchange)
                    self.arrived.notify_all()
                await self.respond(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request: all of its bytes, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head.split(b"\r\n")[1:]}
    if b"transfer-encoding" in fields:
        raw, body = b"", b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            raw += line
            if not size:
                break
            piece = await reader.readexactly(size + 2)
            raw += piece
            body += piece[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            raw += line
        return head + raw + b"\r\n", body
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return head + body, body


class Product:
    """The proxy, listening, in front of `api`."""

    def __init__(self, port: int, api: Api, store: Store, service: Service, metrics: Metrics) -> None:
        self.port = port
        self.api = api
        self.store = store
        self.service = service
        self.metrics = metrics

    async def connect(self) -> Wire:
        return await Wire.connect(self.port)

    async def ask(self, request: bytes) -> Reply:
        """One request on a connection of its own, and its whole answer."""
        async with await self.connect() as wire:
            await wire.send(request)
            return await wire.answer(request.split(b" ", 1)[0])


def post(
    key: str | None = "k1", body: bytes = b"amount=5", path: str = "/v1/charges", more: str = "", method: str = "POST"
) -> bytes:
    """A request of a client that sends a key."""
    named = f"Idempotency-Key: {key}\r\n" if key is not None else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: api.test\r\n{named}{more}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


RULE = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
"""


@contextlib.asynccontextmanager
async def serving(store: str, *, rules: str = RULE, more: str = "", api: Api | None = None) -> AsyncIterator[Product]:
    """The product for as long as the block runs. `rules` and `more` are YAML: entries of `routes:`, and other settings."""
    behind = api or Api()
    if api is None:
        await behind.start()
    text = f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{behind.port}\nstore: {store}\n{more}routes:{rules}"
    settings = load_text(text, "test.yaml", {})
    metrics = Metrics(own_cells())
    opened = store_of(settings, metrics)
    service = Service(settings, opened, metrics)
    try:
        await service.start()
        assert service.port is not None
        yield Product(service.port, behind, opened, service, metrics)
    finally:
        await service.close()
        await opened.close()
        if api is None:
            await behind.stop()


def sqlite(folder: Path) -> str:
    """The address of a store in that folder."""
    return f"sqlite:{folder / 'store.db'}"


def problem(reply: Reply) -> dict[str, object]:
    """The members of a problem answer."""
    assert reply.values(b"content-type") == [b"application/problem+json"]
    members: dict[str, object] = json.loads(reply.body)
    assert members["status"] == reply.status
    slug = str(members["type"]).removeprefix("urn:idemproxy:problem:")
    assert members["title"]
    assert members["detail"]
    if "retry_after" in members:
        assert reply.values(b"retry-after") == [str(members["retry_after"]).encode()]
    return {**members, "slug": slug}


def slug(reply: Reply) -> str:
    """Which problem an answer is, in whatever shape."""
    found: set[bytes] = set(re.findall(rb"urn:idemproxy:problem:([a-z-]+)", reply.body))
    (name,) = found
    return name.decode()
