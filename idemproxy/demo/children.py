"""The demo's processes: each in a session of its own, so that the demo alone decides when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

PATIENCE: Final = 30.0
"""Seconds after which something that should have happened never will."""
GRACE: Final = 4.0
"""Seconds that a process has to end by itself."""
LOOK_AGAIN: Final = 0.02


class Failed(Exception):
    """A step did not do what it should. The message is for people."""


class Child:
    """`python -m MODULE ...`, with its output in files."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self._arguments = [sys.executable, "-m", *arguments]
        self._output = folder / f"{name}.out"
        self._errors = folder / f"{name}.err"
        self._process: subprocess.Popen[bytes] | None = None
        self.name = name

    def start(self) -> Self:
        """Start it, with empty files."""
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
            )
        return self

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """The end of what it has said on standard error."""
        text = self._errors.read_text(errors="replace") if self._errors.exists() else ""
        return "\n".join(text.splitlines()[-20:])

    async def line(self, begin: str) -> str:
        """The first line of its output that begins so. Raises Failed."""
        until = time.monotonic() + PATIENCE
        while True:
            for line in self.output.splitlines(keepends=True):
                if line.startswith(begin) and line.endswith("\n"):
                    return line.strip()
            if self._running.poll() is not None:
                raise Failed(f"{self.name} ended with status {self._running.returncode}:\n{self.errors}")
            if time.monotonic() > until:
                raise Failed(f"{self.name} did not start within {PATIENCE:.0f} s:\n{self.errors}")
            await asyncio.sleep(LOOK_AGAIN)

    async def result(self) -> str:
        """Its output, once it has ended well. Raises Failed."""
        until = time.monotonic() + PATIENCE
        while (status := self._running.poll()) is None:
            if time.monotonic() > until:
                raise Failed(f"{self.name} did not end within {PATIENCE:.0f} s")
            await asyncio.sleep(LOOK_AGAIN)
        if status:
            raise Failed(f"{self.name} ended with status {status}:\n{self.errors}")
        return self.output

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self._running.kill()
        self._running.wait()

    def end(self) -> None:
        """SIGTERM, then SIGKILL; nothing is left afterwards."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise Failed(f"{self.name} was not started")
        return self._process
