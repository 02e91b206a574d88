"""A timer for a connection that lives long: moved often, and ringing seldom."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """A timer that is moved often and rings seldom: to move it later, or to turn it off, is an assignment."""

    __slots__ = ("_at", "_handle", "_handle_at", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = math.inf

    def set(self, seconds: float) -> None:
        """Ring in so many seconds; 0: not at all."""
        if not seconds:
            self._at = math.inf
            return
        self._at = self._loop.time() + seconds
        if self._at < self._handle_at:
            self._arm()

    def clear(self) -> None:
        """Do not ring."""
        self._at = math.inf

    def stop(self) -> None:
        """Give the timer back: there will be no more ringing."""
        self._at = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._handle_at = math.inf

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle_at = self._at
        self._handle = self._loop.call_at(self._at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._handle_at = math.inf
        if self._at == math.inf:
            return
        if self._loop.time() < self._at:
            self._arm()
            return
        self._at = math.inf
        self._ring()
