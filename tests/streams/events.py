"""Many streams of server-sent events at once: an upstream that writes them, and clients that note when each arrived."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, cast

DEADLINE: Final = 60.0
"""Seconds that only guard against hanging."""
_EVENT: Final = re.compile(rb"data: ([0-9]+) ([0-9.]+)\n\n")
_COMMENT: Final = b": " + b"x" * 65_000 + b"\n\n"
STILL: Final = 0.2
"""Seconds without progress after which a writer counts as held back."""
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Stream(asyncio.Protocol):
    """The upstream's side of one stream."""

    def __init__(self, upstream: EventUpstream) -> None:
        self._upstream = upstream
        self._asked = bytearray()
        self._full_since: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upstream.connections.add(self.transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self._asked += data
        while (end := self._asked.find(b"\r\n\r\n")) >= 0:
            streams = self._asked.startswith((b"GET /events", b"POST /rule/events"))
            del self._asked[: end + 4]
            if streams:
                self.transport.write(_HEAD)
                self._upstream.streams.append(self)
            else:
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.transport is not None
        self._upstream.connections.discard(self.transport)
        if self in self._upstream.streams:
            self._upstream.streams.remove(self)

    def pause_writing(self) -> None:
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        self._full_since = None

    async def flood(self, most: int) -> None:
        """Write comments until nothing has been taken for a while, or to so many bytes."""
        assert self.transport is not None
        written = 0
        while written < most and (self._full_since is None or time.monotonic() - self._full_since < STILL):
            if self._full_since is None:
                self.transport.write(b"%x\r\n%b\r\n" % (len(_COMMENT), _COMMENT))
                written += len(_COMMENT)
            await asyncio.sleep(0 if self._full_since is None else 0.005)

    def emit(self, number: int) -> None:
        """One event, with the time of its writing."""
        assert self.transport is not None
        event = b"data: %d %.6f\n\n" % (number, time.monotonic())
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))


class EventUpstream:
    """Keeps each stream open that it is asked for. Runs inside `async with`."""

    def __init__(self) -> None:
        self.streams: list[_Stream] = []
        self.connections: set[asyncio.Transport] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Stream(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self.connections):
            transport.abort()
        await until(lambda: not self.connections, "the streams are closed")

    def emit(self, number: int) -> None:
        """Write an event to every stream."""
        for stream in self.streams:
            stream.emit(number)


class Listener(asyncio.Protocol):
    """A client of one stream."""

    def __init__(self) -> None:
        self.head = b""
        self.numbers: list[int] = []
        self.delays: list[float] = []
        """Seconds from the upstream's writing of each event to its arrival."""
        self.closed = False
        self._pending = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int, request: bytes) -> Self:
        """Ask for a stream, and wait for its head."""
        _, listener = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        assert listener._transport is not None
        listener._transport.write(request)
        await until(lambda: listener.head or listener.closed, "a stream's head")
        assert listener.head.startswith(b"HTTP/1.1 200 "), listener.head
        return listener

    @classmethod
    async def open_all(cls, port: int, requests: list[bytes]) -> list[Self]:
        """A stream for each request."""
        turn = asyncio.Semaphore(50)

        async def one(request: bytes) -> Self:
            async with turn:
                return await cls.open(port, request)

        return await asyncio.gather(*map(one, requests))

    @staticmethod
    async def close_all(listeners: Sequence[Listener]) -> None:
        """Go away."""
        for each in listeners:
            assert each._transport is not None
            each._transport.abort()
        await until(lambda: all(each.closed for each in listeners), "the streams are closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._pending += data
        if not self.head:
            end = self._pending.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = bytes(self._pending[: end + 4])
            del self._pending[: end + 4]
        end = 0
        for found in _EVENT.finditer(self._pending):
            self.numbers.append(int(found[1]))
            self.delays.append(now - float(found[2]))
            end = found.end()
        del self._pending[:end]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def stop_reading(self) -> None:
        """Leave everything that comes to the kernel."""
        assert self._transport is not None
        self._transport.pause_reading()


async def until(true: Callable[[], object], what: str) -> None:
    """Wait until `true()` holds. Raises AssertionError past the deadline."""
    by = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < by, f"never: {what}"
        await asyncio.sleep(0.002)


def share(delays: list[float], part: float) -> float:
    """The delay that this part of them does not exceed."""
    ordered = sorted(delays)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
