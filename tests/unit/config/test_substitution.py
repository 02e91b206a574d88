"""`${...}`: where values come from, and that they stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from idemproxy.config import load_text, without_file
from idemproxy.errors import ConfigError
from tests.unit.config.texts import UPSTREAM, problem, problems, rule, rule_text, settings, top


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "one"),
        ("x-${A}.${A}", "x-one.one"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${A:-two}", "one"),
    ],
)
def test_variables(written: str, value: str) -> None:
    assert top(f"namespace: {written}", A="one", EMPTY="").namespace == value
    assert top(f"namespace: '{written}'", A="one", EMPTY="").namespace == value


def test_an_escape_is_a_literal() -> None:
    assert rule(r"scope: ['literal:$${A}$']").scope[0].text == b"${A}$"  # type: ignore[union-attr]


def test_substituted_values_have_the_type_that_is_wanted() -> None:
    found = rule(
        "{max_waiters: '${N}', fresh_connection: '${F}', ttl: '${T}', release_statuses: ['${S}', '${C}']}",
        N="7",
        F="true",
        T="5m",
        S="409",
        C="5xx",
    )
    assert (found.max_waiters, found.fresh_connection, found.ttl) == (7, True, 300_000)
    assert found.release_statuses == {409, *range(500, 600)}
    assert rule("attempt_header: ${H:-}").attempt_header is None
    assert rule("attempt_header: ${H}", H="X-Try").attempt_header == b"X-Try"
    settings(f"workers: ${{W:-1}}\n{UPSTREAM}")


def test_a_value_can_never_become_yaml() -> None:
    evil = "a\nadmin: 0.0.0.0:1\n"
    assert problems(f"{UPSTREAM}namespace: ${{A}}\n", {"A": evil})[0].startswith("c.yaml:2:12: namespace: found `${A}`")
    assert rule("scope: ['literal:${A}']", A="${B}").scope[0].text == b"${B}"  # type: ignore[union-attr]
    assert "routes: found `${A}`; write a list of rules" in problem(f"{UPSTREAM}routes: ${{A}}\n", {"A": "[]"})


def test_names_are_not_substituted() -> None:
    assert "${A}: is no known setting" in problem(f"{UPSTREAM}'${{A}}': 1\n", {"A": "namespace"})


def test_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"shop\r\n")
    assert top(f"namespace: ${{file:{secret}}}").namespace == "shop"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 70_000])
def test_files_that_hold_no_value(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    line = problem(f"{UPSTREAM}namespace: ${{file:{secret}}}\n")
    assert line.startswith("c.yaml:2:12: namespace: the file ")
    assert "is not UTF-8 text" in line or "is larger than 64 KiB" in line


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("${MISSING}", "the environment variable MISSING is not set; set it, or write ${MISSING:-default}"),
        ("${MISSING} ${ALSO}", "the environment variable ALSO is not set"),
        ("'${MISSING'", "found `${` without its `}`"),
        ("${1X}", "found `${1X}`, which names no variable"),
        ("${}", "found `${}`, which names no variable"),
        ("${A:-${B}}", "a default is plain text"),
        (
            "${file:/nowhere/at/all}",
            "the file `/nowhere/at/all` named by ${file:...} is not there or is not a regular file",
        ),
        ("${file:/}", "is not a regular file"),
        ("${file:}", "is not a regular file"),
    ],
)
def test_what_gives_no_value(written: str, words: str) -> None:
    lines = problems(f"{UPSTREAM}namespace: {written}\n")
    assert any(words in line for line in lines)
    assert all(line.startswith("c.yaml:2:12: namespace: ") for line in lines)


def test_a_variable_that_is_not_text_is_refused() -> None:
    assert "namespace: found a value that is not Unicode text" in problem(
        f"{UPSTREAM}namespace: ${{A}}\n", {"A": "\udcff"}
    )


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "upstream: ${S}\n",
        "upstream: http://user:${S}@h\n",
        "upstream: http://h/${S} x\n",
        f"upstream: http://user:{SECRET}@h:1\n",
        f"upstream: user:{SECRET}@h:1\n",
        f"{UPSTREAM}store: foo://user:{SECRET}@h:1\n",
        f"{UPSTREAM}store: redis://:{SECRET}@h:99999\n",
        f"{UPSTREAM}store: redis://:{SECRET}/x@y@h:99999\n",
        f"{UPSTREAM}store: redis://h:99999/0?password={SECRET}\n",
        f"{UPSTREAM}store: redis://:${{X:-{SECRET}}}@h:99999\n",
        f"{UPSTREAM}store: [redis://:{SECRET}@h]\n",
        f"{UPSTREAM}store: postgresql://u:{SECRET}@h/db\n",
        f"{UPSTREAM}store: redis://:{SECRET}@h]: x\n",
        f"{UPSTREAM}store: *{SECRET}\n",
        f"{UPSTREAM}store: !{SECRET} x\n",
        f"{UPSTREAM}store: @{SECRET}\n",
        f"{UPSTREAM}docs_url: https://u:{SECRET}@h/\n",
        f"{UPSTREAM}admin_token: {SECRET}\n",
        f"{UPSTREAM}admin_tokn: {SECRET}\n",
        f"{UPSTREAM}listen: ${{S}}\n",
        f"{UPSTREAM}namespace: ${{S}} ${{S}}\n",
        f"{UPSTREAM}namespace: ${{X:-{SECRET} x}}\n",
        f"{UPSTREAM}namespace: ${{X Y:-{SECRET}}}\n",
        rule_text("guarantee: ${S}"),
        rule_text("max_waiters: ${S}"),
        rule_text("lease: ${S}"),
        rule_text("max_request_body: ${S}"),
        rule_text("fresh_connection: ${S}"),
        rule_text("release_statuses: ['${S}']"),
        rule_text("scope: ['${S}']"),
        rule_text("scope: ['literal:${S}', 'literal:${S}']"),
        rule_text("scope: [{header: A, pattern: '(${S}'}]"),
        rule_text("key: {format: {regex: '(?P<${S}'}}"),
        rule_text("match: ${S}"),
        rule_text("key: {header: '${S} x'}"),
        rule_text("problem_status: {key-in-flight: '${S}'}"),
        rule_text("match: {path: '${S}'}").replace("match: {path: /x}", "name: a"),
    ],
)
def test_a_secret_never_shows(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "c.yaml", {"S": SECRET})
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_nearest_name_to_a_secret_is_not_told() -> None:
    assert "did you mean" not in problem(rule_text("guarantee: ${S}"), {"S": "at_most_onc"})
    assert "did you mean at_most_once?" in problem(rule_text("guarantee: at_most_onc"))


def test_settings_do_not_show_the_stores_password() -> None:
    assert SECRET not in repr(top(f"store: redis://:{SECRET}@h"))


def test_the_command_line_is_substituted_too() -> None:
    found = without_file("http://${H}:1", None, None, None, {"H": "h"})
    assert found.upstream.authority == b"h:1"
    with pytest.raises(ConfigError, match="--upstream: the environment variable H is not set"):
        without_file("http://${H}:1", None, None, None, {})
