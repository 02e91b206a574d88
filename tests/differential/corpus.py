"""An exchange: what the client sends and what the upstream answers, byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

OK: Final = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: origin\r\nContent-Length: 2\r\n\r\nok"


class End(Enum):
    """What becomes of the upstream's connection behind an answer."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    TUNNEL = auto()
    """It becomes a tunnel: what comes is sent back in upper case, until its end."""


class Client(Enum):
    """What the client does once its requests are sent."""

    WAITS = auto()
    HALF_CLOSES = auto()
    """It sends no more, and says so, once the upstream has seen its first head."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the upstream does with one request. `before` is sent when the head is there; with `early` so is the answer, and the body is
    never looked at. `split`: so many bytes at a time, 0 for all at once."""

    answer: bytes = OK
    end: End = End.KEEP
    before: bytes = b""
    early: bool = False
    split: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """`held` is sent once a 100 or a 101 came."""

    request: bytes
    script: Script = Script()
    held: bytes = b""

    @property
    def method(self) -> bytes:
        """The request's method, as its client knows it."""
        return self.request.lstrip(b"\r\n").split(b" ", 1)[0]


@dataclass(frozen=True, slots=True)
class Case:
    """Exchanges on one connection, all requests sent at once unless something is held back. `point` is FORWARDING.md's. `refused`: the
    status with which the product answers in its own name, and must. `split` is as in Script."""

    point: int
    name: str
    exchanges: tuple[Exchange, ...]
    client: Client = Client.WAITS
    refused: int | None = None
    split: int = 0

    def __str__(self) -> str:
        return f"{self.point:02d} {self.name}"


def case(
    point: int,
    name: str,
    request: bytes,
    answer: bytes = OK,
    *,
    end: End = End.KEEP,
    client: Client = Client.WAITS,
    refused: int | None = None,
) -> Case:
    """One exchange."""
    return Case(point, name, (Exchange(request, Script(answer, end)),), client, refused)


def get(target: bytes = b"/x", fields: bytes = b"", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request without a body; `fields` are lines with their ends."""
    return b"%b %b HTTP/%b\r\nHost: api.test\r\n%b\r\n" % (method, target, version, fields)


def post(body: bytes, fields: bytes = b"", method: bytes = b"POST", target: bytes = b"/up") -> bytes:
    """A request with a length."""
    return get(target, b"%bContent-Length: %d\r\n" % (fields, len(body)), method) + body


def chunked(framed: bytes, fields: bytes = b"", method: bytes = b"POST", target: bytes = b"/up") -> bytes:
    """A request in the chunked coding; `framed` are its chunks, its last one and its trailers."""
    return get(target, fields + b"Transfer-Encoding: chunked\r\n", method) + framed


def answer(fields: bytes = b"", body: bytes = b"ok", status: bytes = b"200 OK") -> bytes:
    """An answer with a length."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


def chunked_answer(framed: bytes, fields: bytes = b"") -> bytes:
    """An answer in the chunked coding."""
    return b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (fields, framed)
