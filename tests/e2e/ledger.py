"""An upstream that keeps a ledger of what it executed, and fails the first attempt of an operation as its key says."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

from tests.e2e.http_server import served

FAULTS = ("reset", "silence", "cut", "garbage", "status", "held")
"""What a key can begin with. `held`: no answer before the server stops."""


class Ledger:
    """Attempts by key, as the header X-Attempt numbered them, in the order in which they came."""

    def __init__(self) -> None:
        self.attempts: dict[str, list[str]] = defaultdict(list)
        self.probes: list[str] = []
        self.came = threading.Condition()
        self.stopping = threading.Event()
        self.port = 0

    def enter(self, key: str, attempt: str) -> int:
        """How often the operation was executed, this time included."""
        with self.came:
            self.attempts[key].append(attempt)
            self.came.notify_all()
            return len(self.attempts[key])

    def wait_for(self, key: str, count: int = 1) -> None:
        """Until the operation was executed so often."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.attempts[key]) >= count, 60), f"{key} never came"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ledger: ClassVar[Ledger]

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        if self.ledger.enter(key, self.headers["X-Attempt"]) > 1:
            self._answer(201, b'{"executed":true}')
            return
        self.close_connection = True
        match key.partition("-")[0]:
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "silence" | "held":
                self.ledger.stopping.wait(60)
            case "cut":
                self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nbegun")
            case "garbage":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            case "status":
                self._answer(502, b"a gateway's")
            case _:
                self._answer(201, b'{"executed":true}')

    def do_GET(self) -> None:
        key = self.path.rpartition("/")[2]
        self.ledger.probes.append(key)
        if key.endswith("-known"):
            self._answer(200, b'{"found":true}')
        else:
            self._answer(404, b"no such charge")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def ledger() -> Iterator[Ledger]:
    """The upstream, for as long as the block runs."""
    kept = Ledger()
    with served(type("Handler", (_Handler,), {"ledger": kept})) as kept.port:
        try:
            yield kept
        finally:
            kept.stopping.set()
