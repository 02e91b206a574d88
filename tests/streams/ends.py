"""Both ends of flows through a proxy: an upstream that takes and gives them, and a client."""

from __future__ import annotations

import contextlib
import socket
import threading
from io import BufferedReader
from types import TracebackType
from typing import Self, cast

from tests.streams.flow import DEADLINE, Flow


class Upstream:
    """Takes the body of `POST /in/NUMBER` and gives that of `/out/NUMBER`: the flow that was entered under that number. Everything else
    gets a small answer. Runs inside `with`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.failed: list[Exception] = []
        self._flows: list[Flow] = []
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def enter(self, flow: Flow) -> int:
        """The number under which the flow is asked for."""
        self._flows.append(flow)
        return len(self._flows) - 1

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        try:
            with connection, reader(connection) as stream:
                while target := read_head(stream).split(b" ")[1:2]:
                    self._answer(target[0], connection, stream)
        except OSError:
            pass
        except Exception as error:  # a thread's failure is the test's
            self.failed.append(error)
        finally:
            self._open.discard(connection)

    def _answer(self, target: bytes, connection: socket.socket, stream: BufferedReader) -> None:
        way, _, number = target.rpartition(b"/")
        if way.endswith(b"/in"):
            flow = self._flows[int(number)]
            flow.sink(stream)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        elif way.endswith(b"/out"):
            flow = self._flows[int(number)]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%b\r\n" % flow.field)
            flow.source(connection)
        else:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def reader(connection: socket.socket) -> BufferedReader:
    """What comes on the connection, buffered."""
    return cast("BufferedReader", connection.makefile("rb", 1 << 18))


def read_head(stream: BufferedReader) -> bytes:
    """A head, its empty line included; b"" where the connection ended before one."""
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def upload(port: int, upstream: Upstream, flow: Flow) -> None:
    """Send the flow as a request's body, and check that it was taken. Raises AssertionError."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        target = b"/in/%d" % upstream.enter(flow)
        connection.sendall(b"POST %b HTTP/1.1\r\nHost: api.test\r\n%b\r\n" % (target, flow.field))
        flow.source(connection)
        with reader(connection) as stream:
            head = read_head(stream)
    assert not upstream.failed, upstream.failed
    assert head.startswith(b"HTTP/1.1 201 "), head
    assert flow.received == flow.total


def download(port: int, upstream: Upstream, flow: Flow, request: bytes = b"") -> None:
    """Ask for the flow, and check that it came. `request` is for a flow that was entered already. Raises AssertionError."""
    asked = request or b"GET /out/%d HTTP/1.1\r\nHost: api.test\r\n\r\n" % upstream.enter(flow)
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection, reader(connection) as stream:
        connection.sendall(asked)
        head = read_head(stream)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert flow.field in head, head
        flow.sink(stream)
    assert not upstream.failed, upstream.failed


def ask(port: int, request: bytes) -> bytes:
    """The head of the answer to any other request."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection, reader(connection) as stream:
        connection.sendall(request)
        return read_head(stream)
