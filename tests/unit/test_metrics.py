"""What each count is, as Prometheus reads it; and that no text from elsewhere becomes a label."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency import observation
from idemproxy.idempotency.observation import Judgement, Suspected, Would
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import Reason, State
from idemproxy.idempotency.routes import RetryCause
from idemproxy.observe.cells import own_cells
from idemproxy.observe.exposition import exposition
from idemproxy.observe.families import FAMILIES, Type
from idemproxy.observe.metrics import STATES, Decided, Metrics, Passed, Probed, RuleMetrics
from tests.unit.exposed import Exposed

ROOT = Path(__file__).parents[2]
LABELS = {"rule", "decision", "state", "reason", "command", "kind", "cause", "result", "version"}
ALWAYS = ("idemproxy_workers", "idemproxy_workers_configured", "idemproxy_build_info")
"""What is 1 in a process that has counted nothing."""
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(own_cells())


def read(metrics: Metrics) -> Exposed:
    return Exposed(exposition(metrics, "")[0].decode())


def counted(metrics: Metrics) -> dict[str, list[dict[str, str]]]:
    """The labels of every sample that is above zero, but of those that always are, and of the parts of histograms."""
    found = read(metrics).positive()
    return {name: found[name] for name in found if name not in ALWAYS and not name.endswith(("_bucket", "_sum"))}


# ------------------------------------------------------------------------------------------------------------------ a rule's

Act = Callable[[RuleMetrics], None]

SIMPLE: dict[str, Act] = {
    "executions_in_flight": lambda rule: rule.executions.up(),
    "waiters": lambda rule: rule.waiters.up(),
    "lease_losses_total": lambda rule: rule.lease_losses.add(),
    "lease_not_renewed_total": lambda rule: rule.leases_not_renewed.add(),
    "fenced_total": lambda rule: rule.fenced.add(),
    "ends_given_up_total": lambda rule: rule.ends_given_up.add(),
    "take_overs_total": lambda rule: rule.take_overs.add(),
    "unprotected_total": lambda rule: rule.unprotected.add(),
    "upstream_seconds_count": lambda rule: rule.upstream_seconds.observe(1),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_an_act_of_a_rule_counts_in_one_place(metrics: Metrics, name: str) -> None:
    rule = metrics.rule("charges")
    metrics.rule("refunds")
    assert counted(metrics) == {}
    SIMPLE[name](rule)
    assert counted(metrics) == {f"idemproxy_{name}": [{"rule": "charges"}]}
    SIMPLE[name](rule)
    assert read(metrics).value(f"idemproxy_{name}", rule="charges") == 2


@pytest.mark.parametrize("cause", RetryCause)
def test_own_retries_count_by_their_cause(metrics: Metrics, cause: RetryCause) -> None:
    metrics.rule("charges").sends_again(cause)
    assert counted(metrics) == {"idemproxy_own_retries_total": [{"rule": "charges", "cause": cause.value}]}


@pytest.mark.parametrize("result", Probed)
def test_probes_count_by_their_result(metrics: Metrics, result: Probed) -> None:
    metrics.rule("charges").probed(result)
    assert counted(metrics) == {"idemproxy_probes_total": [{"rule": "charges", "result": result.value}]}


@pytest.mark.parametrize(
    ("would", "state"), [(each, state) for each, states in observation.STATES.items() for state in states]
)
def test_an_observed_request_counts_by_what_enforcing_would_have_done(
    metrics: Metrics, would: Would, state: str
) -> None:
    metrics.observed("charges").judged(Judgement(would, state))
    assert counted(metrics) == {
        "idemproxy_observed_total": [{"rule": "charges", "decision": would.value, "state": state}]
    }


@pytest.mark.parametrize("kind", Suspected)
def test_suspected_duplicates_count_by_kind(metrics: Metrics, kind: Suspected) -> None:
    metrics.observed("charges").suspected(kind)
    metrics.observed("charges").suspected(kind)
    assert counted(metrics) == {"idemproxy_suspected_duplicates_total": [{"rule": "charges", "kind": kind.value}]}
    assert read(metrics).value("idemproxy_suspected_duplicates_total", rule="charges", kind=kind.value) == 2


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.RELEASED])
def test_an_end_counts_by_its_state(metrics: Metrics, state: State) -> None:
    metrics.rule("charges").ended(state)
    assert counted(metrics) == {
        "idemproxy_ends_total": [{"rule": "charges", "state": state.name.lower(), "reason": "none"}]
    }


@pytest.mark.parametrize("reason", Reason)
def test_an_unknown_end_counts_by_its_reason_too(metrics: Metrics, reason: Reason) -> None:
    metrics.rule("charges").ended(State.UNKNOWN, reason)
    name = reason.name.lower()
    assert counted(metrics) == {
        "idemproxy_ends_total": [{"rule": "charges", "state": "unknown", "reason": name}],
        "idemproxy_unknown_total": [{"rule": "charges", "reason": name}],
    }


@pytest.mark.parametrize(("decision", "state"), [(each, state) for each, states in STATES.items() for state in states])
def test_a_decision_counts_by_its_state_and_is_timed(metrics: Metrics, decision: Decided, state: str) -> None:
    metrics.rule("charges").decided(decision, state, 0.5)
    assert counted(metrics) == {
        "idemproxy_decisions_total": [{"rule": "charges", "decision": decision.value, "state": state}],
        "idemproxy_request_seconds_count": [{"rule": "charges", "decision": decision.value}],
    }
    assert read(metrics).value("idemproxy_request_seconds_sum", rule="charges", decision=decision.value) == 0.5


def test_the_states_of_decisions_are_those_of_records_and_problems() -> None:
    records = {state.name.lower() for state in State}
    assert set(STATES[Decided.EXECUTED]) <= records | {"streaming"}
    assert set(STATES[Decided.REPLAYED]) <= records
    assert set(STATES[Decided.REFUSED]) == {slug.value for slug in Slug}


def test_a_state_that_is_not_known_counts_as_other(metrics: Metrics) -> None:
    """What a caller sent must never become a label, whatever is handed over by mistake."""
    for key in ("sk_live_1", "sk_live_2"):
        metrics.rule("charges").decided(Decided.EXECUTED, key, 0.0)
    assert read(metrics).value("idemproxy_decisions_total", rule="charges", decision="executed", state="other") == 2
    assert "sk_live" not in exposition(metrics, "")[0].decode()


def test_every_series_of_a_rule_is_there_before_anything_is_counted(metrics: Metrics) -> None:
    """An alert on an increase must see the first one: a series that begins at 1 has not increased."""
    metrics.rule("charges")
    found = read(metrics)
    for reason in Reason:
        assert found.value("idemproxy_unknown_total", rule="charges", reason=reason.name.lower()) == 0
    for state in ("completed", "failed", "released"):
        assert found.value("idemproxy_ends_total", rule="charges", state=state, reason="none") == 0
    for slug in Slug:
        assert found.value("idemproxy_decisions_total", rule="charges", decision="refused", state=slug.value) == 0
    for name in ("fenced", "lease_losses", "lease_not_renewed", "take_overs", "unprotected", "ends_given_up"):
        assert found.value(f"idemproxy_{name}_total", rule="charges") == 0
    assert found.of("idemproxy_own_retries_total", "cause").keys() == {cause.value for cause in RetryCause}


def test_a_rule_goes_on_from_where_it_was(metrics: Metrics) -> None:
    """As a reload of the configuration asks for it again."""
    metrics.rule("charges").fenced.add()
    metrics.rule("refunds").fenced.add()
    metrics.rule("charges").fenced.add()
    assert read(metrics).of("idemproxy_fenced_total", "rule") == {"charges": 2, "refunds": 1}


def test_a_rules_name_may_be_any_text(metrics: Metrics) -> None:
    name = 'é "quoted"\\ \n# HELP'
    metrics.rule(name).fenced.add()
    assert read(metrics).of("idemproxy_fenced_total", "rule") == {name: 1}


# --------------------------------------------------------------------------------------------------------------- the process's


@pytest.mark.parametrize("kind", Passed)
def test_requests_that_no_rule_protects_count_by_why(metrics: Metrics, kind: Passed) -> None:
    metrics.passed_on(kind)
    assert counted(metrics) == {"idemproxy_forwarded_total": [{"kind": kind.value}]}


def test_gauges_go_up_and_down(metrics: Metrics) -> None:
    waiters = metrics.rule("charges").waiters
    for _ in range(3):
        waiters.up()
        metrics.ends_pending.up()
    waiters.down()
    metrics.ends_pending.down()
    metrics.ends_pending.down()
    metrics.store_circuit_open.set(1)
    found = read(metrics)
    assert found.value("idemproxy_waiters", rule="charges") == 2
    assert found.value("idemproxy_ends_pending") == 1
    assert found.value("idemproxy_store_circuit_open") == 1
    metrics.store_circuit_open.set(0)
    assert read(metrics).value("idemproxy_store_circuit_open") == 0


def test_a_process_of_its_own_is_one_worker_of_one(metrics: Metrics) -> None:
    found = read(metrics)
    assert found.value("idemproxy_workers") == 1
    assert found.value("idemproxy_workers_configured") == 1
    assert found.value("idemproxy_workers_replaced_total") == 0
    assert list(found.of("idemproxy_build_info", "version").values()) == [1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreUnavailable("away"), "unavailable"),
        (StoreAmbiguous("no reply"), "ambiguous"),
        (RecordUnreadable("another version"), "unreadable"),
        (StoreError("another answer"), "unreadable"),
    ],
)
def test_store_errors_count_by_kind(metrics: Metrics, error: StoreError, kind: str) -> None:
    metrics.command("claim").errors.add(error)
    assert counted(metrics) == {"idemproxy_store_errors_total": [{"command": "claim", "kind": kind}]}


# ------------------------------------------------------------------------------------------------------------------- the text


def test_a_time_counts_below_every_bound_that_it_does_not_exceed(metrics: Metrics) -> None:
    seconds = metrics.rule("charges").upstream_seconds
    for took in (0.0, 0.001, 0.0011, 61.0):
        seconds.observe(took)
    buckets = {
        each["le"]: read(metrics).value("idemproxy_upstream_seconds_bucket", **each)
        for each in read(metrics).positive()["idemproxy_upstream_seconds_bucket"]
    }
    assert (buckets["0.0005"], buckets["0.001"], buckets["0.0025"], buckets["60.0"], buckets["+Inf"]) == (1, 2, 3, 3, 4)
    assert read(metrics).value("idemproxy_upstream_seconds_count", rule="charges") == 4
    assert read(metrics).value("idemproxy_upstream_seconds_sum", rule="charges") == pytest.approx(61.0021)


def test_the_bounds_of_histograms_rise() -> None:
    for family in FAMILIES:
        assert (family.type is Type.HISTOGRAM) == bool(family.bounds)
        assert list(family.bounds) == sorted(set(family.bounds))


def test_the_scraper_chooses_between_two_formats(metrics: Metrics) -> None:
    metrics.rule("charges").decided(Decided.REPLAYED, "completed", 0.001)
    plain, plain_type = exposition(metrics, "text/plain")
    assert plain_type.startswith("text/plain; version=")
    assert Exposed(plain.decode()).value(
        "idemproxy_decisions_total", rule="charges", decision="replayed", state="completed"
    )
    text, text_type = exposition(metrics, OPENMETRICS)
    assert text_type.startswith("application/openmetrics-text")
    families = list(openmetrics.text_string_to_metric_families(text.decode()))  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == [family.name for family in FAMILIES]
    assert text.endswith(b"# EOF\n")


def test_no_label_is_anything_but_a_closed_set_or_a_rules_name(metrics: Metrics) -> None:
    metrics.rule("charges")
    metrics.command("claim")
    assert read(metrics).labels <= LABELS | {"le"}
    assert {label for family in FAMILIES for label in family.labels} <= LABELS


def test_every_metric_is_in_the_documentation() -> None:
    """With its labels, in a row of its own; and no other is."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(idemproxy_\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    expected = {
        family.name + ("_total" if family.type is Type.COUNTER else ""): ", ".join(
            f"`{each}`" for each in family.labels
        )
        for family in FAMILIES
    }
    assert {name: labels.strip() for name, labels in rows.items()} == expected


async def test_the_text_may_be_made_in_a_thread_while_new_rules_come(metrics: Metrics) -> None:
    texts = [asyncio.ensure_future(asyncio.to_thread(exposition, metrics, "")) for _ in range(3)]
    for number in range(30):
        metrics.rule(f"rule-{number}").fenced.add()
        await asyncio.sleep(0)
    for text, _ in await asyncio.gather(*texts):
        assert set(Exposed(text.decode()).of("idemproxy_fenced_total", "rule").values()) <= {0, 1}
    assert len(read(metrics).of("idemproxy_fenced_total", "rule")) == 30
