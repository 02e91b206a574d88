"""A long body on its way from a source to a sink, either of which stands still now and then.

The body is one block over and over, so that it is made and checked at the speed of a memory compare. The block's length is prime: what
is lost, doubled or swapped on the way no longer fits, wherever it happened."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from io import BufferedReader
from typing import Final

DEADLINE: Final = 60.0
"""Seconds without any progress that fail a test."""
STILL: Final = 0.2
"""Seconds without progress after which an end counts as held back."""
PIECE: Final = 262_144

_PERIOD: Final = 1_000_003
_BLOCK: Final = random.Random(4).randbytes(_PERIOD) * 2


class Broken(AssertionError):
    """What arrived is not what was sent."""


class Framing(Enum):
    """How the body is framed."""

    LENGTH = auto()
    CHUNKED = auto()


class End(Enum):
    """Who stands still."""

    SOURCE = auto()
    SINK = auto()


@dataclass(frozen=True, slots=True)
class Stop:
    """At that many bytes, `who` stands still: the source until the sink has all that was sent, the sink until the source is held back."""

    at: int
    who: End


def stops(total: int, each: int) -> tuple[Stop, ...]:
    """In the first third of a body the sink stops so many times, in the second the source does; the last one is free."""
    third = total // 3
    return tuple(
        Stop(begin + third * number // each, who)
        for begin, who in ((0, End.SINK), (third, End.SOURCE))
        for number in range(1, each + 1)
    )


class Flow:
    """One body of `total` bytes. `source` and `sink` run in threads of their own, on connections of their own."""

    def __init__(self, total: int, framing: Framing, stopping: tuple[Stop, ...] = ()) -> None:
        self.total = total
        self.framing = framing
        self.sent = 0
        self.received = 0
        self.held = 0
        """The most bytes that were on their way while the sink stood still."""
        self.over = threading.Event()
        """The sink had all of it, or failed."""
        self._stopping = stopping

    @property
    def field(self) -> bytes:
        """The header field that says the framing."""
        match self.framing:
            case Framing.LENGTH:
                return b"Content-Length: %d\r\n" % self.total
            case Framing.CHUNKED:
                return b"Transfer-Encoding: chunked\r\n"

    def source(self, connection: socket.socket) -> None:
        """Send the body."""
        places = [stop.at for stop in self._stopping if stop.who is End.SOURCE]
        block = memoryview(_BLOCK)
        while self.sent < self.total:
            if places and self.sent >= places[0]:
                places.pop(0)
                self._until(lambda: self.received == self.sent, "the sink has all that was sent")
            at = self.sent % _PERIOD
            piece = block[at : at + min(PIECE, self.total - self.sent)]
            if self.framing is Framing.CHUNKED:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)))
            else:
                connection.sendall(piece)
            self.sent += len(piece)
        if self.framing is Framing.CHUNKED:
            connection.sendall(b"0\r\n\r\n")

    def sink(self, stream: BufferedReader) -> None:
        """Receive the body and check each byte of it. Raises Broken."""
        places = [stop.at for stop in self._stopping if stop.who is End.SINK]
        try:
            for piece in self._pieces(stream):
                if not _BLOCK.startswith(piece, self.received % _PERIOD):
                    raise Broken(
                        f"another byte than was sent, between {self.received} and {self.received + len(piece)}"
                    )
                self.received += len(piece)
                if places and self.received >= places[0]:
                    places.pop(0)
                    self._until_still()
            if self.received != self.total:
                raise Broken(f"{self.received} bytes of {self.total}")
        finally:
            self.over.set()

    def _pieces(self, stream: BufferedReader) -> Iterator[bytes]:
        return _counted(stream, self.total) if self.framing is Framing.LENGTH else _chunked(stream)

    def _until(self, true: Callable[[], bool], what: str) -> None:
        by = time.monotonic() + DEADLINE
        while not true():
            if self.over.is_set() or time.monotonic() > by:
                raise Broken(f"never: {what}; {self.sent} sent, {self.received} received")
            time.sleep(0.002)

    def _until_still(self) -> None:
        """Until nothing more leaves the source: everything between the ends is full."""
        by = time.monotonic() + DEADLINE
        seen, since = self.sent, time.monotonic()
        while time.monotonic() - since < STILL and self.sent < self.total and time.monotonic() < by:
            if self.sent != seen:
                seen, since = self.sent, time.monotonic()
            time.sleep(0.005)
        self.held = max(self.held, self.sent - self.received)


def _counted(stream: BufferedReader, total: int) -> Iterator[bytes]:
    left = total
    while left:
        piece = stream.read1(min(PIECE, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _chunked(stream: BufferedReader) -> Iterator[bytes]:
    while size := int(stream.readline(), 16):
        yield from _counted(stream, size)
        if stream.readline() != b"\r\n":
            raise Broken("a chunk of another size")
    if stream.readline() != b"\r\n":
        raise Broken("trailers that nobody sent")
