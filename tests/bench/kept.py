"""Results that are kept by commit, so that a loss shows: one JSON line a run. What is kept of a line is its CPU time as a ratio to the
peer's of the same run, since nothing else can be compared between two runs on a shared machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parent / "results.jsonl"
TOLERANCE: Final = 0.15
"""Of a kept ratio, what a line may have lost before it counts as a loss."""


class Unreadable(Exception):
    """A kept line that is no result."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run: `ratios` are CPU time by the peer's, `micros` are CPU microseconds a request, both by work and connections."""

    commit: str
    ratios: Mapping[str, float]
    micros: Mapping[str, float]


def commit() -> str:
    """The commit that is measured, marked where files differ from it."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def add(result: Result, file: Path = FILE) -> None:
    """Keep one more."""
    line = {
        "commit": result.commit,
        "ratios": {name: round(value, 3) for name, value in result.ratios.items()},
        "micros": {name: round(value, 1) for name, value in result.micros.items()},
    }
    with file.open("a", encoding="utf-8") as kept:
        kept.write(json.dumps(line, separators=(",", ":")) + "\n")


def last(file: Path = FILE) -> Result | None:
    """The newest that was kept; None where there is none. Raises Unreadable."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    if not lines:
        return None
    try:
        found = json.loads(lines[-1])
        return Result(str(found["commit"]), _numbers(found["ratios"]), _numbers(found["micros"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the last line of {file.name} is no result of `make bench`: {error}") from error


def _numbers(found: Mapping[str, object]) -> dict[str, float]:
    return {name: float(str(value)) for name, value in found.items()}


def losses(before: Result, now: Result) -> Iterator[str]:
    """What costs more than it did, by more than the tolerance. Raises Unreadable where nothing can be compared."""
    shared = [name for name in now.ratios if name in before.ratios]
    if not shared:
        raise Unreadable(f"nothing that was measured now was measured at {before.commit}")
    for name in shared:
        was, is_now = before.ratios[name], now.ratios[name]
        if is_now > was * (1 + TOLERANCE):
            yield f"{name}: {is_now:.2f} times the peer's CPU time, {was:.2f} at {before.commit}"
