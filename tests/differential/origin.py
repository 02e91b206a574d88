"""The upstream: it keeps what it saw of each request and answers by a script."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

from tests.differential.corpus import Case, Client, End, Script
from tests.differential.reading import Ended, SeenRequest, head_end, head_of_request, read_request
from tests.proxy.wire import eventually

_RESET: Final = struct.pack("ii", 1, 0)
_RECEIVE: Final = 65_536
_HELD_BACK: Final = 5.0
"""Seconds after which a proxy will not let through what it did not let through yet."""


class Origin:
    """One case at a time: `begin` it, and take `requests` when `settled`."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[SeenRequest] = []
        self.heads = 0
        """Requests whose head is there."""
        self.may_answer = asyncio.Event()
        """Not set before a client that half-closes has done so."""
        self.may_reset = asyncio.Event()
        """The client has what was sent: a reset takes along whatever nobody has read yet."""
        self._scripts: tuple[Script, ...] = ()
        self._accepted = 0
        self._busy: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, case: Case) -> None:
        """Forget what was seen; answer by this case's scripts from now on."""
        self.requests, self.heads = [], 0
        self.may_reset.clear()
        if case.client is Client.HALF_CLOSES:
            self.may_answer.clear()
        else:
            self.may_answer.set()
        self._scripts = tuple(exchange.script for exchange in case.exchanges)

    async def caught_up(self) -> None:
        """Wait until everything was read that has arrived: a connection made now comes behind all others. Needed where a client may
        be done before its request was read here."""
        before = self._accepted
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await eventually(lambda: self._accepted > before, "the upstream takes a connection")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        for _ in range(20):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Wait until every request that began was answered, or its connection ended."""
        await eventually(lambda: not self._busy, "the upstream's rest")

    def script(self) -> Script:
        """How the request whose head is there is answered. One that comes again is answered as before."""
        self.heads += 1
        return self._scripts[min(self.heads, len(self._scripts)) - 1]

    def busy(self, connection: _Connection) -> None:
        """A request began."""
        self._busy.add(connection)

    def at_rest(self, connection: _Connection) -> None:
        """No request is on its way there."""
        self._busy.discard(connection)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Origin]:
        """Serve for as long as the block runs."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        task = asyncio.ensure_future(_Connection(self, reader, writer).serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection:
    def __init__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._origin = origin
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._ended = Ended.NOT

    async def serve(self) -> None:
        try:
            while await self._one():
                self._origin.at_rest(self)
        except ConnectionError:
            pass
        finally:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
            self._origin.at_rest(self)

    async def _one(self) -> bool:
        """One request and its answer. False where the connection ends."""
        while not self._buffer.strip(b"\r\n") or head_end(self._buffer) < 0:
            if self._ended is not Ended.NOT:
                if self._buffer:
                    self._record()
                return False
            await self._more()
        script = self._origin.script()
        if script.before:
            await self._send(script.before, script.split)
        if script.early:
            self._origin.requests.append(head_of_request(self._buffer))
            await self._send(script.answer, script.split)
            await self._until_end()
            return False
        while not self._record():
            await self._more()
        if self._origin.requests[-1].body.whole:
            await self._origin.may_answer.wait()
            return await self._answer(script)
        if self._ended is Ended.NOT:
            await self._send(script.answer, script.split)
            self._writer.write_eof()
            await self._until_end()
        return False

    async def _answer(self, script: Script) -> bool:
        await self._send(script.answer, script.split)
        match script.end:
            case End.KEEP:
                return True
            case End.CLOSE:
                return False
            case End.RESET:
                if script.answer:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._origin.may_reset.wait(), _HELD_BACK)
                self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
                self._writer.transport.abort()
                return False
            case End.TUNNEL:
                await self._send((await self._until_end()).upper(), 0)
                return False

    def _record(self) -> bool:
        """Keep the request that is there. False where it is not there yet."""
        read = read_request(self._buffer, ended=self._ended)
        if read is None:
            return False
        seen, size = read
        self._origin.requests.append(seen)
        self._buffer = self._buffer[size:]
        return True

    async def _more(self) -> None:
        try:
            data = await self._reader.read(_RECEIVE)
        except ConnectionError:
            self._ended = Ended.RESET
            return
        if not data:
            self._ended = Ended.CLOSED
            return
        self._origin.busy(self)
        self._buffer += data

    async def _until_end(self) -> bytes:
        while self._ended is Ended.NOT:
            await self._more()
        return self._buffer

    async def _send(self, data: bytes, split: int) -> None:
        step = split or len(data) or 1
        for at in range(0, len(data), step):
            self._writer.write(data[at : at + step])
            await self._writer.drain()
            if split:
                await asyncio.sleep(0)
