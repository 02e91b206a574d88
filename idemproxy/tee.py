"""A streamed answer on its way to its client while it is recorded: bounded, and never in the recording's way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

BUFFERED: Final = 1 << 20
"""Bytes that wait for a slow client before the upstream is held back."""


class Broken(Exception):
    """The answer will not be whole: its client must see it cut."""


class Tee:
    """One writer (the owner), one reader (the client's connection). A reader that is gone or too slow is left behind: the writer
    goes on without it. The end is held back until it is let go, so that nobody holds a whole answer before it is recorded."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self._pieces = deque(pieces)
        self._size = sum(map(len, self._pieces))
        self._trailers: bytes | None = None
        self._held = True
        self._last = b""
        self._broken = False
        self._left = False
        self._moved = asyncio.Event()

    async def put(self, piece: bytes, patience: float) -> None:
        """Hand a piece on, waiting up to `patience` seconds (0: as long as it takes) for a slow reader; then it is left behind."""
        if self._left:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        self._moved.set()
        if not await self._until(lambda: self._left or self._size <= BUFFERED, patience):
            self.leave()

    def hold(self, piece: bytes) -> None:
        """The piece that makes a body of known length whole: handed on when the end is let go."""
        self._last = piece

    def finish(self, trailers: bytes) -> None:
        """The answer is whole."""
        self._trailers = trailers

    def let_go(self) -> None:
        """The reader may learn how the answer ended."""
        self._held = False
        if self._last and not self._left:
            self._pieces.append(self._last)
        self._last = b""
        self._moved.set()

    def cut(self) -> None:
        """The answer ends here, and is not whole."""
        self._broken = True
        self._moved.set()

    def leave(self) -> None:
        """The reader is gone or left behind: nothing waits for it any more."""
        self._left = self._broken = True
        self._pieces.clear()
        self._size = 0
        self._moved.set()

    async def get(self) -> bytes | None:
        """The next piece, or None at the end. Raises Broken where the answer will not be whole."""
        await self._until(
            lambda: bool(self._pieces) or self._broken or (self._trailers is not None and not self._held), 0
        )
        if self._pieces:
            piece = self._pieces.popleft()
            self._size -= len(piece)
            self._moved.set()
            return piece
        if self._broken:
            raise Broken
        return None

    @property
    def trailers(self) -> bytes:
        """The trailer lines, once `get` gave None."""
        return self._trailers or b""

    async def _until(self, true: Callable[[], bool], patience: float) -> bool:
        try:
            async with asyncio.timeout(patience or None):
                while not true():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True
