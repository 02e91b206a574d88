"""The age of keys that bear it."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.age import Age, age_of
from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import Birth, KeyAge, KeySource, Match, Rule

BORN = 1_645_557_742.0
UUID7 = b"017F22E2-79B0-7CC3-98C4-DC0C0C07398F"
"""RFC 9562, appendix A.6: made at 2022-02-22 19:22:22 UTC."""
ULID = b"01FWHE4YDGFK1SHH6W1G60EECF"
"""The same 48 bits of time."""


def age(by: Birth | bytes, now: float, key: bytes = b"k", *sent: bytes, derived: bool = False) -> Age | Problem:
    rule = Rule("r", Match(frozenset(), "/"), KeySource(age=KeyAge(by, 60_000)), ttl=3_600_000)
    return age_of(rule, tuple((b"First-Sent", each) for each in sent), Key(key, derived), now)


@pytest.mark.parametrize(
    ("by", "key"), [(Birth.UUID7, UUID7), (Birth.UUID7, UUID7.lower()), (Birth.ULID, ULID), (Birth.ULID, ULID.lower())]
)
def test_a_key_bears_its_birth(by: Birth, key: bytes) -> None:
    assert age(by, BORN + 3_659, key) is Age.YOUNG
    assert age(by, BORN + 3_661, key) is Age.OLD
    assert age(by, BORN - 59, key) is Age.YOUNG
    early = age(by, BORN - 61, key)
    assert isinstance(early, Problem)
    assert early.slug is Slug.KEY_INVALID


@pytest.mark.parametrize(
    "written",
    [
        b"Tue, 22 Feb 2022 19:22:22 GMT",
        b"2022-02-22T19:22:22Z",
        b"2022-02-22t19:22:22.000000001z",
        b"2022-02-22T21:52:22+02:30",
        b"2022-02-21T19:23:22-23:59",
        b"2022-02-22 19:22:22+00:00",
    ],
)
def test_a_header_says_when_a_request_was_first_sent(written: bytes) -> None:
    assert age(b"first-sent", BORN + 3_658, b"k", written) is Age.YOUNG
    assert age(b"first-sent", BORN + 3_662, b"k", written, written) is Age.OLD


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"yesterday",
        b"1645557742",
        b"2022-02-30T00:00:00Z",
        b"2022-13-01T00:00:00Z",
        b"2022-02-22T24:00:00Z",
        b"2022-02-22T19:22:22",
        b"2022-02-22T19:22:22+99:00",
        b"0000-01-01T00:00:00Z",
        b"Tue, 31 Feb 2022 19:22:22 GMT",
        b"Tue, 22 Feb 2022 19:22:22 CET",
        b"Tuesday, 22-Feb-22 19:22:22 GMT",
        b"2022-02-22T19:22:22Z\xff",
    ],
)
def test_what_is_no_time_is_an_invalid_key(written: bytes) -> None:
    said = age(b"first-sent", BORN, b"k", written)
    assert isinstance(said, Problem)
    assert said.slug is Slug.KEY_INVALID


def test_two_times_are_none_and_none_is_young() -> None:
    assert isinstance(age(b"first-sent", BORN, b"k", b"2022-02-22T19:22:22Z", b"2022-02-22T19:22:23Z"), Problem)
    assert age(b"first-sent", BORN + 1e9) is Age.YOUNG


def test_a_derived_key_bears_no_birth() -> None:
    assert age(Birth.UUID7, BORN + 1e9, b"\0" * 40, derived=True) is Age.YOUNG
    assert age(b"first-sent", BORN + 1e9, b"\0" * 40, b"2022-02-22T19:22:22Z", derived=True) is Age.OLD
