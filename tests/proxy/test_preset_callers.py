"""Presets of API clients on the wire: a call and its retry, as that client makes it, are one execution (docs/presets.md)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest
import stripe

from tests.proxy.deliveries import sent, written
from tests.proxy.product import Exchange, serving, slug, sqlite
from tests.proxy.test_presets import AGAIN, NEW, statuses


def rules(name: str, more: str = "") -> str:
    return f"""
  - name: api
    match: {{path: "/**"}}
    preset: {name}
    {more}
"""


@dataclass(frozen=True, slots=True)
class Call:
    """`first` and `again` are a call and its retry; `others` are other operations, `reused` has the key of the first and says something
    else, `passes` names no operation."""

    first: bytes
    again: bytes
    others: tuple[bytes, ...]
    reused: bytes
    passes: bytes


def with_key(header: str, key: str = "k1", body: bytes = b'{"a":1}', *more: str) -> bytes:
    return sent(body, f"{header}: {key}", *more, target="/v1/x")


def square(key: str, amount: int = 5, token: str = "t", space: bytes = b" ") -> bytes:
    body = written({"source_id": "cnon", "idempotency_key": key, "amount_money": {"amount": amount, "currency": "USD"}})
    body = body.replace(b" ", space)
    return sent(body, f"Authorization: Bearer {token}", "Square-Version: 2026-10-16", target="/v2/payments")


def adyen(key: str, sdk: str = "a", amount: int = 5, account: str = "x") -> bytes:
    body = {"amount": {"value": amount, "currency": "EUR"}, "paymentMethod": {"type": "scheme", "sdkData": sdk}}
    return sent(written(body), f"idempotency-key: {key}", f"X-API-Key: {account}", target="/v71/payments")


def aws(
    body: bytes, *lines: str, attempt: int = 1, access: str = "AKIDEXAMPLE", kind: str = "application/x-amz-json-1.0"
) -> bytes:
    """As botocore 1.44.8 was seen to send it: the same call's attempts differ in the signature, the date and `amz-sdk-request`."""
    signature = (
        f"Credential={access}/20261125/us-east-1/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature={attempt}"
    )
    counted = (f"X-Amz-Date: 20261125T19072{attempt}Z", f"amz-sdk-request: attempt={attempt}; max=3")
    return sent(body, f"Authorization: AWS4-HMAC-SHA256 {signature}", *counted, *lines, target="/", kind=kind)


def form(token: str, attempt: int = 1, access: str = "AKIDEXAMPLE", count: int = 1) -> bytes:
    body = f"Action=RunInstances&Version=2016-11-15&MinCount={count}&ClientToken={token}".encode()
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    return aws(body, f"amz-sdk-invocation-id: i{token}", attempt=attempt, access=access, kind=kind)


def invoked(name: str, attempt: int = 1, operation: str = "PutItem", body: bytes = b'{"TableName": "t"}') -> bytes:
    target = f"X-Amz-Target: DynamoDB_20120810.{operation}"
    return aws(body, f"amz-sdk-invocation-id: {name}", target, attempt=attempt)


def token(name: str, attempt: int = 1, member: str = "clientToken", value: int = 1) -> bytes:
    return aws(written({member: name, "value": value}), f"amz-sdk-invocation-id: i{attempt}", attempt=attempt)


def azure(name: str, attempt: int = 1, body: bytes = b"{}", host: str = "a", ago: float = 0) -> bytes:
    """As the Communication Services' clients sign it: each attempt for itself."""
    lines = (
        f"Repeatability-Request-ID: {name}",
        f"Repeatability-First-Sent: {formatdate(time.time() // 60 * 60 - ago, usegmt=True)}",
        f"x-ms-date: Wed, 25 Nov 2026 19:00:0{attempt} GMT",
        f"Authorization: HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={attempt}",
    )
    return sent(body, *lines, target="/identities").replace(b"Host: h\r\n", f"Host: {host}\r\n".encode())


def google(query: str, body: bytes = b'{"name":"vm"}', token: str = "t") -> bytes:
    lines = (f"Authorization: Bearer {token}", "x-goog-api-client: gl-python/3.11")
    return sent(body, *lines, target=f"/compute/v1/instances{query}")


CALLS = {
    "stripe": Call(
        with_key("Idempotency-Key", "k1", b"a=1", "Authorization: Bearer sk", "X-Stripe-Client-Telemetry: {}"),
        with_key("Idempotency-Key", "k1", b"a=1", "Authorization: Bearer sk", 'X-Stripe-Client-Telemetry: {"n":1}'),
        (
            with_key("Idempotency-Key", "k1", b"a=1", "Authorization: Bearer sk", "Stripe-Account: acct_1"),
            with_key("Idempotency-Key", "k1", b"a=1", "Authorization: Bearer sk", "Stripe-Account: acct_2"),
            with_key("Idempotency-Key", "k2", b"a=1", "Authorization: Bearer sk"),
        ),
        with_key("Idempotency-Key", "k1", b"a=2", "Authorization: Bearer sk"),
        sent(b"a=1", "Authorization: Bearer sk"),
    ),
    "square": Call(
        square("k1"),
        square("k1", space=b""),
        (square("k2"), square("k1", token="u")),
        square("k1", amount=6),
        sent(b'{"source_id":"cnon"}', "Authorization: Bearer t", target="/v2/payments"),
    ),
    "paypal": Call(
        with_key("PayPal-Request-Id", "k1", b"{}", "Authorization: Bearer a", "PayPal-Auth-Assertion: m1"),
        with_key("PayPal-Request-Id", "k1", b"{}", "Authorization: Bearer a", "PayPal-Auth-Assertion: m1"),
        (with_key("PayPal-Request-Id", "k1", b"{}", "Authorization: Bearer a", "PayPal-Auth-Assertion: m2"),),
        with_key("PayPal-Request-Id", "k1", b"[]", "Authorization: Bearer a", "PayPal-Auth-Assertion: m1"),
        sent(b"{}", "Authorization: Bearer a"),
    ),
    "adyen": Call(
        adyen("k1"),
        adyen("k1", sdk="b"),
        (adyen("k2"), adyen("k1", account="y")),
        adyen("k1", amount=6),
        sent(b"{}", "X-API-Key: x"),
    ),
    "aws form": Call(form("1"), form("1", 2), (form("2"), form("1", access="AKIDOTHER")), form("1", count=2), aws(b"")),
    "aws json": Call(
        token("1"),
        token("1", 2),
        (token("2"), token("3", member="ClientToken"), token("4", member="ClientRequestToken")),
        token("1", value=2),
        aws(b"{}"),
    ),
    "aws invocation": Call(
        invoked("1"), invoked("1", 2), (invoked("2"),), invoked("1", operation="DeleteItem"), aws(b"{}")
    ),
    "azure": Call(azure("1"), azure("1", 2), (azure("2"), azure("1", host="b")), azure("1", body=b"[]"), sent(b"{}")),
    "google body": Call(
        google("", b'{"requestId":"1","n":1}'),
        google("", b'{"n":1, "requestId":"1"}'),
        (google("", b'{"request_id":"2","n":1}'), google("", b'{"requestId":"1","n":1}', "u")),
        google("", b'{"requestId":"1","n":2}'),
        google(""),
    ),
    "google query": Call(
        google("?requestId=1"),
        google("?requestId=1"),
        (google("?requestId=2"), google("?request_id=3")),
        google("?requestId=1", b'{"name":"other"}'),
        google(""),
    ),
}
CASES = [pytest.param(name.partition(" ")[0], call, id=name) for name, call in CALLS.items()]


@pytest.mark.parametrize(("name", "call"), CASES)
async def test_a_retry_gets_the_first_calls_answer(name: str, call: Call, tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        assert await statuses(product, call.first, call.again, *call.others) == [NEW, AGAIN, *[NEW] * len(call.others)]
        assert slug(await product.ask(call.reused)) == "key-reused"
        assert await statuses(product, *call.others, call.again) == [AGAIN] * (len(call.others) + 1)
        assert await statuses(product, call.passes, call.passes) == [NEW, NEW]
        assert len(product.api.requests) == 3 + len(call.others)


def answering(status: int) -> bytes:
    return b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status


@pytest.mark.parametrize(
    ("case", "status"),
    [
        *(
            (each, status)
            for each in ("stripe", "square", "paypal", "adyen", "azure", "google query")
            for status in (401, 429)
        ),
        *(("aws json", status) for status in (400, 403, 429, 503)),
        ("stripe", 409),
    ],
)
async def test_what_was_not_executed_there_is_executed_by_the_retry(case: str, status: int, tmp_path: Path) -> None:
    call = CALLS[case]

    async def refusing(exchange: Exchange) -> None:
        await exchange.send(answering(status))

    async with serving(sqlite(tmp_path), rules=rules(case.partition(" ")[0])) as product:
        accepting, product.api.respond = product.api.respond, refusing
        assert await statuses(product, call.first) == [(status, False)]
        product.api.respond = accepting
        assert await statuses(product, call.again, call.again) == [NEW, AGAIN]


@pytest.mark.parametrize(
    ("case", "status"),
    [
        *((each, status) for each in ("stripe", "square", "paypal", "adyen") for status in (402, 422, 500)),
        ("azure", 500),
        ("google query", 500),
    ],
)
async def test_an_outcome_is_kept_whatever_it_is(case: str, status: int, tmp_path: Path) -> None:
    """A declined card is one: the same key gets the same decline."""
    call = CALLS[case]

    async def failing(exchange: Exchange) -> None:
        await exchange.send(answering(status))

    async with serving(sqlite(tmp_path), rules=rules(case.partition(" ")[0])) as product:
        product.api.respond = failing
        assert await statuses(product, call.first, call.again) == [(status, False), (status, True)]
        assert len(product.api.requests) == 1


@pytest.mark.parametrize(("name", "call"), CASES)
async def test_what_may_have_been_executed_is_not_executed_again(name: str, call: Call, tmp_path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.reset()

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        product.api.respond = cut
        assert slug(await product.ask(call.first)) == "upstream-failed"
        assert slug(await product.ask(call.again)) == "outcome-unknown"
        assert len(product.api.requests) == 1


async def test_an_internal_error_of_aws_may_have_been_an_execution(tmp_path: Path) -> None:
    async def failing(exchange: Exchange) -> None:
        await exchange.send(answering(500))

    async with serving(sqlite(tmp_path), rules=rules("aws")) as product:
        product.api.respond = failing
        assert await statuses(product, form("1")) == [(500, False)]
        assert slug(await product.ask(form("1", 2))) == "outcome-unknown"


async def test_a_repeated_request_of_long_ago_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules("azure", "ttl: 1h")) as product:
        assert slug(await product.ask(azure("1", ago=7_200))) == "key-expired"
        assert await statuses(product, azure("1", ago=600)) == [NEW]


async def test_the_stripe_sdk_retries_a_conflict_and_is_executed(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules("stripe", "key: {required: true}")) as product:

        async def conflict_first(exchange: Exchange) -> None:
            body = b'{"id":"ch_1","object":"charge"}'
            accepted = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
                len(body),
                body,
            )
            await exchange.send(answering(409) if len(product.api.requests) == 1 else accepted)

        product.api.respond = conflict_first
        address = f"http://127.0.0.1:{product.port}"
        client = stripe.StripeClient("sk_test_1", base_addresses={"api": address}, max_network_retries=2)
        charge = await asyncio.to_thread(client.v1.charges.create, {"amount": 5, "currency": "eur"})
        assert charge.id == "ch_1"
        assert len(product.api.requests) == 2


# ---------------------------------------------------------------------------------------------------- completions, which bear no key


def completion(name: str, attempt: int, body: bytes = b'{"messages":[]}', who: str = "me", key: str = "") -> bytes:
    """As openai 3.57 and anthropic 2.14 send it."""
    credential = f"Authorization: Bearer {who}" if name == "openai" else f"X-Api-Key: {who}"
    keyed = (f"Idempotency-Key: {key}",) if key else ()
    counted = (f"x-stainless-retry-count: {attempt}", "x-stainless-read-timeout: 600")
    return sent(body, credential, *counted, *keyed, target="/v1/messages")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_completion_is_begun_once_whatever_its_sdk_retries(name: str, tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        assert await statuses(product, *(completion(name, number) for number in (0, 1, 2))) == [NEW, AGAIN, AGAIN]
        assert await statuses(product, completion(name, 0)) == [NEW], "the same prompt on purpose"
        assert await statuses(product, completion(name, 1, who="you")) == [NEW], "another caller"
        keyed = [completion(name, number, key="k") for number in (0, 0, 1)]
        assert await statuses(product, *keyed) == [NEW, AGAIN, AGAIN], "a key of the caller's own"
        without = sent(b"{}", target="/v1/messages")
        assert await statuses(product, without, without) == [NEW, NEW]


@pytest.mark.parametrize("status", [402, 408, 409, 429, 500, 503, 529])
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_completion_that_failed_is_begun_again_by_the_retry(name: str, status: int, tmp_path: Path) -> None:
    async def failing(exchange: Exchange) -> None:
        await exchange.send(answering(status))

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        accepting, product.api.respond = product.api.respond, failing
        assert await statuses(product, completion(name, 0)) == [(status, False)]
        product.api.respond = accepting
        assert await statuses(product, completion(name, 1), completion(name, 2)) == [NEW, AGAIN]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_completion_that_was_refused_is_refused_again(name: str, tmp_path: Path) -> None:
    async def refusing(exchange: Exchange) -> None:
        await exchange.send(answering(400))

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        product.api.respond = refusing
        assert await statuses(product, completion(name, 0), completion(name, 1)) == [(400, False), (400, True)]
