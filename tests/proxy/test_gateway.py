"""A protected request, on the wire: executed once, replayed to every retry, refused in words."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.proxy.product import CREATED, RULE, Exchange, Product, post, problem, serving, sqlite

# ------------------------------------------------------------------------------------------------------- execute once, replay


async def test_a_retry_gets_the_first_answer_byte_for_byte(store_url: str) -> None:
    first_bytes = (
        b"HTTP/1.1 201 Made It\r\nSet-Cookie: a=1\r\nX-lower-UPPER:  spaced value \r\nSet-Cookie: b=2\r\n"
        b"x-empty:\r\nX-Latin: caf\xe9\r\nContent-Length: 4\r\n\r\n\x00\xff\r\n"
    )

    async with serving(store_url) as product:
        product.api.respond = lambda exchange: exchange.send(first_bytes)
        async with await product.connect() as wire:
            await wire.send(post())
            first = await wire.answer(b"POST")
            await wire.send(post())
            again = await wire.answer(b"POST")
    assert first.head.raw.startswith(b"HTTP/1.1 201 Made It\r\nSet-Cookie: a=1\r\nX-lower-UPPER: ")
    assert first.values(b"x-latin") == [b"caf\xe9"]
    assert first.body == again.body == b"\x00\xff\r\n"
    assert again.head.raw == first.head.raw.replace(b"\r\n\r\n", b"\r\nIdempotent-Replayed: true\r\n\r\n")
    assert len(product.api.requests) == 1


async def test_the_upstream_sees_what_the_client_sent(product: Product) -> None:
    request = (
        b"POST /v1/charges?b=%2F&a HTTP/1.1\r\nhost: api.test\r\nX-One: 1\r\nidempotency-key: k\r\nX-One: 2\r\n"
        b"content-LENGTH: 3\r\n\r\nabc"
    )
    await product.ask(request)
    assert product.api.requests[0].raw == request


async def test_a_chunked_answer_is_replayed_chunked_with_its_trailers(product: Product) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    product.api.respond = lambda exchange: exchange.send(answer)
    first, again = await product.ask(post()), await product.ask(post())
    assert first.body == again.body == b"abcde"
    assert first.trailers == again.trailers == b"X-Sum: 5\r\n"
    assert first.values(b"transfer-encoding") == [b"chunked"]
    assert len(product.api.requests) == 1


async def test_an_http_1_0_client_gets_a_replay_of_a_chunked_answer(product: Product) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    product.api.respond = lambda exchange: exchange.send(answer)
    await product.ask(post())
    old = await product.ask(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert old.body == b"abc"
    assert not old.values(b"transfer-encoding")
    assert old.values(b"idempotent-replayed") == [b"true"]


async def test_ten_at_once_are_one_execution(store_url: str) -> None:
    async with serving(store_url) as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        product.api.respond = slow
        asking = [asyncio.ensure_future(product.ask(post())) for _ in range(10)]
        await product.api.got(1)
        go.set()
        replies = await asyncio.gather(*asking)
    assert len(product.api.requests) == 1
    assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"id":"ch"}')}
    assert sum(reply.values(b"idempotent-replayed") == [b"true"] for reply in replies) == 9


async def test_two_processes_are_one_execution(store_url: str) -> None:
    """Two products on one store: what runs in one is waited for in the other, and told by the store."""
    async with serving(store_url) as one, serving(store_url, api=one.api) as other:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        one.api.respond = slow
        first = asyncio.ensure_future(one.ask(post()))
        await one.api.got(1)
        waiting = [asyncio.ensure_future(other.ask(post())) for _ in range(5)]
        await asyncio.sleep(0.1)
        go.set()
        replies = await asyncio.gather(first, *waiting)
    assert len(one.api.requests) == 1
    assert {reply.body for reply in replies} == {b'{"id":"ch"}'}


async def test_a_client_that_leaves_changes_nothing(product: Product) -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    product.api.respond = slow
    async with await product.connect() as wire:
        await wire.send(post())
        await product.api.got(1)
        wire.reset()
    go.set()
    retry = await product.ask(post())
    assert retry.status == 201
    assert retry.values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


async def test_keys_of_different_callers_are_different_operations(product: Product) -> None:
    for caller in ("alice", "bob", "alice"):
        await product.ask(post(more=f"Authorization: Bearer {caller}\r\n"))
    assert len(product.api.requests) == 2


async def test_quoted_and_bare_are_one_key(product: Product) -> None:
    await product.ask(post('"k1"'))
    assert (await product.ask(post("k1"))).values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


async def test_an_error_answer_is_recorded_too(product: Product) -> None:
    product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    assert (await product.ask(post())).status == 500
    again = await product.ask(post())
    assert again.status == 500
    assert again.values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


@pytest.mark.parametrize("status", [401, 402, 407, 421, 425, 428, 429])
def test_release_statuses_are_the_default(status: int) -> None:
    from idemproxy.idempotency.routes import AT_MOST_ONCE_RELEASES

    assert status in AT_MOST_ONCE_RELEASES


async def test_a_refusal_before_execution_frees_the_key_and_attempts_count_on(store_url: str) -> None:
    rules = RULE + "    attempt_header: X-Attempt\n"
    async with serving(store_url, rules=rules) as product:
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 402 Pay\r\nContent-Length: 0\r\n\r\n")
        assert (await product.ask(post(more="x-attempt: 99\r\n"))).status == 402
        product.api.respond = lambda exchange: exchange.send(CREATED)
        assert (await product.ask(post())).status == 201
        raws = [exchange.raw for exchange in product.api.requests]
    assert [raw.count(b"X-Attempt: ") for raw in raws] == [1, 1]
    assert b"X-Attempt: 1\r\n" in raws[0]
    assert b"x-attempt: 99" not in raws[0]
    assert b"X-Attempt: 2\r\n" in raws[1]


async def test_at_least_once_keeps_only_acknowledged_answers(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + "    guarantee: at_least_once\n") as product:
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        assert (await product.ask(post())).status == 503
        product.api.respond = lambda exchange: exchange.send(CREATED)
        assert (await product.ask(post())).status == 201
        assert (await product.ask(post())).values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 2


# ------------------------------------------------------------------------------------------------------------------ refusals


async def test_another_request_with_the_same_key_is_refused(product: Product) -> None:
    await product.ask(post())
    for other in (post(body=b"amount=6"), post(path="/v1/charges?x=1"), post(more="Content-Type: text/plain\r\n")):
        refused = problem(await product.ask(other))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("key-reused", 422, "new_key")
    assert len(product.api.requests) == 1


async def test_reuse_is_told_while_the_first_still_runs(product: Product) -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    product.api.respond = slow
    first = asyncio.ensure_future(product.ask(post()))
    await product.api.got(1)
    assert problem(await product.ask(post(body=b"other")))["slug"] == "key-reused"
    go.set()
    assert (await first).status == 201


async def test_a_required_key_that_is_missing(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + "    key: {required: true}\n") as product:
        refused = problem(await product.ask(post(None)))
    assert (refused["slug"], refused["status"], refused["retry"]) == ("key-missing", 400, "fix_request")
    assert not product.api.requests


async def test_without_a_key_an_optional_one_is_forwarded_untouched(product: Product) -> None:
    for _ in range(2):
        assert (await product.ask(post(None))).status == 201
    assert [exchange.raw for exchange in product.api.requests] == [post(None)] * 2


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "x" * 10_240, '"unclosed', "a\x7fb", "a, b", '"a", "b"'])
async def test_a_bad_key(product: Product, key: str) -> None:
    async with await product.connect() as wire:
        await wire.send(post(key))
        reply = await wire.answer(b"POST")
    assert reply.status == 400
    assert b"x" * 20 not in reply.body
    assert not product.api.requests


async def test_two_different_keys(product: Product) -> None:
    refused = problem(await product.ask(post("a", more="Idempotency-Key: b\r\n")))
    assert (refused["slug"], refused["status"]) == ("key-invalid", 400)
    assert not product.api.requests


async def test_the_same_key_twice_is_that_key(product: Product) -> None:
    await product.ask(post("a", more="Idempotency-Key: a\r\n"))
    assert (await product.ask(post("a"))).values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


async def test_a_body_over_the_limit_is_refused_before_it_is_read(product: Product) -> None:
    head = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 104857600\r\n\r\n"
    async with await product.connect() as wire:
        await wire.send(head)
        refused = problem(await wire.answer(b"POST"))
    assert (refused["slug"], refused["status"], refused["retry"]) == ("request-too-large", 413, "fix_request")
    assert not product.api.requests


async def test_a_chunked_body_over_the_limit(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + "    max_request_body: 1KiB\n") as product:
        head = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with await product.connect() as wire:
            await wire.send(head + b"800\r\n" + bytes(2048) + b"\r\n0\r\n\r\n")
            assert problem(await wire.answer(b"POST"))["slug"] == "request-too-large"
    assert not product.api.requests


async def test_half_a_request_executes_nothing(product: Product) -> None:
    async with await product.connect() as wire:
        await wire.send(post(body=b"0123456789")[:-4])
        wire.half_close()
        await wire.until_gone()
    async with await product.connect() as wire:
        await wire.send(b"EHLO example.org\r\n\r\n")
        assert problem(await wire.answer())["slug"] == "not-http"
    assert not product.api.requests


async def test_in_flight_reject(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + "    in_flight: reject\n    retry_after: 3s\n") as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        product.api.respond = slow
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        refused = problem(await product.ask(post()))
        go.set()
        await first
    assert (refused["slug"], refused["status"], refused["retry"]) == ("key-in-flight", 409, "same_key")
    assert refused["retry_after"] == 3


@pytest.mark.parametrize("more", ["    wait_timeout: 100ms\n", "    max_waiters: 1\n    wait_timeout: 20s\n"])
async def test_a_wait_has_an_end_and_places_are_counted(tmp_path: Path, more: str) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + more) as product:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        product.api.respond = slow
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        waiting = [asyncio.ensure_future(product.ask(post())) for _ in range(2)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=25)
        assert problem(done.pop().result())["slug"] == "key-in-flight"
        go.set()
        assert (await first).status == 201
        await asyncio.gather(*waiting)
    assert len(product.api.requests) == 1


async def test_the_rule_may_change_a_problems_status(tmp_path: Path) -> None:
    rules = RULE + "    key: {required: true}\n    problem_status: {key-missing: 503}\n"
    async with serving(sqlite(tmp_path), rules=rules, more="docs_url: https://docs.test/keys\n") as product:
        reply = await product.ask(post(None))
    assert reply.status == 503
    assert reply.values(b"link") == [b'<https://docs.test/keys>; rel="describedby"']
    assert json.loads(reply.body)["type"] == "https://docs.test/keys#key-missing"
