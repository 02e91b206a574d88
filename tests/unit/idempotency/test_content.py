"""What bodies say: JSON by value, forms, multipart, and pointers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.content import (
    MOST_DEPTH,
    NOTHING,
    Content,
    Unreadable,
    at,
    boundary_of,
    canonical_multipart,
    parse_pointer,
    read_form,
    read_json,
    without,
    without_boundary,
)
from tests.unit.idempotency.examples import calmly

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, order: Any) -> Any:
    """The same value, its names in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name], order) for name in order(sorted(value))}
    return [shuffled(each, order) for each in value] if isinstance(value, list) else value


@calmly
@given(VALUES, st.randoms(use_true_random=False), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_a_value_is_equal_however_it_is_written(value: Any, random: Any, indent: Any, escaped: bool) -> None:
    def order(names: list[str]) -> list[str]:
        random.shuffle(names)
        return names

    plainly = json.dumps(value, ensure_ascii=False).encode()
    other = json.dumps(shuffled(value, order), ensure_ascii=escaped, indent=indent).encode()
    assert read_json(plainly).canonical == read_json(other).canonical


@calmly
@given(VALUES, VALUES)
def test_different_values_are_different(one: Any, other: Any) -> None:
    written = [json.dumps(each).encode() for each in (one, other)]
    equal = [json.dumps(each, sort_keys=True) for each in (one, other)]
    assert (read_json(written[0]).canonical == read_json(written[1]).canonical) is (equal[0] == equal[1])


@calmly
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), VALUES, st.booleans())
def test_a_name_that_comes_twice_is_unreadable_at_every_depth(
    members: dict[str, Any], value: Any, escaped: bool
) -> None:
    pairs = [*members.items(), (next(iter(members)), value)]
    inner = ",".join(f"{json.dumps(n, ensure_ascii=escaped)}:{json.dumps(v, ensure_ascii=escaped)}" for n, v in pairs)
    with pytest.raises(Unreadable, match="twice"):
        read_json(f'[{{"x":{{{inner}}}}}]'.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b'"\xff"',
        b'{"a":1}x',
        b"01",
        b"[1,]",
        b"\xef\xbb\xbf1",
        b'"\x00"',
        b"1" * 5_000,
    ],
)
def test_what_is_not_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_json(body)


def test_depth_is_bounded_and_no_stack_decides() -> None:
    def deep(depth: int) -> bytes:
        return b"[" * depth + b"]" * depth

    def read_from(stack: int) -> bytes:
        return read_from(stack - 1) if stack else read_json(deep(MOST_DEPTH)).canonical

    assert read_json(deep(MOST_DEPTH)).canonical == read_from(300)
    for depth in (MOST_DEPTH + 1, 100_000):
        with pytest.raises(Unreadable):
            read_json(deep(depth))
    assert read_json(b"[" + b",".join([b"[]"] * 1_000) + b"]").value == [[]] * 1_000
    with pytest.raises(Unreadable):
        read_json(b'{"a":' * 150_000)


def test_a_body_of_very_many_values_is_not_read() -> None:
    with pytest.raises(Unreadable, match="many"):
        read_json(b"[" + b"1," * 100_001 + b"1]")


def test_a_body_is_read_once() -> None:
    content = Content(b'{"a": 1}')
    assert content.json() is content.json()
    wrong = Content(b"{")
    for _ in range(2):
        with pytest.raises(Unreadable):
            wrong.json()


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 8),
        ("/ ", 7),
        ("/foo/00", NOTHING),
        ("/foo/2", NOTHING),
        ("/foo/-", NOTHING),
        ("/foo/0/x", NOTHING),
        ("/none", NOTHING),
    ],
)
def test_pointers_lead_where_rfc_6901_says(pointer: str, value: object) -> None:
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, " ": 7}
    assert at(document, parse_pointer(pointer)) == value


@pytest.mark.parametrize("text", ["a", "/~", "/a~2"])
def test_what_is_no_pointer(text: str) -> None:
    with pytest.raises(ValueError, match="pointer"):
        parse_pointer(text)


def test_without_leaves_the_value_as_it_is() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert without(value, ("a", "b")) == {"a": {"c": [1, 2]}, "d": 3}
    assert without(value, ("a", "c", "0")) == {"a": {"b": 1, "c": [None, 2]}, "d": 3}
    assert without(value, ("x", "y")) == without(value, ("a", "c", "7")) == value
    assert value == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_forms() -> None:
    assert read_form(b"a=1&b=x+%79&&c") == [(b"a", b"1"), (b"b", b"x y"), (b"c", b"")]
    with pytest.raises(Unreadable):
        read_form(b"a&" * 20_000)


@pytest.mark.parametrize(
    ("kind", "boundary", "left"),
    [
        (b"multipart/form-data; boundary=abc", b"abc", b"multipart/form-data"),
        (b'Multipart/Mixed;charset=x; Boundary="a b;\\"c" ; y=z', b'a b;"c', b"Multipart/Mixed;charset=x ; y=z"),
        (b"multipart/form-data", None, b"multipart/form-data"),
        (b"text/plain; boundary=abc", None, b"text/plain; boundary=abc"),
    ],
)
def test_boundaries(kind: bytes, boundary: bytes | None, left: bytes) -> None:
    assert boundary_of(kind) == boundary
    assert without_boundary(kind) == left


MULTIPART = b"multipart/form-data; boundary="


def parts(boundary: bytes, *said: bytes) -> bytes:
    return b"".join(b"--%b\r\nA: b\r\n\r\n%b\r\n" % (boundary, each) for each in said) + b"--%b--\r\n" % boundary


@calmly
@given(
    st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.lists(st.binary(max_size=30), min_size=1, max_size=4)
)
def test_multipart_is_equal_for_equal_parts_only(one: list[bytes], other: list[bytes]) -> None:
    first = canonical_multipart(parts(b"XyZ123", *one), MULTIPART + b"XyZ123")
    assert first == canonical_multipart(parts(b"AbC456", *one), MULTIPART + b"AbC456")
    assert (first == canonical_multipart(parts(b"AbC456", *other), MULTIPART + b"AbC456")) is (one == other)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--b\r\n\r\nx",
        b"--b\r\n\r\nx\r\n--bb--",
        b"--b\r\nA: b\r\n--b--",
        b"--b\r\n\r\n\r\n" * 1_001 + b"--b--",
    ],
)
def test_what_is_no_multipart_body(body: bytes) -> None:
    with pytest.raises(Unreadable):
        canonical_multipart(body, MULTIPART + b"b")
