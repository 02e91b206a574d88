"""An upstream of bytes: each connection it accepts is handed to a script, which sends what it likes and receives only what it asks to
receive. A script that reads nothing stalls the other side for real."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from tests.proxy.wire import DEADLINE, RECEIVE, Ended, Wire, eventually

_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding):[ \t]*([^\r\n]*)", re.IGNORECASE)


class Accepted(Wire):
    """One connection, as its server has it. `raw` is every byte that was received on it; `over` is set once its other side is seen
    to have closed or reset it."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        self.raw = bytearray()
        self.over = False

    async def receive(self) -> bytes:
        """Whatever comes next; b"" at the end. Raises ConnectionResetError where the connection was reset."""
        if not self.pending:
            with contextlib.suppress(Ended):
                await self._more()
        return self._take(len(self.pending))

    async def head(self) -> bytes:  # type: ignore[override]  # a server's: a request's
        """The head of the next request, its empty line included. Raises Ended where none comes."""
        return await self.until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """The next request, whole. Raises Ended where it is cut short."""
        head = await self.head()
        framing = {name.lower(): value for name, value in _FRAMING.findall(head)}
        if b"transfer-encoding" in framing:
            body = b""
            while not body.endswith(b"\r\n0\r\n\r\n") and body != b"0\r\n\r\n":
                size = await self.until(b"\r\n")
                body += size + await self.read(int(size, 16) + 2)
            return head + body
        return head + await self.read(int(framing.get(b"content-length", b"0")))

    async def send_in(self, *pieces: bytes) -> None:
        """Send each piece for itself, so that the other side is likely to receive each for itself."""
        for piece in pieces:
            await self.send(piece)
            await asyncio.sleep(0.01)

    async def until_over(self) -> bytes:
        """Receive until the other side has ended the connection, by a close or a reset. Gives what came."""
        return await self.until_gone()

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                data = await asyncio.get_running_loop().sock_recv(self.socket, RECEIVE)
        except ConnectionError:
            self.over = True
            raise
        if not data:
            self.over = True
            raise Ended(bytes(self.pending))
        self.raw += data
        self.pending += data


Script = Callable[[Accepted], Awaitable[None]]


async def silent(accepted: Accepted) -> None:
    """Accepts, and neither reads nor says anything."""


def answering(*answers: bytes) -> Script:
    """A script that reads a request before each of these answers, and then keeps the connection open."""

    async def script(accepted: Accepted) -> None:
        for answer in answers:
            await accepted.request()
            await accepted.send(answer)

    return script


class Scripted:
    """Listens on a free port, or on a unix socket at `path`. The first connection gets the first script, and so on; the last script is
    everyone's after it. A connection stays open after its script, until the server stops.

    `receive_buffer`, in bytes, makes the kernel take little that no script asked for."""

    def __init__(
        self, *scripts: Script, path: str | None = None, host: str = "127.0.0.1", receive_buffer: int = 0
    ) -> None:
        self.scripts = list(scripts) or [silent]
        self.connections: list[Accepted] = []
        self.port = 0
        self._path = path
        self._host = host
        self._receive_buffer = receive_buffer
        self._listening: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = await self.stop()
        if error is None and failures:
            raise failures[0]

    async def start(self) -> None:
        if self._path is not None:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            listening = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            if self._receive_buffer:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            listening.bind(self._path if self._path is not None else (self._host, 0))
            listening.listen(128)
        except BaseException:
            listening.close()
            raise
        self._listening = listening
        self.port = 0 if self._path is not None else listening.getsockname()[1]
        self._tasks.append(asyncio.ensure_future(self._accept(listening)))

    async def stop(self) -> list[BaseException]:
        """End everything. Gives what went wrong in scripts, other than that the other side had gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        for accepted in self.connections:
            accepted.close()
        return self._failures

    async def connection(self, number: int = 1) -> Accepted:
        """The connection of that number, once it was accepted."""
        await eventually(lambda: len(self.connections) >= number, f"connection {number}")
        return self.connections[number - 1]

    async def got(self, size: int, number: int = 1) -> bytes:
        """What the script of that connection received, once it is `size` bytes."""
        accepted = await self.connection(number)
        await eventually(lambda: len(accepted.raw) >= size, f"the receipt of {size} bytes")
        return bytes(accepted.raw)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            made, _ = await loop.sock_accept(listening)
            made.setblocking(False)
            if self._path is None:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted = Accepted(made)
            script = self.scripts[min(len(self.connections), len(self.scripts) - 1)]
            self.connections.append(accepted)
            self._tasks.append(asyncio.ensure_future(self._run(script, accepted)))

    async def _run(self, script: Script, accepted: Accepted) -> None:
        try:
            await script(accepted)
        except (Ended, ConnectionError):
            pass
        except Exception as error:  # whatever it is, the test hears of it
            self._failures.append(error)
