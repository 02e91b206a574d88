"""A client of bytes on a real socket: it sends what it is told, and receives only what it is asked to receive.

It reads answers by its own small reading of RFC 9112, so that it judges the product's code and does not share its mistakes. Every
wait has a deadline that only guards against hanging."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

DEADLINE: Final = 25.0
"""Seconds after which a wait fails the test."""
RECEIVE: Final = 65_536
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: ([^\r\n]*))?\Z")
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,16}\Z")
_RESET: Final = struct.pack("ii", 1, 0)


class Ended(Exception):
    """The other side closed before what was awaited was whole. `got` are the bytes that had come."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"the connection ended after {len(got)} bytes: {got[:200]!r}")
        self.got = got


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer. `raw` includes the empty line; field names are as they came."""

    raw: bytes
    minor: int
    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field of that name, in any case."""
        return [value for found, value in self.fields if found.lower() == name.lower()]


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer. `interim` are the 1xx heads before it, `trailers` the raw lines after a chunked body."""

    head: Head
    body: bytes
    trailers: bytes
    interim: tuple[Head, ...]

    @property
    def status(self) -> int:
        return self.head.status

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field of that name, in any case."""
        return self.head.values(name)


class Wire:
    """One connection. Use it as an asynchronous context manager, or close it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.pending = bytearray()
        """What was received and not yet asked for."""

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", *, receive_buffer: int = 0) -> Self:
        """Connect by TCP. `receive_buffer`, in bytes, makes the kernel take little that nobody asked for."""
        return await cls._connect(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port), receive_buffer)

    @classmethod
    async def connect_unix(cls, path: str) -> Self:
        """Connect to a unix socket."""
        return await cls._connect(socket.AF_UNIX, path, 0)

    @classmethod
    async def _connect(cls, family: int, address: tuple[str, int] | str, receive_buffer: int) -> Self:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            if receive_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(DEADLINE):
                await asyncio.get_running_loop().sock_connect(made, address)
        except BaseException:
            made.close()
            raise
        return cls(made)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --------------------------------------------------------------------------------------------------------------- sending

    async def send(self, data: bytes) -> None:
        """Send all of it, waiting while the other side takes nothing."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def send_by_byte(self, data: bytes) -> None:
        """Send each byte for itself, giving the other side a turn in between."""
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await asyncio.sleep(0)

    def push(self, data: bytes) -> int:
        """Send what the kernel takes now, without waiting. Gives the number of bytes taken."""
        sent = 0
        view = memoryview(data)
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += self.socket.send(view[sent:])
        return sent

    def half_close(self) -> None:
        """No more will be sent; answers are still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection: the other side gets a RST (TCP only)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close the socket, whatever is left to read."""
        self.socket.close()

    # ------------------------------------------------------------------------------------------------------------- receiving

    async def receive(self) -> bytes:
        """Whatever comes next; b"" at the end. Raises ConnectionResetError where the connection was reset."""
        if self.pending:
            data = bytes(self.pending)
            self.pending.clear()
            return data
        async with asyncio.timeout(DEADLINE):
            return await asyncio.get_running_loop().sock_recv(self.socket, RECEIVE)

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Ended where fewer come."""
        while len(self.pending) < size:
            await self._more()
        return self._take(size)

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`. Raises Ended where it does not come."""
        searched = 0
        while (at := self.pending.find(mark, searched)) < 0:
            searched = max(0, len(self.pending) - len(mark) + 1)
            await self._more()
        return self._take(at + len(mark))

    async def until_eof(self) -> bytes:
        """Everything up to the end. Raises ConnectionResetError where the end is a reset."""
        pieces = []
        while data := await self.receive():
            pieces.append(data)
        return b"".join(pieces)

    async def until_gone(self) -> bytes:
        """Everything up to the end, be it a close or a reset."""
        pieces = []
        with contextlib.suppress(ConnectionError):
            while data := await self.receive():
                pieces.append(data)
        return b"".join(pieces)

    async def head(self) -> Head:
        """One head, be it interim or final. Raises AssertionError for what is no head, Ended where none comes."""
        raw = await self.until(b"\r\n\r\n")
        first, *lines = raw[:-4].split(b"\r\n")
        matched = _STATUS_LINE.match(first)
        assert matched is not None, f"no status line: {first!r}"
        fields = []
        for line in lines:
            name, colon, value = line.partition(b":")
            assert colon, f"no field line: {line!r}"
            assert name == name.strip(), f"white space around a field name: {line!r}"
            fields.append((name, value.strip(b" \t")))
        return Head(raw, int(matched[1]), int(matched[2]), matched[3] or b"", tuple(fields))

    async def answer(self, method: bytes = b"GET") -> Reply:
        """One whole answer to a request of that method, and not a byte more. Raises Ended where it is cut short."""
        interim = []
        while 100 <= (head := await self.head()).status < 200 and head.status != 101:
            interim.append(head)
        body, trailers = await self._body(head, method)
        return Reply(head, body, trailers, tuple(interim))

    async def _body(self, head: Head, method: bytes) -> tuple[bytes, bytes]:
        """RFC 9112, section 6.3."""
        if method == b"HEAD" or head.status in (101, 204, 304):
            return b"", b""
        codings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
        if codings:
            assert codings == [b"chunked"], codings
            assert not lengths, "both a length and chunked"
            return await self._chunked()
        if lengths:
            assert len(lengths) == 1, lengths
            return await self.read(int(lengths[0])), b""
        return await self.until_eof(), b""

    async def _chunked(self) -> tuple[bytes, bytes]:
        pieces = []
        while True:
            line = (await self.until(b"\r\n"))[:-2]
            assert _CHUNK_SIZE.match(line), f"no chunk size: {line!r}"
            if not (size := int(line, 16)):
                break
            piece = await self.read(size + 2)
            assert piece.endswith(b"\r\n"), "a chunk of another size"
            pieces.append(piece[:-2])
        trailers = []
        while (line := await self.until(b"\r\n")) != b"\r\n":
            trailers.append(line)
        return b"".join(pieces), b"".join(trailers)

    async def _more(self) -> None:
        async with asyncio.timeout(DEADLINE):
            data = await asyncio.get_running_loop().sock_recv(self.socket, RECEIVE)
        if not data:
            raise Ended(bytes(self.pending))
        self.pending += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self.pending[:size])
        del self.pending[:size]
        return taken


async def eventually(holds: Callable[[], object], what: str = "the condition") -> None:
    """Wait until `holds()` is true. Raises AssertionError where it is not by the deadline."""
    loop = asyncio.get_running_loop()
    by = loop.time() + DEADLINE
    turns = 0
    while not holds():
        assert loop.time() < by, f"{what} did not come true"
        turns += 1
        await asyncio.sleep(0 if turns < 100 else 0.005)
