"""`on_unknown: {probe: ..}` on the wire: the upstream is asked whether an operation happened, and only what it says is done."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import State
from idemproxy.stores.base import Done, SettleComplete
from tests.proxy.product import CREATED, RULE, Exchange, Product, post, problem, serving
from tests.proxy.wire import Reply

SETTLED = "{probe: {url: '/v1/charges/by-key/{header:Idempotency-Key}', settle: 1ms}}"
UNSETTLED = SETTLED.replace("1ms", "1h")
AUTHORIZED = "Authorization: Bearer alice\r\nX-Other: 1\r\nCookie: sid=1\r\nAccept: application/json\r\n"
FOUND = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Case: Kept\r\nContent-Length: 11\r\n\r\n{"id":"ch"}'
ABSENT = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"


def rules(policy: str, more: str = "") -> str:
    return f"{RULE}    on_unknown: {policy}\n{more}"


def is_probe(exchange: Exchange) -> bool:
    return exchange.raw.startswith(b"GET ")


def probes(product: Product) -> list[Exchange]:
    return [exchange for exchange in product.api.requests if is_probe(exchange)]


def executions(product: Product) -> list[Exchange]:
    return [exchange for exchange in product.api.requests if not is_probe(exchange)]


async def lose(product: Product, key: str = "k1", more: str = "") -> Reply:
    """An operation whose outcome is unknown: its upstream hung up on it."""

    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    product.api.respond = reset
    return await product.ask(post(key, more=more))


def saying(product: Product, answer: bytes) -> None:
    """From now on probes get that, and everything else is executed."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(answer if is_probe(exchange) else CREATED)

    product.api.respond = respond


async def test_who_loses_an_answer_is_told_to_send_again(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        lost = problem(await lose(product))
        assert (lost["slug"], lost["status"], lost["retry"]) == ("upstream-failed", 502, "same_key")
        assert not probes(product)


async def test_what_happened_is_recorded_and_replayed(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product)
        saying(product, FOUND)
        replies = [await product.ask(post()) for _ in range(3)]
        for reply in replies:
            assert (reply.status, reply.body) == (200, b'{"id":"ch"}')
            assert reply.values(b"idempotent-replayed") == [b"true"]
            assert b"X-Case: Kept\r\n" in reply.head.raw
        assert len(probes(product)) == 1
        assert len(executions(product)) == 1
        page = await product.store.scan(state=State.COMPLETED, rule="charges", limit=10, cursor=None)
        assert len(page.found) == 1


async def test_what_did_not_happen_is_executed_once_the_upstream_has_settled(store_url: str) -> None:
    async with serving(store_url, rules=rules(SETTLED, "    attempt_header: X-Attempt\n")) as product:
        await lose(product)
        saying(product, ABSENT)
        async with asyncio.timeout(25):
            while (await product.ask(post())).status != 201:
                await asyncio.sleep(0.01)
        assert (await product.ask(post())).values(b"idempotent-replayed") == [b"true"]
        assert [b"X-Attempt: %d" % number in executions(product)[number - 1].raw for number in (1, 2)] == [True, True]
        assert len(executions(product)) == 2


async def test_until_then_nothing_is_executed_and_the_rest_is_told(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product)
        saying(product, ABSENT)
        for _ in range(2):
            refused = problem(reply := await product.ask(post()))
            assert (refused["slug"], refused["status"], refused["retry"]) == ("outcome-unknown", 409, "same_key")
            assert 3_000 < int(str(refused["retry_after"])) <= 3_600
            assert not reply.values(b"stripe-should-retry")
            assert not reply.values(b"x-should-retry")
        assert len(executions(product)) == 1
        assert len(probes(product)) == 2


NONSENSE = {
    "error": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "gone": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "unauthorized": b"HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n",
    "no http": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "cut 404": b"HTTP/1.1 404 No\r\nContent-Length: 10\r\n\r\nabc",
    "switch": b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + bytes(3_000),
    "nothing": b"",
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_an_answer_that_says_nothing_changes_nothing(store_url: str, answer: bytes) -> None:
    async with serving(store_url, rules=rules(SETTLED, "    max_response_body: 2KiB\n")) as product:
        await lose(product)

        async def respond(exchange: Exchange) -> None:
            await exchange.send(answer)
            exchange.close()

        product.api.respond = respond
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("outcome-unknown", 409, "same_key")
        assert len(executions(product)) == 1
        saying(product, FOUND)
        assert (await product.ask(post())).status == 200


async def test_a_probe_that_hangs_costs_its_client_its_patience_and_no_more(store_url: str) -> None:
    async with serving(store_url, rules=rules(SETTLED, "    wait_timeout: 300ms\n")) as product:
        await lose(product)
        let_go = asyncio.Event()

        async def hang(exchange: Exchange) -> None:
            await let_go.wait()

        product.api.respond = hang
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["retry"]) == ("outcome-unknown", "same_key")
        assert len(executions(product)) == 1
        let_go.set()


async def test_an_upstream_that_cannot_be_reached_says_nothing(store_url: str) -> None:
    async with serving(store_url, rules=rules(SETTLED)) as product:
        await lose(product)
        await product.api.stop()
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["retry"]) == ("outcome-unknown", "same_key")
        await product.api.start()


async def test_one_probe_serves_all_who_ask_at_once(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product)
        let_go = asyncio.Event()

        async def hold(exchange: Exchange) -> None:
            await let_go.wait()
            await exchange.send(FOUND)

        product.api.respond = hold
        asking = [asyncio.ensure_future(product.ask(post())) for _ in range(5)]
        await product.api.got(2)
        let_go.set()
        replies = await asyncio.gather(*asking)
        assert {(reply.status, reply.body) for reply in replies} == {(200, b'{"id":"ch"}')}
        assert len(executions(product)) == 1
        # Whoever came late may have asked again before the first answer was recorded; nobody asks for a recorded one.
        before = len(probes(product))
        assert (await product.ask(post())).status == 200
        assert len(probes(product)) == before


async def test_what_a_probe_carries(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product, '"k/1?x"', AUTHORIZED)
        saying(product, FOUND)
        assert (await product.ask(post('"k/1?x"', more=AUTHORIZED))).status == 200
        raw = probes(product)[0].raw
        assert raw.startswith(b"GET /v1/charges/by-key/k%2F1%3Fx HTTP/1.1\r\nHost: api.test\r\n")
        assert b"Authorization: Bearer alice\r\n" in raw
        assert b"Cookie: sid=1\r\n" in raw
        assert b"Accept: application/json\r\n" in raw
        lower = raw.lower()
        for absent in (b"x-other", b"idempotency-key", b"content-length", b"transfer-encoding"):
            assert absent not in lower


async def test_another_request_with_the_key_is_reused_before_anyone_is_asked(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product)
        saying(product, FOUND)
        assert problem(await product.ask(post(body=b"amount=6")))["slug"] == "key-reused"
        assert not probes(product)


async def test_another_caller_is_never_told_what_the_probe_would_say(store_url: str) -> None:
    async with serving(store_url, rules=rules(UNSETTLED)) as product:
        await lose(product, more=AUTHORIZED)
        saying(product, FOUND)
        reply = await product.ask(post(more="Authorization: Bearer bob\r\n"))
        assert (reply.status, reply.values(b"idempotent-replayed")) == (201, [])
        assert not probes(product)


async def test_a_record_that_was_settled_during_the_probe_counts_more(store_url: str) -> None:
    """The record moved: what the probe found is not recorded over it."""
    async with serving(store_url, rules=rules(SETTLED)) as product:
        await lose(product)
        let_go = asyncio.Event()

        async def hold(exchange: Exchange) -> None:
            if is_probe(exchange):
                await let_go.wait()
                await exchange.send(FOUND)
            else:
                await exchange.send(CREATED)

        product.api.respond = hold
        asking = asyncio.ensure_future(product.ask(post()))
        await product.api.got(2)
        async with serving(store_url, rules=rules("retry"), api=product.api) as other:
            page = await product.store.scan(state=State.UNKNOWN, rule="charges", limit=10, cursor=None)
            ((record_id, found),) = page.found
            answer = Answer(202, b"202 Settled\r\nContent-Length: 2\r\n", b"by")
            record = found.record
            settled = await other.store.settle(record_id, SettleComplete(record.token, record.version, answer, 60_000))
            assert isinstance(settled, Done)
        let_go.set()
        assert (await asking).status == 202


async def test_of_two_deployments_the_stricter_policy_counts(store_url: str) -> None:
    async with serving(store_url, rules=rules(SETTLED)) as product:
        await lose(product)
        async with serving(store_url, rules=rules("block"), api=product.api) as stricter:
            refused = problem(await stricter.ask(post()))
            assert (refused["slug"], refused["retry"]) == ("outcome-unknown", "ask_operator")
        async with serving(store_url, rules=rules("retry"), api=product.api) as looser:
            refused = problem(await looser.ask(post()))
            assert (refused["slug"], refused["retry"]) == ("outcome-unknown", "ask_operator")
        assert not probes(product)
        assert len(executions(product)) == 1
