"""The proxy's own answers on the wire: in the shape that a rule names, readable by the scripts that it names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import stripe

from tests.proxy.product import CREATED, Exchange, Product, post, problem, serving, sqlite

SHOP = "Origin: https://shop.example\r\n"
EXPOSED = [b"Idempotent-Replayed"]
TO_READ = b"Retry-After, Link, Stripe-Should-Retry, X-Should-Retry"
CORS = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    max_request_body: 100B
    cors: {origins: ["https://shop.example"]}
"""
STRIPE = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    problem_shape: stripe
    problem_status: {key-reused: 400}
"""


async def refused(product: Product, more: str) -> list[tuple[bytes, bytes]]:
    """The fields of the answer to a key that was used for another request."""
    await product.ask(post(more=more))
    reply = await product.ask(post(body=b"amount=6", more=more))
    assert reply.status == 422
    return [(name.lower(), value) for name, value in reply.head.fields]


async def test_a_script_of_a_listed_origin_reads_a_problem(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=CORS) as product:
        fields = await refused(product, SHOP)
        assert (b"access-control-allow-origin", b"https://shop.example") in fields
        assert (b"access-control-allow-credentials", b"true") in fields
        assert (b"access-control-expose-headers", TO_READ) in fields
        assert (b"vary", b"Origin") in fields


@pytest.mark.parametrize("more", ["", "Origin: https://evil.example\r\n"])
async def test_a_script_of_another_origin_does_not(tmp_path: Path, more: str) -> None:
    async with serving(sqlite(tmp_path), rules=CORS) as product:
        fields = await refused(product, more)
        assert (b"vary", b"Origin") in fields
        assert not [name for name, _ in fields if name.startswith(b"access-control")]


async def test_a_rule_without_the_setting_says_nothing_of_origins(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path)) as product:
        fields = await refused(product, SHOP)
        assert not [name for name, _ in fields if name.startswith(b"access-control") or name == b"vary"]


async def test_every_way_to_be_refused_under_a_rule_can_be_read(tmp_path: Path) -> None:
    """Too large, options that would hide the key, an upstream that is away (with a key and without), and a body that breaks."""
    async with serving(sqlite(tmp_path), rules=CORS) as product:
        await product.api.stop()
        hidden = post(more=f"{SHOP}Connection: Idempotency-Key\r\n")
        asked = [post(body=b"x" * 101, more=SHOP), hidden, post(more=SHOP), post(None, more=SHOP)]
        replies = [await product.ask(each) for each in asked]
        async with await product.connect() as wire:
            chunked = post(body=b"", more=f"{SHOP}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")
            await wire.send(chunked.replace(b"Content-Length: 0\r\n", b""))
            await wire.until(b"100 Continue\r\n\r\n")
            await wire.send(b"zz\r\n")
            replies.append(await wire.answer(b"POST"))
        slugs = [problem(each)["slug"] for each in replies]
        assert slugs == ["request-too-large", "not-http", "upstream-unreachable", "upstream-unreachable", "not-http"]
        for reply in replies:
            assert reply.values(b"access-control-allow-origin") == [b"https://shop.example"]


async def test_what_no_rule_names_carries_nothing(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=CORS) as product:
        await product.api.stop()
        for request in (post(path="/other", more=SHOP), b"nonsense\r\n\r\n"):
            reply = await product.ask(request)
            assert reply.values(b"access-control-allow-origin") == reply.values(b"vary") == []


async def test_a_replay_can_be_told_from_a_first_answer(tmp_path: Path) -> None:
    """The upstream's own fields stay as they were recorded; ours is one more line of a list."""
    own = b"Access-Control-Allow-Origin: https://shop.example\r\nAccess-Control-Expose-Headers: X-Case\r\n"

    async def with_cors(exchange: Exchange) -> None:
        await exchange.send(CREATED.replace(b"X-Case: Kept\r\n", b"X-Case: Kept\r\n" + own))

    async with serving(sqlite(tmp_path), rules=CORS) as product:
        product.api.respond = with_cors
        first = await product.ask(post(more=SHOP))
        assert first.values(b"access-control-expose-headers") == [b"X-Case"]
        replay = await product.ask(post(more=SHOP))
        assert replay.values(b"idempotent-replayed") == [b"true"]
        assert replay.values(b"access-control-expose-headers") == [b"X-Case", *EXPOSED]
        assert replay.values(b"access-control-allow-origin") == [b"https://shop.example"]
        elsewhere = await product.ask(post(more="Origin: https://other.example\r\n"))
        assert elsewhere.values(b"idempotent-replayed") == [b"true"]
        assert elsewhere.values(b"access-control-expose-headers") == [b"X-Case"]
        assert elsewhere.values(b"access-control-allow-origin") == [b"https://shop.example"], "as recorded"


async def test_a_preflight_is_the_upstreams(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=CORS) as product:
        asked = post(None, b"", method="OPTIONS", more=f"{SHOP}Access-Control-Request-Method: POST\r\n")
        assert (await product.ask(asked)).status == 201
        assert len(product.api.requests) == 1


async def test_a_keyless_request_is_answered_in_its_rules_shape(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=STRIPE) as product:
        await product.api.stop()
        reply = await product.ask(post(None))
        assert (reply.status, json.loads(reply.body)["error"]["type"]) == (502, "api_error")


async def test_the_stripe_library_raises_its_own_exception(tmp_path: Path) -> None:
    """One request each: the library is told that a retry cannot help. It reads a plain problem too."""
    for shape in ("stripe", "problem"):
        folder = tmp_path / shape
        folder.mkdir()
        async with serving(sqlite(folder), rules=STRIPE.replace("stripe", shape)) as product:
            client = stripe.StripeClient(
                "sk_test_1", base_addresses={"api": f"http://127.0.0.1:{product.port}"}, max_network_retries=2
            )
            await asyncio.to_thread(pay, client, 5)
            with pytest.raises(stripe.StripeError) as caught:
                await asyncio.to_thread(pay, client, 6)
            assert type(caught.value) is stripe.IdempotencyError
            assert caught.value.http_status == 400
            assert "a different request" in str(caught.value)
            assert len(product.api.requests) == 1


def pay(client: stripe.StripeClient, amount: int) -> None:
    """One payment, always by the same key."""
    client.v1.charges.create(params={"amount": amount, "currency": "eur"}, options={"idempotency_key": "k1"})
