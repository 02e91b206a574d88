"""`make bench`: what a request costs, next to nginx with Lua and Redis that does the same job, and to nginx that only passes on.

The measured program has one core; the upstream (an nginx that answers at once), Redis and wrk share the other. Rounds of a few seconds
alternate between the programs, so that a noisy neighbour meets all of them; figures are the medians of the rounds. CPU time is the
measured process's own, by the kernel's count. Every answer is checked. Exit status 1: an answer was wrong, the load generator was the
limit, the rounds differ too much to say anything, or (`make bench-check`) something costs more than when a result was last kept; 2: a
program is missing."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import kept, servers
from tests.bench.rounds import FIRST, FORWARD, HELD, REPLAY, REUSED, Round, Subject, Work, WrongAnswer, run

BUSY: Final = 0.9
"""Of its core, what the load generator may take."""
SPREAD: Final = 0.25
"""How far a program's rounds may lie from their median, by the ratio of CPU to the peer's in the same turn."""
CONNECTIONS: Final = (1, 32, 256)
OURS: Final = "idemproxy"


@dataclass(slots=True)
class Line:
    """One subject at one work and number of connections. `against` is the line that it is compared with."""

    subject: Subject
    work: Work
    connections: int
    against: Line | None
    rounds: list[Round] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        return median(each.cpu for each in self.rounds)

    @property
    def rate(self) -> float:
        return median(each.rate for each in self.rounds)

    def ratios(self) -> list[float]:
        """Requests a second, of the other's in the same turn."""
        assert self.against is not None
        return [ours.rate / theirs.rate for ours, theirs in zip(self.rounds, self.against.rounds, strict=True)]

    def cpu_ratios(self) -> list[float]:
        """CPU time a request, of the other's in the same turn."""
        assert self.against is not None
        return [
            ours.cpu / theirs.cpu
            for ours, theirs in zip(self.rounds, self.against.rounds, strict=True)
            if theirs.cpu  # of a few requests the kernel may count none
        ]

    @property
    def named(self) -> str:
        return f"{self.work.name} {self.connections}"

    def trouble(self) -> Iterator[str]:
        """Why its figures say nothing."""
        named = f"{self.subject.name}, {self.work.name}, {self.connections} connections"
        if max(each.load for each in self.rounds) > BUSY:
            yield f"{named}: the load generator was the limit (over {BUSY:.0%} of a core)"
        if self.against is not None:
            ratios = self.cpu_ratios()
            middle = median(ratios) if ratios else 0.0
            if not middle:
                yield f"{named}: the rounds were too short for their CPU time to be counted"
                return
            spread = max(abs(each - middle) for each in ratios) / middle
            if spread > SPREAD:
                yield f"{named}: the rounds lie up to {spread:.0%} from their median"


def main() -> int:
    options = _options()
    if lacking := servers.missing():
        sys.stderr.write(f"missing; on Debian: apt-get install {' '.join(lacking)}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        lines = [each for each in _lines(Path(folder), stack, options) if each.work.name.startswith(options.only)]
        try:
            _measure(lines, options)
        except WrongAnswer as wrong:
            sys.stderr.write(f"a wrong answer: {wrong}\n")
            return 1
    _print(lines, options)
    troubles = [said for line in lines for said in line.trouble()]
    if not troubles:
        troubles = _against_kept(lines, options)
    for said in troubles:
        sys.stderr.write(f"{said}\n")
    return 1 if troubles else 0


def _against_kept(lines: list[Line], options: argparse.Namespace) -> list[str]:
    """What this version lost, where that is asked; what was measured is kept, where that is asked."""
    if not (options.check or options.keep):
        return []
    ours = [line for line in lines if line.subject.name == OURS and line.against is not None]
    now = kept.Result(
        kept.commit(), {line.named: median(line.cpu_ratios()) for line in ours}, {line.named: line.cpu for line in ours}
    )
    lost: list[str] = []
    if options.check:
        try:
            before = kept.last()
            lost = ["nothing was kept to compare with"] if before is None else [*kept.losses(before, now)]
        except kept.Unreadable as error:
            lost = [str(error)]
    if options.keep and not lost:
        kept.add(now)
    return lost


def _options() -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    asked.add_argument("--rounds", type=int, default=5, help="of each line (default %(default)d)")
    asked.add_argument("--seconds", type=int, default=2, help="of a round (default %(default)d)")
    asked.add_argument(
        "--connections", type=int, nargs="+", default=CONNECTIONS, help="open at once (default 1 32 256)"
    )
    asked.add_argument("--only", default="", help="work whose name begins with this")
    asked.add_argument("--before", type=Path, help="a folder with another version of idemproxy, to compare with")
    asked.add_argument("--keep", action="store_true", help="add the result to those that are kept by commit")
    asked.add_argument(
        "--check", action="store_true", help="exit with 1 where a line lost against the last kept result"
    )
    asked.add_argument("--sqlite", action="store_true", help="the embedded store as well")
    return asked.parse_args()


def _lines(folder: Path, stack: ExitStack, options: argparse.Namespace) -> Iterator[Line]:
    behind = stack.enter_context(servers.upstream(folder))
    redis = stack.enter_context(servers.redis(folder))
    passing = Subject("nginx", *stack.enter_context(servers.passing(folder, behind)))
    peer = Subject("nginx + Lua", *stack.enter_context(servers.peer(folder, behind, redis.port)))
    stores = {"": redis.url, **({", SQLite": f"sqlite:{folder}/store.db"} if options.sqlite else {})}
    versions = {"": Path.cwd(), **({", before": options.before} if options.before is not None else {})}
    ours = []
    for number, (version, code) in enumerate(versions.items()):
        for store, url in stores.items():
            more = f"namespace: bench{number}\n"
            where = folder / f"idemproxy{number}{store[2:]}"
            place = url.replace("store.db", f"store{number}.db")
            started = stack.enter_context(servers.idemproxy(where, code, behind, place, servers.RULES, more))
            ours.append(Subject(f"{OURS}{version}{store}", *started))
    for connections in options.connections:
        for work in (FORWARD, FIRST, REPLAY, HELD, REUSED):
            against = Line(passing if work is FORWARD else peer, work, connections, None)
            yield against
            yield from (Line(each, work, connections, against) for each in ours)


def _measure(lines: list[Line], options: argparse.Namespace) -> None:
    """Each line's rounds lie near those of the line that it is compared with."""
    number = 0
    for turn in range(-1, options.rounds):
        for line in lines:
            number += 1
            seconds = options.seconds if turn >= 0 else 1
            found = run(line.subject, line.work, line.connections, seconds, f"key-{number}")
            if turn >= 0:
                line.rounds.append(found)


def _print(lines: list[Line], options: argparse.Namespace) -> None:
    print(
        f"{options.rounds} rounds of {options.seconds} s, measured on core {servers.MEASURED}, the rest on core {servers.OTHERS}, "
        f"load {os.getloadavg()[0]:.1f}; medians of the rounds, ratios to the line that each is compared with"
    )
    print(
        f"{'work':17}{'open':>5}  {'program':24}{'req/s':>8}{'CPU us':>8}{'p50 ms':>8}{'p99 ms':>8}{'RSS MB':>8}{'rate':>8}{'CPU':>7}"
    )
    for line in lines:
        rounds, against = line.rounds, line.against
        ratio = "" if against is None else f"{median(line.ratios()):7.2f}x{median(line.cpu_ratios() or [0.0]):6.2f}x"
        print(
            f"{line.work.name:17}{line.connections:5}  {line.subject.name:24}{line.rate:8.0f}{line.cpu:8.1f}"
            f"{median(each.p50 for each in rounds):8.2f}{median(each.p99 for each in rounds):8.2f}{rounds[-1].memory / 1e6:8.1f}{ratio}"
        )


if __name__ == "__main__":
    sys.exit(main())
