"""THE TABLES: what a request gets that meets a record, and what the end of a forward does to it (DESIGN.md section 4).

Pure: a decision is a value, the gateway carries it out. Nothing here executes; that only a won claim may."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.problems import Problem, Retry, Slug
from idemproxy.idempotency.record import OnUnknown, Reason, Record, State, Tombstone
from idemproxy.idempotency.routes import InFlight, Rule

# ------------------------------------------------------------------------------------------ (record found, request) -> decision


@dataclass(frozen=True, slots=True)
class Wait:
    """The operation runs: wait for its outcome, then decide again. `lease_left` is milliseconds."""

    lease_left: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded answer is the request's answer."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The outcome is unknown and the rule executes again: if the record is still as it was seen."""

    token: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request gets a problem, and nothing is executed."""

    problem: Problem


Decision = Wait | Replay | TakeOver | Refuse


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


def decide(record: Record, lease_left: int, same: bool, rule: Rule) -> Decision:
    """The decision table. `same`: the request's fingerprint is the record's; it is looked at before anything else."""
    if not same:
        return Refuse(REUSED)
    match stand(record, lease_left):
        case Stand.RUNNING:
            return in_flight(rule, lease_left)
        case Stand.UNKNOWN:
            return _unknown(record, rule)
        case Stand.FINISHED:
            assert isinstance(record.answer, Answer)
            return Replay(record.answer)
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


def _unknown(record: Record, rule: Rule) -> TakeOver | Refuse:
    policy = min(record.on_unknown, rule.on_unknown)
    match policy:
        case OnUnknown.RETRY:
            return TakeOver(record.token, record.version)
        case OnUnknown.BLOCK | OnUnknown.PROBE:
            return Refuse(OUTCOME_UNKNOWN)
        case other:
            assert_never(other)


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


@dataclass(frozen=True, slots=True)
class Complete:
    """The upstream answered: its answer is the operation's, for good."""

    answer: Answer | Tombstone


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing was executed: the operation may be claimed again."""


@dataclass(frozen=True, slots=True)
class LeaveUnknown:
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


def lost(reason: Reason, rule: Rule) -> Problem:
    """What the client gets whose request was sent, in part or whole, and not answered."""
    again = rule.on_unknown is OnUnknown.RETRY
    retry = Retry.SAME_KEY if again else Retry.ASK_OPERATOR
    said = (
        "Send the same request again with the same key to have it executed again."
        if again
        else "It may have been executed, and is not executed again: an operator can settle it."
    )
    slug, what = _LOST[reason]
    return Problem(slug, f"{what} The outcome is unknown. {said}", rule.retry_after, retry=retry)


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
