"""`verify:` on the wire: a forger cannot burn an event's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest

from tests.proxy.product import Product, post, problem, serving

SECRET = b"It's a secret to everybody"
HOOKS = f"""
  - name: hooks
    match: {{methods: [POST], path: /v1/charges}}
    key: {{header: X-GitHub-Delivery}}
    scope: []
    fingerprint: {{body: none}}
    verify: {{scheme: github, secrets: ["an older one", "{SECRET.decode()}"]}}
"""
BODY = b"Hello, World!"


def delivery(key: str | None = "d1", body: bytes = BODY, secret: bytes = SECRET, more: str = "") -> bytes:
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    named = f"X-GitHub-Delivery: {key}\r\n" if key else ""
    return post(None, body, more=f"{named}X-Hub-Signature-256: sha256={signature}\r\n{more}")


async def records(product: Product) -> int:
    return len((await product.store.scan(state=None, rule=None, limit=10, cursor=None)).found)


async def test_what_its_sender_signed_is_executed_once(store_url: str) -> None:
    async with serving(store_url, rules=HOOKS) as product:
        assert (await product.ask(delivery())).status == 201
        assert (await product.ask(delivery())).values(b"idempotent-replayed") == [b"true"]
        assert len(product.api.requests) == 1


@pytest.mark.parametrize(
    "forged",
    [
        delivery(secret=b"guessed"),
        delivery().replace(BODY, b"Hello, Worlds"),
        post(None, BODY, more="X-GitHub-Delivery: d1\r\n"),
        delivery(more="X-Hub-Signature-256: sha256=00\r\n"),
    ],
    ids=["another secret", "another body", "no signature", "two signatures"],
)
async def test_a_forgery_is_refused_and_leaves_the_key_free(store_url: str, forged: bytes) -> None:
    async with serving(store_url, rules=HOOKS) as product:
        refused = problem(await product.ask(forged))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("signature-invalid", 401, "fix_request")
        assert await records(product) == 0
        assert not product.api.requests
        assert (await product.ask(delivery())).status == 201


async def test_a_forgery_gets_no_recorded_answer(store_url: str) -> None:
    async with serving(store_url, rules=HOOKS) as product:
        assert (await product.ask(delivery())).status == 201
        assert (await product.ask(delivery(secret=b"guessed"))).status == 401


async def test_a_signature_is_not_taken_away_by_connection(store_url: str) -> None:
    async with serving(store_url, rules=HOOKS) as product:
        reply = await product.ask(delivery(more="Connection: X-Hub-Signature-256\r\n"))
        assert reply.status == 400
        assert not product.api.requests


async def test_a_signed_time_that_is_too_old_is_refused(store_url: str) -> None:
    key = b"0123456789abcdef01234567"
    rules = HOOKS.replace("scheme: github", "scheme: standard-webhooks").replace("X-GitHub-Delivery", "webhook-id")
    secret = "whsec_" + base64.b64encode(key).decode()
    rules = rules.replace('"an older one", "' + SECRET.decode() + '"', f'"{secret}"')

    def signed(at: int) -> bytes:
        text = b"msg_1.%d." % at + BODY
        signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        more = f"webhook-id: msg_1\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,{signature}\r\n"
        return post(None, BODY, more=more)

    async with serving(store_url, rules=rules) as product:
        now = int(time.time())
        for at in (now - 3_600, now + 3_600):
            assert problem(await product.ask(signed(at)))["slug"] == "signature-invalid"
        assert await records(product) == 0
        assert (await product.ask(signed(now))).status == 201
        assert (await product.ask(signed(now + 1))).values(b"idempotent-replayed") == [b"true"], "a redelivery"
