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
    Probe,
    Refuse,
    Replay,
    Said,
    TakeOver,
    Transition,
    Wait,
    answered,
    broken,
    cause_of,
    decide,
    lost,
    pause_before,
    probed,
)
from idemproxy.idempotency.problems import Retry, Slug
from idemproxy.idempotency.record import OnUnknown, Reason, Record, State, Tombstone
from idemproxy.idempotency.routes import (
    AT_LEAST_ONCE_RELEASES,
    InFlight,
    Match,
    OwnRetry,
    ProbeRule,
    RetryCause,
    Rule,
)
from idemproxy.idempotency.template import parse_template

ANSWER = Answer(201, b"201 Created\r\nContent-Length: 2\r\n", b"ok")
REFUSAL = Answer(422, b"422 No\r\nContent-Length: 2\r\n", b"no")
RULE = Rule("charges", Match(frozenset({b"POST"}), "/v1/charges"))

PROBE = ProbeRule(parse_template("/by-key/{header:Idempotency-Key}"), 60_000)
UPDATED, LEASE_UNTIL, NOW = 2_000, 5_000, 90_000


def record(state: State, on_unknown: OnUnknown, answer: Answer | Tombstone | None) -> Record:
    times = (1_000, UPDATED, NOW + 1, LEASE_UNTIL)
    return Record(state, bytes(32), "r", "charges", b"t" * 16, 7, 3, False, on_unknown, Reason.NONE, *times, answer)


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
            if recorded is OnUnknown.RETRY and rules is OnUnknown.RETRY:
                return TakeOver(b"t" * 16, 7)
            if recorded is not OnUnknown.BLOCK and rules is OnUnknown.PROBE:
                return Probe(b"t" * 16, 7, NOW - (LEASE_UNTIL if found == "lapsed" else UPDATED))
            return Slug.OUTCOME_UNKNOWN
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
    rule = replace(RULE, in_flight=in_flight, on_unknown=rules, probe=PROBE if rules is OnUnknown.PROBE else None)
    decision = decide(record(state, recorded, answer), lease_left, NOW, same, rule)
    want = expected(found, same, in_flight, recorded, rules)
    if isinstance(want, Slug):
        assert isinstance(decision, Refuse)
        assert decision.problem.slug is want
    else:
        assert decision == want


def test_a_released_operation_is_never_answered_from_its_remnant() -> None:
    decision = decide(record(State.RELEASED, OnUnknown.BLOCK, None), 0, NOW, True, RULE)
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
    assert problem.retry is (Retry.ASK_OPERATOR if on_unknown is OnUnknown.BLOCK else Retry.SAME_KEY)
    assert ("executed again." in problem.detail) is (on_unknown is OnUnknown.RETRY)
    slug = {Reason.TIMEOUT: Slug.UPSTREAM_TIMEOUT, Reason.DRAINED: Slug.SHUTTING_DOWN}.get(reason, Slug.UPSTREAM_FAILED)
    assert problem.slug is slug


def test_no_refusal_claims_that_an_unknown_operation_was_not_executed() -> None:
    for problem in (OUTCOME_UNKNOWN, NOT_KEPT):
        assert "othing was executed" not in problem.detail
    assert "othing was executed" in REUSED.detail


# ------------------------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize(("silent", "settled"), [(0, False), (59_999, False), (60_000, True), (90_000, True)])
def test_what_the_upstream_does_not_know_is_taken_over_once_it_has_settled(silent: int, settled: bool) -> None:
    found = probed(Said.DID_NOT_HAPPEN, Probe(b"t" * 16, 7, silent), replace(RULE, probe=PROBE))
    if settled:
        assert found == TakeOver(b"t" * 16, 7)
    else:
        assert isinstance(found, Refuse)
        problem = found.problem
        assert (problem.slug, problem.retry) == (Slug.OUTCOME_UNKNOWN, Retry.SAME_KEY)
        assert problem.retry_after == 60_000 - silent


@pytest.mark.parametrize("silent", [0, 60_000, 10**9])
def test_an_upstream_that_says_nothing_never_leads_to_an_execution(silent: int) -> None:
    found = probed(Said.NOTHING, Probe(b"t" * 16, 7, silent), replace(RULE, probe=PROBE))
    assert isinstance(found, Refuse)
    assert (found.problem.slug, found.problem.retry) == (Slug.OUTCOME_UNKNOWN, Retry.SAME_KEY)


def test_a_store_clock_that_went_back_does_not_settle_anything() -> None:
    rule = replace(RULE, on_unknown=OnUnknown.PROBE, probe=PROBE)
    found = decide(record(State.UNKNOWN, OnUnknown.PROBE, None), 0, UPDATED - 500, True, rule)
    assert found == Probe(b"t" * 16, 7, 0)


# ------------------------------------------------------------------------------------------------------ the proxy's own retries

ENDS: dict[str, tuple[Transition, int | None]] = {
    "never sent": (Free(), None),
    "lost": (LeaveUnknown(Reason.RESET), None),
    "cut short": (LeaveUnknown(Reason.CUT_BODY), 200),
    "refused": (Free(), 503),
    "answered": (Complete(ANSWER), 201),
    "failed": (Complete(Answer(503, b"", b"")), 503),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("unreachable", [True, False])
@pytest.mark.parametrize("unknown", [True, False])
@pytest.mark.parametrize("statuses", [frozenset[int](), frozenset({503})])
def test_what_the_proxy_sends_again_after(end: str, unreachable: bool, unknown: bool, statuses: frozenset[int]) -> None:
    chosen = {cause for cause, on in ((RetryCause.UNREACHABLE, unreachable), (RetryCause.UNKNOWN, unknown)) if on}
    rule = replace(RULE, retry=OwnRetry(attempts=3, causes=frozenset(chosen), statuses=statuses))
    want = {
        "never sent": RetryCause.UNREACHABLE if unreachable else None,
        "lost": RetryCause.UNKNOWN if unknown else None,
        "cut short": RetryCause.UNKNOWN if unknown else None,
        "refused": RetryCause.STATUS if statuses else None,
        "answered": None,
        "failed": RetryCause.STATUS if statuses else None,
    }
    assert cause_of(*ENDS[end], rule) is want[end]


def test_pauses_grow_to_the_longest_one_and_chance_takes_up_to_a_half() -> None:
    retry = OwnRetry(attempts=20, backoff=100, max_backoff=1_000)
    assert [pause_before(attempt, 0.0, None, retry) for attempt in range(2, 8)] == [100, 200, 400, 800, 1_000, 1_000]
    assert [pause_before(attempt, 1.0, None, retry) for attempt in (2, 7, 20)] == [50, 500, 500]


def test_an_upstream_that_asks_for_a_pause_gets_it_or_the_client_is_told() -> None:
    retry = OwnRetry(attempts=5, backoff=100, max_backoff=5_000)
    assert pause_before(2, 0.0, 3_000, retry) == 3_000
    assert pause_before(2, 0.0, 0, retry) == 100
    assert pause_before(2, 0.0, 5_000, retry) == 5_000
    assert pause_before(2, 0.0, 6_000, retry) is None
