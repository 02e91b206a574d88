"""What goes wrong with a sample API's answers, drawn from a seed: the same seed gives the same faults in the same order."""

from __future__ import annotations

import random
from enum import Enum
from typing import Final


class Fault(Enum):
    """What happens to one charge request."""

    NONE = "answered at once"
    RESET_BEFORE = "connection reset, nothing charged"
    RESET_AFTER = "charged, then the connection reset without an answer"
    CUT = "charged, then half an answer and the end of the connection"
    LATE = "charged, then the answer after 0.2 to 0.6 s"


CHANCES: Final = {
    Fault.RESET_BEFORE: 0.06,
    Fault.RESET_AFTER: 0.06,
    Fault.CUT: 0.06,
    Fault.LATE: 0.10,
}
"""The part of all requests that meets each fault; the rest is answered at once."""


class Faults:
    """Draws one fault a request; without a seed, none."""

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else random.Random(seed)

    def draw(self) -> tuple[Fault, float]:
        """The next request's fault, and the seconds that a late answer takes."""
        if self._random is None:
            return Fault.NONE, 0.0
        chance, late = self._random.random(), self._random.uniform(0.2, 0.6)
        for fault, part in CHANCES.items():
            if chance < part:
                return fault, late
            chance -= part
        return Fault.NONE, late
