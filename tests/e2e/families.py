"""A parent process and its workers, seen from outside by proc(5): who there is, and who serves which connection."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.e2e.processes import Process, wait_for

_ESTABLISHED = "01"


def children(pid: int) -> list[int]:
    """The processes that it has started and that still live."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if _lives(int(each))]
    except FileNotFoundError:
        return []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int]) -> bool | None:
    """For wait_for: none of them lives any more."""
    return None if any(map(_lives, pids)) else True


def workers(process: Process, count: int) -> list[int]:
    """The workers, once there are so many."""

    def look() -> list[int] | None:
        found = children(process.pid)
        return found if len(found) == count else None

    return wait_for(f"{count} workers", look)


def stopped(pid: int) -> bool | None:
    """For wait_for: it was stopped by a signal."""
    return True if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T" else None


def server_of(client_port: int, server_port: int, among: list[int]) -> int:
    """Which of these processes has accepted the connection from `client_port`."""

    def look() -> int | None:
        inode = _inode(client_port, server_port)
        return next((pid for pid in among if inode is not None and inode in _inodes(pid)), None)

    return wait_for("the acceptance of a connection", look)


def _inode(client_port: int, server_port: int) -> str | None:
    """Of the server's end of a connection on loopback; None as long as nobody has accepted it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(each.partition(":")[2], 16) for each in fields[1:3])
        if (local, remote, fields[3]) == (server_port, client_port, _ESTABLISHED):
            return fields[9] if fields[9] != "0" else None
    return None


def _inodes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(str(each.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found
