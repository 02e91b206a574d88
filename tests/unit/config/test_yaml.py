"""YAML: where each fault is, and the traps of the language."""

from __future__ import annotations

import pytest

from tests.unit.config.texts import (
    UPSTREAM,
    problem,
    problems,
    rule,
    rule_problem,
    rule_text,
    settings,
    top,
    top_problem,
)


def test_every_fault_is_told_at_once_in_the_order_of_the_file() -> None:
    lines = problems("listen: nowhere\nupsteam: http://h\nroutes:\n  - match: {path: x}\n    lease: 5\n  - {}\n")
    assert [line.split(": ")[0] for line in lines] == [
        "c.yaml:1:1",
        "c.yaml:1:9",
        "c.yaml:2:1",
        "c.yaml:4:19",
        "c.yaml:5:12",
        "c.yaml:6:5",
    ]
    assert "upstream: is missing; write `upstream:`" in lines[0]
    assert "listen: found `nowhere`, without a port; write host:port" in lines[1]
    assert "upsteam: is no known setting; did you mean upstream?" in lines[2]
    assert "routes[0].match.path: found `x`, not beginning with /" in lines[3]
    assert "routes[0].lease: found `5`, a number without a unit; write a time such as 30s" in lines[4]
    assert "routes[1].match: is missing" in lines[5]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("", "1:1", "the file is empty; write at least `upstream:"),
        ("# only a comment\n", "1:1", "the file is empty"),
        ("just a text\n", "1:1", "found `just a text`; a configuration is a mapping"),
        ("- a\n- b\n", "1:1", "found a list; a configuration is a mapping"),
        (
            "upstream: http://h\nroutes:\n\t- match: {path: /}\n",
            "3:1",
            "found a tab character where YAML wants spaces; indent with spaces",
        ),
        ("upstream:\thttp://h\n", "1:10", "found a tab character"),
        ("upstream: http://h\n---\nupstream: http://i\n", "2:1", "found a second YAML document"),
        ("upstream: http://h\nupstream: http://i\n", "2:1", "upstream: the name was given before, on line 1"),
        ("upstream: *there\n", "1:11", "found an alias (`*name`) without its anchor"),
        ("upstream: !secret http://h\n", "1:11", "upstream: found a tag"),
        ("upstream: !!python/object:os.system http://h\n", "1:11", "upstream: found a tag"),
        (
            "<<: {upstream: http://h}\nupstream: http://h\n",
            "1:1",
            "merge keys (`<<`) are not read; put what rules share in `defaults:`",
        ),
        ("upstream: @here\n", "1:11", "found a character that cannot begin a value; put the text in quotes"),
        ("upstream: a: b\n", "1:12", "found a `: ` where no name can stand"),
        ("upstream: http://h\n[a]: b\n", "2:1", "found a list or a mapping as a name"),
        ("upstream: {a: ${B}}\n", "1:16", "put a ${...} inside [ ] or { } in quotes"),
        ("upstream: 'http\n", "2:1", "not YAML"),
        ("upstream: [\n", "2:1", "not YAML"),
        ("upstream: http://\x07h\n", "1:18", "found a control character"),
        ("upstream: http://h\nnamespace: \x00\n", "2:12", "found a control character"),
        ('upstream: http://h\nnamespace: "\\ud800"\n', "2:12", "found a value that is not Unicode text"),
        ("upstream: " + "[" * 100 + "]" * 100 + "\n", "1:42", "nested more than 32 deep"),
        ("upstream: &a [*a]\n", "1:11", "an anchor that contains itself"),
    ],
)
def test_what_is_not_a_configuration_is_said_in_words(text: str, where: str, words: str) -> None:
    found = problems(text)
    line = next(line for line in found if words in line)
    assert line.startswith(f"c.yaml:{where}: ")


def test_a_bomb_of_aliases_is_bounded() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 25):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    found = problems(text + UPSTREAM)
    assert sum("more than 20000 values" in line for line in found) == 1


def test_anchors_and_aliases_are_read() -> None:
    found = settings(
        f"{UPSTREAM}routes:\n- match: {{path: /b}}\n  key: &k {{header: X-K}}\n- match: {{path: /c}}\n  key: *k\n"
    )
    assert found.rules[1].key.headers == (b"x-k",)


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "true", "Yes", "ON"])
def test_a_word_that_yaml_takes_for_a_boolean_must_be_quoted_where_text_is_wanted(word: str) -> None:
    assert f'namespace: found `{word}`, which YAML reads as a boolean; quote it: "{word}"' in top_problem(
        f"namespace: {word}"
    )
    assert top(f'namespace: "{word}"').namespace == word


def test_names_read_as_text_whatever_yaml_takes_them_for() -> None:
    rule("retry: {attempts: 1, on: [unreachable], backoff: 100ms, max_backoff: 5s}")
    assert "routes[0].yes: is no known setting" in rule_problem("yes: 1")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "max_waiters: 010",
            "found `010`, which YAML may read as an octal number; write a whole number from 1 to 100000",
        ),
        ("max_waiters: 0o10", "found `0o10`, which YAML may read as an octal number"),
        ("max_waiters: 09", "found `09`, which YAML may read as an octal number"),
        ("max_waiters: 0x10", "found `0x10`, not plain decimal digits"),
        ("max_waiters: 1_000", "found `1_000`, not plain decimal digits"),
        ("max_waiters: 1:30", "found `1:30`, which YAML reads as a number in base 60"),
        ("max_waiters: '100'", "found `100`, text in quotes"),
        ("max_waiters: 1.5", "found `1.5`; write a whole number"),
        ("max_waiters: -1", "found `-1`"),
        ("max_waiters: many", "found `many`; write a whole number"),
        ("max_waiters:", "found nothing (null); write a whole number"),
        ("max_waiters: [1]", "found a list; write a whole number"),
        (
            "lease: 1:30",
            "found `1:30`, which YAML reads as a number in base 60, not as a time; write a time such as 30s",
        ),
        ("lease: 30", "found `30`, a number without a unit"),
        ("lease: 030s", None),
        ("max_request_body: 010", "found `010`, which YAML may read as an octal number"),
        ("fresh_connection: yes", "found `yes`; write true or false, without quotes"),
        ("fresh_connection: 'true'", "found `true`; write true or false, without quotes"),
        ("name: 2024-01-01", 'found `2024-01-01`, which YAML reads as a date; quote it: "2024-01-01"'),
        ("name: 12", 'found `12`, which YAML reads as a number; quote it: "12"'),
        ("name: ~", "found nothing (null); write letters"),
        ("key: X-Key", "found `X-Key`; write a mapping with header, from, required"),
        ("key: [X-Key]", "found a list; write a mapping with header"),
    ],
)
def test_traps_of_numbers_and_shapes(line: str, words: str | None) -> None:
    if words is None:
        assert rule(line).lease == 30_000
    else:
        assert words in rule_problem(line)


def test_a_value_of_many_lines_or_characters_is_shown_short_on_one_line() -> None:
    assert "`a\\nb`" in top_problem('namespace: "a\\nb"')
    shown = top_problem(f"namespace: {'n' * 5_000}")
    assert len(shown) < 200


def test_routes_is_a_list() -> None:
    assert "routes: found a mapping; write a list of rules" in problem(f"{UPSTREAM}routes: {{match: {{path: /x}}}}\n")
    assert "routes: found nothing (null); write a list of rules" in problem(f"{UPSTREAM}routes:\n")
    assert "routes[1]: found `x`; write a mapping with name, match, preset" in problem(rule_text("") + "  - x\n")
