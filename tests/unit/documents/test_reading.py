"""Files that are no description: a clear error that names the file and the place, and nothing slow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemproxy.cli import main
from idemproxy.documents.description import Description
from idemproxy.documents.reading import parse
from idemproxy.documents.tree import Branch, Node, Row, Scalar
from idemproxy.errors import DescriptionError
from tests.unit.documents.descriptions import PAYMENTS, described

PATIENCE = 10
"""Seconds on a busy machine; what is slow here takes minutes or memory without end."""
HEAD = "openapi: 3.0.0\ninfo: {title: A, version: '1'}\n"


def said(text: str | bytes) -> str:
    """What is said of a file as `init` reads it."""
    began = time.monotonic()
    with pytest.raises(DescriptionError) as caught:
        _read(text if isinstance(text, bytes) else text.encode())
    assert time.monotonic() - began < PATIENCE
    assert str(caught.value).startswith("api.yaml")
    assert len(str(caught.value)) < 400
    return str(caught.value)


def _read(raw: bytes) -> None:
    description = Description(parse(raw, "api.yaml"))
    for operation in description.operations():
        list(description.parameters(operation))


WRONG: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "the file is empty"),
    ("a list", "- 1", "found no mapping"),
    ("a text", "hello", "found no mapping"),
    ("another shape", "a: 1", "`openapi: 3.x` is missing"),
    ("swagger", "swagger: '2.0'\ninfo: {}", "api.yaml:1:1: is Swagger 2.0; convert it"),
    ("too new", "openapi: 4.0.0", "api.yaml:1:10: is of another version"),
    ("version of a shape", "openapi: [3]", "another version"),
    ("no UTF-8", b"openapi: 3.0.0\ntitle: \xff", "api.yaml:2: found a byte that is not UTF-8"),
    ("control character", "openapi: 3.0.0\na: \x01", "api.yaml"),
    ("no YAML", "openapi: 3.0.0\na: [1", "not YAML"),
    ("tabs", "openapi: 3.0.0\n\ta: 1", "api.yaml:2:1: not YAML"),
    ("two documents", "openapi: 3.0.0\n---\na: 1", "api.yaml:2:1: found a second YAML document"),
    ("no JSON", '{"openapi": "3.0.0",\n "a": }', "api.yaml:2:7: not JSON"),
    ("NaN", '{"openapi": NaN}', "NaN"),
    ("deep JSON", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "deep"),
    ("deep JSON within Python's depth", '{"a":' + "[" * 300 + "]" * 300 + "}", "nested more than 200 deep"),
    ("deep YAML", "a: " + "[" * 5_000 + "]" * 5_000, "nest"),
    ("deep block YAML", "\n".join(" " * level + "a:" for level in range(300)), "api.yaml:201:201: found values nested"),
    (
        "duplicate in JSON",
        '{"openapi": "3.0.0",\n "a": 1, "a": 2}',
        "api.yaml:2:10: the name was given before, on line 2",
    ),
    ("duplicate in YAML", HEAD + "info: {}", "api.yaml:3:1: the name was given before, on line 2"),
    ("a list for a name", "openapi: 3.0.0\n? [a]\n: 1", "found a name that is no text"),
    ("a mapping for a name", "openapi: 3.0.0\n{a: 1}: 1", "found a name that is no text"),
    ("nothing for a name", "openapi: 3.0.0\n~: 1", "found a name that is no text"),
    ("an alias to nothing", "openapi: 3.0.0\na: *b", "api.yaml:2:4"),
    ("an anchor in itself", "openapi: 3.0.0\na: &a [*a]", "api.yaml:2:8: found an anchor that contains itself"),
    ("paths of a shape", HEAD + "paths: [1]", "api.yaml:3:8: paths is no mapping"),
    ("a path of a shape", HEAD + "paths: {/a: 1}", "a path is no mapping"),
    ("an operation of a shape", HEAD + "paths: {/a: {post: [1]}}", "an operation is no mapping"),
    ("a path without /", HEAD + "paths: {a: {}}", "does not begin with /"),
    ("a $ref to itself", HEAD + "paths: {/a: {$ref: '#/x'}}\nx: {$ref: '#/y'}\ny: {$ref: '#/x'}", "leads to itself"),
    ("a $ref to nothing", HEAD + "paths: {/a: {$ref: '#/x'}}", "api.yaml:3:13: the $ref `#/x` leads to nothing"),
    ("a $ref to an anchor", HEAD + "paths: {/a: {$ref: '#x'}}", "names no place"),
]


@pytest.mark.parametrize(("text", "words"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_what_is_wrong_is_told_with_its_place(text: str | bytes, words: str) -> None:
    assert words in said(text)


@pytest.mark.parametrize("command", ["init"])
def test_a_command_ends_with_one_line(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("upstream: http://127.0.0.1:9\n")
    arguments = ["docs", "--config", str(tmp_path / "c.yaml")] if command == "docs" else ["init"]
    for name in ("missing.yaml", ".", "a\0b"):
        assert main([*arguments, "--openapi", str(tmp_path / name)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert str(tmp_path) in said.err


def test_a_large_file_is_not_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as out:
        out.truncate(33 << 20)
    assert main(["init", "--openapi", str(file)]) == 1
    assert "larger than 32 MiB" in capsys.readouterr().err


def test_a_bomb_of_aliases_is_harmless() -> None:
    lines = ["x0: &a0 {k: v}"] + [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    began = time.monotonic()
    assert list(described(HEAD + "\n".join(lines)).operations()) == []
    assert time.monotonic() - began < PATIENCE


def test_a_bomb_of_merge_keys_is_refused() -> None:
    large = "x: &x {" + ", ".join(f"a{n}: 1" for n in range(3_000)) + "}\n"
    assert "more than 4000000 values" in said(HEAD + large + "".join(f"y{n}: {{<<: *x}}\n" for n in range(2_000)))


def test_schemas_that_contain_themselves_do_no_harm() -> None:
    assert [each.path for each in described(PAYMENTS).operations()][:2] == ["/charges", "/charges"]


def test_merge_keys_bring_in_what_is_not_written() -> None:
    root = parse(b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "f").root
    assert (root.text("b", "x"), root.text("b", "y")) == ("1", "3")


def test_what_yaml_takes_for_something_else_stays_text() -> None:
    root = parse(b"on: yes\n012: 2020-01-01\n'x': 1:30", "f").root
    assert {name: node.text for name, node in root.members.items() if isinstance(node, Scalar)} == {
        "on": "yes",
        "012": "2020-01-01",
        "x": "1:30",
    }


# ---------------------------------------------------------------------------------------- JSON is read as Python's own reader does


def value(node: Node) -> Any:
    match node:
        case Scalar(text=text, plain=plain):
            return json.loads(text) if plain else text
        case Row(items=items):
            return [value(each) for each in items]
        case Branch(members=members):
            return {name: value(each) for name, each in members.items()}


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), _JSON, max_size=4), st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_json_is_what_it_is(data: dict[str, Any], ascii_only: bool, indent: str | int | None) -> None:
    text = json.dumps(data, ensure_ascii=ascii_only, indent=indent)
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    assert value(parse(text.encode(), "f").root) == data
