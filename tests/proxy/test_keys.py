"""Natural keys, scopes and the age of keys, on the wire (docs/keys.md)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest

from tests.proxy.product import Exchange, Product, post, problem, serving


def rules(key: str, more: str = "", path: str = "/v1/orders/{order}/payments") -> str:
    return f"""
  - name: payments
    match: {{path: "{path}"}}
    key: {key}
    {more}
"""


ORDER = '{from: "{path:order}-{json:/amount}-{json:/currency}", required: true}'


def pay(
    order: str = "o1", body: object = None, raw: bytes | None = None, more: str = "", key: str | None = None
) -> bytes:
    sent = raw if raw is not None else json.dumps({"amount": 5, "currency": "EUR"} if body is None else body).encode()
    return post(key, sent, f"/v1/orders/{order}/payments", more)


async def statuses(product: Product, *requests: bytes) -> list[tuple[int, bool]]:
    """Status of each answer, and whether it was a replay."""
    replies = [await product.ask(each) for each in requests]
    return [(reply.status, reply.values(b"idempotent-replayed") == [b"true"]) for reply in replies]


NEW, AGAIN = (201, False), (201, True)


async def test_a_business_identifier_names_the_operation(store_url: str) -> None:
    async with serving(store_url, rules=rules(ORDER)) as product:
        said = await statuses(
            product,
            pay(),
            pay(),
            pay("o2"),
            pay(body={"amount": 6, "currency": "EUR"}),
            pay(body={"amount": "5", "currency": "EUR"}),
        )
        assert said == [NEW, AGAIN, NEW, NEW, NEW]
        assert len(product.api.requests) == 4


async def test_numbers_are_as_they_are_written(store_url: str) -> None:
    async with serving(store_url, rules=rules('{from: "{json:/id}"}')) as product:
        bodies = [b'{"id":9007199254740993}', b'{"id":9007199254740992}', b'{"id":1.0}', b'{"id":1}', b'{"id":"1"}']
        assert await statuses(product, *(pay(raw=body) for body in bodies)) == [NEW] * 5
        assert await statuses(product, *(pay(raw=body) for body in bodies)) == [AGAIN] * 5


async def test_an_event_store_takes_each_number_of_an_aggregate_once(store_url: str) -> None:
    key = '{from: "{path:aggregate}-{json:/sequence}"}'
    async with serving(store_url, rules=rules(key, path="/events/{aggregate}")) as product:
        first = post(None, b'{"sequence":7,"type":"paid"}', "/events/a1")
        other = post(None, b'{"sequence":7,"type":"shipped"}', "/events/a1")
        later = post(None, b'{"sequence":8,"type":"shipped"}', "/events/a1")
        assert await statuses(product, first, first, other, later) == [NEW, AGAIN, (422, False), NEW]


async def test_a_version_is_overwritten_once(store_url: str) -> None:
    key = '{from: "{path:id}-{header:If-Match}"}'
    async with serving(store_url, rules=rules(key, path="/docs/{id}")) as product:
        one = post(None, b"text", "/docs/7", 'If-Match: "v1"\r\n', "PUT")
        two = post(None, b"text", "/docs/7", 'If-Match: "v2"\r\n', "PUT")
        without = post(None, b"text", "/docs/7", "", "PUT")
        assert await statuses(product, one, one, two, without, without) == [NEW, AGAIN, NEW, NEW, NEW]


async def test_a_content_window_catches_a_client_that_makes_a_new_key_for_each_attempt(store_url: str) -> None:
    window = rules('{from: "{body|sha256}"}', "ttl: 30s")
    async with serving(store_url, rules=window) as product:
        assert await statuses(product, pay(key="k1"), pay(key="k2"), pay("o1", {"amount": 6})) == [NEW, AGAIN, NEW]


async def test_a_header_goes_before_the_natural_key_where_both_are_written(store_url: str) -> None:
    key = '{header: Idempotency-Key, from: "{json:/amount}"}'
    async with serving(store_url, rules=rules(key)) as product:
        said = await statuses(product, pay(key="k1"), pay(), pay(key="k1"), pay(), pay(key="5"))
        assert said == [NEW, NEW, AGAIN, AGAIN, NEW]


async def test_the_first_template_that_can_be_filled_counts(store_url: str) -> None:
    key = '{from: ["{json:/id}", "{query:id}", "{form:id}", "{cookie:id}"], required: true}'
    async with serving(store_url, rules=rules(key, path="/x")) as product:
        query = post(None, b'{"id":null}', "/x?id=%37")
        asked = [
            post(None, b'{"id":1}', "/x"),
            query,
            query,
            post(None, b"id=8+9", "/x"),
            post(None, b"", "/x", "Cookie: a=1; id=z\r\n"),
        ]
        assert await statuses(product, *asked) == [NEW, NEW, AGAIN, NEW, NEW]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"amount":null,"currency":"EUR"}',
        b'{"amount":"","currency":"EUR"}',
        b'{"amount":{},"currency":"EUR"}',
        b'{"amount":[5],"currency":"EUR"}',
        b'{"amount":5,"amount":5,"currency":"EUR"}',
        b'{"amount":NaN,"currency":"EUR"}',
        b'{"amount":"\\ud800","currency":"EUR"}',
        b'{"amount":"\xff","currency":"EUR"}',
        b'{"amount":5,"currency":"EUR"',
        b"[" * 100_000,
    ],
    ids=range(12),
)
async def test_a_part_that_is_absent_is_an_error_or_passes_untouched(store_url: str, body: bytes) -> None:
    asked = pay(raw=body)
    async with serving(store_url, rules=rules(ORDER)) as product:
        refused = problem(await product.ask(asked))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("key-underivable", 400, "fix_request")
        assert product.api.requests == []
    async with serving(store_url, rules=rules(ORDER.replace("true", "false"))) as product:
        assert await statuses(product, asked, asked) == [NEW, NEW]
        assert [each.raw for each in product.api.requests] == [asked, asked]


async def test_a_chunked_request_without_a_key_goes_on_with_its_trailers(store_url: str) -> None:
    head = b"POST /v1/orders/o1/payments HTTP/1.1\r\nHost: api.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(store_url, rules=rules('{from: "{json:/id}"}')) as product:
        async with await product.connect() as wire:
            await wire.send(head + b"4\r\n{}  \r\n0\r\nX-Sum: 1\r\n\r\n")
            assert (await wire.answer(b"POST")).status == 201
            await wire.send(pay(raw=b'{"id":1}'))
            assert (await wire.answer(b"POST")).status == 201
        assert product.api.requests[0].body == b"{}  "
        assert b"X-Sum: 1" in product.api.requests[0].raw
        assert product.api.requests[1].body == b'{"id":1}'


@pytest.mark.parametrize("required", ["true", "false"])
async def test_a_part_with_several_values_is_an_error_always(store_url: str, required: str) -> None:
    key = f'{{from: ["{{query:id}}", "{{json:/id}}"], required: {required}}}'
    async with serving(store_url, rules=rules(key, path="/x")) as product:
        refused = problem(await product.ask(post(None, b'{"id":1}', "/x?id=1&id=2")))
        assert refused["slug"] == "key-underivable"
        assert await statuses(product, post(None, b"", "/x?id=1&id=1"), post(None, b"", "/x?id=1&id=%31")) == [
            NEW,
            (422, False),
        ]


async def test_a_body_that_is_too_large_for_a_key_is_not_executed(store_url: str) -> None:
    async with serving(store_url, rules=rules('{from: "{json:/id}"}', "max_request_body: 100B")) as product:
        assert problem(await product.ask(pay(raw=b'{"id":"' + b"x" * 200 + b'"}')))["slug"] == "request-too-large"
        assert product.api.requests == []


async def test_no_header_equals_a_derived_key_and_no_rule_has_anothers(store_url: str) -> None:
    two = rules('{header: K, from: "{json:/id}"}', path="/a") + rules('{from: "{json:/id}"}', path="/b").replace(
        "payments", "others"
    )
    async with serving(store_url, rules=two) as product:
        body = b'{"id":"1"}'
        asked = [
            post(None, body, "/a"),
            post(None, body, "/b"),
            post(None, body, "/a", "K: 1\r\n"),
            post(None, body, "/b", "K: 1\r\n"),
        ]
        assert await statuses(product, *asked) == [NEW, NEW, NEW, AGAIN]


async def test_duplicates_at_once_are_one_execution(store_url: str) -> None:
    async with serving(store_url, rules=rules(ORDER)) as product:
        go = asyncio.Event()

        async def slowly(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

        product.api.respond = slowly
        asking = [asyncio.ensure_future(product.ask(pay())) for _ in range(5)]
        await product.api.got(1)
        go.set()
        assert {(await each).body for each in asking} == {b"ok"}
        assert len(product.api.requests) == 1


async def test_the_key_of_a_callers_cookie_or_path_is_the_callers_own(store_url: str) -> None:
    scoped = """
  - name: cookies
    match: {path: /x}
    scope: ["cookie:sid"]
  - name: paths
    match: {path: "/t/{tenant}/x"}
    scope: ["path:tenant"]
"""
    async with serving(store_url, rules=scoped) as product:
        mine, yours = (post("k", path="/x", more=f"Cookie: a=b; sid={who}\r\n") for who in ("me", "you"))
        nobody = post("k", path="/x")
        assert await statuses(product, mine, yours, nobody, mine, yours, nobody) == [NEW] * 3 + [AGAIN] * 3
        assert await statuses(
            product, post("k", path="/t/1/x"), post("k", path="/t/2/x"), post("k", path="/t/1/x")
        ) == [NEW, NEW, AGAIN]


# ------------------------------------------------------------------------------------------------------------------------ age


def uuid7(seconds_ago: float) -> str:
    born = int((time.time() - seconds_ago) * 1_000)
    return str(uuid.UUID(int=born << 80 | 7 << 76 | 0x123 << 64 | 2 << 62 | 0x456))


AGED = rules("{format: uuid7, max_clock_skew: 1m}", "ttl: 1h", "/x")


async def test_a_key_that_is_older_than_its_record_would_be_is_never_executed(store_url: str) -> None:
    async with serving(store_url, rules=AGED) as product:
        expired = await product.ask(post(uuid7(7_200), path="/x"))
        told = problem(expired)
        assert (told["slug"], told["status"], told["retry"]) == ("key-expired", 409, "ask_operator")
        assert expired.values(b"x-should-retry") == [b"false"]
        assert problem(await product.ask(post(uuid7(7_200), path="/x")))["slug"] == "key-expired"
        assert product.api.requests == []
        young = post(uuid7(3_500), path="/x")
        assert await statuses(product, young, young) == [NEW, AGAIN]
        assert await statuses(product, post(uuid7(-30), path="/x")) == [NEW]
        assert problem(await product.ask(post(uuid7(-600), path="/x")))["slug"] == "key-invalid"


async def test_a_record_that_is_still_there_is_replayed_however_old_its_key_is(store_url: str) -> None:
    first = rules("{header: K}", "ttl: 1h", "/x")
    by_header = rules("{header: K, first_sent: Repeatability-First-Sent}", "ttl: 1h", "/x")
    old = "K: k1\r\nRepeatability-First-Sent: Wed, 01 Jan 2020 00:00:00 GMT\r\n"
    async with serving(store_url, rules=first) as product:
        assert await statuses(product, post(None, path="/x", more=old)) == [NEW]
    async with serving(store_url, rules=by_header) as product:
        assert await statuses(product, post(None, path="/x", more=old)) == [AGAIN]
        assert problem(await product.ask(post(None, b"other", path="/x", more=old)))["slug"] == "key-reused"
        assert problem(await product.ask(post(None, path="/x", more=old.replace("k1", "k2"))))["slug"] == "key-expired"
        bad = old.replace("GMT", "CET")
        assert problem(await product.ask(post(None, path="/x", more=bad)))["slug"] == "key-invalid"
        assert product.api.requests == []
        assert await statuses(product, post(None, path="/x", more="K: k3\r\n")) == [NEW]
