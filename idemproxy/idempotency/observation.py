"""Observe mode: what a rule would have done with a request that was passed on as it came, and what an operator may know of its client."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, assert_never

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.messages import Answer, Fields, values
from idemproxy.idempotency.operation import (
    Complete,
    Decision,
    Free,
    LeaveUnknown,
    Probe,
    Refuse,
    Replay,
    TakeOver,
    Transition,
    Wait,
)
from idemproxy.idempotency.paths import split_target
from idemproxy.idempotency.problems import Slug

# ------------------------------------------------------------------------------------------------------------------- decisions


class Would(StrEnum):
    """What enforcing the rule would have made of a request."""

    EXECUTE = "would_execute"
    REPLAY = "would_replay"
    WAIT = "would_wait"
    PROBE = "would_probe"
    REFUSE = "would_refuse"
    PASS_ON = "would_pass_on"
    NOT_JUDGED = "not_judged"


class Unjudged(StrEnum):
    """Why nobody knows what enforcing would have done."""

    CUT_BODY = "cut_body"
    """The request's body did not pass whole."""
    BUSY = "busy"
    """Too much was being observed."""
    MOVED = "moved"
    """The operation changed hands while it was looked at."""


STATES: Final[Mapping[Would, tuple[str, ...]]] = MappingProxyType(
    {
        Would.EXECUTE: ("completed", "failed", "unknown", "released", "client_gone", "unprotected"),
        Would.REPLAY: ("completed", "failed"),
        Would.WAIT: ("processing",),
        Would.PROBE: ("unknown",),
        Would.REFUSE: tuple(slug.value for slug in Slug),
        Would.PASS_ON: ("no_key",),
        Would.NOT_JUDGED: tuple(why.value for why in Unjudged),
    }
)
"""Which states each of them may come with: an execution's end, the record's state, the problem's slug, or why not."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What enforcing would have done; of an execution, `state` is how it ended."""

    would: Would
    state: str


def judgement(decision: Decision) -> Judgement:
    """By the decision table's own word."""
    match decision:
        case Replay(answer):
            return Judgement(Would.REPLAY, "completed" if answer.status < 400 else "failed")
        case Wait():
            return Judgement(Would.WAIT, "processing")
        case Probe():
            return Judgement(Would.PROBE, "unknown")
        case TakeOver():
            return Judgement(Would.EXECUTE, "unknown")
        case Refuse(problem):
            return Judgement(Would.REFUSE, problem.slug.value)
        case other:
            assert_never(other)


def ended(transition: Transition) -> Judgement:
    """An execution, by its end."""
    match transition:
        case Complete(answer):
            return Judgement(Would.EXECUTE, "completed" if answer.status < 400 else "failed")
        case Free():
            return Judgement(Would.EXECUTE, "released")
        case LeaveUnknown():
            return Judgement(Would.EXECUTE, "unknown")
        case other:
            assert_never(other)


LEFT: Final = Complete(Answer(499, b"", b""))
"""How a shadow ends whose client went away before an answer: enforcing would have gone on and recorded one, and nobody knows which. 499
is what nginx logs of such a request."""


def shadow_namespace(name: str) -> str:
    """Within which observed operations are told apart: no product has a namespace like this, so that enforcing finds none of them."""
    return f"{name} (observed)"


def shadow_rule(name: str) -> str:
    """The rule of such a record, as operators see it: no rule has a name like this."""
    return f"{name} (observed)"


# --------------------------------------------------------------------------------------------------------------------- clients

CLIENT_DIGITS: Final = 8
_PRODUCT: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}(?:/[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20})?(?![^ (])")


def client_of(scope: tuple[bytes | None, ...]) -> str:
    """A name for who called, that is no credential and leads to none: digits of a digest over the scope's values, too few to tell one
    guess from another."""
    if not scope:
        return "any"
    if all(value is None for value in scope):
        return "anonymous"
    parts = [b"absent" if value is None else framed(b"present", value) for value in scope]
    return hashlib.sha256(framed(b"idemproxy client 1", *parts)).hexdigest()[:CLIENT_DIGITS]


def agent_of(fields: Fields) -> str | None:
    """The first product of `User-Agent` (RFC 9110, section 10.1.5), where it is short and well-formed."""
    found = values(fields, b"user-agent")
    matched = _PRODUCT.match(found[0]) if found else None
    return None if matched is None else matched[0].decode("ascii")


_FORMS: Final = (
    ("uuid4", re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")),
    ("uuid7", re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}")),
    ("uuid", re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")),
    ("ulid", re.compile(rb"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}")),
)


def form_of(key: Key) -> str:
    """The narrowest named `key.format` that the key is of."""
    return next((name for name, pattern in _FORMS if pattern.fullmatch(key.value)), "any")


# ------------------------------------------------------------------------------------------------------------ what came before


class Suspected(StrEnum):
    """Why a request may be a duplicate though no key says so: the same caller sent the same bytes a moment ago."""

    NO_KEY = "no_key"
    """Both times without a key."""
    NEW_KEY = "new_key"
    """Both times with a key, and not the same: a client that makes a new one for each attempt."""


WINDOW: Final = 10.0
"""Seconds within which the same bytes of one caller are suspected to be one operation."""
MOST_RECENT: Final = 10_000
"""Requests that a process remembers for that."""


def same_bytes(rule: str, scope: tuple[bytes | None, ...], method: bytes, target: bytes, body: bytes) -> bytes:
    """Equal for requests of one caller with the same method, path, query and body; `body` is the SHA-256 of that."""
    parts = [b"absent" if value is None else framed(b"present", value) for value in scope]
    _, path, query = split_target(target)
    return hashlib.sha256(framed(rule.encode(), framed(*parts), method, path, _query(query), body)).digest()


def _query(query: bytes | None) -> bytes:
    return b"absent" if query is None else framed(query)


class Recent:
    """What one process saw last. Holds digests, of `most` requests."""

    def __init__(self, most: int = MOST_RECENT) -> None:
        self._most = most
        self._sent: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()

    def suspected(self, same: bytes, operation: str | None, now: float) -> Suspected | None:
        """Whether the request repeats one. `operation` is its record's id, None where it has no key; `now` is seconds."""
        before = self._sent.pop(same, None)
        self._sent[same] = (now, operation)
        if len(self._sent) > self._most:
            self._sent.popitem(last=False)
        if before is None or now - before[0] > WINDOW:
            return None
        match before[1], operation:
            case None, None:
                return Suspected.NO_KEY
            case str() as one, str() as other if one != other:
                return Suspected.NEW_KEY
            case _:
                return None
