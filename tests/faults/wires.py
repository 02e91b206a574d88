"""Clients of bytes: one that leaves in the middle, a crowd on as many connections, and traffic that keeps a proxy's loop busy."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final

from tests.faults.asking import PATIENCE

_RESET: Final = struct.pack("ii", 1, 0)
_AT_ONCE: Final = 100


def post(path: str, key: str, body: bytes = b"{}") -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Raw:
    """One request on a connection of its own; what comes back is read when it is asked for."""

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.sendall(request)
        self._got = b""

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`, from the beginning."""
        while mark not in self._got:
            data = self._socket.recv(65_536)
            assert data, f"ended before {mark!r}: {self._got!r}"
            self._got += data
        return self._got[: self._got.index(mark) + len(mark)]

    def whole(self) -> bytes:
        """An answer whose length is told, from its status line to the end of its body."""
        head = self.until(b"\r\n\r\n")
        (length,) = [
            int(value)
            for name, _, value in (line.partition(b":") for line in head.lower().split(b"\r\n"))
            if name == b"content-length"
        ]
        while len(self._got) < len(head) + length:
            data = self._socket.recv(65_536)
            assert data, f"ended after {len(self._got)} bytes"
            self._got += data
        return self._got

    def reset(self) -> None:
        """Gone, without a word."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def crowd(port: int, request: bytes, count: int) -> Iterator[list[Raw]]:
    """As many clients that ask the same."""
    clients: list[Raw] = []
    try:
        for _ in range(count):
            clients.append(Raw(port, request))  # noqa: PERF401 - those before a failure are closed
        yield clients
    finally:
        for client in clients:
            client.close()


class Traffic:
    """Pipelined requests for an answer that is recorded already, on several connections, as fast as they are answered."""

    def __init__(self, port: int, request: bytes) -> None:
        self.answers = 0
        self._port = port
        self._request = request
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
            while not self._stopping.is_set():
                connection.sendall(self._request * _AT_ONCE)
                seen = b""
                for _ in range(_AT_ONCE):
                    while b"}" not in seen:
                        data = connection.recv(1 << 20)
                        assert data, "the proxy closed the connection"
                        seen += data
                    seen = seen[seen.index(b"}") + 1 :]
                    self.answers += 1
