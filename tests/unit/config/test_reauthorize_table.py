"""`reauthorize:` in a rule."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.routes import Reauthorize, own_fields
from idemproxy.idempotency.template import parse_template
from tests.unit.config.texts import UPSTREAM, problem, rule, rule_problem, rule_text, settings


def test_without_it_nothing_is_asked() -> None:
    assert rule("ttl: 1h").reauthorize is None


def test_what_it_says() -> None:
    assert rule("reauthorize: {path: /v1/models}").reauthorize == Reauthorize(parse_template("/v1/models"), 60_000)
    assert rule("reauthorize: {path: '/v1/me?fields=id', cache: 0}").reauthorize == Reauthorize(
        parse_template("/v1/me?fields=id"), 0
    )


def test_its_path_may_have_parts_of_the_rules_path() -> None:
    (found,) = settings(rule_text("reauthorize: {path: '/t/{path:tenant}'}", "{path: '/t/{tenant}/orders'}")).rules
    assert found.reauthorize == Reauthorize(parse_template("/t/{path:tenant}"))
    said = problem(rule_text("reauthorize: {path: '/t/{path:other}'}", "{path: '/t/{tenant}/orders'}"))
    assert "reauthorize.path: has a path: part that the rule's path has not" in said


def test_the_fields_that_are_asked_with_are_the_rules_own() -> None:
    assert own_fields(rule("reauthorize: {path: /me}")) >= {b"authorization", b"cookie", b"x-api-key"}
    assert b"cookie" not in own_fields(rule("ttl: 1h"))


def test_a_rule_overrides_it_member_by_member() -> None:
    (found,) = settings(
        f"{UPSTREAM}defaults: {{reauthorize: {{path: /me}}}}\nroutes: [{{match: {{path: /x}}, reauthorize: {{cache: 5s}}}}]"
    ).rules
    assert found.reauthorize == Reauthorize(parse_template("/me"), 5_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cache: 5s}", "reauthorize.path: is missing"),
        ("{path: me}", "no path"),
        ("{path: 'http://elsewhere/me'}", "a whole URL"),
        ("{path: '/me/{header:X}'}", "with a part that is no path: part"),
        ("{path: '/me/{nothing:X}'}", "a part's source is none of"),
        ("{path: '/me me'}", "with a character that no target can hold"),
        ("{path: /me, cache: 2d}", "out of bounds"),
        ("{path: /me, method: GET}", "is no known setting"),
        ("{}", "reauthorize.path: is missing"),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    assert said in rule_problem(f"reauthorize: {text}")
