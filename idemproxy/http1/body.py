"""Bodies, read piece by piece as their bytes come (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, assert_never

from idemproxy.errors import IdemproxyError
from idemproxy.http1.heads import Chunked, Framing, Length, NoBody, UntilClose
from idemproxy.idempotency.messages import Fields

MAX_CHUNK_LINE: Final = 4_096
MAX_TRAILERS: Final = 16_384


class CutShort(IdemproxyError):
    """The connection ended before the body did."""


class BadBody(IdemproxyError):
    """The body's framing cannot be read."""


class _At(Enum):
    PAYLOAD = auto()
    SIZE = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    END = auto()


_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


class BodyReader:
    """Feed it what comes after a head. It gives the body's pieces, knows when the body is whole, and keeps what came behind it."""

    def __init__(self, framing: Framing) -> None:
        self.trailers: Fields = ()
        self._framing = framing
        self._buffer = bytearray()
        self._left = 0
        match framing:
            case NoBody():
                self._at = _At.END
            case Length(octets):
                self._left = octets
                self._at = _At.PAYLOAD if octets else _At.END
            case Chunked():
                self._at = _At.SIZE
            case UntilClose():
                self._at = _At.PAYLOAD
            case other:
                assert_never(other)

    @property
    def complete(self) -> bool:
        """The body is whole."""
        return self._at is _At.END

    @property
    def rest(self) -> bytes:
        """What came behind the body."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that `data` brought. Raises BadBody."""
        if self._at is _At.END:
            self._buffer += data
            return []
        match self._framing:
            case UntilClose():
                return [data] if data else []
            case Length():
                return self._feed_length(data)
            case _:
                self._buffer += data
                return self._feed_chunks()

    def end(self) -> None:
        """The connection ended. Raises CutShort where the body is not whole by that."""
        if isinstance(self._framing, UntilClose):
            self._at = _At.END
        if self._at is not _At.END:
            raise CutShort("the connection ended before the body did")

    def _feed_length(self, data: bytes) -> list[bytes]:
        piece = data if len(data) <= self._left else data[: self._left]
        self._left -= len(piece)
        if not self._left:
            self._at = _At.END
            self._buffer += data[len(piece) :]
        return [piece] if piece else []

    def _feed_chunks(self) -> list[bytes]:
        pieces: list[bytes] = []
        while True:
            match self._at:
                case _At.SIZE:
                    line = self._line(MAX_CHUNK_LINE)
                    if line is None:
                        return pieces
                    self._begin_chunk(line)
                case _At.PAYLOAD:
                    if not self._buffer:
                        return pieces
                    piece = bytes(self._buffer[: self._left])
                    del self._buffer[: len(piece)]
                    pieces.append(piece)
                    self._left -= len(piece)
                    if not self._left:
                        self._at = _At.CHUNK_END
                case _At.CHUNK_END:
                    if len(self._buffer) < 2:
                        if self._buffer and self._buffer[0] != 13:
                            raise BadBody("a chunk is longer than it says")
                        return pieces
                    if self._buffer[:2] != b"\r\n":
                        raise BadBody("a chunk is longer than it says")
                    del self._buffer[:2]
                    self._at = _At.SIZE
                case _At.TRAILERS:
                    if not self._read_trailers():
                        return pieces
                case _At.END:
                    return pieces
                case other:
                    assert_never(other)

    def _begin_chunk(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BadBody("a chunk's size is malformed")
        self._left = int(found[1], 16)
        self._at = _At.PAYLOAD if self._left else _At.TRAILERS

    def _line(self, limit: int) -> bytes | None:
        at = self._buffer.find(b"\n", 0, limit)
        if at < 0:
            if len(self._buffer) >= limit:
                raise BadBody("a chunk's line is too long")
            return None
        if at == 0 or self._buffer[at - 1] != 13:
            raise BadBody("a chunk's line ends with a bare line feed")
        line = bytes(self._buffer[: at - 1])
        del self._buffer[: at + 1]
        return line

    def _read_trailers(self) -> bool:
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
            self._at = _At.END
            return True
        at = self._buffer.find(b"\r\n\r\n", 0, MAX_TRAILERS)
        if at < 0:
            if len(self._buffer) >= MAX_TRAILERS:
                raise BadBody("the trailers are too large")
            return False
        block = bytes(self._buffer[:at])
        del self._buffer[: at + 4]
        trailers = []
        for line in block.split(b"\r\n"):
            found = _TRAILER.fullmatch(line)
            if found is None:
                raise BadBody("a trailer is malformed")
            trailers.append((found[1], found[2].rstrip(b" \t")))
        self.trailers = tuple(trailers)
        self._at = _At.END
        return True
