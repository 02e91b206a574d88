"""Addresses that are one, and what is allowed and surprising."""

from __future__ import annotations

import pytest

from tests.unit.config.texts import UPSTREAM, rule_text, settings, top_problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: 127.0.0.1:9000", "upstream: is the same address as `listen`"),
        ("listen: 0.0.0.0:9000", "upstream: is the same address as `listen`"),
        ("listen: localhost:9000", "upstream: is the same address as `listen`"),
        ("listen: 127.0.0.1:8080\nadmin: 127.0.0.1:8080", "admin: is the same address as `listen`"),
        ("listen: unix:/a\nadmin: unix:/a", "admin: is the same address as `listen`"),
        ("admin: 127.0.0.1:9000", "upstream: is the same address as `admin`"),
        ("admin: 127.0.0.1:8080", "admin: is the same address as `listen`"),
    ],
)
def test_two_ends_on_one_address(text: str, words: str) -> None:
    assert words in top_problem(text)


@pytest.mark.parametrize(
    "line",
    [
        "listen: 127.0.0.2:9000",
        "listen: 127.0.0.1:9001",
        "{listen: '127.0.0.1:0', admin: '127.0.0.1:0'}",
        "listen: unix:/a\nadmin: unix:/b",
    ],
)
def test_two_ends_on_two_addresses(line: str) -> None:
    text = f"{{upstream: 'http://127.0.0.1:9000', {line[1:]}" if line.startswith("{") else f"{UPSTREAM}{line}\n"
    assert settings(text).rules == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("key: {format: uuid}", "key.format uuid refuses keys of real clients"),
        ("key: {format: uuid4}", "stripe-python"),
        ("{ttl: 1s, lease: 2s}", "ttl is shorter than lease"),
        ("scope: []", "scope [] lets every caller share one scope"),
        ("scope: ['literal:a']", "scope has nothing of the caller, and lets every caller share one scope"),
        ("on_unknown: retry", "on_unknown: retry under at_most_once"),
        ("on_store_failure: fail_open", "on_store_failure: fail_open under at_most_once"),
        ("release_statuses: [2xx]", "statuses below 400"),
        ("scope: [{header: X, pattern: '(a)'}]", "a scope's pattern is matched against what nobody has verified"),
        ("scope: [{header: X, pattern: '(a)'}]", "write reauthorize, or jwt:CLAIM"),
        ("scope: ['header:Cookie']", "scope has all cookies"),
    ],
)
def test_what_is_allowed_and_surprising_is_warned_of(lines: str, words: str) -> None:
    (warning,) = settings(rule_text(lines)).warnings
    assert warning.startswith("rule `route-1`: ")
    assert words in warning


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "{guarantee: at_least_once, scope: []}",
        "key: {format: uuid7}",
        "release_statuses: [4xx]",
        "{scope: [], reauthorize: {path: /me}}",
        "{scope: [{header: X, pattern: '(a)'}], key: {from: '{json:/a}'}, reauthorize: {path: /me}}",
        "scope: ['literal:a', 'cookie:b']",
    ],
)
def test_what_is_not_surprising_is_not_warned_of(lines: str) -> None:
    assert settings(rule_text(lines)).warnings == ()


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("path: /a", "path: /a", True),
        ("path: '/**'", "path: /a", True),
        ("path: '/a/**'", "path: '/a/{x}/**'", True),
        ("path: '/a/{x}'", "path: /a/b", True),
        ("path: '/a/{x}'", "path: '/a/{y}'", True),
        ("{path: /a, methods: []}", "path: /a", True),
        ("path: /a", "{path: /a, hosts: [h], headers: {x: y}}", True),
        ("path: /a/b", "path: '/a/{x}'", False),
        ("path: '/a/{x}'", "path: '/a/**'", False),
        ("path: '/a/{x}'", "path: /a/", False),
        ("{path: /a, methods: [POST]}", "path: /a", False),
        ("path: /a", "{path: /a, methods: []}", False),
        ("{path: /a, hosts: [h]}", "path: /a", False),
        ("{path: /a, headers: {x: y}}", "path: /a", False),
    ],
)
def test_a_rule_that_can_never_match_is_warned_of(first: str, second: str, shadowed: bool) -> None:
    flow = [each if each.startswith("{") else f"{{{each}}}" for each in (first, second)]
    warnings = settings(f"{UPSTREAM}routes:\n- match: {flow[0]}\n- match: {flow[1]}\n").warnings
    assert any("rule `route-2` can never match: `route-1` stands before it" in each for each in warnings) is shadowed
