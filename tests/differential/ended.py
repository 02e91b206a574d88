"""What must not be the same: fields that end at a hop and were passed on (FORWARDING.md, points 4, 6 and 19). Where they were, being
identical to the direct bytes is the fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.differential.reading import Head, name, value, values
from tests.differential.setting import HOP_BY_HOP, NEVER_LISTED, NO_TRAILER, Setting

_OF_A_REQUEST: Final = ((b"te", b"trailers"), (b"transfer-encoding", b"chunked"))
_OF_AN_ANSWER: Final = ((b"connection", b"close"), (b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked"))
"""What the product's own hop has of such fields, beside a tunnel's."""


def passed_on(at: Setting) -> Iterator[bytes]:
    """Each line that the product should have kept to itself."""
    for asked, sent in zip(at.direct.requests, at.other.requests, strict=False):
        yield from _fields(asked.head, sent.head, _OF_A_REQUEST)
        yield from _trailers(sent.body.trailers)
    for given, got in zip(at.direct.answers, at.other.answers, strict=False):
        yield from _fields(given.head, got.head, _OF_AN_ANSWER)
        yield from _trailers(got.body.trailers)


def _trailers(lines: tuple[bytes, ...]) -> Iterator[bytes]:
    yield from (line for line in lines if name(line) in NO_TRAILER)


def _listed(head: Head) -> set[bytes]:
    listed = b",".join(values(head.fields, b"connection")).lower().split(b",")
    return {each.strip(b" \t") for each in listed} - NEVER_LISTED


def _fields(before: Head, after: Head, its_own: tuple[tuple[bytes, bytes], ...]) -> Iterator[bytes]:
    switches = b"upgrade" in _listed(after)
    for line in after.fields:
        own = (name(line), value(line)) in its_own
        tunnel = switches and name(line) in (b"connection", b"upgrade") and b"h2c" not in value(line).lower()
        if name(line) in HOP_BY_HOP | _listed(before) and not own and not tunnel:
            yield line
