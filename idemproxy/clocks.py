"""The clock that leases and deadlines are counted on. It is passed in wherever it is used, so that a simulation can own it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], float]
"""Seconds since some fixed point. Only differences mean anything."""

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds on the clock that neither stands still nor is set: CLOCK_BOOTTIME, or the monotonic clock where there is none.

    The send guard (DESIGN.md, section 4) decides by it whether a lease still holds. The monotonic clock stands still while the
    machine is suspended, and an event loop's time was read before the process was stopped: by either, an owner that was taken over
    meanwhile would still send. So it is read from the system at each call."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
