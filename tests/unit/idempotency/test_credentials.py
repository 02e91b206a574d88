"""What a caller shows, and whether it is what began an operation."""

from __future__ import annotations

import pytest
from msgspec import structs

from idemproxy.idempotency.credentials import began_by, credential_fields, credential_of
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.record import NO_TOKEN, OnUnknown, Reason, Record, State
from idemproxy.idempotency.routes import HeaderScope, Match, Rule

RULE = Rule("charges", Match(frozenset(), "/x"), scope=(HeaderScope(b"x-account"),))
SHOWN: Fields = ((b"Authorization", b"Bearer a"), (b"X-Account", b"1"))
RECORD = Record(
    State.COMPLETED,
    bytes(32),
    "r",
    "charges",
    b"t" * 16,
    2,
    1,
    False,
    OnUnknown.BLOCK,
    Reason.NONE,
    1,
    2,
    3,
    4,
    None,
    "c" * 32,
)


def name(fields: Fields, record_id: str = "id") -> str:
    return credential_of(RULE, fields, record_id)


def test_what_is_shown() -> None:
    every = (*SHOWN, (b"COOKIE", b"s=1"), (b"x-api-key", b"k"), (b"Accept", b"*/*"), (b"X-Other", b"2"))
    assert credential_fields(RULE, every) == every[:4]


def test_the_same_is_named_alike_and_tells_nothing() -> None:
    assert name(SHOWN) == name((*SHOWN, (b"X-Request-Id", b"7")))
    assert name(SHOWN) == name(((b"authorization", b"Bearer a"), (b"x-account", b"1")))
    assert len(name(SHOWN)) == 32
    assert int(name(SHOWN), 16)


@pytest.mark.parametrize(
    "other",
    [
        ((b"Authorization", b"Bearer b"), (b"X-Account", b"1")),
        ((b"Authorization", b"Bearer a"), (b"X-Account", b"2")),
        ((b"Authorization", b"Bearer a"),),
        ((b"X-Account", b"Bearer a"), (b"Authorization", b"1")),
        (*SHOWN, (b"Cookie", b"s=1")),
        (*SHOWN, (b"X-Api-Key", b"")),
        (*SHOWN, (b"Authorization", b"Bearer a")),
        ((b"Authorization", b"Bearer aX-Account1"),),
    ],
)
def test_anything_else_is_another(other: Fields) -> None:
    assert name(other) != name(SHOWN)


def test_a_name_says_nothing_about_another_operation() -> None:
    assert name(SHOWN, "one") != name(SHOWN, "two")


def test_who_shows_nothing_is_nobody() -> None:
    assert name(((b"Accept", b"*/*"),)) == ""


def test_an_answer_belongs_to_the_credential_that_began_the_operation() -> None:
    assert began_by(RECORD) == "c" * 32
    assert began_by(structs.replace(RECORD, attempt=3)) == "c" * 32


def test_an_answer_that_was_given_to_another_belongs_to_nobody() -> None:
    """Else whoever began an operation with a credential of no worth would see what a take-over got for it."""
    assert began_by(structs.replace(RECORD, may_have_run=True)) == ""
    assert began_by(structs.replace(RECORD, token=NO_TOKEN)) == ""
