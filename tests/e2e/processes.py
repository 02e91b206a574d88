"""Real processes for the tests: started, waited for by what they print, ended by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

DEADLINE = 60.0
"""Seconds after which something that should have happened never will."""


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """What `look` gives as soon as it gives something; an AssertionError that names `what` past the deadline."""
    until = time.monotonic() + DEADLINE
    while (seen := look()) is None:
        if time.monotonic() > until:
            raise AssertionError(f"did not happen within {DEADLINE:.0f} s: {what}")
        time.sleep(0.02)
    return seen


class Process:
    """A program whose output goes to a file, ready once `ready` is in it."""

    def __init__(self, arguments: list[str], log: Path, *, environment: dict[str, str] | None = None) -> None:
        self.arguments = arguments
        self.log = log
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: str = "") -> Self:
        """Start, and wait for a line that holds `ready`."""
        before = len(self.output())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        if ready:
            wait_for(f"{ready!r} from {self.arguments}", lambda: self._ready(ready, before))
        return self

    def _ready(self, ready: str, before: int) -> bool | None:
        if self._running.poll() is not None:
            raise AssertionError(f"{self.arguments} ended with {self._running.returncode}:\n{self.output()}")
        return True if ready in self.output()[before:] else None

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self._running.pid

    def output(self) -> str:
        """Everything that it printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self._running.wait(DEADLINE)

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE)


def proxy(folder: Path, config: str, name: str = "proxy") -> Process:
    """An `idemproxy run` on that configuration, not started yet."""
    file = folder / f"{name}.yaml"
    file.write_text(config)
    return Process([sys.executable, "-m", "idemproxy", "run", "--config", str(file)], folder / f"{name}.log")


LISTENING = "idemproxy listening on"


@contextlib.contextmanager
def running(process: Process, ready: str) -> Iterator[Process]:
    """The process, for as long as the block runs."""
    try:
        yield process.start(ready)
    finally:
        process.kill()
