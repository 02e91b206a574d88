"""What a script of another origin may read."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.cors import Cors, exposed, readable
from idemproxy.idempotency.messages import Fields

SHOP = Cors(frozenset({b"https://shop.example", b"http://localhost:3000"}))
ANYONE = Cors(frozenset({b"*", b"https://shop.example"}))


def sent(*origins: bytes) -> Fields:
    return ((b"Host", b"api.example"), *((b"oRigin", each) for each in origins))


def test_a_listed_origin_may_read_a_problem_with_its_credentials() -> None:
    assert readable(SHOP, sent(b"https://shop.example")) == (
        "Access-Control-Allow-Origin: https://shop.example",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Expose-Headers: Retry-After, Link, Stripe-Should-Retry, X-Should-Retry",
        "Vary: Origin",
    )


@pytest.mark.parametrize(
    "fields",
    [
        sent(),
        sent(b"https://evil.example"),
        sent(b"https://shop.example.evil.example"),
        sent(b"https://shop.example:8443"),
        sent(b"http://shop.example"),
        sent(b"null"),
        sent(b"*"),
        sent(b""),
        sent(b"https://shop.example", b"https://shop.example"),
        sent(b"https://shop.example, https://evil.example"),
    ],
)
def test_nobody_else_may(fields: Fields) -> None:
    assert readable(SHOP, fields) == ("Vary: Origin",)
    assert exposed(SHOP, fields) == b""


def test_everyone_may_but_without_credentials() -> None:
    fields = readable(ANYONE, sent(b"https://other.example"))
    assert fields[0] == "Access-Control-Allow-Origin: *"
    assert not [each for each in fields if "Credentials" in each]
    assert "Access-Control-Allow-Credentials: true" in readable(ANYONE, sent(b"https://shop.example"))
    assert readable(ANYONE, sent()) == ("Vary: Origin",)


def test_no_browser_is_told_of_a_replay_without_the_setting() -> None:
    assert readable(None, sent(b"https://shop.example")) == ()
    assert exposed(None, sent(b"https://shop.example")) == b""
    assert exposed(SHOP, sent(b"http://localhost:3000")) == b"Access-Control-Expose-Headers: Idempotent-Replayed\r\n"
