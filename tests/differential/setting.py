"""What an explanation is told: the case, and what both ends saw of it directly and through a proxy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.differential.client import Observed
from tests.differential.corpus import Case, Script
from tests.differential.differences import Difference, Where
from tests.differential.reading import Head, name, values

HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te transfer-encoding upgrade proxy-authenticate proxy-authorization".split()
)
NEVER_LISTED: Final = frozenset(b"host content-length idempotency-key authorization".split())
NO_TRAILER: Final = (
    HOP_BY_HOP
    | NEVER_LISTED
    | frozenset(
        b"trailer content-encoding content-type content-range expect max-forwards cookie set-cookie www-authenticate "
        b"authentication-info proxy-authentication-info forwarded via x-forwarded-for x-forwarded-host x-forwarded-proto".split()
    )
)


@dataclass(frozen=True, slots=True)
class Setting:
    """The case that a difference is of, and both observations."""

    case: Case
    direct: Observed
    other: Observed

    def asked(self, index: int) -> Head:
        """The head of the request of that number, as its client sent it."""
        return self.direct.requests[index].head if index < len(self.direct.requests) else Head(b"", ())

    def script(self, index: int) -> Script:
        """What the upstream does with the request of that number."""
        return self.case.exchanges[min(index, len(self.case.exchanges) - 1)].script

    def old(self, index: int) -> bool:
        """The request came by HTTP/1.0."""
        return self.asked(index).line.endswith(b" HTTP/1.0")

    def bodies_cut(self, index: int) -> bool:
        """The answer of that number was cut short for both."""
        return not self.direct.answers[index].body.whole and not self.other.answers[index].body.whole


@dataclass(frozen=True, slots=True)
class Explanation:
    """`point` is FORWARDING.md's."""

    name: str
    point: int
    where: frozenset[Where]
    holds: Callable[[Setting, Difference], bool]


def made(at: Setting, found: Difference, line: bytes) -> bool:
    """The proxy made this line, in the place of one of its name or of none, and it is the only one of its name."""
    sent = at.other.answers if found.where is Where.ANSWER_FIELD else at.other.requests
    alone = len(values(sent[found.index].head.fields, name(line))) == 1
    return alone and found.after == line and (found.before is None or name(found.before) == name(line))
