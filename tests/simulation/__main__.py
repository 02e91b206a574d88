"""`make simulate`: many schedules of the deterministic simulation, or one of them with its trace. Exits with 1 where an invariant did
not hold."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from tests.simulation.campaign import MOST_FAILURES, Progress, report, tallies
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import VARIANTS, Act, Focus
from tests.simulation.schedule import prepared, run


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    asked.add_argument("--schedules", type=int, default=3000, help="how many (default %(default)d)")
    asked.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default %(default)d)")
    asked.add_argument("--seed", type=int, help="only this one, with its trace")
    asked.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: every CPU)")
    asked.add_argument("--variant", choices=VARIANTS, help="only schedules of this rule")
    asked.add_argument("--fault", choices=[act.value for act in Act], help="this fault in every schedule")
    asked.add_argument("--mutant", choices=MUTANTS, help="with the product broken so (jobs: 1)")
    options = asked.parse_args(arguments)
    focus = Focus(options.variant, None if options.fault is None else Act(options.fault))
    with contextlib.ExitStack() as stack:
        if options.mutant is not None:
            stack.enter_context(MUTANTS[options.mutant].applied())
            options.jobs = 1
        if options.seed is not None:
            return _one(options.seed, focus)
        return _many(range(options.first, options.first + options.schedules), focus, options.jobs)


def _one(seed: int, focus: Focus) -> int:
    with prepared():
        result = run(seed, focus)
    print(report(result, focus))
    return 1 if result.findings else 0


def _many(seeds: range, focus: Focus, jobs: int) -> int:
    progress = Progress(len(seeds))
    lively = sys.stderr.isatty()
    for tally in tallies(seeds, focus, jobs):
        progress.whole.add(tally)
        if lively:
            print(f"\r{progress.line()}  ", end="", file=sys.stderr, flush=True)
        elif not progress.whole.schedules % 5000:
            print(progress.line(), file=sys.stderr, flush=True)
        if len(progress.whole.failures) >= MOST_FAILURES:
            break
    if lively:
        print(file=sys.stderr)
    if progress.whole.failures:
        print(report(progress.whole.failures[0], focus))
    print("\n".join(progress.summary()))
    return 1 if progress.whole.failures else 0


if __name__ == "__main__":
    sys.exit(main())
