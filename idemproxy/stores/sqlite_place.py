"""What an operator should know of the place where a SQLite file is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\d|smbfs|ceph|afs|9p|glusterfs|lustre|fuse\.(sshfs|glusterfs|s3fs|rclone)"
)
_MEMORY: Final = ("tmpfs", "ramfs")
_MOUNTS: Final = Path("/proc/self/mountinfo")


def warnings_about(path: str, mounts: Path = _MOUNTS) -> tuple[str, ...]:
    """Sentences on the file system that holds `path`; none where it cannot be told."""
    kind = _file_system(Path(path).resolve(), mounts)
    if kind in _MEMORY:
        return (
            f"{path} is in memory ({kind}): a restart of the machine loses every record; name a file on a disk or a volume",
        )
    if _NETWORK.fullmatch(kind):
        return (
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold between machines: use a local disk, or Redis",
        )
    return ()


def _file_system(path: Path, mounts: Path) -> str:
    """The type of the innermost mount over the path (proc(5), /proc/pid/mountinfo)."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    innermost, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4]))
        # A later mount on the same point covers an earlier one.
        if path.is_relative_to(point) and len(point.parts) >= innermost:
            innermost, kind = len(point.parts), after.split(" ")[0]
    return kind
