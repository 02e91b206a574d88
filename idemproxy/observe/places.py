"""Memory that outlives the worker process that counts in it.

The parent makes a place for each worker before it forks: files without a name, inherited by every worker, so that nothing is left behind
however the processes end. A place holds cells (whole numbers of 8 bytes, in chunks) and a list of names, in lines."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
from typing import Final, Protocol

from idemproxy.errors import StartError

CHUNK_CELLS: Final = 8192
"""Cells that are mapped at once."""
CHUNK_BYTES: Final = CHUNK_CELLS * 8
"""64 KiB: a multiple of every page size in use."""

_TAKEN, _ALIVE = 0, 1
"""Bytes of the list that a worker locks: it has the place; and what its gauges say holds."""


class Place(Protocol):
    """The memory of one worker."""

    def take(self) -> None:
        """This process is the place's worker until it ends. Raises StartError where another one is."""

    def begin(self) -> None:
        """From now on this worker is alive."""

    def is_alive(self) -> bool:
        """Whether a worker has begun and has not ended. Never asked of one's own."""

    def lines(self, start: int) -> bytes:
        """The list of names, from that byte on."""

    def add(self, line: bytes, at: int) -> None:
        """Write a line there, over what may be left of one that was never finished. Raises OSError where there is no room."""

    def written(self, chunk: int) -> memoryview:
        """Those cells, to be added to. Raises OSError where there is no room."""

    def seen(self, chunk: int) -> memoryview:
        """Those cells of another process, to be read."""


class OwnPlace:
    """The memory of a process that has no others beside it. It goes with the process."""

    def __init__(self) -> None:
        self._lines = bytearray()
        self._chunks: list[memoryview] = []

    def take(self) -> None:
        """Nobody else can have it."""

    def begin(self) -> None:
        """Nobody else asks."""

    def is_alive(self) -> bool:
        return True

    def lines(self, start: int) -> bytes:
        return bytes(self._lines[start:])

    def add(self, line: bytes, at: int) -> None:
        self._lines[at : at + len(line)] = line

    def written(self, chunk: int) -> memoryview:
        while len(self._chunks) <= chunk:
            self._chunks.append(memoryview(bytearray(CHUNK_BYTES)).cast("q"))
        return self._chunks[chunk]

    def seen(self, chunk: int) -> memoryview:
        return self._chunks[chunk].toreadonly()


class SharedPlace:
    """Memory that is shared with every process forked after it was made.

    Whether its worker lives is told by locks of the process, which the kernel drops when the process ends. They stand on the list,
    which is never mapped: giving back a mapping closes a descriptor of its file, and closing any descriptor of a file drops the
    process's locks on it (fcntl(2))."""

    def __init__(self) -> None:
        self._list = _nameless_file("names")
        self._values = _nameless_file("cells")

    def take(self) -> None:
        try:
            fcntl.lockf(self._list, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _TAKEN)
        except OSError as error:
            raise StartError("the metrics of this worker are still in use by another one: end it first") from error

    def begin(self) -> None:
        # Waits for readers only, each of which asks for an instant whether somebody lives here.
        fcntl.lockf(self._list, fcntl.LOCK_EX, 1, _ALIVE)

    def is_alive(self) -> bool:
        try:
            fcntl.lockf(self._list, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _ALIVE)
        except OSError:
            return True
        fcntl.lockf(self._list, fcntl.LOCK_UN, 1, _ALIVE)
        return False

    def lines(self, start: int) -> bytes:
        return os.pread(self._list, max(0, os.fstat(self._list).st_size - start), start)

    def add(self, line: bytes, at: int) -> None:
        os.pwrite(self._list, line, at)

    def written(self, chunk: int) -> memoryview:
        _reserve(self._values, (chunk + 1) * CHUNK_BYTES)
        return memoryview(mmap.mmap(self._values, CHUNK_BYTES, offset=chunk * CHUNK_BYTES)).cast("q")

    def seen(self, chunk: int) -> memoryview:
        found = mmap.mmap(self._values, CHUNK_BYTES, access=mmap.ACCESS_READ, offset=chunk * CHUNK_BYTES)
        return memoryview(found).cast("q")

    def close(self) -> None:
        """Give the files back: the parent's last act with them. What a worker mapped stays."""
        os.close(self._list)
        os.close(self._values)


def _nameless_file(what: str) -> int:
    """A descriptor of a file in memory; of a file on disk where the system knows or allows no other."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.memfd_create(f"idemproxy-{what}")
    with tempfile.TemporaryFile(prefix="idemproxy-") as file:
        return os.dup(file.fileno())


def _reserve(file: int, size: int) -> None:
    """Make the file that large. Where there is no room, this is an error; a sparse file would be a deadly signal at some later add."""
    if sys.platform == "darwin":
        os.ftruncate(file, max(size, os.fstat(file).st_size))
    else:
        os.posix_fallocate(file, 0, size)
