"""What differs between two observations of one case, in pieces small enough for each to have a reason of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum, auto
from typing import Final

from tests.differential.client import Observed
from tests.differential.reading import Body, Head, SeenAnswer, SeenRequest, name, value, values


class Where(Enum):
    """What differs. The first half is what the upstream saw, the second what the client saw."""

    REQUEST = auto()
    """A whole request, that came or that did not."""
    EMPTY_LINES = auto()
    REQUEST_LINE_ENDS = auto()
    REQUEST_LINE = auto()
    REQUEST_FIELD = auto()
    REQUEST_BODY = auto()
    REQUEST_EXTENSION = auto()
    REQUEST_TRAILER = auto()
    REQUEST_END = auto()

    ANSWER = auto()
    """A whole answer, that came or that did not."""
    OWN = auto()
    """The proxy answered in its own name: `after` is the status."""
    INTERIM = auto()
    STATUS_LINE = auto()
    LINE_ENDS = auto()
    ANSWER_FIELD = auto()
    ANSWER_BODY = auto()
    ANSWER_EXTENSION = auto()
    ANSWER_TRAILER = auto()
    ANSWER_END = auto()
    REST = auto()
    """Bytes behind the last answer."""


_WHOLE: Final = frozenset(
    {
        Where.REQUEST,
        Where.REQUEST_BODY,
        Where.REQUEST_END,
        Where.ANSWER,
        Where.OWN,
        Where.ANSWER_BODY,
        Where.ANSWER_END,
        Where.REST,
    }
)


@dataclass(frozen=True, slots=True)
class Difference:
    """`before` is what was seen directly, `after` what was seen through the proxy; None: nothing. `index` counts the messages."""

    where: Where
    index: int
    before: bytes | None
    after: bytes | None

    def __str__(self) -> str:
        return f"{self.where.name.lower()} {self.index}: {_short(self.before)} -> {_short(self.after)}"


def _short(seen: bytes | None) -> str:
    if seen is None:
        return "nothing"
    return repr(seen) if len(seen) <= 120 else f"{seen[:100]!r}... ({len(seen)} bytes)"


def differences(direct: Observed, other: Observed) -> tuple[Difference, ...]:
    """Every difference, none where both are the same byte for byte (but for the sizes of chunks)."""
    return (*_requests(direct, other), *_answers(direct, other))


def distance(found: Iterable[Difference]) -> int:
    """How far a proxy is from the direct bytes: a message or body that is another counts for more than any number of lines."""
    return sum(1_000 if difference.where in _WHOLE else 1 for difference in found)


def own_status(answer: SeenAnswer) -> bytes | None:
    """The status of an answer that a proxy gave in its own name: no script has such fields."""
    problem = values(answer.head.fields, b"content-type") == [b"application/problem+json"]
    if problem or (values(answer.head.fields, b"server") == [b"nginx"] and answer.status >= 400):
        return b"%d" % answer.status
    return None


def _requests(direct: Observed, other: Observed) -> Iterator[Difference]:
    for index in range(max(len(direct.requests), len(other.requests))):
        before = direct.requests[index] if index < len(direct.requests) else None
        after = other.requests[index] if index < len(other.requests) else None
        if before is None or after is None:
            yield Difference(Where.REQUEST, index, _line(before), _line(after))
        else:
            yield from _request(index, before, after)


def _line(message: SeenRequest | SeenAnswer | None) -> bytes | None:
    return None if message is None else message.head.line


def _request(index: int, before: SeenRequest, after: SeenRequest) -> Iterator[Difference]:
    yield from _value(Where.EMPTY_LINES, index, before.before, after.before)
    yield from _value(Where.REQUEST_LINE_ENDS, index, _ends(before.head), _ends(after.head))
    yield from _value(Where.REQUEST_LINE, index, before.head.line, after.head.line)
    yield from _lines(Where.REQUEST_FIELD, index, before.head.fields, after.head.fields)
    yield from _bodies(
        index,
        (Where.REQUEST_BODY, Where.REQUEST_EXTENSION, Where.REQUEST_TRAILER, Where.REQUEST_END),
        before.body,
        after.body,
    )


def _answers(direct: Observed, other: Observed) -> Iterator[Difference]:
    for index in range(max(len(direct.answers), len(other.answers))):
        before = direct.answers[index] if index < len(direct.answers) else None
        after = other.answers[index] if index < len(other.answers) else None
        if after is not None and (status := own_status(after)) is not None:
            yield Difference(Where.OWN, index, _line(before), status)
        elif before is None or after is None:
            yield Difference(Where.ANSWER, index, _line(before), _line(after))
        else:
            yield from _answer(index, before, after)
    yield from _value(Where.REST, len(direct.answers), direct.rest, other.rest)


def _answer(index: int, before: SeenAnswer, after: SeenAnswer) -> Iterator[Difference]:
    yield from _lines(Where.INTERIM, index, _joined(before.interim), _joined(after.interim))
    yield from _value(Where.STATUS_LINE, index, before.head.line, after.head.line)
    yield from _value(Where.LINE_ENDS, index, _ends(before.head), _ends(after.head))
    yield from _lines(Where.ANSWER_FIELD, index, before.head.fields, after.head.fields)
    yield from _bodies(
        index,
        (Where.ANSWER_BODY, Where.ANSWER_EXTENSION, Where.ANSWER_TRAILER, Where.ANSWER_END),
        before.body,
        after.body,
    )


def _joined(heads: tuple[Head, ...]) -> tuple[bytes, ...]:
    return tuple(b"\r\n".join((head.line, *head.fields)) for head in heads)


def _ends(head: Head) -> bytes:
    return b"LF" if head.bare else b"CRLF"


def _bodies(index: int, where: tuple[Where, Where, Where, Where], before: Body, after: Body) -> Iterator[Difference]:
    yield from _value(where[0], index, before.data, after.data)
    yield from _lines(where[1], index, before.extensions, after.extensions)
    yield from _lines(where[2], index, before.trailers, after.trailers)
    yield from _value(where[3], index, _end(before), _end(after))


def _end(body: Body) -> bytes:
    return b"whole" if body.whole else b"cut"


def _value(where: Where, index: int, before: bytes, after: bytes) -> Iterator[Difference]:
    if before != after:
        yield Difference(where, index, before, after)


def _lines(where: Where, index: int, before: tuple[bytes, ...], after: tuple[bytes, ...]) -> Iterator[Difference]:
    """Lines in order. A line that moved is one that is gone and one that came; one whose name stayed in its place has changed."""
    for kind, start, stop, first, last in _aligned(before, after):
        if kind == "equal":
            for one, other in zip(before[start:stop], after[first:last], strict=True):
                yield from _value(where, index, one, other)
        else:
            yield from _replaced(where, index, list(before[start:stop]), list(after[first:last]))


_MADE_ANEW: Final = frozenset({b"connection", b"upgrade", b"transfer-encoding"})


def _aligned(before: tuple[bytes, ...], after: tuple[bytes, ...]) -> Sequence[tuple[str, int, int, int, int]]:
    """The opcodes from one to the other. Lines that a hop makes anew are the same only behind the same other line: else it could be
    the others that seem to have moved."""
    sides = [[line for line in lines if name(line) not in _MADE_ANEW] for lines in (before, after)]
    first, second = ([(name(line), value(line)) for line in side] for side in sides)
    paired: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            paired[0][block.a + step] = paired[1][block.b + step] = block.a + step
    return SequenceMatcher(None, _keys(before, paired[0], 0), _keys(after, paired[1], 1), autojunk=False).get_opcodes()


def _keys(lines: tuple[bytes, ...], paired: dict[int, int], side: int) -> list[tuple[object, ...]]:
    keys: list[tuple[object, ...]] = []
    others = 0
    behind: tuple[object, ...] = ()
    for line in lines:
        if name(line) in _MADE_ANEW:
            keys.append((name(line), value(line), behind))
            continue
        if others in paired:
            behind = (paired[others],)
            keys.append(behind)
        else:
            behind = (*behind, name(line))
            keys.append((side, others, "alone"))
        others += 1
    return keys


def _replaced(where: Where, index: int, before: list[bytes], after: list[bytes]) -> Iterator[Difference]:
    for line in before:
        same = next((each for each in after if name(each) == name(line)), None)
        if same is None:
            yield Difference(where, index, line, None)
        else:
            after.remove(same)
            yield Difference(where, index, line, same)
    for line in after:
        yield Difference(where, index, None, line)
