"""What was on a wire, taken apart by a small lenient reading of RFC 9112 that shares no code with the product.

Nothing is tidied: lines are kept as they came, with their blanks and folds. Only the sizes of chunks are not part of what was seen,
since they need not be kept (FORWARDING.md, point 6); what stands behind a size is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_LINE_END: Final = re.compile(rb"\r?\n(?![ \t])")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,16})([ \t]*(?:;[^\r\n\0]*)?)\r")
_FIELD_LINE: Final = re.compile(rb"[^\s:]+:[^\r\n\0]*\r")
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})")


@dataclass(frozen=True, slots=True)
class Head:
    """`fields` are lines without their ends; a folded one is one line with its folds. `bare`: some line ended with LF alone."""

    line: bytes
    fields: tuple[bytes, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A body out of its framing. `extensions` is what stood behind chunk sizes; `whole`: its end was seen."""

    data: bytes = b""
    trailers: tuple[bytes, ...] = ()
    extensions: tuple[bytes, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that reached the upstream. `before`: empty lines in front of it."""

    head: Head
    body: Body
    before: bytes = b""


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """An answer that reached the client, with the interim ones before it."""

    head: Head
    body: Body
    interim: tuple[Head, ...] = ()

    @property
    def status(self) -> int:
        """Its status code, 0 for what has none."""
        found = _STATUS_LINE.match(self.head.line)
        return int(found[1]) if found else 0


class Ended(Enum):
    """What became of a connection."""

    NOT = auto()
    CLOSED = auto()
    RESET = auto()


class _Kind(Enum):
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    BROKEN = auto()


_Framing = _Kind | int


def name(line: bytes) -> bytes:
    """A field line's name in lower case, blanks before the colon left out."""
    return line.partition(b":")[0].strip(b" \t").lower()


def value(line: bytes) -> bytes:
    """A field line's value without the blanks around it."""
    return line.partition(b":")[2].strip(b" \t\r\n")


def values(fields: Sequence[bytes], called: bytes) -> list[bytes]:
    """The values of every field of that name (lower case)."""
    return [value(line) for line in fields if name(line) == called]


def head_end(data: bytes) -> int:
    """The index past the first head, or -1."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    found = _HEAD_END.search(data, start)
    return -1 if found is None else found.end()


def _head(block: bytes) -> Head:
    bare = _BARE_LF.search(block) is not None
    line, *fields = _LINE_END.split(_HEAD_END.sub(b"", block))
    return Head(line, tuple(fields), bare)


# ------------------------------------------------------------------------------------------------------------------------ requests


def read_request(data: bytes, *, ended: Ended) -> tuple[SeenRequest, int] | None:
    """The first request in `data` and where it ends; None where more must come."""
    before = len(data) - len(data.lstrip(b"\r\n"))
    end = head_end(data)
    if end < 0:
        return (SeenRequest(Head(data, ()), Body(whole=False)), len(data)) if ended is not Ended.NOT else None
    head = _head(data[before:end])
    read = _body(data[end:], _request_framing(head), ended)
    return None if read is None else (SeenRequest(head, read[0], data[:before]), end + read[1])


def head_of_request(data: bytes) -> SeenRequest:
    """A request of which only the head counts."""
    before = len(data) - len(data.lstrip(b"\r\n"))
    return SeenRequest(_head(data[before : head_end(data)]), Body(), data[:before])


def _request_framing(head: Head) -> _Framing:
    if any(b"chunked" in each.lower() for each in values(head.fields, b"transfer-encoding")):
        return _Kind.CHUNKED
    lengths = values(head.fields, b"content-length")
    if not lengths:
        return 0
    return int(lengths[0]) if lengths[0].isdigit() else _Kind.BROKEN


# ------------------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers read so far, and what is behind them. `done`: as many as were asked for, or no more can be told apart."""

    seen: tuple[SeenAnswer, ...]
    rest: bytes
    done: bool


def read_answers(data: bytes, methods: Sequence[bytes], *, ended: Ended) -> Answers:
    """The answers in `data` to requests of those methods, in order."""
    seen: list[SeenAnswer] = []
    for method in methods:
        read = _answer(data, method, ended)
        if read is None:
            return Answers(tuple(seen), data, ended is not Ended.NOT)
        answer, size = read
        seen.append(answer)
        data = data[size:]
        if not answer.body.whole:
            return Answers(tuple(seen), b"", True)
        if answer.status == 101:
            break
    return Answers(tuple(seen), data, True)


def _answer(data: bytes, method: bytes, ended: Ended) -> tuple[SeenAnswer, int] | None:
    interim: list[Head] = []
    start = 0
    while (size := head_end(data[start:])) >= 0:
        head = _head(data[start : start + size])
        start += size
        status = _STATUS_LINE.match(head.line)
        if status is not None and status[1].startswith(b"1") and status[1] != b"101":
            interim.append(head)
            continue
        read = _body(data[start:], _answer_framing(head, method), ended)
        return None if read is None else (SeenAnswer(head, read[0], tuple(interim)), start + read[1])
    if ended is not Ended.NOT and (data[start:] or interim):
        return SeenAnswer(Head(data[start:], ()), Body(whole=False), tuple(interim)), len(data)
    return None


def _answer_framing(head: Head, method: bytes) -> _Framing:
    status = _STATUS_LINE.match(head.line)
    if status is None:
        return _Kind.BROKEN
    if method == b"HEAD" or status[1] in (b"101", b"204", b"304"):
        return 0
    if any(b"chunked" in each.lower() for each in values(head.fields, b"transfer-encoding")):
        return _Kind.CHUNKED
    lengths = values(head.fields, b"content-length")
    if not lengths:
        return _Kind.UNTIL_CLOSE
    first = lengths[0].partition(b",")[0]
    return int(first) if first.isdigit() else _Kind.BROKEN


# -------------------------------------------------------------------------------------------------------------------------- bodies


def _body(data: bytes, framing: _Framing, ended: Ended) -> tuple[Body, int] | None:
    match framing:
        case _Kind.CHUNKED:
            return _chunked(data, ended)
        case _Kind.UNTIL_CLOSE:
            return (Body(data, whole=ended is Ended.CLOSED), len(data)) if ended is not Ended.NOT else None
        case _Kind.BROKEN:
            return Body(data, whole=False), len(data)
        case int(size):
            if len(data) >= size:
                return Body(data[:size]), size
            return (Body(data, whole=False), len(data)) if ended is not Ended.NOT else None


def _chunked(data: bytes, ended: Ended) -> tuple[Body, int] | None:
    """Strict where readers differ: what is no chunk ends the reading, and the body is not whole."""
    pieces: list[bytes] = []
    extensions: list[bytes] = []
    at = 0
    while (stop := data.find(b"\n", at)) >= 0:
        line = data[at:stop]
        size = _SIZE_LINE.fullmatch(line)
        if size is None:
            return Body(b"".join(pieces), extensions=tuple(extensions), whole=False), len(data)
        at = stop + 1
        if size[2]:
            extensions.append(size[2])
        octets = int(size[1], 16)
        if not octets:
            return _trailers(data, at, Body(b"".join(pieces), extensions=tuple(extensions)), ended)
        pieces.append(data[at : at + octets])
        at += octets
        if len(data) >= at + 2 and data[at : at + 2] != b"\r\n":
            return Body(b"".join(pieces), extensions=tuple(extensions), whole=False), len(data)
        at += 2
    return (
        (Body(b"".join(pieces), extensions=tuple(extensions), whole=False), len(data))
        if ended is not Ended.NOT
        else None
    )


def _trailers(data: bytes, at: int, body: Body, ended: Ended) -> tuple[Body, int] | None:
    lines: list[bytes] = []
    while (stop := data.find(b"\n", at)) >= 0:
        line = data[at:stop]
        at = stop + 1
        if line == b"\r":
            return Body(body.data, tuple(lines), body.extensions), at
        if not _FIELD_LINE.fullmatch(line):
            return Body(body.data, tuple(lines), body.extensions, whole=False), len(data)
        lines.append(line[:-1])
    return (Body(body.data, tuple(lines), body.extensions, whole=False), len(data)) if ended is not Ended.NOT else None
