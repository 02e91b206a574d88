"""An operator's regular expressions: what they find, and that no client can make them slow."""

from __future__ import annotations

import time

import pytest

from idemproxy.idempotency.patterns import BadPattern, Pattern


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        (rb"Credential=([^/]+)/", b"AWS4 Credential=AK/2025, x", b"AK"),
        (rb"Credential=([^/]+)/", b"Bearer x", None),
        (rb"[0-9]+", b"a 12 b 3", b"12"),
        (rb"user=([a-z]+)?", b"user=", None),
        (rb"([^/]+)/", b"\xe4\xff\x80/x", b"\xe4\xff\x80"),
        (rb"(?i)bearer ([a-z]+)", b"BEARER Abc", b"Abc"),
    ],
)
def test_what_is_found(text: bytes, value: bytes, found: bytes | None) -> None:
    assert Pattern(text).found(value) == found


def test_a_whole_value_has_no_line_end_behind_it() -> None:
    assert Pattern(b"[a-z]+").whole(b"abc")
    assert not Pattern(b"[a-z]+").whole(b"abc\n")
    assert not Pattern(b"^[a-z]+$").whole(b"abc\n")
    assert not Pattern(b"a|ab").whole(b"abc")
    assert Pattern(b"a|ab").whole(b"ab")


@pytest.mark.parametrize("text", [b"(a+)+$", b"(a|aa)+$", b"(.*)*b", b".*.*.*.*=.*", b"(a*)*(a*)*[^a]$"])
def test_no_value_is_slow(text: bytes) -> None:
    """Each would take a backtracking engine for ever. RE2 takes milliseconds; the limit only tells the two apart."""
    pattern = Pattern(text)
    began = time.process_time()
    pattern.found(b"a" * 60_000 + b"!")
    pattern.whole(b"a" * 60_000 + b"!")
    assert time.process_time() - began < 5


def test_equal_texts_are_equal_patterns() -> None:
    assert Pattern(b"a+") == Pattern(b"a+") != Pattern(b"a")
    assert Pattern(b"(a)(b)").groups == 2


@pytest.mark.parametrize("text", [b"(", b"[a", b"(?=x)", b"(?<!x)a", rb"(a)\1", b"a{2,1}", b"a{1,100000}", b"*a"])
def test_what_is_no_expression_says_why(text: bytes) -> None:
    with pytest.raises(BadPattern, match=r"\w"):
        Pattern(text)
