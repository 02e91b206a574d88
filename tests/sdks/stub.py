"""A server that gives every POST the same answer, byte for byte as the proxy would, and notes when each came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from idemproxy.idempotency.messages import Answer, Fields
from tests.ports import free_port

PREFLIGHT = (
    b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n"
    b"Access-Control-Allow-Headers: content-type, idempotency-key\r\nAccess-Control-Allow-Methods: POST\r\n\r\n"
)


@dataclass
class Stub:
    """Its address, and when each POST came, in seconds of a monotonic clock."""

    url: str
    came: list[float] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[Fields], Answer]) -> Iterator[Stub]:
    """The stub for as long as the block runs. `answer` makes the answer to a POST with these header fields; an OPTIONS is a preflight,
    which is the upstream's to answer."""
    port = free_port()
    stub = Stub(f"http://127.0.0.1:{port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            stub.came.append(time.monotonic())
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            given = answer(tuple((name.encode(), value.encode()) for name, value in self.headers.items()))
            self.wfile.write(b"HTTP/1.1 %b\r\n%b" % (given.head, given.body))

        def do_OPTIONS(self) -> None:
            self.wfile.write(PREFLIGHT % self.headers["Origin"].encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the base class)
            """Nothing is printed of what is wanted."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
