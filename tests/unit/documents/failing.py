"""A server that fails as told: each connection gets the next behaviour, and what was asked is kept."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.ports import free_port

PATIENCE = 30
"""Seconds after which a client is hanging."""


class Fault(Enum):
    """How a connection ends without a whole answer."""

    RESET = auto()
    CUT = auto()


Behaviour = bytes | Fault


@dataclass(frozen=True)
class Asked:
    """A request as it came: header fields by their name in lower case."""

    line: str
    fields: dict[str, str]
    body: bytes


@dataclass
class Failing:
    """The server, and its requests so far."""

    port: int
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/charges"


def answer(status: int, body: str, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body.encode())}", "Connection: close", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body.encode()


def problem(status: int, retry: str, after: int | None = None) -> bytes:
    members = {"type": "urn:x", "title": "T", "status": status, "detail": "D", "retry": retry}
    fields = ["Content-Type: application/problem+json"] + ([] if after is None else [f"Retry-After: {after}"])
    return answer(status, json.dumps(members) + "\n", *fields)


@contextlib.contextmanager
def failing(*behaviours: Behaviour) -> Iterator[Failing]:
    server = Failing(free_port())
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=_serve, args=(listener, behaviours, server))
        thread.start()
        try:
            yield server
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def _serve(listener: socket.socket, behaviours: tuple[Behaviour, ...], server: Failing) -> None:
    for behaviour in behaviours:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(PATIENCE)
            server.asked.append(_read(connection))
            match behaviour:
                case Fault.RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                case Fault.CUT:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                case said:
                    connection.sendall(said)


def _read(connection: socket.socket) -> Asked:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65_536)
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    while len(body) < int(fields["content-length"]):
        body += connection.recv(65_536)
    return Asked(line, fields, body)
