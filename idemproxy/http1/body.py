"""Bodies taken out of their framing (RFC 9112, sections 6 and 7), piece by piece as they come, none kept."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import ClassVar, Final, assert_never

from idemproxy.errors import IdemproxyError
from idemproxy.http1.heads import Chunked, Framing, Length, NoBody, UntilClose, field_section
from idemproxy.idempotency.messages import Fields

MAX_SIZE_LINE: Final = 4_096
"""Octets of a chunk's size and extensions."""

MAX_TRAILERS: Final = 16_384
"""Octets of the trailer section."""

_TRAILERS_END: Final = re.compile(rb"\n\r?\n")


class CutShort(IdemproxyError):
    """The connection ended before the body did."""


class BadBody(IdemproxyError):
    """A body in a chunked coding that readers could take in different ways. The message holds nothing of what was sent."""


class _At(Enum):
    COUNTED = auto()
    SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()


class BodyReader:
    """Reads one request's body. `rest` is what came behind its end; `trailers` are there once it is complete."""

    _size_line: ClassVar[re.Pattern[bytes]] = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")

    def __init__(self, framing: Framing) -> None:
        self.rest = b""
        self.trailers: Fields = ()
        self._left = 0
        self._held = b""
        match framing:
            case Length(octets):
                self._left = octets
                self._at = _At.COUNTED if octets else _At.DONE
            case Chunked():
                self._at = _At.SIZE
            case UntilClose():
                self._at = _At.UNTIL_CLOSE
            case NoBody():
                self._at = _At.DONE
            case other:
                assert_never(other)

    @property
    def complete(self) -> bool:
        """The body's end was seen."""
        return self._at is _At.DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the payload in `data`, none empty. Raises BadBody."""
        match self._at:
            case _At.COUNTED:
                return self._counted(data)
            case _At.UNTIL_CLOSE:
                return [data] if data else []
            case _At.DONE:
                self.rest += data
                return []
            case _:
                return self._chunked(data)

    def end(self) -> None:
        """The connection ended here. Raises CutShort where the body did not."""
        if self._at is _At.UNTIL_CLOSE:
            self._at = _At.DONE
        if self._at is not _At.DONE:
            raise CutShort("The connection was closed before the body's end.")

    def _counted(self, data: bytes) -> list[bytes]:
        if len(data) >= self._left:
            self._at = _At.DONE
            self.rest = data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        return [data] if data else []

    def _chunked(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        if self._held:
            data = self._held + data
            self._held = b""
        position, length = 0, len(data)
        while position < length:
            match self._at:
                case _At.CHUNK:
                    piece = data[position : position + self._left]
                    pieces.append(piece)
                    position += len(piece)
                    self._left -= len(piece)
                    if not self._left:
                        self._at = _At.CHUNK_END
                    continue
                case _At.SIZE:
                    past = self._size(data, position)
                case _At.CHUNK_END:
                    past = self._chunk_end(data, position)
                case _At.TRAILERS:
                    past = self._trailers(data, position)
                case _:
                    self.rest = data[position:]
                    break
            if past < 0:
                self._held = data[position:]
                break
            position = past
        return pieces

    def _size(self, data: bytes, start: int) -> int:
        """Read a chunk's size line: the index past it, or -1 where it has not come whole."""
        stop = data.find(b"\n", start, start + MAX_SIZE_LINE)
        if stop < 0:
            if len(data) - start >= MAX_SIZE_LINE:
                raise BadBody(f"A chunk's size line is longer than the {MAX_SIZE_LINE} bytes that are allowed.")
            return -1
        found = self._size_line.fullmatch(data, start, stop - 1) if stop > start and data[stop - 1] == 0x0D else None
        if found is None:
            raise BadBody("A chunk's size is not one to sixteen hexadecimal digits in a line ended by CRLF.")
        self._left = int(found[1], 16)
        self._at = _At.CHUNK if self._left else _At.TRAILERS
        return stop + 1

    def _chunk_end(self, data: bytes, start: int) -> int:
        end = data[start : start + 2]
        if end == b"\r\n":
            self._at = _At.SIZE
            return start + 2
        if end == b"\r":
            return -1
        raise BadBody("A chunk is longer than its size says.")

    def _trailers(self, data: bytes, start: int) -> int:
        """Read the trailer section: the index past it, or -1 where it has not come whole."""
        if data.startswith((b"\r\n", b"\n"), start):
            stop = data.index(b"\n", start) + 1
        else:
            found = _TRAILERS_END.search(data, start)
            stop = -1 if found is None else found.end()
        if (stop if stop >= 0 else len(data)) - start > MAX_TRAILERS:
            raise BadBody(f"The trailer section is longer than the {MAX_TRAILERS} bytes that are allowed.")
        if stop < 0:
            return -1
        trailers = field_section(data[start:stop])
        if trailers is None:
            raise BadBody("A trailer field is malformed.")
        self.trailers = trailers
        self._at = _At.DONE
        return stop


class AnswerBodyReader(BodyReader):
    """Reads one answer's body. Blanks behind a chunk's size are taken: old servers pad sizes with them, and no reader takes them for
    anything else."""

    _size_line = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
