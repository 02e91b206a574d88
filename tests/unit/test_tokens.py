"""Tokens that held a moment ago are not verified again; none is remembered longer than it may be."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

from idemproxy.idempotency.jwt_claims import Claims, Doubt, Doubted, TokenPolicy, TrustedKey
from idemproxy.idempotency.jwt_keys import shared_key
from idemproxy.tokens import REMEMBERED, Tokens, Undecided
from tests.unit.idempotency.tokens import NOW, SECRET, bearing, token

POLICY = TokenPolicy(frozenset({"HS256"}), leeway=30_000)


class Counted:
    """Tokens by one key, which counts how often it is asked."""

    def __init__(self, most: int = 4096) -> None:
        self.now = float(NOW)
        self.asked = 0
        trusted = shared_key(SECRET)

        def signs(algorithm: str, signed: bytes, signature: bytes) -> bool:
            self.asked += 1
            return trusted.signs(algorithm, signed, signature)

        self.key: TrustedKey = dataclasses.replace(trusted, signs=signs)
        self.tokens = Tokens(POLICY, [self.key], [], lambda: self.now, most)

    async def told(self, text: str) -> Claims | Doubt | Undecided:
        found = await self.tokens.claims(bearing(text))
        return found.reason if isinstance(found, Doubted) else found


async def test_a_token_that_held_is_not_verified_again() -> None:
    counted = Counted()
    for _ in range(5):
        assert isinstance(await counted.told(token()), Claims)
    assert counted.asked == 1
    assert isinstance(await counted.told(token(sub="bob")), Claims)
    assert counted.asked == 2


async def test_it_is_after_a_while() -> None:
    counted = Counted()
    await counted.told(token())
    counted.now += REMEMBERED - 1
    await counted.told(token())
    assert counted.asked == 1
    counted.now += 1
    await counted.told(token())
    assert counted.asked == 2


async def test_it_is_remembered_no_longer_than_it_holds() -> None:
    counted = Counted()
    text = token(exp=NOW + 10)
    assert isinstance(await counted.told(text), Claims)
    counted.now += 39
    assert isinstance(await counted.told(text), Claims)
    counted.now += 1
    assert await counted.told(text) is Doubt.EXPIRED


async def test_a_clock_that_is_set_back_makes_nothing_hold() -> None:
    counted = Counted()
    text = token(nbf=NOW)
    assert isinstance(await counted.told(text), Claims)
    counted.now -= 3_600
    assert await counted.told(text) is Doubt.NOT_YET


async def test_what_was_refused_is_refused_each_time() -> None:
    counted = Counted()
    forged = token(SECRET[::-1])
    for _ in range(3):
        assert await counted.told(forged) is Doubt.UNKNOWN_KEY
    assert counted.asked == 3


async def test_only_so_many_are_remembered() -> None:
    counted = Counted(most=2)
    ada, bob, eve = (token(sub=name) for name in ("ada", "bob", "eve"))
    for text in (ada, bob, eve, eve, bob):
        await counted.told(text)
    assert counted.asked == 3
    await counted.told(ada)
    assert counted.asked == 4


async def test_two_tokens_at_once_are_none_even_where_each_is_remembered() -> None:
    counted = Counted()
    await counted.told(token())
    twice = bearing(token()) + bearing(token())
    assert await counted.tokens.claims(twice) == Doubted(Doubt.REPEATED)


async def test_nothing_of_a_token_is_kept() -> None:
    counted = Counted()
    text = token()
    await counted.told(text)
    assert text.split(".")[2] not in repr(vars(counted.tokens))


async def test_each_claim_of_a_scope_must_be_there() -> None:
    tokens = Counted().tokens
    named = await tokens.named(bearing(token(tenant=7)), ["sub", "tenant"])
    assert named == {"sub": b'[null, "ada"]', "tenant": b"[null, 7]"}
    assert await tokens.named(bearing(token()), ["sub", "tenant"]) == Doubted(Doubt.CLAIM)
    assert await tokens.named((), ["sub"]) == Doubted(Doubt.ABSENT)


def test_the_library_is_loaded_only_where_there_are_tokens() -> None:
    text = (
        "import sys, idemproxy.cli, idemproxy.runtime; from idemproxy.config import load_text;"
        "load_text('upstream: http://127.0.0.1:9000', 'c.yaml', {});"
        "print([name for name in sys.modules if name in ('jwt', 'cryptography')])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
