"""`idemproxy run` whose second worker fails as it is told: `python -m tests.e2e.failing_worker WAY CONFIG`."""

from __future__ import annotations

import os
import sys
from typing import Any

from idemproxy.cli import main
from idemproxy.errors import StartError
from idemproxy.runtime import process

FIRST_TIME, LATER, SAYING = "silently", "after it served", "saying why"


def fail(way: str) -> None:
    as_before = process.run_as_worker

    def run(*given: Any) -> None:
        number = given[-1]
        if number == 2:
            match way:
                case "silently":
                    os._exit(3)
                case "saying why":
                    raise StartError("there is no luck today")
                case "after it served":
                    given[-2].send(process.READY)
                    os._exit(4)
        as_before(*given)

    vars(process)["run_as_worker"] = run


if __name__ == "__main__":
    fail(sys.argv[1])
    sys.exit(main(["run", "--config", sys.argv[2]]))
