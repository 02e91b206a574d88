"""Retry markers: what a client says of its attempt, and how the operations that it means are told apart."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.identity import BadKey, NoKey, record_id
from idemproxy.idempotency.marker import Attempt, attempt_of, marked_key, marker_id
from idemproxy.idempotency.routes import KeySource, Match, RetryMarker, Rule, own_fields

MARKER = RetryMarker(b"x-retry", 600_000)
RULE = Rule("completions", Match(frozenset(), "/x"), KeySource((), marker=MARKER))
OTHER = Rule("others", Match(frozenset(), "/x"), KeySource((), marker=MARKER))


@pytest.mark.parametrize("value", [b"0", b"00", b"000000"])
def test_attempt_0_is_the_first(value: bytes) -> None:
    assert attempt_of(MARKER, ((b"X-Retry", value),)) is Attempt.FIRST


@pytest.mark.parametrize("value", [b"1", b"2", b"17", b"01", b"999999"])
def test_any_other_number_is_a_further_one(value: bytes) -> None:
    assert attempt_of(MARKER, ((b"x-retry", value),)) is Attempt.AGAIN


def test_without_the_header_there_is_no_marker() -> None:
    assert attempt_of(MARKER, ((b"x-other", b"1"),)) == NoKey()


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1.0", b"0x1", b"one", b"1000000", b"1 1", b"1,1", "\u0661".encode()]
)
def test_what_is_no_number_is_refused(value: bytes) -> None:
    assert isinstance(attempt_of(MARKER, ((b"x-retry", value),)), BadKey)


def test_the_same_number_twice_is_one_and_two_numbers_are_refused() -> None:
    assert attempt_of(MARKER, ((b"x-retry", b"1"), (b"X-Retry", b"1"))) is Attempt.AGAIN
    assert isinstance(attempt_of(MARKER, ((b"x-retry", b"0"), (b"x-retry", b"1"))), BadKey)


def test_markers_and_operations_are_told_apart_by_all_that_makes_them() -> None:
    print_, nonce = b"f" * 32, b"n" * 16
    ids = [
        marker_id("shop", (b"me",), RULE, print_),
        marker_id("other", (b"me",), RULE, print_),
        marker_id("shop", (None,), RULE, print_),
        marker_id("shop", (b"me",), OTHER, print_),
        marker_id("shop", (b"me",), RULE, b"g" * 32),
        *(
            record_id("shop", (b"me",), marked_key(rule, of, by).value)
            for rule, of, by in [
                (RULE, print_, nonce),
                (OTHER, print_, nonce),
                (RULE, b"g" * 32, nonce),
                (RULE, print_, b"m" * 16),
            ]
        ),
    ]
    assert len(set(ids)) == len(ids)
    assert marked_key(RULE, print_, nonce).derived
    assert marked_key(RULE, print_, nonce).value[0] == 0, "as no key from a header begins"


def test_the_marker_is_a_field_of_the_rules_own() -> None:
    assert b"x-retry" in own_fields(RULE)
