"""`jwt:` scopes on the wire: a caller is known by a token that holds, and by nothing else."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from idemproxy.config import load_text
from idemproxy.jwks import Pace
from idemproxy.runtime import plan
from tests.proxy.product import Product, post, problem, serving
from tests.proxy.scripted import Accepted, Scripted, silent
from tests.proxy.wire import Reply
from tests.unit.idempotency.tokens import SECRET, by_hand, jwk, jwks, pem, rsa_key, token

RULE = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    scope: ["jwt:sub"]
"""
SHARED = f"jwt: {{keys: [{{secret: '{SECRET.decode()}'}}], algorithms: [HS256], issuer: login, audience: api}}\n"


def signed(key: Any = SECRET, algorithm: str = "HS256", head: dict[str, str] | None = None, **claims: Any) -> str:
    now = int(time.time())
    return token(
        key, algorithm, head, **{"iss": "login", "aud": "api", "exp": now + 600, "jti": time.monotonic_ns(), **claims}
    )


def bearing(text: str) -> str:
    return f"Authorization: Bearer {text}\r\n"


def replayed(reply: Reply) -> bool:
    return reply.values(b"idempotent-replayed") == [b"true"]


async def records(product: Product) -> int:
    return len((await product.store.scan(state=None, rule=None, limit=10, cursor=None)).found)


async def test_a_caller_is_the_same_with_a_token_that_was_renewed(store_url: str) -> None:
    async with serving(store_url, rules=RULE, more=SHARED) as product:
        assert not replayed(await product.ask(post(more=bearing(signed()))))
        assert replayed(await product.ask(post(more=bearing(signed()))))
        assert not replayed(await product.ask(post(more=bearing(signed(sub="bob")))))
        assert len(product.api.requests) == 2
        assert await records(product) == 2


async def test_a_number_is_not_the_text_that_looks_like_it(store_url: str) -> None:
    async with serving(store_url, rules=RULE.replace("sub", "uid"), more=SHARED) as product:
        for uid in ("7", 7):
            assert not replayed(await product.ask(post(more=bearing(signed(uid=uid)))))


NONE = by_hand(b'{"alg":"none"}', b'{"sub":"ada"}', algorithm="") + "AA"
AT_ONCE = Pace(pause=0.0, first=0.0)
REFUSED = {
    "none": "",
    "of another kind": "Authorization: Basic YWRhOnB3\r\n",
    "not signed": bearing(NONE),
    "empty signature": bearing(signed().rpartition(".")[0] + "."),
    "expired": bearing(signed(exp=int(time.time()) - 60)),
    "not valid yet": bearing(signed(nbf=int(time.time()) + 3_600)),
    "a wrong key": bearing(signed(SECRET[::-1])),
    "another algorithm": bearing(signed(rsa_key(), "RS256")),
    "another issuer": bearing(signed(iss="other")),
    "for another": bearing(signed(aud="other")),
    "no such claim": bearing(signed(sub=...)),
    "a claim of another kind": bearing(
        by_hand(b'{"alg":"HS256"}', json.dumps({"sub": ["ada"], "iss": "login", "aud": "api"}).encode())
    ),
    "nonsense": bearing("nonsense"),
    "two": bearing(signed()) + bearing(signed()),
    "too long": bearing(signed(more="x" * 20_000)),
}


@pytest.mark.parametrize("more", REFUSED.values(), ids=REFUSED)
async def test_what_does_not_hold_is_refused_and_leaves_the_key_free(tmp_path: Any, more: str) -> None:
    async with serving(f"sqlite:{tmp_path / 'store.db'}", rules=RULE, more=SHARED) as product:
        refused = problem(await product.ask(post(more=more)))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("credential-invalid", 401, "fix_request")
        assert not product.api.requests
        assert await records(product) == 0
        assert (await product.ask(post(more=bearing(signed())))).status == 201


async def test_a_forger_gets_no_recorded_answer(store_url: str) -> None:
    async with serving(store_url, rules=RULE, more=SHARED) as product:
        assert (await product.ask(post(more=bearing(signed())))).status == 201
        assert (await product.ask(post(more=bearing(signed(SECRET[::-1]))))).status == 401
        assert (await product.ask(post(more=bearing(NONE)))).status == 401


async def test_a_body_is_not_asked_for_where_the_token_is_wrong(tmp_path: Any) -> None:
    async with (
        serving(f"sqlite:{tmp_path / 'other.db'}", rules=RULE, more=SHARED) as other,
        await other.connect() as wire,
    ):
        await wire.send(post(more="Expect: 100-continue\r\n").removesuffix(b"amount=5"))
        assert (await wire.answer(b"POST")).status == 401


async def test_a_token_is_not_taken_away_by_connection(store_url: str) -> None:
    async with serving(store_url, rules=RULE, more=SHARED) as product:
        reply = await product.ask(post(more=f"{bearing(signed())}Connection: Authorization\r\n"))
        assert reply.status == 400
        assert not product.api.requests


async def test_a_request_without_a_key_needs_no_token(store_url: str) -> None:
    async with serving(store_url, rules=RULE, more=SHARED) as product:
        assert (await product.ask(post(None))).status == 201


async def test_with_a_natural_key(store_url: str) -> None:
    rules = f"{RULE}    key: {{from: '{{json:/order}}'}}\n"
    async with serving(store_url, rules=rules, more=SHARED) as product:
        body = b'{"order":"o1"}'
        assert not replayed(await product.ask(post(None, body, more=bearing(signed()))))
        assert replayed(await product.ask(post(None, body, more=bearing(signed()))))
        assert problem(await product.ask(post(None, body)))["slug"] == "credential-invalid"
        assert not replayed(await product.ask(post(None, body, more=bearing(signed(sub="bob")))))


async def test_with_a_retry_marker(store_url: str) -> None:
    rules = f"{RULE}    key: {{retry_marker: {{header: X-Attempt, window: 10m}}}}\n"
    async with serving(store_url, rules=rules, more=SHARED) as product:
        first, again = "X-Attempt: 0\r\n", "X-Attempt: 1\r\n"
        assert not replayed(await product.ask(post(None, more=first + bearing(signed()))))
        assert replayed(await product.ask(post(None, more=again + bearing(signed()))))
        assert not replayed(await product.ask(post(None, more=again + bearing(signed(sub="bob")))))
        assert problem(await product.ask(post(None, more=again)))["slug"] == "credential-invalid"
        assert len(product.api.requests) == 2


async def test_a_public_key_in_a_file(tmp_path: Any) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(rsa_key()))
    more = f"jwt: {{keys: [{{pem: '{file}'}}], algorithms: [RS256], audience: api}}\n"
    async with serving(f"sqlite:{tmp_path / 'store.db'}", rules=RULE, more=more) as product:
        assert (await product.ask(post(more=bearing(signed(rsa_key(), "RS256"))))).status == 201
        confused = by_hand(b'{"alg":"HS256"}', b'{"sub":"ada","aud":"api"}', pem(rsa_key()).replace(b"-----BEGIN", b""))
        assert (await product.ask(post(more=bearing(confused)))).status == 401


# ------------------------------------------------------------------------------------------------------------------------- by a URL


class Issuer:
    """Publishes keys as bytes of HTTP, and counts who asks."""

    def __init__(self, body: bytes = jwks(jwk(rsa_key(0), "old")), status: str = "200 OK") -> None:
        self.body = body
        self.status = status
        self.asked = 0

    async def script(self, accepted: Accepted) -> None:
        while True:
            await accepted.request()
            self.asked += 1
            head = (
                f"HTTP/1.1 {self.status}\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
            )
            await accepted.send(head.encode() + self.body)


@contextlib.asynccontextmanager
async def published(
    monkeypatch: pytest.MonkeyPatch, store: str, issuer: Issuer | None, pace: Pace = AT_ONCE
) -> AsyncIterator[Product]:
    """The product with the keys of a URL; without an issuer it hangs."""
    monkeypatch.setattr(plan, "PACE", pace)
    async with Scripted(silent if issuer is None else issuer.script) as server:
        more = f"jwt: {{keys: [{{jwks: 'http://127.0.0.1:{server.port}/jwks'}}], algorithms: [RS256], audience: api}}\n"
        others = RULE.replace("charges", "others").replace("jwt:sub", "header:Authorization")
        async with serving(store, rules=RULE + others, more=more) as product:
            yield product


def by(number: int, kid: str) -> str:
    return bearing(signed(rsa_key(number), "RS256", {"kid": kid}))


async def test_keys_are_fetched_and_a_new_one_when_it_is_named(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer()
    async with published(monkeypatch, store_url, issuer) as product:
        assert (await product.ask(post(more=by(0, "old")))).status == 201
        asked = issuer.asked
        issuer.body = jwks(jwk(rsa_key(1), "new"))
        assert replayed(await product.ask(post(more=by(0, "old"))))
        assert issuer.asked == asked
        assert replayed(await product.ask(post(more=by(1, "new"))))
        assert issuer.asked == asked + 1
        assert problem(await product.ask(post(more=by(0, "old"))))["slug"] == "credential-invalid"
        assert problem(await product.ask(post(more=by(2, "new"))))["status"] == 401
        assert len(product.api.requests) == 1


@pytest.mark.parametrize(
    "issuer",
    [
        None,
        Issuer(b"<html>junk"),
        Issuer(b'{"keys":[]}'),
        Issuer(status="500 Oops"),
        Issuer(b"[" * 100_000),
        Issuer(b" " * 300_000),
    ],
    ids=["hangs", "junk", "no keys", "fails", "deep", "large"],
)
async def test_where_no_keys_come_it_is_said_that_nobody_can_tell(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, issuer: Issuer | None
) -> None:
    pace = Pace(first=0.0, limit=0.2 if issuer is None else 30.0)
    async with published(monkeypatch, f"sqlite:{tmp_path / 'store.db'}", issuer, pace) as product:
        reply = await product.ask(post(more=by(0, "old")))
        refused = problem(reply)
        assert (refused["slug"], refused["status"], refused["retry"]) == ("credential-invalid", 503, "same_key")
        assert reply.values(b"retry-after") == [b"1"]
        assert problem(await product.ask(post(more="")))["status"] == 401, "that there is none needs no keys"
        assert not product.api.requests
        assert await records(product) == 0
        if issuer is not None:
            issuer.body, issuer.status = jwks(jwk(rsa_key(0), "old")), "200 OK"
            assert (await product.ask(post(more=by(0, "old")))).status == 201


async def test_keys_that_do_not_come_are_nobodys_business_under_another_rule(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with published(monkeypatch, f"sqlite:{tmp_path / 'store.db'}", None, Pace(limit=600.0)) as product:
        assert (await product.ask(post(path="/v1/others", more=by(0, "old")))).status == 201


async def test_a_reload_fetches_anew_and_keeps_what_it_has(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer()
    async with published(monkeypatch, f"sqlite:{tmp_path / 'store.db'}", issuer, Pace(limit=60.0)) as product:
        assert (await product.ask(post(more=by(0, "old")))).status == 201
        issuer.status = "500 Oops"
        product.service.take_over(plan.prepare(product.service.settings))
        assert replayed(await product.ask(post(more=by(0, "old"))))
        issuer.body, issuer.status = jwks(jwk(rsa_key(1), "new")), "200 OK"
        product.service.take_over(plan.prepare(product.service.settings))
        assert replayed(await product.ask(post(more=by(1, "new"))))


async def test_a_reload_takes_other_keys(tmp_path: Any) -> None:
    async with serving(f"sqlite:{tmp_path / 'store.db'}", rules=RULE, more=SHARED) as product:
        text = (
            f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{product.api.port}\nstore: sqlite:x\n"
            f"{SHARED.replace(SECRET.decode(), 'x' * 40)}routes:{RULE}"
        )
        assert (await product.ask(post(more=bearing(signed())))).status == 201
        product.service.take_over(plan.prepare(load_text(text, "c.yaml", {})))
        assert (await product.ask(post(more=bearing(signed())))).status == 401
        assert replayed(await product.ask(post(more=bearing(signed(b"x" * 40)))))
