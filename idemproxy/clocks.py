"""The clock that leases are counted on in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since some fixed moment."""


def boottime() -> float:
    """Seconds since boot, read afresh. CLOCK_BOOTTIME also runs while the machine is suspended, when the monotonic clock stands
    still and leases in the store lapse; an event loop's own time is stale after SIGCONT (DESIGN.md section 4, *Send guard*)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
