"""The tables of DESIGN.md section 4, whole: every record that can be found x every kind of request, and every end of a forward."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import (
    NOT_KEPT,
    OUTCOME_UNKNOWN,
    REUSED,
    Complete,
    Decision,
    Free,
    LeaveUnknown,
    Refuse,
    Replay,
    TakeOver,
    Wait,
    answered,
    broken,
    decide,
    lost,
)
from idemproxy.idempotency.problems import Retry, Slug
from idemproxy.idempotency.record import OnUnknown, Reason, Record, State, Tombstone
from idemproxy.idempotency.routes import AT_LEAST_ONCE_RELEASES, InFlight, Match, Rule

ANSWER = Answer(201, b"201 Created\r\nContent-Length: 2\r\n", b"ok")
REFUSAL = Answer(422, b"422 No\r\nContent-Length: 2\r\n", b"no")
RULE = Rule("charges", Match(frozenset({b"POST"}), "/v1/charges"))


def record(state: State, on_unknown: OnUnknown, answer: Answer | Tombstone | None) -> Record:
    return Record(state, bytes(32), "r", "charges", b"t" * 16, 7, 3, False, on_unknown, Reason.NONE, 1, 2, 3, answer)


FOUND: dict[str, tuple[State, int, Answer | Tombstone | None]] = {
    "running": (State.PROCESSING, 5_000, None),
    "lapsed": (State.PROCESSING, 0, None),
    "unknown": (State.UNKNOWN, 0, None),
    "completed": (State.COMPLETED, 0, ANSWER),
    "failed": (State.FAILED, 0, REFUSAL),
    "tombstone": (State.COMPLETED, 0, Tombstone(200)),
}


def expected(found: str, same: bool, in_flight: InFlight, recorded: OnUnknown, rules: OnUnknown) -> Decision | Slug:
    """The table as DESIGN.md prints it."""
    if not same:
        return Slug.KEY_REUSED
    match found:
        case "running":
            return Wait(5_000) if in_flight is InFlight.WAIT else Slug.KEY_IN_FLIGHT
        case "lapsed" | "unknown":
            both_retry = recorded is OnUnknown.RETRY and rules is OnUnknown.RETRY
            return TakeOver(b"t" * 16, 7) if both_retry else Slug.OUTCOME_UNKNOWN
        case "completed":
            return Replay(ANSWER)
        case "failed":
            return Replay(REFUSAL)
        case _:
            return Slug.ANSWER_NOT_KEPT


@pytest.mark.parametrize(
    ("found", "same", "in_flight", "recorded", "rules"),
    list(product(FOUND, (True, False), InFlight, OnUnknown, OnUnknown)),
)
def test_decision_table(found: str, same: bool, in_flight: InFlight, recorded: OnUnknown, rules: OnUnknown) -> None:
    state, lease_left, answer = FOUND[found]
    rule = replace(RULE, in_flight=in_flight, on_unknown=rules)
    decision = decide(record(state, recorded, answer), lease_left, same, rule)
    want = expected(found, same, in_flight, recorded, rules)
    if isinstance(want, Slug):
        assert isinstance(decision, Refuse)
        assert decision.problem.slug is want
    else:
        assert decision == want


def test_a_released_operation_is_never_answered_from_its_remnant() -> None:
    decision = decide(record(State.RELEASED, OnUnknown.BLOCK, None), 0, True, RULE)
    assert isinstance(decision, Refuse)
    assert decision.problem.slug is Slug.KEY_IN_FLIGHT


@pytest.mark.parametrize("status", range(200, 600))
def test_ends_of_an_answer_under_the_default_guarantee(status: int) -> None:
    answer = Answer(status, b"", b"")
    released = status in (401, 402, 407, 421, 425, 428, 429)
    assert answered(answer, RULE) == (Free() if released else Complete(answer))
    assert broken(status, Reason.CUT_BODY, RULE) == (Free() if released else LeaveUnknown(Reason.CUT_BODY))


@pytest.mark.parametrize("status", [200, 302, 400, 409, 500, 503])
def test_only_acknowledged_answers_are_kept_at_least_once(status: int) -> None:
    rule = replace(RULE, release_statuses=AT_LEAST_ONCE_RELEASES)
    answer = Answer(status, b"", b"")
    assert answered(answer, rule) == (Complete(answer) if status < 400 else Free())


@pytest.mark.parametrize("release", [frozenset[int](), frozenset({502})])
def test_a_status_that_says_nothing_leaves_unknown(release: frozenset[int]) -> None:
    rule = replace(RULE, unknown_statuses=frozenset({502, 504}), release_statuses=release)
    assert answered(Answer(502, b"", b""), rule) == LeaveUnknown(Reason.UNKNOWN_STATUS)
    assert broken(504, Reason.TIMEOUT, rule) == LeaveUnknown(Reason.TIMEOUT)
    assert isinstance(answered(Answer(503, b"", b""), rule), Complete)


def test_a_tombstone_completes() -> None:
    assert answered(Tombstone(200), RULE) == Complete(Tombstone(200))


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_every_loss_tells_the_client_what_to_do(reason: Reason, on_unknown: OnUnknown) -> None:
    problem = lost(reason, replace(RULE, on_unknown=on_unknown))
    assert problem.retry is (Retry.SAME_KEY if on_unknown is OnUnknown.RETRY else Retry.ASK_OPERATOR)
    assert ("executed again." in problem.detail) is (on_unknown is OnUnknown.RETRY)
    slug = {Reason.TIMEOUT: Slug.UPSTREAM_TIMEOUT, Reason.DRAINED: Slug.SHUTTING_DOWN}.get(reason, Slug.UPSTREAM_FAILED)
    assert problem.slug is slug


def test_no_refusal_claims_that_an_unknown_operation_was_not_executed() -> None:
    for problem in (OUTCOME_UNKNOWN, NOT_KEPT):
        assert "othing was executed" not in problem.detail
    assert "othing was executed" in REUSED.detail
