"""`idemproxy demo`: it shows what it promises, ends by itself, and leaves nothing behind, also when it is interrupted."""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import Process, wait_for


class Demo:
    """A demo of its own: its processes bear a mark, its files are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.mark = secrets.token_hex(16)
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        environment = {"IDEMPROXY_DEMO_MARK": self.mark, "TMPDIR": str(self.temporary), "NO_COLOR": "1"}
        self.process = Process(
            [sys.executable, "-m", "idemproxy", "demo"], folder / "transcript", environment=environment
        )

    def running(self) -> set[int]:
        """The processes that bear the mark: the demo, and whatever it started."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (folder / "environ").read_bytes()
            except OSError:
                continue
            if marked:
                found.add(int(folder.name))
        return found

    def left(self) -> tuple[set[int], list[Path]]:
        """What is still there of it."""
        return self.running(), list(self.temporary.iterdir())

    def end(self) -> None:
        """Whatever a failed test leaves."""
        self.process.kill()
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


@pytest.fixture(autouse=True)
def _ended(demo: Demo) -> object:
    yield
    demo.end()


def test_the_demo_shows_every_step_and_what_was_charged(demo: Demo) -> None:
    assert demo.process.start().wait() == 0, demo.process.output()
    transcript = demo.process.output()
    assert re.findall(r"^(\d)\. ", transcript, re.MULTILINE) == list("1234567")
    assert re.findall(r"charges made by the API: (\d+)", transcript) == list("1233344")
    steps = dict(zip("1234567", re.split(r"^\d\. ", transcript, flags=re.MULTILINE)[1:], strict=True))
    assert "Idempotent-Replayed" not in steps["1"]
    assert "Idempotent-Replayed: true" in steps["2"]
    assert "9 replayed" in steps["3"]
    assert "422  key-reused" in steps["4"]
    assert "400  key-missing" in steps["5"]
    assert "409  outcome-unknown" in steps["6"]
    assert "Idempotent-Replayed: true" in steps["7"]
    assert "run --upstream" in transcript
    assert "\x1b" not in transcript
    assert demo.left() == (set(), [])


@pytest.mark.parametrize(
    ("number", "moment", "processes"),
    [
        (signal.SIGINT, "3. The same request", 3),
        (signal.SIGTERM, "the API goes on charging", 2),
    ],
)
def test_an_interrupted_demo_leaves_nothing(demo: Demo, number: signal.Signals, moment: str, processes: int) -> None:
    demo.process.start(moment)
    wait_for("its processes", lambda: len(demo.running()) >= processes or None)
    demo.process.signal(number)
    assert demo.process.wait() == 1
    assert "interrupted" in demo.process.output()
    assert demo.left() == (set(), [])


def test_a_demo_whose_output_nobody_reads_any_more_ends_and_leaves_nothing(demo: Demo, tmp_path: Path) -> None:
    demo.process.arguments[:] = ["sh", "-c", f"{sys.executable} -m idemproxy demo | head -n 3"]
    demo.process.start("payments API").wait()
    wait_for("the end of all of it", lambda: demo.left() == (set(), []) or None)
