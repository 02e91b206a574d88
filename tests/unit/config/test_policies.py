"""`retry:` and `on_unknown: {probe: ..}` in a rule."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import OwnRetry, RetryCause
from idemproxy.idempotency.template import Part, Source
from tests.unit.config.texts import UPSTREAM, problem, problems, rule, rule_problem, rule_text, settings

PROBE = "on_unknown: {probe: {url: '/by-key/{header:Idempotency-Key}'}}"


def test_without_a_word_the_proxy_sends_once() -> None:
    assert rule("").retry == OwnRetry(1, frozenset({RetryCause.UNREACHABLE}), frozenset(), 100, 5_000)


def test_everything_that_a_retry_can_say() -> None:
    found = rule(
        "guarantee: at_least_once\nretry: {attempts: 4, on: [unreachable, unknown, 503, 5xx], backoff: 1s, max_backoff: 30s}"
    )
    causes = frozenset({RetryCause.UNREACHABLE, RetryCause.UNKNOWN})
    assert found.retry == OwnRetry(4, causes, frozenset(range(500, 600)), 1_000, 30_000)


def test_a_retry_is_merged_member_by_member_with_the_defaults() -> None:
    text = f"{UPSTREAM}defaults: {{retry: {{attempts: 3, backoff: 1s}}}}\nroutes: [{{match: {{path: /x}}, retry: {{backoff: 2s}}}}]\n"
    found = settings(text).rules[0].retry
    assert (found.attempts, found.backoff) == (3, 2_000)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("retry: {on: [unknown]}", "retry.on: has unknown under at_most_once"),
        ("retry: {on: [unreachable, unknown]}", "guarantee: at_least_once"),
        ("retry: {on: [503]}", "retry.on: has 503 under at_most_once"),
        ("retry: {on: [5xx]}", "retry.on: has 500 and 99 more under at_most_once"),
        ("{release_statuses: [503], unknown_statuses: [], retry: {on: [503, 429]}}", "has 429 under at_most_once"),
        ("guarantee: at_least_once\nretry: {on: [302]}", "retry.on: has a status below 400"),
        ("retry: {on: [sometimes]}", "write unreachable, unknown, a status"),
        ("retry: {attempts: 21}", "write a whole number from 1 to 20"),
        ("retry: {backoff: 10s, max_backoff: 5s}", "retry.max_backoff: is shorter than retry.backoff"),
        ("retry: {backof: 10s}", "did you mean backoff?"),
    ],
)
def test_retries_that_cannot_be(lines: str, said: str) -> None:
    assert said in rule_problem(lines)


@pytest.mark.parametrize(
    "lines",
    [
        "retry: {attempts: 3, on: [unreachable, 429, 425]}",
        "{release_statuses: [503], retry: {on: [503]}}",
        "{guarantee: at_least_once, retry: {on: [unknown, 5xx]}}",
        "{guarantee: at_least_once, retry: {on: []}}",
    ],
)
def test_retries_that_can_be(lines: str) -> None:
    rule(lines)


def test_a_guarantee_that_comes_from_the_defaults_counts() -> None:
    text = f"{UPSTREAM}defaults: {{guarantee: at_least_once}}\nroutes: [{{match: {{path: /x}}, retry: {{on: [unknown]}}}}]\n"
    assert RetryCause.UNKNOWN in settings(text).rules[0].retry.causes
    text = f"{UPSTREAM}defaults: {{retry: {{on: [unknown]}}}}\nroutes: [{{match: {{path: /x}}}}]\n"
    assert "under at_most_once" in problem(text)


def test_a_probe_settles_after_the_upstreams_own_time() -> None:
    found = rule(PROBE)
    assert found.on_unknown is OnUnknown.PROBE
    assert found.probe is not None
    assert found.probe.settle == 60_000
    assert found.probe.target.pieces == (b"/by-key/", Part(Source.HEADER, "idempotency-key"))
    text = f"upstream_timeouts: {{response: 90s}}\n{rule_text(PROBE)}"
    probe = settings(text).rules[0].probe
    assert probe is not None
    assert probe.settle == 90_000


def test_a_probe_can_say_when_it_settles() -> None:
    probe = rule("on_unknown: {probe: {url: '/by-key/{header:a}', settle: 5m}}").probe
    assert probe is not None
    assert probe.settle == 300_000


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080/by-key/{header:a}", "probes ask the upstream only"),
        ("by-key/{header:a}", "write a path of the upstream"),
        ("/by-key/{header:a", "a brace has no partner"),
        ("/by-key/{header}", "needs a name behind a colon"),
        ("/by-key/{jason:/a}", "source is none of header"),
        ("/by-key/{header:a|upper}", "filter is none of lower"),
        ("/by key/{header:a}", "a character that no target can hold"),
        ("/by-key/#{header:a}", "a character that no target can hold"),
        ("/by-key/{path:id}", "has a path: part that the rule's path has not"),
        ("/by-key/all", "is the same for every operation"),
    ],
)
def test_probes_that_cannot_be(url: str, said: str) -> None:
    assert said in rule_problem(f"on_unknown: {{probe: {{url: '{url}'}}}}")


def test_a_probe_of_an_upstream_without_time_limit_must_say_when_it_settles() -> None:
    text = f"upstream_timeouts: {{response: 0}}\n{rule_text(PROBE)}"
    assert "on_unknown.probe.settle: is missing" in problem(text)


def test_every_fault_of_a_probe_is_told_at_once() -> None:
    assert len(problems(rule_text("on_unknown: {probe: {url: 'x', settle: soon, wait: 1}}"))) == 3


def test_a_wait_that_no_client_has_the_patience_for_is_told() -> None:
    warnings = settings(rule_text("wait_timeout: 2m")).warnings
    assert any("wait_timeout is longer than a minute" in each for each in warnings)
