"""Whole numbers that each worker process adds to for itself, and that any of them sums over all, at once.

Cells are handed out in blocks, in the order in which they are asked for, and never given back. Each block has a line in its place's
list of names; where it begins follows from the lines before it. A block's memory is there before its line is, and the list only
grows: who reads it meanwhile reads whole lines, and is never wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from idemproxy.observe.places import CHUNK_CELLS, OwnPlace, Place, SharedPlace

Name = tuple[str, ...]
"""A metric's name, and the values of its labels."""


class Kind(Enum):
    """What becomes of cells when their worker dies: a counter's stand, a gauge's say nothing any more."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Block:
    """Cells that belong together: `width` of them, from `cells[at]` on."""

    kind: Kind
    name: Name
    width: int
    cells: memoryview
    at: int

    def values(self) -> list[int]:
        """What they hold now."""
        return self.cells[self.at : self.at + self.width].tolist()

    def clear(self) -> None:
        """Make them zeros."""
        for cell in range(self.at, self.at + self.width):
            self.cells[cell] = 0


class _Blocks:
    """The blocks of one place, in the order of its list. `chunk` maps some of its cells."""

    def __init__(self, chunk: Callable[[int], memoryview]) -> None:
        self._chunk = chunk
        self._chunks: list[memoryview] = []
        self._blocks: list[Block] = []
        self._free = 0

    def room(self, width: int) -> tuple[memoryview, int]:
        """Where the next block is to be, mapped."""
        chunk, at = divmod(_first(self._free, width), CHUNK_CELLS)
        while len(self._chunks) <= chunk:
            self._chunks.append(self._chunk(len(self._chunks)))
        return self._chunks[chunk], at

    def enter(self, kind: Kind, name: Name, width: int) -> Block:
        """The next block."""
        block = Block(kind, name, width, *self.room(width))
        self._free = _first(self._free, width) + width
        self._blocks.append(block)
        return block

    def all(self) -> list[Block]:
        """Every block so far: a copy, which another thread may go through."""
        return self._blocks[:]


class _Mine:
    """The blocks of this process. One thread adds, any may read."""

    def __init__(self, place: Place) -> None:
        place.take()
        listed = _whole(place.lines(0))
        self._place = place
        self._end = len(listed)
        self._blocks = _Blocks(place.written)
        self._named = {
            block.name: block for block in [self._blocks.enter(*_read(line)) for line in listed.splitlines()]
        }
        self.inherited = bool(self._named)
        for block in self._named.values():
            if block.kind is Kind.GAUGE:
                block.clear()
        place.begin()

    def block(self, kind: Kind, name: Name, width: int) -> Block:
        """The block of that name; new, and all zeros, where there was none."""
        if (found := self._named.get(name)) is not None:
            return found
        self._blocks.room(width)
        line = json.dumps([kind.value, width, *name]).encode() + b"\n"
        self._place.add(line, self._end)
        self._end += len(line)
        self._named[name] = made = self._blocks.enter(kind, name, width)
        return made

    def blocks(self) -> list[Block]:
        """Every block so far."""
        return self._blocks.all()


class _Theirs:
    """The blocks of another worker, read as far as they are listed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._end = 0
        self._blocks = _Blocks(place.seen)

    def blocks(self) -> list[Block]:
        """Every block so far."""
        new = _whole(self._place.lines(self._end))
        self._end += len(new)
        for line in new.splitlines():
            self._blocks.enter(*_read(line))
        return self._blocks.all()

    def counts(self, kind: Kind) -> bool:
        """Whether cells of that kind hold now."""
        return kind is Kind.COUNTER or self._place.is_alive()


def _first(free: int, width: int) -> int:
    """Where a block begins: not over the edge of a chunk."""
    room = CHUNK_CELLS - free % CHUNK_CELLS
    return free if width <= room else free + room


def _whole(listed: bytes) -> bytes:
    """The lines that are whole: a worker may have died while it wrote one, of which no end of a line is left."""
    return listed[: listed.rfind(b"\n") + 1]


def _read(line: bytes) -> tuple[Kind, Name, int]:
    kind, width, *name = json.loads(line)
    return Kind(kind), tuple(name), width


class Cells:
    """This process's cells, among those of all workers."""

    def __init__(self, places: Sequence[Place], index: int) -> None:
        """Raises StartError where another process has the place."""
        self.places = len(places)
        """How many workers there are to be."""
        self._mine = _Mine(places[index])
        self._theirs = [_Theirs(place) for at, place in enumerate(places) if at != index]
        self._reading = threading.Lock()

    @property
    def inherited(self) -> bool:
        """Whether another worker had this place before."""
        return self._mine.inherited

    def block(self, kind: Kind, name: Name, width: int = 1) -> Block:
        """This process's cells of that name, the same ones at each call. Raises OSError where there is no memory for new ones."""
        return self._mine.block(kind, name, width)

    def sums(self) -> dict[Name, list[int]]:
        """Every name that any worker uses, and its cells' sums over all of them. May be called from any thread."""
        with self._reading:
            sums: dict[Name, list[int]] = {}
            for block, values in self._read():
                found = sums.get(block.name)
                sums[block.name] = values if found is None else [a + b for a, b in zip(found, values, strict=True)]
            return sums

    def _read(self) -> Iterator[tuple[Block, list[int]]]:
        for block in self._mine.blocks():
            yield block, block.values()
        for worker in self._theirs:
            counts = {kind: worker.counts(kind) for kind in Kind}
            for block in worker.blocks():
                yield block, block.values() if counts[block.kind] else [0] * block.width


class Board:
    """The places of all workers. The parent makes it before it forks them, and counts nothing itself."""

    def __init__(self, workers: int) -> None:
        self._places = [SharedPlace() for _ in range(workers)]

    def cells(self, index: int) -> Cells:
        """For the worker of that index, in its own process, once. Raises StartError where another process has the place."""
        return Cells(self._places, index)

    def close(self) -> None:
        """Give the memory back, once no worker is left."""
        for place in self._places:
            place.close()


def own_cells() -> Cells:
    """For a process that has no others beside it."""
    return Cells([OwnPlace()], 0)
