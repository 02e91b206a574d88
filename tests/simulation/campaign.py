"""Many schedules: run, counted, and what failed told in a way that it can be run again."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.simulation.plan import ANY, Focus
from tests.simulation.schedule import Result, prepared, run
from tests.simulation.telling import Finding

CHUNK: Final = 250
"""Schedules between two collections of garbage, and of one piece of work for a process."""
MOST_FAILURES: Final = 20
"""After so many failed schedules there is nothing more to learn from going on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule in which an invariant did not hold."""

    seed: int
    plan: str
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Tally:
    """What a number of schedules came to."""

    schedules: int = 0
    steps: int = 0
    effects: int = 0
    plans: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.effects += other.effects
        self.plans += other.plans
        self.failures += other.failures

    def count(self, result: Result) -> None:
        self.schedules += 1
        self.steps += result.steps
        self.effects += result.effects
        self.plans[result.plan] += 1
        if result.findings:
            self.failures.append(Failure(result.seed, result.plan, result.findings))


def tally(seeds: range, focus: Focus = ANY) -> Tally:
    """Run the schedules of these seeds."""
    counted = Tally()
    with prepared():
        for seed in seeds:
            counted.count(run(seed, focus))
            if len(counted.failures) >= MOST_FAILURES:
                break
            if not counted.schedules % CHUNK:
                gc.collect()
    gc.collect()
    return counted


def tallies(seeds: range, focus: Focus, jobs: int) -> Iterator[Tally]:
    """The same in pieces, by several processes, in the order of the seeds."""
    pieces = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    work = partial(tally, focus=focus)
    if jobs == 1:
        yield from map(work, pieces)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(work, pieces)
        finally:
            pool.shutdown(cancel_futures=True)


def first_found(seeds: range, focus: Focus = ANY) -> Result | None:
    """The first schedule that finds something."""
    with prepared():
        for number, seed in enumerate(seeds):
            if (result := run(seed, focus)).findings:
                return result
            if not number % CHUNK:
                gc.collect()
    return None


def report(failure: Failure | Result, focus: Focus = ANY) -> str:
    """What failed, its whole trace, and how to see it again."""
    with prepared():
        result = failure if isinstance(failure, Result) else run(failure.seed, focus)
    lines = [f"seed {result.seed}, rule {result.plan!r}:"]
    lines += [f"  {finding.invariant}: {finding.what}" for finding in result.findings]
    lines += ["trace (virtual seconds, who, what):", *result.trace.words()]
    lines += [f"again: {again(result.seed, focus)}"]
    return "\n".join(lines)


def again(seed: int, focus: Focus) -> str:
    """The command that runs the schedule again."""
    variant = "" if focus.variant is None else f" --variant '{focus.variant}'"
    act = "" if focus.act is None else f" --fault {focus.act.value}"
    return f"python -m tests.simulation --seed {seed}{variant}{act}"


class Progress:
    """What a campaign says while it runs, and at its end."""

    def __init__(self, total: int) -> None:
        self.whole = Tally()
        self._total = total
        self._began = time.monotonic()

    def line(self) -> str:
        """In one line."""
        whole = self.whole
        rate = whole.schedules / max(0.001, time.monotonic() - self._began)
        failed = f", {len(whole.failures)} FAILED" if whole.failures else ""
        return f"{whole.schedules} of {self._total} schedules, {rate:.0f} a second{failed}"

    def summary(self) -> list[str]:
        """In a few."""
        whole = self.whole
        plans = ", ".join(f"{name} {count}" for name, count in whole.plans.most_common())
        lines = [self.line(), f"{whole.steps} steps, {whole.effects} effects; {plans}"]
        lines += [
            f"FAILED: seed {failure.seed}, rule {failure.plan!r}: {failure.findings[0].invariant}: {failure.findings[0].what}"
            for failure in whole.failures
        ]
        return lines
