"""THE TABLES: what a request gets that meets a record, and what the end of a forward does to it (DESIGN.md section 4).

Pure: a decision is a value, the gateway carries it out. Nothing here executes; that only a won claim may."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

import msgspec

from idemproxy.idempotency.credentials import began_by
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.problems import Problem, Retry, Slug
from idemproxy.idempotency.record import OnUnknown, Reason, Record, State, Tombstone
from idemproxy.idempotency.routes import InFlight, OwnRetry, RetryCause, Rule

# ------------------------------------------------------------------------------------------ (record found, request) -> decision


class Wait(msgspec.Struct, frozen=True):
    """The operation runs: wait for its outcome, then decide again. `lease_left` is milliseconds."""

    lease_left: int


class Replay(msgspec.Struct, frozen=True):
    """The recorded answer is the request's answer. `began_by` is the credential that it was given to, as far as is known."""

    answer: Answer
    began_by: str = ""

    def __repr__(self) -> str:
        """Without the credential."""
        return f"Replay(answer={self.answer!r})"


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The outcome is unknown and the rule executes again: if the record is still as it was seen."""

    token: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome is unknown and the rule asks the upstream: what it says counts if the record is still as it was seen. `silent` is
    how many milliseconds ago its owner last could have been sending."""

    token: bytes
    version: int
    silent: int


class Refuse(msgspec.Struct, frozen=True):
    """The request gets a problem, and nothing is executed. `differs` names the parts in which it is not the request that bore its key
    before."""

    problem: Problem
    differs: tuple[str, ...] = ()


Decision = Wait | Replay | TakeOver | Probe | Refuse


class Stand(Enum):
    """How a record stands to a request that meets it."""

    RUNNING = "running"
    UNKNOWN = "unknown"
    FINISHED = "finished"
    NOT_KEPT = "not kept"
    RELEASED = "released"


def stand(record: Record, lease_left: int) -> Stand:
    """`lease_left` is what the store says of the record's lease, in milliseconds: 0 when no owner is alive."""
    match record.state:
        case State.PROCESSING:
            return Stand.RUNNING if lease_left > 0 else Stand.UNKNOWN
        case State.UNKNOWN:
            return Stand.UNKNOWN
        case State.COMPLETED | State.FAILED:
            return Stand.FINISHED if isinstance(record.answer, Answer) else Stand.NOT_KEPT
        case State.RELEASED:
            return Stand.RELEASED
        case other:
            assert_never(other)


def decide(record: Record, lease_left: int, now: int, same: bool, rule: Rule) -> Decision:
    """The decision table. `same`: the request's fingerprint is the record's; it is looked at before anything else. `now` is the
    store's clock."""
    if not same:
        return Refuse(REUSED)
    match stand(record, lease_left):
        case Stand.RUNNING:
            return in_flight(rule, lease_left)
        case Stand.UNKNOWN:
            return _unknown(record, now, rule)
        case Stand.FINISHED:
            assert isinstance(record.answer, Answer)
            return Replay(record.answer, began_by(record))
        case Stand.NOT_KEPT:
            return Refuse(NOT_KEPT)
        case Stand.RELEASED:
            return Refuse(still_in_flight(rule))
        case other:
            assert_never(other)


def in_flight(rule: Rule, lease_left: int) -> Wait | Refuse:
    """What a duplicate of a running operation gets."""
    match rule.in_flight:
        case InFlight.WAIT:
            return Wait(lease_left)
        case InFlight.REJECT:
            return Refuse(still_in_flight(rule))
        case other:
            assert_never(other)


def _unknown(record: Record, now: int, rule: Rule) -> TakeOver | Probe | Refuse:
    """Of the record's policy and the rule's, the stricter counts. A probe needs a rule that says where to ask."""
    policy = min(record.on_unknown, rule.on_unknown)
    match policy:
        case OnUnknown.RETRY:
            return TakeOver(record.token, record.version)
        case OnUnknown.PROBE if rule.probe is not None:
            return Probe(record.token, record.version, _silent(record, now))
        case OnUnknown.BLOCK | OnUnknown.PROBE:
            return Refuse(OUTCOME_UNKNOWN)
        case other:
            assert_never(other)


def _silent(record: Record, now: int) -> int:
    """An owner that said itself that the outcome is unknown had stopped sending before. Of one that died, the lease's end is all that
    is known."""
    last = record.lease_until if record.state is State.PROCESSING else record.updated_at
    return max(0, now - last)


class Said(Enum):
    """What the upstream says of an operation whose outcome is unknown."""

    DID_NOT_HAPPEN = "it knows no such operation"
    NOTHING = "no answer that could be used"


def probed(said: Said, probe: Probe, rule: Rule) -> TakeOver | Refuse:
    """What follows where a probe brought no answer to replay (DESIGN.md section 4, *Probe*)."""
    assert rule.probe is not None
    match said:
        case Said.NOTHING:
            return Refuse(_still_unknown(rule.retry_after))
        case Said.DID_NOT_HAPPEN if probe.silent < rule.probe.settle:
            return Refuse(_still_unknown(rule.probe.settle - probe.silent))
        case Said.DID_NOT_HAPPEN:
            return TakeOver(probe.token, probe.version)
        case other:
            assert_never(other)


def _still_unknown(rest: int) -> Problem:
    detail = (
        "The operation with this key was begun and its outcome is not known yet: it may have been executed. Send the same request "
        "again with the same key: the service is asked again then."
    )
    return Problem(Slug.OUTCOME_UNKNOWN, detail, rest, retry=Retry.SAME_KEY)


REUSED = Problem(
    Slug.KEY_REUSED,
    "This idempotency key was used before with a different request (method, path, query, body or a named header). Nothing was "
    "executed. Send a new key for a new operation, or the same request to get its answer.",
)
OUTCOME_UNKNOWN = Problem(
    Slug.OUTCOME_UNKNOWN,
    "The operation with this key was begun and its outcome was never learnt: it may have been executed. It is not executed again. "
    "An operator can look it up at the service and settle it.",
)
NOT_KEPT = Problem(
    Slug.ANSWER_NOT_KEPT,
    "The operation with this key was executed, and its answer was too large to keep. It is not executed again.",
)


def still_in_flight(rule: Rule) -> Problem:
    """The operation is running, and this request does not wait (any longer)."""
    return Problem(
        Slug.KEY_IN_FLIGHT,
        "The operation with this key is still being executed. Send the same request again with the same key.",
        rule.retry_after,
    )


# ---------------------------------------------------------------------------------------------- the forward's end -> transition


class Complete(msgspec.Struct, frozen=True):
    """The upstream answered: its answer is the operation's, for good."""

    answer: Answer | Tombstone


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing was executed: the operation may be claimed again."""


class LeaveUnknown(msgspec.Struct, frozen=True):
    """It may have been executed, and nobody knows."""

    reason: Reason


Transition = Complete | Free | LeaveUnknown


class Meaning(Enum):
    """What a rule makes of an answer's status."""

    OUTCOME = "the operation's outcome"
    NOT_EXECUTED = "refused before it was executed"
    SAYS_NOTHING = "says nothing about the effect"


def meaning(status: int, rule: Rule) -> Meaning:
    """A status in both lists says nothing: the stricter counts."""
    if status in rule.unknown_statuses:
        return Meaning.SAYS_NOTHING
    if status in rule.release_statuses:
        return Meaning.NOT_EXECUTED
    return Meaning.OUTCOME


def answered(answer: Answer | Tombstone, rule: Rule) -> Transition:
    """A whole answer came."""
    match meaning(answer.status, rule):
        case Meaning.OUTCOME:
            return Complete(answer)
        case Meaning.NOT_EXECUTED:
            return Free()
        case Meaning.SAYS_NOTHING:
            return LeaveUnknown(Reason.UNKNOWN_STATUS)
        case other:
            assert_never(other)


def broken(status: int, reason: Reason, rule: Rule) -> Transition:
    """An answer began, and its body did not come whole."""
    match meaning(status, rule):
        case Meaning.NOT_EXECUTED:
            return Free()
        case Meaning.OUTCOME | Meaning.SAYS_NOTHING:
            return LeaveUnknown(reason)
        case other:
            assert_never(other)


def cause_of(transition: Transition, status: int | None, rule: Rule) -> RetryCause | None:
    """Why the proxy itself may send once more after this end; None: it may not. `status` is the answer's, None where no head came."""
    if status in rule.retry.statuses:
        return RetryCause.STATUS
    match transition:
        case Free() if status is None:
            cause = RetryCause.UNREACHABLE
        case LeaveUnknown():
            cause = RetryCause.UNKNOWN
        case Free() | Complete():
            return None
        case other:
            assert_never(other)
    return cause if cause in rule.retry.causes else None


def pause_before(attempt: int, chance: float, asked: int | None, retry: OwnRetry) -> int | None:
    """Milliseconds to wait before the proxy's own attempt of that number (2 is the first): exponential, of which `chance` (0 to 1)
    takes away up to a half, and no less than the upstream `asked` for (Retry-After). None: it asked for more than the rule's patience,
    so that the client is to be told instead."""
    if asked is not None and asked > retry.max_backoff:
        return None
    whole = min(retry.max_backoff, retry.backoff << min(attempt - 2, 32))
    return max(round(whole * (1 - chance / 2)), asked or 0)


def lost(reason: Reason, rule: Rule) -> Problem:
    """What the client gets whose request was sent, in part or whole, and not answered."""
    retry, said = _AFTER_LOSS[rule.on_unknown]
    slug, what = _LOST[reason]
    return Problem(slug, f"{what} The outcome is unknown. {said}", rule.retry_after, retry=retry)


_AFTER_LOSS = {
    OnUnknown.BLOCK: (
        Retry.ASK_OPERATOR,
        "It may have been executed, and is not executed again: an operator can settle it.",
    ),
    OnUnknown.PROBE: (
        Retry.SAME_KEY,
        "Send the same request again with the same key: the service is asked then whether it was executed.",
    ),
    OnUnknown.RETRY: (
        Retry.SAME_KEY,
        "Send the same request again with the same key to have it executed again.",
    ),
}
_LOST = {
    Reason.NONE: (Slug.UPSTREAM_FAILED, "The upstream gave no answer."),
    Reason.RESET: (Slug.UPSTREAM_FAILED, "The upstream's connection broke after the request was sent."),
    Reason.TIMEOUT: (Slug.UPSTREAM_TIMEOUT, "The upstream did not answer in time."),
    Reason.CUT_BODY: (Slug.UPSTREAM_FAILED, "The upstream's answer was cut short."),
    Reason.UNREADABLE: (Slug.UPSTREAM_FAILED, "The upstream's answer could not be read."),
    Reason.UNKNOWN_STATUS: (Slug.UPSTREAM_FAILED, "The upstream's status says nothing about the effect."),
    Reason.DRAINED: (Slug.SHUTTING_DOWN, "The proxy shut down while the upstream was working."),
    Reason.GUARD: (
        Slug.UPSTREAM_FAILED,
        "The proxy could no longer prove that it owned the operation, and stopped sending.",
    ),
    Reason.RELEASED_AFTER_SEND: (Slug.UPSTREAM_FAILED, "An earlier attempt was sent and not answered."),
}
