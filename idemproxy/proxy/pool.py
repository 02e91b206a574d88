"""Which idle connection is used next: decided without I/O (FORWARDING.md, point 17)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_IDLE: Final = 128
IDLE_LIMIT: Final = 60.0
"""Seconds after which an idle connection is not used any more, unless the upstream names fewer."""
HASTE: Final = 1.0
"""Seconds before the upstream's own limit at which a connection counts as closed."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Idle(Generic[C]):
    """A connection that nobody uses; `until` is when it is too old, on the pool's clock."""

    connection: C
    until: float


class Pool(Generic[C]):
    """Idle connections, the last used first. `drop` closes one that is not kept."""

    def __init__(self, drop: Callable[[C], None], clock: Callable[[], float]) -> None:
        self._idle: list[Idle[C]] = []
        self._drop = drop
        self._clock = clock

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
        seconds = IDLE_LIMIT if limit is None else min(IDLE_LIMIT, limit - HASTE)
        if seconds <= 0 or len(self._idle) >= MAX_IDLE:
            self._drop(connection)
            return
        while self._idle and self._idle[0].until <= now:
            self._drop(self._idle.pop(0).connection)
        self._idle.append(Idle(connection, now + seconds))

    def forget(self, connection: C) -> None:
        """The connection died while idle."""
        self._idle = [idle for idle in self._idle if idle.connection is not connection]

    def close(self) -> None:
        """Drop every connection."""
        while self._idle:
            self._drop(self._idle.pop().connection)
