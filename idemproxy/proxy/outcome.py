"""What is asked of the upstream, and how it can end. The outcome's type says what may have happened: NotSent, SentNoAnswer, or an
answer."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

import msgspec

from idemproxy.errors import IdemproxyError
from idemproxy.http1.heads import AnswerHead


class Unsent(Enum):
    """Why not a byte was sent."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "connect timeout"
    TLS = "TLS"
    GUARD = "guard"
    BUSY = "every connection is in use"


class Lost(Enum):
    """How an exchange broke after a byte may have been sent."""

    RESET = "reset"
    CLOSED = "closed"
    TIMEOUT = "timeout"
    UNREADABLE = "unreadable"
    GUARD = "guard"


class Upgrade(Enum):
    """Whether an exchange may end in a switch of protocols."""

    ASKED = "asked"
    NEVER = "never"


class Reuse(Enum):
    """Whether a connection that was used before may be used."""

    POOLED = "pooled"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the upstream is: a host and port, or a unix socket's path."""

    host: str
    port: int
    path: str | None
    tls: ssl.SSLContext | None
    server_name: str | None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to connect, to the answer's head, and between bytes; 0 waits for ever."""

    connect: float
    response: float
    idle: float


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not one byte can have reached the upstream."""

    reason: Unsent
    detail: str


@dataclass(frozen=True, slots=True)
class SentNoAnswer:
    """A byte may have reached the upstream, and no answer's head came whole. `answer_began`: some of it did."""

    reason: Lost
    detail: str
    answer_began: bool


class AnswerBroken(IdemproxyError):
    """An answer's body did not come whole."""

    def __init__(self, reason: Lost, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


Pieces = Callable[[], Awaitable[bytes | None]]
"""Gives the next piece of a body, and None once there is no more."""


class Outgoing(msgspec.Struct, frozen=True):
    """A request to send. `head` holds its empty line. Pieces of a body are framed already. `guard` is asked right before the first
    byte and before each further piece; `interim` gets each 1xx head."""

    head: bytes
    method: bytes
    body: bytes | Pieces | None
    patience: Patience
    guard: Callable[[], bool] | None
    reuse: Reuse
    interim: Callable[[AnswerHead], None]
    upgrade: Upgrade = Upgrade.NEVER
