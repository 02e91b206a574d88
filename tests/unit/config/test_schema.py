"""The JSON Schema, the example file, and what is known of the whole contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from idemproxy.config import load, load_text, schema
from idemproxy.config.faults import Faults
from idemproxy.config.later import SETTINGS
from idemproxy.config.model import TOP
from idemproxy.config.table import Table
from idemproxy.config.tree import Branch, Broken, Leaf, Node, Row, Shape, grow
from tests.unit.config.texts import UPSTREAM, problem, problems, rule_text, settings, top_problem

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"


def _plain(node: Node) -> Any:
    """A tree as an editor sees it: YAML 1.2, where a name such as `on` is text."""
    match node:
        case Branch():
            return {entry.name: _plain(entry.node) for entry in node.entries}
        case Row():
            return [_plain(each) for each in node.items]
        case Leaf(shape=Shape.NULL):
            return None
        case Leaf(shape=Shape.FLAG):
            return node.source == "true" if node.source in ("true", "false") else node.source
        case Leaf(shape=Shape.WHOLE):
            return int(node.text) if node.text.isdecimal() else node.text
        case Leaf():
            return node.source
        case Broken():
            return None


def _valid(text: str) -> bool:
    tree = grow(text, {"A": "1"}, Faults("c.yaml"))
    assert tree is not None
    return jsonschema.Draft202012Validator(schema()).is_valid(_plain(tree))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_setting_is_described() -> None:
    def properties(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(node, dict):
            for name, each in node.get("properties", {}).items():
                yield name, each
            for each in node.values():
                yield from properties(each)
        elif isinstance(node, list):
            for each in node:
                yield from properties(each)

    found = list(properties(schema()))
    assert len(found) > 60
    assert all(each.get("description") for _, each in found)


CONTRACT = """
listen: 127.0.0.1:8080
upstream: http://127.0.0.1:9000
store: redis://localhost:6379/0
admin: 127.0.0.1:9090
namespace: shop
workers: 1
upstream_timeouts: {connect: 5s, response: 60s, idle: 60s}
store_timeout: 1s
drain_timeout: 25s
forwarded_headers: false
docs_url: https://api.example.com/docs/idempotency
defaults: {}
routes:
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    key:
      header: [Idempotency-Key, X-Idempotency-Key]
      required: true
      format: uuid
      max_length: 255
    scope: ["header:Authorization"]
    fingerprint: {headers: [Content-Type], query: true, body: raw, ignore: []}
    guarantee: at_most_once
    in_flight: wait
    wait_timeout: 10s
    max_waiters: 100
    retry_after: 1s
    on_unknown: block
    on_store_failure: fail_closed
    ttl: 24h
    lease: 30s
    release_statuses: [401, 402, 407, 421, 425, 428, 429]
    unknown_statuses: []
    retry: {attempts: 1, on: [unreachable], backoff: 100ms, max_backoff: 5s}
    attempt_header: null
    fresh_connection: false
    max_request_body: 8MiB
    max_response_body: 8MiB
    replay_drop_headers: []
    problem_status: {}
    mode: enforce
"""


def test_the_contracts_own_text_is_accepted_by_both() -> None:
    assert settings(CONTRACT).rules[0].name == "charges"
    assert _valid(CONTRACT)


def test_the_example_is_accepted_by_both_without_a_warning_or_a_variable() -> None:
    assert load(EXAMPLE, {}).warnings == ()
    assert _valid(EXAMPLE.read_text())


def test_the_example_shows_every_setting() -> None:
    def names(table: Table) -> Iterator[str]:
        for field in table.fields:
            if field.name not in ("defaults", "routes", "retry"):
                yield f"{table.ident}.{field.name}"
        for _, inner in table.tables():
            yield from names(inner)

    def shown(node: Node, ident: str) -> Iterator[str]:
        assert isinstance(node, Branch)
        for entry in node.entries:
            yield f"{ident}.{entry.name}"
            inner = {
                "defaults": "rule",
                "routes": "rule",
                "upstream_timeouts": "upstream_timeouts",
                "pool": "pool",
                "jwt": "jwt",
            }.get(entry.name, f"{ident}.{entry.name}")
            if isinstance(entry.node, Row) and entry.name == "routes":
                for each in entry.node.items:
                    yield from shown(each, "rule")
            elif isinstance(entry.node, Branch):
                yield from shown(entry.node, inner)

    tree = grow(EXAMPLE.read_text(), {}, Faults("example"))
    assert tree is not None
    there = set(shown(tree, ""))
    rule_table = next(field.kind.kind for field in TOP.fields if field.name == "routes")  # type: ignore[attr-defined]
    assert isinstance(rule_table, Table)
    missing = {*names(TOP), *names(rule_table)} - there
    commented = {name for name in missing if name.startswith((".tls", "tls"))}
    assert missing == commented, "TLS stands in comments: it needs files, and an https upstream"
    assert all(name.rpartition(".")[2] in EXAMPLE.read_text() for name in commented)


ACCEPTED = [
    UPSTREAM,
    rule_text("max_waiters: '${A}'"),
    rule_text("max_request_body: 512"),
    rule_text("key: {header: X, format: {regex: 'a+'}}"),
    rule_text("scope: ['literal:', {header: X, pattern: '(a)'}]"),
    rule_text("release_statuses: [4xx, 500, '${A}']").replace("'${A}'", "409"),
    rule_text("attempt_header: X-A"),
    rule_text("mode: observe"),
    rule_text("problem_status: {key-in-flight: 503}"),
    rule_text("preset: github\nverify: {secrets: a}"),
    rule_text("preset: null"),
    rule_text("key: {from: '{json:/id} {target}', batches: [application/x-batch]}"),
    f"{UPSTREAM}upstream_timeouts: {{idle: 0}}\n",
    f"{UPSTREAM}admin: unix:/a\n",
    f"{UPSTREAM}forwarded_headers: true\nvia: true\nupstream_host: true\n",
    f"{UPSTREAM}pool: {{max: 10, queue: 0, idle: 5s}}\n",
    f"{UPSTREAM}tls: {{listen: {{certificate: a.pem, key: b.pem}}}}\n",
    "upstream: https://a\ntls: {upstream: {ca: a.pem, certificate: b.pem, key: c.pem, server_name: b}}\n",
    "upstream: unix:/a\n",
    f"{UPSTREAM}workers: 4\n",
    f"{UPSTREAM}workers: auto\n",
    f"{UPSTREAM}workers: '${{A}}'\n",
]

REJECTED = [
    "listen: 127.0.0.1:1\n",
    "upstream: localhost:9000\n",
    f"{UPSTREAM}lisen: 127.0.0.1:1\n",
    f"{UPSTREAM}listen: 8080\n",
    f"{UPSTREAM}store: memcached://h\n",
    f"{UPSTREAM}namespace: a b\n",
    f"{UPSTREAM}store_timeout: 5\n",
    f"{UPSTREAM}store_timeout: 0\n",
    f"{UPSTREAM}workers: 0\n",
    f"{UPSTREAM}workers: many\n",
    f"{UPSTREAM}workers: '2'\n",
    f"{UPSTREAM}workers: [2]\n",
    f"{UPSTREAM}admin_token: x\n",
    f"{UPSTREAM}pool: {{max: 0}}\n",
    f"{UPSTREAM}pool: {{size: 9}}\n",
    f"{UPSTREAM}tls: {{listen: {{certificate: a}}}}\n",
    f"{UPSTREAM}defaults: {{name: x}}\n",
    f"{UPSTREAM}defaults: {{preset: github}}\n",
    rule_text("preset: gitlab"),
    rule_text("key: {from: '{json:/id}', batches: [batch]}"),
    f"{UPSTREAM}routes: {{match: {{path: /x}}}}\n",
    f"{UPSTREAM}routes: [{{}}]\n",
    f"{UPSTREAM}routes: [{{match: {{}}}}]\n",
    rule_text("guarantee: exactly_once"),
    rule_text("fresh_connection: 'true'"),
    rule_text("max_waiters: 0"),
    rule_text("max_waiters: '5'"),
    rule_text("lease: 30"),
    rule_text("max_request_body: 8M"),
    rule_text("key: {from: 'x'}"),
    rule_text("key: {header: []}"),
    rule_text("key: {max_length: 9000}"),
    rule_text("key: {format: {}}"),
    rule_text("fingerprint: {body: xml}"),
    rule_text("fingerprint: {ignore: [a]}"),
    rule_text("on_unknown: {probe: {url: x}}"),
    rule_text("release_statuses: [6xx]"),
    rule_text("release_statuses: [99]"),
    rule_text("problem_status: {nope: 503}"),
    rule_text("problem_status: {key-in-flight: 200}"),
    rule_text("retry: {attempts: 0}"),
    rule_text("mode: watch"),
    rule_text("scope: [X]"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_reader_accepts_the_schema_accepts(text: str) -> None:
    load_text(text, "c.yaml", {"A": "1"})
    assert _valid(text)


@pytest.mark.parametrize("text", REJECTED)
def test_what_the_schema_rejects_the_reader_rejects(text: str) -> None:
    assert problems(text)
    assert not _valid(text)


@pytest.mark.parametrize(
    "line",
    [
        "admin_token: x",
        "admin_show_bodies: true",
        "replicas: 1",
    ],
)
def test_settings_at_the_top_that_come_later_are_known(line: str) -> None:
    assert top_problem(line).startswith(
        f"c.yaml:2:1: {line.split(':')[0]}: is known, but it comes later: not built yet; leave it out"
    )


def test_settings_that_come_later_are_accepted_where_they_mean_nothing() -> None:
    lines = "".join(f"{name}: {str(each.works[0]).lower()}\n" for name, each in SETTINGS[""].items() if each.works)
    text = f"{lines}{rule_text('fingerprint: {ignore: []}')}"
    assert settings(text).warnings == ()
    assert _valid(text)


def test_a_misspelling_of_what_comes_later_is_told_too() -> None:
    assert "did you mean workers?" in top_problem("worker: 1")
    assert "did you mean preset?" in problem(rule_text("presets: github"))
