"""The memory of a running process, as the kernel counts it (proc(5)). All sizes are in bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path


class Memory:
    """What a process takes beyond what it took when this was made."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            # The peak begins anew here; where the kernel refuses, that of the process's start counts, which is the stricter.
            (self._folder / "clear_refs").write_text("5")
        self.before = self.now

    @property
    def now(self) -> int:
        """Resident now."""
        return self._field("VmRSS")

    @property
    def grown(self) -> int:
        """The most that was resident at any time, less what was before."""
        return self._field("VmHWM") - self.before

    def _field(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self._folder}/status has no {name}")


def mb(octets: float) -> str:
    """For a report: in units of 1,000,000 bytes."""
    return f"{octets / 1e6:,.1f} MB"
