"""What an operator may know of a client and its key, and what is remembered to suspect duplicates by."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.observation import (
    WINDOW,
    Recent,
    Suspected,
    agent_of,
    client_of,
    form_of,
    same_bytes,
)

ONE, OTHER = b"1" * 32, b"2" * 32


def test_a_client_is_named_without_what_it_sent() -> None:
    named = client_of((b"Bearer secret",))
    assert len(named) == 8
    assert named == client_of((b"Bearer secret",))
    assert (
        len({named, client_of((b"Bearer other",)), client_of((b"Bearer secret", None)), client_of((None, b"a"))}) == 4
    )
    assert client_of(()) == "any"
    assert client_of((None, None)) == "anonymous"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"Shop/2.1 (linux) libcurl/8", "Shop/2.1"),
        (b"curl/8.5.0", "curl/8.5.0"),
        (b"Go-http-client", "Go-http-client"),
        (b"(compatible)", None),
        (b"", None),
        (b"a" * 41, None),
        (b"a/" + b"1" * 21, None),
        (b"shop\xff/1", None),
        (b"{json}", None),
    ],
)
def test_of_a_user_agent_the_first_product_is_told(sent: bytes, told: str | None) -> None:
    assert agent_of(((b"User-Agent", sent),)) == told


def test_without_a_user_agent_none_is_told() -> None:
    assert agent_of(()) is None


@pytest.mark.parametrize(
    ("key", "form"),
    [
        (b"8e03978e-40d5-43e8-bc93-6894a57f9324", "uuid4"),
        (b"0190163D-8694-739B-AEA5-966C26F8AD91", "uuid7"),
        (b"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "uuid"),
        (b"01J0B3X2ZC8Z5Y6W7V8T9S0R1Q", "ulid"),
        (b"order-17", "any"),
        (b"8e03978e-40d5-43e8-bc93-6894a57f9324x", "any"),
    ],
)
def test_the_form_of_a_key(key: bytes, form: str) -> None:
    assert form_of(Key(key)) == form


def test_the_same_bytes_are_of_one_rule_caller_method_target_and_body() -> None:
    asked = [
        ("charges", (b"alice",), b"POST", b"/a?b", ONE),
        ("refunds", (b"alice",), b"POST", b"/a?b", ONE),
        ("charges", (b"bob",), b"POST", b"/a?b", ONE),
        ("charges", (None,), b"POST", b"/a?b", ONE),
        ("charges", (b"alice",), b"PUT", b"/a?b", ONE),
        ("charges", (b"alice",), b"POST", b"/a?", ONE),
        ("charges", (b"alice",), b"POST", b"/a", ONE),
        ("charges", (b"alice",), b"POST", b"/a?b", OTHER),
    ]
    assert len({same_bytes(*each) for each in asked}) == len(asked)
    assert same_bytes(*asked[0]) == same_bytes("charges", (b"alice",), b"POST", b"http://host/a?b", ONE)


def test_repeats_are_suspected_within_the_window_only() -> None:
    recent = Recent()
    assert recent.suspected(ONE, None, 100.0) is None
    assert recent.suspected(OTHER, None, 100.0) is None
    assert recent.suspected(ONE, None, 100.0 + WINDOW) is Suspected.NO_KEY
    assert recent.suspected(ONE, None, 100.0 + 2 * WINDOW + 0.1) is None
    assert recent.suspected(ONE, "a", 121.0) is None, "a client that begins to send keys"
    assert recent.suspected(ONE, "a", 122.0) is None, "its key says what it is"
    assert recent.suspected(ONE, "b", 123.0) is Suspected.NEW_KEY
    assert recent.suspected(ONE, None, 124.0) is None


def test_what_is_remembered_is_bounded() -> None:
    recent = Recent(most=2)
    for number in range(4):
        same = bytes([number]) * 32
        assert recent.suspected(same, None, 0.0) is None
    assert recent.suspected(bytes([0]) * 32, None, 0.0) is None
    assert recent.suspected(bytes([3]) * 32, None, 0.0) is Suspected.NO_KEY
