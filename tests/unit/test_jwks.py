"""Keys from a JWKS URL: kept, fetched again, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from idemproxy.idempotency.jwt_claims import Claims, Doubt, Doubted, TokenPolicy
from idemproxy.idempotency.jwt_keys import jwks_keys, shared_key
from idemproxy.jwks import Fetch, JwksUnavailable, KeySet, Pace, http_fetch
from idemproxy.tokens import Tokens, Undecided
from tests.ports import free_port
from tests.unit.idempotency.tokens import NOW, SECRET, bearing, jwk, jwks, rsa_key, token

POLICY = TokenPolicy(frozenset({"RS256", "HS256"}))
OLD = jwks(jwk(rsa_key(0), "old"))
BOTH = jwks(jwk(rsa_key(0), "old"), jwk(rsa_key(1), "new"))
NEW = jwks(jwk(rsa_key(1), "new"))
BY_OLD = token(rsa_key(0), "RS256", {"kid": "old"})
BY_NEW = token(rsa_key(1), "RS256", {"kid": "new"})
BY_NOBODY = token(rsa_key(2), "RS256", {"kid": "nobody's"})
PATIENT = Pace(limit=600)
"""No fetch in these tests ends because the machine is slow."""


class Issuer:
    """Publishes keys, and counts who asks. `open` cleared: it hangs."""

    def __init__(self, text: bytes = OLD) -> None:
        self.text: bytes | Exception = text
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.now = 1000.0

    async def fetch(self) -> bytes:
        self.asked += 1
        await self.open.wait()
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


@asynccontextmanager
async def serving(issuer: Issuer, pace: Pace = PATIENT) -> AsyncIterator[tuple[Tokens, KeySet]]:
    keys = KeySet(issuer.fetch, lambda: issuer.now, pace)
    tokens = Tokens(POLICY, [shared_key(SECRET)], [keys], lambda: NOW)
    try:
        yield tokens, keys
    finally:
        await tokens.close()


async def told(tokens: Tokens, text: str) -> Claims | Doubt | Undecided:
    found = await tokens.claims(bearing(text))
    return found.reason if isinstance(found, Doubted) else found


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_the_first_token_waits_for_the_first_keys() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, _):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        assert isinstance(await told(tokens, BY_OLD), Claims)
        assert issuer.asked == 1


async def test_keys_can_be_there_before_the_first_token() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, keys):
        tokens.warm()
        await settled(lambda: bool(keys.trusted()))
        assert issuer.asked == 1


async def test_a_key_that_is_new_is_fetched_when_it_is_named() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, _):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.text, issuer.now = NEW, issuer.now + 31
        assert isinstance(await told(tokens, BY_NEW), Claims)
        assert issuer.asked == 2
        assert await told(tokens, BY_OLD) is Doubt.UNKNOWN_KEY


async def test_unknown_keys_are_asked_for_once_in_half_a_minute() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, _):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        for _ in range(20):
            assert await told(tokens, BY_NOBODY) is Doubt.UNKNOWN_KEY
        assert issuer.asked == 1
        issuer.now += 31
        for _ in range(20):
            assert await told(tokens, BY_NOBODY) is Doubt.UNKNOWN_KEY
        assert issuer.asked == 2


async def test_many_who_come_at_once_share_one_fetch() -> None:
    issuer = Issuer()
    issuer.open.clear()
    async with serving(issuer) as (tokens, _):
        waiting = [asyncio.ensure_future(told(tokens, BY_OLD)) for _ in range(50)]
        await settled(lambda: issuer.asked == 1)
        issuer.open.set()
        assert all(isinstance(each, Claims) for each in await asyncio.gather(*waiting))
        assert issuer.asked == 1


async def test_a_url_that_hangs_is_in_nobodys_way() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, _):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.open.clear()
        issuer.now += 31
        waiting = asyncio.ensure_future(told(tokens, BY_NOBODY))
        await settled(lambda: issuer.asked == 2)
        for _ in range(10):
            assert isinstance(await told(tokens, BY_OLD), Claims)
            assert isinstance(await told(tokens, token()), Claims)
        assert not waiting.done()
        issuer.open.set()
        assert await waiting is Doubt.UNKNOWN_KEY


async def test_there_is_one_fetch_at_a_time_however_long_it_takes() -> None:
    issuer = Issuer()
    issuer.open.clear()
    async with serving(issuer) as (tokens, keys):
        waiting = asyncio.ensure_future(told(tokens, BY_OLD))
        await settled(lambda: issuer.asked == 1)
        issuer.now += 600
        assert keys.trusted() == ()
        issuer.open.set()
        assert isinstance(await waiting, Claims)
        assert issuer.asked == 1


async def test_a_fetch_has_a_time_limit() -> None:
    issuer = Issuer()
    issuer.open.clear()
    async with serving(issuer, Pace(limit=0.01)) as (tokens, keys):
        assert await told(tokens, BY_OLD) == Undecided()
        assert keys.fault == "no answer came in time"


async def test_a_caller_who_leaves_takes_nobodys_fetch_along() -> None:
    issuer = Issuer()
    issuer.open.clear()
    async with serving(issuer) as (tokens, _):
        leaving, staying = (asyncio.ensure_future(told(tokens, BY_OLD)) for _ in range(2))
        await settled(lambda: issuer.asked == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        issuer.open.set()
        assert isinstance(await staying, Claims)


async def test_keys_are_fetched_again_in_the_background() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, keys):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.text, issuer.now = NEW, issuer.now + 601
        assert isinstance(await told(tokens, BY_OLD), Claims)
        await settled(lambda: keys.trusted() == jwks_keys(NEW, public_only=True))
        assert await told(tokens, BY_OLD) is Doubt.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (JwksUnavailable("it cannot be fetched"), "it cannot be fetched"),
        (b"<html>", "the answer is no use: it is not JSON"),
        (b'{"keys":[]}', "no key that can verify"),
        (jwks({"kty": "oct", "k": "c2VjcmV0" * 8}), "no key that can verify"),
        (RuntimeError("sesame"), "RuntimeError"),
    ],
)
async def test_an_answer_of_no_use_leaves_the_keys_as_they_were(answer: bytes | Exception, said: str) -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, keys):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.text, issuer.now = answer, issuer.now + 31
        assert await told(tokens, BY_NEW) == Undecided()
        assert said in keys.fault
        assert "sesame" not in keys.fault
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.text, issuer.now = BOTH, issuer.now + 31
        assert isinstance(await told(tokens, BY_NEW), Claims)
        assert keys.fault == ""


async def test_keys_are_not_kept_for_ever() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, _):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.text, issuer.now = JwksUnavailable("gone"), issuer.now + 86_401
        assert await told(tokens, BY_OLD) == Undecided()


async def test_without_any_key_it_is_tried_again_soon() -> None:
    issuer = Issuer()
    issuer.text = JwksUnavailable("not up yet")
    async with serving(issuer) as (tokens, _):
        assert await told(tokens, BY_OLD) == Undecided()
        assert await told(tokens, BY_OLD) == Undecided()
        assert issuer.asked == 1
        issuer.text, issuer.now = OLD, issuer.now + 6
        assert isinstance(await told(tokens, BY_OLD), Claims)


async def test_who_watches_is_told_once_that_it_fails_and_once_that_it_is_over() -> None:
    issuer = Issuer()
    issuer.text = JwksUnavailable("not up yet")
    said: list[str] = []
    keys = KeySet(issuer.fetch, lambda: issuer.now, PATIENT, said.append)
    for text in (issuer.text, issuer.text, OLD, OLD):
        issuer.text, issuer.now = text, issuer.now + 601
        await keys.renew()
    assert said == ["not up yet", ""]
    assert issuer.asked == 4


async def test_a_reload_goes_on_with_the_keys_that_are_there_and_fetches_them_anew() -> None:
    issuer = Issuer()
    async with serving(issuer) as (tokens, before):
        assert isinstance(await told(tokens, BY_OLD), Claims)
        issuer.open.clear()
        after = KeySet(issuer.fetch, lambda: issuer.now, PATIENT)
        after.succeed(before)
        newer = Tokens(POLICY, [], [after], lambda: NOW)
        newer.warm()
        await settled(lambda: issuer.asked == 2)
        assert isinstance(await told(newer, BY_OLD), Claims)
        issuer.text = NEW
        issuer.open.set()
        await settled(lambda: after.trusted() == jwks_keys(NEW, public_only=True))
        assert await told(newer, BY_OLD) is Doubt.UNKNOWN_KEY
        await newer.close()


async def test_closing_ends_what_is_being_fetched() -> None:
    issuer = Issuer()
    issuer.open.clear()
    before = asyncio.all_tasks()
    async with serving(issuer) as (tokens, _):
        tokens.warm()
        await settled(lambda: issuer.asked == 1)
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


# ---------------------------------------------------------------------------------------------------------------------- by HTTP


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def published(handler: Handler) -> AsyncIterator[Fetch]:
    app = web.Application()
    app.router.add_get("/jwks.json", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield http_fetch(f"http://127.0.0.1:{port}/jwks.json")
    finally:
        await runner.cleanup()


async def test_a_set_is_fetched() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=OLD, content_type="application/jwk-set+json")

    async with published(handler) as fetch:
        assert await fetch() == OLD


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.Response(status=302, headers={"Location": "/other"}), "status is 302"),
        (lambda: web.Response(status=500, body=OLD), "status is 500"),
        (lambda: web.Response(body=b" " * (300 << 10)), "larger than"),
    ],
)
async def test_what_is_no_set_is_not_taken(answer: Callable[[], web.Response], said: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer()

    async with published(handler) as fetch:
        with pytest.raises(JwksUnavailable, match=said):
            await fetch()


async def test_nobody_listens() -> None:
    with pytest.raises(JwksUnavailable, match="cannot be fetched"):
        await http_fetch(f"http://127.0.0.1:{free_port()}/jwks.json")()
