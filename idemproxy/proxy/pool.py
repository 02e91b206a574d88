"""Which idle connection is used next: decided without I/O (FORWARDING.md, point 17)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

HASTE: Final = 1.0
"""Seconds before the upstream's own limit at which a connection counts as closed."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` at once, used and idle; `queue` exchanges that may wait for one; `idle`, seconds after which an unused one
    is not used any more, unless the upstream names fewer."""

    connections: int = 1024
    queue: int = 1024
    idle: float = 60.0


class Idle(msgspec.Struct, Generic[C], frozen=True):
    """A connection that nobody uses; `until` is when it is too old, on the pool's clock."""

    connection: C
    until: float


class Pool(Generic[C]):
    """Idle connections, the last used first. `drop` closes one that is not kept."""

    def __init__(self, limits: Limits, drop: Callable[[C], None], clock: Callable[[], float]) -> None:
        self.used = 0
        """Connections that an exchange has, or is about to open."""
        self._limits = limits
        self._idle: list[Idle[C]] = []
        self._drop = drop
        self._clock = clock
        self._closed = False

    @property
    def full(self) -> bool:
        """No further exchange may have a connection."""
        return self.used >= self._limits.connections

    def make_room(self) -> None:
        """Drop idle connections, the longest unused first, until a new one keeps to the limit."""
        while self._idle and self.used + len(self._idle) > self._limits.connections:
            self._drop(self._idle.pop(0).connection)

    def take(self) -> C | None:
        """The connection used last, or None. Those past their time are dropped."""
        now = self._clock()
        while self._idle:
            idle = self._idle.pop()
            if idle.until > now:
                return idle.connection
            self._drop(idle.connection)
        return None

    def keep(self, connection: C, limit: float | None) -> None:
        """Keep a connection whose exchange is over; `limit` is the upstream's own, in seconds, where it named one."""
        now = self._clock()
        seconds = self._limits.idle if limit is None else min(self._limits.idle, limit - HASTE)
        if seconds <= 0 or self._closed:
            self._drop(connection)
            return
        while self._idle and self._idle[0].until <= now:
            self._drop(self._idle.pop(0).connection)
        self._idle.append(Idle(connection, now + seconds))

    def sweep(self) -> float | None:
        """Drop those past their time. Gives the seconds until the next one is, None where none is left."""
        now = self._clock()
        old = [idle.connection for idle in self._idle if idle.until <= now]
        self._idle = [idle for idle in self._idle if idle.until > now]
        for connection in old:
            self._drop(connection)
        return min((idle.until - now for idle in self._idle), default=None)

    def close(self) -> None:
        """Drop every connection, and each one that would be kept from now on."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop().connection)
