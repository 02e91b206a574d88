"""`python -m tests.differential`: every exchange made by hand and 2,000 generated ones, against the product as a process of its own.
Prints the table of differences; the exit status is 1 where one is unexplained."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from itertools import chain
from pathlib import Path

from tests.differential.generated import generated
from tests.differential.handmade import CASES
from tests.differential.judging import Judgement, judge, table
from tests.differential.subjects import Run, subjects


async def _run(seed: str, count: int) -> list[Judgement]:
    judged = []
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        async with subjects(Path(folder), Run.PROCESS) as three:
            for case in chain(CASES, generated(seed, count)):
                judged.append(judge(case, *await three.observe(case)))
                if len(judged) % 250 == 0:
                    print(f"{len(judged)} exchanges", file=sys.stderr)
    return judged


def main() -> int:
    """Run, print, and give the exit status."""
    parser = argparse.ArgumentParser(prog="tests.differential", description="direct, through nginx, through idemproxy")
    parser.add_argument("--seed", default="1", help="of the generated exchanges (default: %(default)s)")
    parser.add_argument("--count", type=int, default=2_000, help="of the generated exchanges (default: %(default)s)")
    options = parser.parse_args()
    judged = asyncio.run(_run(options.seed, options.count))
    print("\n".join(table(judged)))
    faults = [fault for each in judged for fault in each.faults]
    print("\n".join(["", *faults, f"{len(faults)} faults in {len(judged)} exchanges, seed {options.seed}"]))
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
