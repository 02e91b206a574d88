"""An upstream that counts how often it executed each key, and clients that never pause, while the proxy before it is replaced."""

from __future__ import annotations

import http.client
import math
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

IDLE = 0.5
"""Seconds for which a kept connection may be idle without being closed: half of what the proxy grants while it drains."""


class Counted:
    """The upstream."""

    def __init__(self) -> None:
        self.port = 0
        self.executed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def execute(self, key: str) -> None:
        with self._lock:
            self.executed[key] += 1


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    counted: ClassVar[Counted]

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        key = self.rfile.read(int(self.headers["Content-Length"]))
        self.counted.execute(key.decode())
        self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(key), key))


@contextmanager
def counted() -> Iterator[Counted]:
    """The upstream, for as long as the block runs."""
    upstream = Counted()
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"counted": upstream})) as server:
        upstream.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Report:
    """What the clients met. `raced`: requests on a connection that had been idle for longer than IDLE, and that was closed just then,
    which no server can prevent (RFC 9112, section 9.3.1): the client sends them again."""

    answered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    raced: list[str] = field(default_factory=list)
    closes_said: int = 0


class Client:
    """Operations one after the other, each with a key of its own."""

    def __init__(
        self, port: int, name: str, pauses: tuple[float, float], report: Report, over: threading.Event
    ) -> None:
        self._port = port
        self._name = name
        self._pauses = pauses
        self._report = report
        self._over = over
        self._chance = random.Random(name)
        self._connection: http.client.HTTPConnection | None = None
        self._last = 0.0

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self._operate(f"{self._name}-{number}")
            time.sleep(self._chance.uniform(*self._pauses))
        self._close()

    def _operate(self, key: str) -> None:
        """Until it is answered, or failed."""
        while True:
            connection, reused = self._connected()
            sent = math.inf
            try:
                connection.request("POST", "/v1/charges", key, {"Idempotency-Key": key})
                sent = time.monotonic()
                answer = connection.getresponse()
                said = (answer.status, answer.read().decode(), answer.getheader("Idempotent-Replayed"))
            except (OSError, http.client.HTTPException) as error:
                self._close()
                idle = min(sent, time.monotonic()) - self._last
                if reused and idle > IDLE:
                    self._report.raced.append(f"{key}: {error!r}")
                    continue
                self._report.failed.append(f"{key}: {error!r}, reused: {reused}, idle: {idle:.3f}")
                return
            self._last = time.monotonic()
            self._report.closes_said += answer.getheader("Connection") == "close"
            if said == (201, key, None):
                self._report.answered.append(key)
            else:
                self._report.failed.append(f"{key}: {said}")
            return

    def _connected(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before. As clients do, one that the other side has closed is not used again."""
        kept = self._connection
        if kept is not None and kept.sock is not None and not self._closed(kept.sock):
            return kept, True
        self._close()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        return self._connection, False

    def _closed(self, kept: socket.socket) -> bool:
        return bool(select.select([kept], [], [], 0)[0])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class BlindClient(Client):
    """One that does not look whether the other side has closed before it sends."""

    def _closed(self, _: socket.socket) -> bool:
        return False


class FreshClient(Client):
    """Each operation on a connection of its own."""

    def _connected(self) -> tuple[http.client.HTTPConnection, bool]:
        self._close()
        return super()._connected()


BUSY = (0.0, 0.02)
CALM = (0.0, IDLE / 2)
RARE = (1.0, 1.5)


@contextmanager
def load(port: int) -> Iterator[tuple[Report, Callable[[], int]]]:
    """Clients of every kind, for as long as the block runs: what they met, and how many operations that was so far."""
    report, over = Report(), threading.Event()
    clients = [Client(port, f"busy{number}", BUSY, report, over) for number in range(3)]
    clients += [BlindClient(port, f"calm{number}", CALM, report, over) for number in range(3)]
    clients += [Client(port, f"rare{number}", RARE, report, over) for number in range(2)]
    clients += [FreshClient(port, f"fresh{number}", BUSY, report, over) for number in range(3)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield report, lambda: len(report.answered)
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
