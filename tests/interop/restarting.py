"""An upstream that is restarted: `python -m tests.interop.restarting LEDGER (fd N | port N)`.

It closes connections that were idle for IDLE seconds. On SIGTERM it drains as servers do: connections that wait for a next request
are closed at once, requests that it has are answered. Each POST that it carries out is a line in the ledger, with the request's key,
written before the answer. It imports little, so that it starts fast."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time

READY = "restarting listening"
IDLE = 1.0
"""Seconds."""
WORK = 0.01
"""Seconds from carrying out a request to its answer, so that a kill meets some in between."""
BUSY = 0.15
"""Seconds that a draining server does not look at its connections: what arrives meanwhile at one that it then closes is never read."""


class Upstream:
    """One process's connections and ledger."""

    def __init__(self, ledger: str) -> None:
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.connections: set[Connection] = set()
        self.draining = asyncio.Event()

    def carry_out(self, key: str) -> None:
        os.write(self.ledger, f"{key}\n".encode())

    def drain(self) -> None:
        time.sleep(BUSY)
        self.draining.set()
        for connection in list(self.connections):
            connection.close_if_idle()


class Connection(asyncio.Protocol):
    """Requests one after the other."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._idle: asyncio.TimerHandle | None = None
        self._waiting = False
        """For a request that is not the first: closing now loses nothing that was promised."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._waiting = False
        if self._idle is not None:
            self._idle.cancel()
        head, end, body = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if end and len(body) == int(fields.get("content-length", "0")):
            self._received = b""
            key = fields.get("idempotency-key", "read")
            if first.startswith("POST "):
                self._upstream.carry_out(key)
            asyncio.get_running_loop().call_later(WORK, self._answer, key.encode())

    def close_if_idle(self) -> None:
        if self._waiting and self._transport is not None:
            self._transport.close()

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        last = self._upstream.draining.is_set()
        close = b"Connection: close\r\n" if last else b""
        self._transport.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (close, len(body), body))
        if last:
            self._transport.close()
            return
        self._waiting = True
        self._idle = asyncio.get_running_loop().call_later(IDLE, self.close_if_idle)


async def main(ledger: str, kind: str, number: int) -> None:
    upstream = Upstream(ledger)
    if kind == "fd":
        listening = socket.socket(fileno=number)
    else:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", number))
    listening.setblocking(False)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), sock=listening, backlog=1024)
    loop.add_signal_handler(signal.SIGTERM, upstream.drain)
    print(READY, flush=True)
    await upstream.draining.wait()
    loop.remove_reader(listening.fileno())
    for _ in range(20):
        await asyncio.sleep(0)  # what was accepted just now becomes a connection
    server.close()
    while upstream.connections:
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
