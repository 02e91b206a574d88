"""`retry:` on the wire: the proxy itself sends once more, while its client waits."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.product import CREATED, RULE, Api, Exchange, post, problem, serving

HASTY = "backoff: 1ms, max_backoff: 2s"
LEAST = "    guarantee: at_least_once\n    attempt_header: X-Attempt\n"
AGAIN = f"{RULE}{LEAST}    retry: {{attempts: 3, on: [unreachable, unknown, 503], {HASTY}}}\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


def numbers(api: Api) -> list[bytes]:
    """What each request's attempt header said."""
    found = []
    for exchange in api.requests:
        lines = [line for line in exchange.raw.split(b"\r\n") if line.startswith(b"X-Attempt: ")]
        assert len(lines) == 1
        found.append(lines[0].removeprefix(b"X-Attempt: "))
    return found


def failing(api: Api, times: int, how: str) -> None:
    """The first `times` requests fail so; the next one is executed."""

    async def respond(exchange: Exchange) -> None:
        if len(api.requests) > times:
            await exchange.send(CREATED)
            return
        match how:
            case "reset":
                exchange.reset()
            case "garbage":
                await exchange.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")
                exchange.close()
            case "cut":
                await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
                exchange.close()
            case "silence":
                await asyncio.sleep(30)
            case "status":
                await exchange.send(BUSY)

    api.respond = respond


@pytest.mark.parametrize("how", ["reset", "garbage", "cut", "silence", "status"])
async def test_what_was_not_acknowledged_is_sent_again(store_url: str, how: str) -> None:
    async with serving(store_url, rules=AGAIN, more="upstream_timeouts: {response: 300ms}\n") as product:
        failing(product.api, 2, how)
        reply = await product.ask(post())
        assert (reply.status, reply.values(b"idempotent-replayed")) == (201, [])
        assert numbers(product.api) == [b"1", b"2", b"3"]
        assert (await product.ask(post())).values(b"idempotent-replayed") == [b"true"]
        assert len(product.api.requests) == 3


async def test_after_the_last_attempt_its_client_gets_what_came(store_url: str) -> None:
    async with serving(store_url, rules=AGAIN) as product:
        failing(product.api, 99, "status")
        reply = await product.ask(post())
        assert (reply.status, reply.body) == (503, b"busy")
        assert numbers(product.api) == [b"1", b"2", b"3"]
        failing(product.api, 4, "reset")
        assert (await product.ask(post())).status == 201
        assert numbers(product.api) == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("how", ["reset", "garbage", "cut", "status"])
async def test_under_at_most_once_nothing_that_was_sent_is_sent_again(store_url: str, how: str) -> None:
    rules = f"{RULE}    retry: {{attempts: 5, {HASTY}}}\n"
    async with serving(store_url, rules=rules) as product:
        failing(product.api, 1, how)
        first = await product.ask(post())
        assert first.status == (503 if how == "status" else 502)
        await product.ask(post())
        assert len(product.api.requests) == 1


async def test_an_upstream_that_comes_back_in_time_is_reached(store_url: str) -> None:
    """Nothing was sent: also under at_most_once."""
    rules = f"{RULE}    attempt_header: X-Attempt\n    retry: {{attempts: 20, backoff: 20ms, max_backoff: 200ms}}\n"
    async with serving(store_url, rules=rules) as product:
        port = product.api.port
        server = product.api._server
        await product.api.stop()
        assert server is not None
        await server.wait_closed()
        asking = asyncio.ensure_future(product.ask(post()))
        await asyncio.sleep(0.1)
        product.api._server = await asyncio.start_server(product.api._connected, "127.0.0.1", port)
        assert (await asking).status == 201
        assert numbers(product.api) == [b"1"]


async def test_an_upstream_that_stays_away_leaves_the_key_free(store_url: str) -> None:
    rules = f"{RULE}    retry: {{attempts: 3, {HASTY}}}\n"
    async with serving(store_url, rules=rules) as product:
        await product.api.stop()
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("upstream-unreachable", 502, "same_key")
        await product.api.start()
        page = await product.store.scan(state=None, rule=None, limit=10, cursor=None)
        assert page.found == ()


async def test_a_duplicate_waits_through_the_pauses_and_gets_the_one_answer(store_url: str) -> None:
    rules = f"{RULE}{LEAST}    retry: {{attempts: 3, on: [503], backoff: 200ms}}\n"
    async with serving(store_url, rules=rules) as product, serving(store_url, rules=rules, api=product.api) as other:
        failing(product.api, 2, "status")
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        duplicates = [asyncio.ensure_future(each.ask(post())) for each in (product, other)]
        replies = await asyncio.gather(first, *duplicates)
        assert [reply.status for reply in replies] == [201, 201, 201]
        assert len(product.api.requests) == 3


async def test_a_retry_after_within_patience_is_kept_to(store_url: str) -> None:
    async with serving(store_url, rules=AGAIN) as product:
        at: list[float] = []

        async def respond(exchange: Exchange) -> None:
            at.append(asyncio.get_running_loop().time())
            await exchange.send(BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: 1\r\n\r\n") if len(at) == 1 else CREATED)

        product.api.respond = respond
        assert (await product.ask(post())).status == 201
        assert at[1] - at[0] >= 0.99


async def test_a_retry_after_past_patience_goes_to_the_client(store_url: str) -> None:
    async with serving(store_url, rules=AGAIN) as product:
        product.api.respond = lambda exchange: exchange.send(BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: 30\r\n\r\n"))
        reply = await product.ask(post())
        assert (reply.status, reply.values(b"retry-after")) == (503, [b"30"])
        assert len(product.api.requests) == 1


async def test_nothing_is_sent_again_for_a_client_that_has_gone(store_url: str) -> None:
    rules = f"{RULE}{LEAST}    retry: {{attempts: 3, on: [503], backoff: 1m, max_backoff: 1m}}\n"
    async with serving(store_url, rules=rules) as product:
        failing(product.api, 1, "status")
        wire = await product.connect()
        await wire.send(post())
        await product.api.got(1)
        wire.reset()

        async with asyncio.timeout(25):
            while (await product.store.scan(state=None, rule=None, limit=1, cursor=None)).found:
                await asyncio.sleep(0.02)
        assert (await product.ask(post())).status == 201
        assert numbers(product.api) == [b"1", b"2"]
