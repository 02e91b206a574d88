"""What a schedule tells: a trace of everything that happened, in order, and what was found to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Final

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import TOKEN_BYTES
from idemproxy.stores.base import Anew, Claim, Found

WIDTH: Final = 200
BODY: Final = 60
"""Bytes of a body that a line shows."""
_LEFT_OUT: Final = frozenset({"lease", "ttl"})


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that does not hold: its name, and what broke it."""

    invariant: str
    what: str


class Trace:
    """Lines of (time, who, what, details): cheap to write, put into words only when somebody reads them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: list[tuple[float, str, str, object]] = []
        self.findings: list[Finding] = []
        self.closed = False
        self._clock = clock

    def say(self, who: str, what: str, details: object = None) -> None:
        if not self.closed:
            self.lines.append((self._clock(), who, what, details))

    def find(self, invariant: str, what: str) -> None:
        """Something is wrong."""
        if not self.closed:
            self.findings.append(Finding(invariant, what))
            self.say("CHECK", f"{invariant}: {what}")

    def words(self) -> Iterator[str]:
        for when, who, what, details in self.lines:
            shown = "" if details is None else f"  {_shown(details)}"
            yield f"{when:9.4f}  {who:<6} {what}{shown}"[:WIDTH]


def _shown(details: object) -> str:
    match details:
        case dict():
            return " ".join(f"{name}={_shown(value)}" for name, value in details.items())
        case tuple():
            return " -> ".join(map(_shown, details))
        case bytes() if len(details) == TOKEN_BYTES:
            return details.hex()[:6]
        case Found(record, lease_left):
            kept = "" if record.answer is None else f" {_shown(record.answer)}"
            state = f"{record.state.name} of {_shown(record.token)} v{record.version} attempt {record.attempt}{kept}"
            return f"Found {state}, {lease_left} ms left"
        case Answer(status, _, body):
            return f"{status} {body[:BODY]!r}"
        case Claim(token):
            return f"claim {_shown(token)}"
        case Anew():
            return "anew"
        case _ if is_dataclass(details):
            named = {each.name: getattr(details, each.name) for each in fields(details)}
            told = [
                f"{name} {_shown(value)}"
                for name, value in named.items()
                if name not in _LEFT_OUT and value is not None
            ]
            return " ".join((type(details).__name__, ", ".join(told))).strip()
        case Enum():
            return details.name
        case _:
            return str(details)


class TracedLog:
    """Takes the place of the product's logs: a line goes into the trace of the schedule that runs."""

    def __init__(self) -> None:
        self._told: Callable[[str, str, dict[str, object]], None] | None = None

    @contextmanager
    def to(self, told: Callable[[str, str, dict[str, object]], None]) -> Iterator[None]:
        """`told` gets level, event and fields of each line meanwhile."""
        before, self._told = self._told, told
        try:
            yield
        finally:
            self._told = before

    def debug(self, event: str, **named: object) -> None:
        self._line("debug", event, named)

    def info(self, event: str, **named: object) -> None:
        self._line("info", event, named)

    def warning(self, event: str, **named: object) -> None:
        self._line("warning", event, named)

    def error(self, event: str, **named: object) -> None:
        self._line("error", event, named)

    def exception(self, event: str, **named: object) -> None:
        self._line("error", event, named)

    def _line(self, level: str, event: str, named: dict[str, object]) -> None:
        if self._told is not None:
            self._told(level, event, named)
