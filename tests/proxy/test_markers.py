"""Retry markers on the wire: clients that send no key, and number their attempts (docs/keys.md)."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.errors import StoreUnavailable
from idemproxy.stores.base import NameNewest, Newest
from tests.proxy.product import Exchange, Product, post, problem, serving

NEW, AGAIN = (201, False), (201, True)


def rules(more: str = "", key: str = "", window: str = "10m") -> str:
    return f"""
  - name: completions
    match: {{path: "/v1/chat"}}
    key: {{retry_marker: {{header: X-Stainless-Retry-Count, window: {window}}}{key}}}
    {more}
"""


def chat(attempt: object, body: bytes = b'{"prompt":"hi"}', who: str = "Bearer me", more: str = "") -> bytes:
    marked = "" if attempt is None else f"x-stainless-retry-count: {attempt}\r\n"
    return post(None, body, "/v1/chat", f"Authorization: {who}\r\n{marked}{more}")


async def said(product: Product, *requests: bytes) -> list[tuple[int, bool]]:
    replies = [await product.ask(each) for each in requests]
    return [(reply.status, reply.values(b"idempotent-replayed") == [b"true"]) for reply in replies]


async def test_a_further_attempt_gets_the_answer_and_a_first_one_is_executed(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        assert await said(product, chat(0), chat(1), chat(2)) == [NEW, AGAIN, AGAIN]
        assert await said(product, chat(0), chat(1)) == [NEW, AGAIN], "the same on purpose"
        assert len(product.api.requests) == 2


async def test_a_further_attempt_joins_the_newest_operation(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        for number in (1, 2, 3):

            async def numbered(exchange: Exchange, number: int = number) -> None:
                await exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n%d" % number)

            product.api.respond = numbered
            await product.ask(chat(0))
        assert (await product.ask(chat(1))).body == b"3"


async def test_others_are_not_joined(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        assert await said(product, chat(0)) == [NEW]
        others = [
            chat(1, b'{"prompt":"ho"}'),
            chat(1, who="Bearer you"),
            chat(1).replace(b"/v1/chat", b"/v1/chat?x"),
            chat(1, more="Content-Type: text/plain\r\n"),
        ]
        assert await said(product, *others) == [NEW] * 4
        assert await said(product, *others) == [AGAIN] * 4


async def test_with_nothing_to_join_a_further_attempt_begins(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        assert await said(product, chat(2), chat(3), chat(1)) == [NEW, AGAIN, AGAIN]


async def test_past_the_window_a_further_attempt_begins(store_url: str) -> None:
    async with serving(store_url, rules=rules(window="1s")) as product:
        assert await said(product, chat(0)) == [NEW]
        for _ in range(300):
            if await said(product, chat(1)) == [NEW]:
                break
            await asyncio.sleep(0.05)
        assert len(product.api.requests) == 2


async def test_a_further_attempt_waits_for_the_one_that_runs(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

        product.api.respond = slow
        first = asyncio.ensure_future(product.ask(chat(0)))
        await product.api.got(1)
        second = asyncio.ensure_future(product.ask(chat(1)))
        third = asyncio.ensure_future(product.ask(chat(0)))
        await product.api.got(2)
        assert not second.done()
        go.set()
        replies = [await each for each in (first, second, third)]
        assert [reply.values(b"idempotent-replayed") for reply in replies] == [[], [b"true"], []]
        assert len(product.api.requests) == 2


async def test_attempts_at_once_in_two_processes_are_one_execution(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as one, serving(store_url, rules=rules(), api=one.api) as other:
        asked = [product.ask(chat(1)) for _ in range(5) for product in (one, other)]
        assert {reply.status for reply in await asyncio.gather(*asked)} == {201}
        assert len(one.api.requests) == 1


async def test_a_header_key_and_a_natural_key_go_before_the_marker(store_url: str) -> None:
    more = ', header: Idempotency-Key, from: "{json:/id}"'
    async with serving(store_url, rules=rules(key=more)) as product:
        keyed = "Idempotency-Key: k\r\n"
        assert await said(product, chat(0, more=keyed), chat(0, more=keyed)) == [NEW, AGAIN]
        assert await said(product, chat(0, b'{"id":"a"}'), chat(0, b'{"id":"a"}')) == [NEW, AGAIN]
        assert await said(product, chat(0), chat(0), chat(1)) == [NEW, NEW, AGAIN]


async def test_without_a_marker_a_request_is_forwarded_or_refused(store_url: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        assert await said(product, chat(None), chat(None)) == [NEW, NEW]
        assert product.api.requests[0].body == b'{"prompt":"hi"}'
    async with serving(store_url, rules=rules(key=", required: true")) as product:
        reply = await product.ask(chat(None))
        assert str(problem(reply)["type"]).endswith(":key-missing")
        assert "X-Stainless-Retry-Count" in str(problem(reply)["detail"])
        assert not product.api.requests


@pytest.mark.parametrize("attempt", ["x", "", "-1", "1\r\nx-stainless-retry-count: 0"])
async def test_a_marker_that_says_nothing_is_refused(store_url: str, attempt: str) -> None:
    async with serving(store_url, rules=rules()) as product:
        assert str(problem(await product.ask(chat(attempt)))["type"]).endswith(":key-invalid")
        assert not product.api.requests


async def gone(marker_id: str, asked: NameNewest) -> Newest:
    raise StoreUnavailable("gone")


@pytest.mark.parametrize("attempt", [0, 1])
async def test_without_the_store_nobody_knows_what_a_marker_means(
    store_url: str, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    async with serving(store_url, rules=rules()) as product:
        monkeypatch.setattr(product.store, "name_newest", gone)
        assert str(problem(await product.ask(chat(attempt)))["type"]).endswith(":store-unavailable")
        assert not product.api.requests
    async with serving(store_url, rules=rules("on_store_failure: fail_open")) as product:
        monkeypatch.setattr(product.store, "name_newest", gone)
        assert await said(product, chat(attempt), chat(attempt)) == [NEW, NEW]


async def test_a_forger_names_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = rules("verify: {scheme: github, secrets: [s]}")
    async with serving(store_url, rules=signed) as product:
        monkeypatch.setattr(product.store, "name_newest", gone)
        assert (await product.ask(chat(0))).status == 401
