"""What is counted of real requests, as Prometheus would read it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from idemproxy.idempotency.record import Reason
from idemproxy.observe.exposition import exposition
from idemproxy.stores.base import MarkUnknown, SettleRelease
from tests.proxy.product import CREATED, RULE, Exchange, Product, post, problem, serving, sqlite
from tests.proxy.wire import eventually
from tests.unit.exposed import Exposed

PROBE = "    on_unknown: {probe: {url: '/by-key/{header:Idempotency-Key}', settle: 1h}}\n"
AGAIN = "    guarantee: at_least_once\n    retry: {attempts: 2, on: [503, unreachable], backoff: 1ms}\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def seen(product: Product) -> Exposed:
    return Exposed(exposition(product.metrics, "")[0].decode())


def of(product: Product, name: str, **labels: str) -> float:
    return seen(product).value(f"idemproxy_{name}", rule="charges", **labels)


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def test_decisions_and_ends(store_url: str) -> None:
    async with serving(store_url) as product:
        await product.ask(post())
        await product.ask(post())
        await product.ask(post(body=b"amount=6"))
        await product.ask(post('"'))
        await product.ask(post(None))
        await product.ask(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 402 Pay\r\nContent-Length: 0\r\n\r\n")
        await product.ask(post("k2"))
        product.api.respond = reset
        await product.ask(post("k3"))
        await product.ask(post("k3"))
        found = {
            ("executed", "completed"): 1,
            ("replayed", "completed"): 1,
            ("refused", "key-reused"): 1,
            ("refused", "key-invalid"): 1,
            ("executed", "released"): 1,
            ("executed", "unknown"): 1,
            ("refused", "outcome-unknown"): 1,
        }
        for (decision, state), count in found.items():
            assert of(product, "decisions_total", decision=decision, state=state) == count, (decision, state)
        text = seen(product)
        assert text.of("idemproxy_forwarded_total", "kind") == {"no_rule": 1, "no_key": 1}
        await eventually(lambda: of(product, "ends_total", state="unknown", reason="reset") == 1)
        assert of(product, "ends_total", state="completed", reason="none") == 1
        assert of(product, "ends_total", state="released", reason="none") == 1
        assert of(product, "unknown_total", reason="reset") == 1
        assert of(product, "request_seconds_count", decision="executed") == 3
        assert of(product, "upstream_seconds_count") == 3
        await eventually(lambda: of(product, "executions_in_flight") == 0)


async def test_what_is_under_way(store_url: str) -> None:
    async with serving(store_url) as product, serving(store_url, api=product.api) as other:
        let_go = asyncio.Event()

        async def hold(exchange: Exchange) -> None:
            await let_go.wait()
            await exchange.send(CREATED)

        product.api.respond = hold
        asking = [asyncio.ensure_future(product.ask(post()))]
        await product.api.got(1)
        asking += [asyncio.ensure_future(each.ask(post())) for each in (product, product, other)]
        await eventually(lambda: of(product, "waiters") == 2)
        await eventually(lambda: of(other, "waiters") == 1)
        assert of(product, "executions_in_flight") == 1
        let_go.set()
        await asyncio.gather(*asking)
        await eventually(
            lambda: of(product, "waiters") == of(other, "waiters") == of(product, "executions_in_flight") == 0
        )
        assert of(other, "decisions_total", decision="replayed", state="completed") == 1


async def test_take_overs_and_fences(store_url: str) -> None:
    rules = RULE + "    on_unknown: retry\n"
    async with serving(store_url, rules=rules) as product:
        product.api.respond = reset
        await product.ask(post())
        product.api.respond = lambda exchange: exchange.send(CREATED)
        await product.ask(post())
        assert of(product, "take_overs_total") == 1


async def test_an_owner_whose_operation_was_taken_is_fenced(store_url: str) -> None:
    rules = RULE + "    lease: 1h\n"
    async with serving(store_url, rules=rules) as product:
        let_go = asyncio.Event()

        async def hold(exchange: Exchange) -> None:
            await let_go.wait()
            await exchange.send(CREATED)

        product.api.respond = hold
        asking = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        ((record_id, found),) = (await product.store.scan(state=None, rule=None, limit=1, cursor=None)).found
        # An end in the owner's name: what an operator's word does once a lease has lapsed.
        token = found.record.token
        await product.store.mark_unknown(record_id, MarkUnknown(token, Reason.NONE, 60_000, None))
        await product.store.settle(record_id, SettleRelease(token, found.record.version + 1, 60_000))
        let_go.set()
        assert problem(await asking)["slug"] == "key-in-flight"
        assert of(product, "fenced_total") == 1


async def test_probes(store_url: str) -> None:
    async with serving(store_url, rules=RULE + PROBE) as product:
        product.api.respond = reset
        await product.ask(post())
        await product.ask(post())
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        await product.ask(post())
        product.api.respond = lambda exchange: exchange.send(CREATED)
        await product.ask(post())
        for result in ("no_answer", "did_not_happen", "happened"):
            assert of(product, "probes_total", result=result) == 1, result


async def test_own_retries(store_url: str) -> None:
    async with serving(store_url, rules=RULE + AGAIN) as product:
        product.api.respond = lambda exchange: exchange.send(BUSY)
        await product.ask(post())
        assert of(product, "own_retries_total", cause="status") == 1
        await product.api.stop()
        await product.ask(post())
        assert of(product, "own_retries_total", cause="unreachable") == 1
        await product.api.start()


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_a_store_that_is_away(tmp_path: Path, policy: str) -> None:
    rules = RULE + f"    on_store_failure: {policy}\n"
    async with serving(sqlite(tmp_path / "absent"), rules=rules) as product:
        await product.ask(post())
        assert of(product, "unprotected_total") == (policy == "fail_open")
        closed = policy == "fail_closed"
        assert of(product, "decisions_total", decision="refused", state="store-unavailable") == closed
        assert seen(product).value("idemproxy_store_errors_total", command="claim", kind="unavailable") >= 1
        (tmp_path / "absent").mkdir()
        await product.ask(post("k2"))
        await eventually(lambda: seen(product).value("idemproxy_ends_pending") == 0)
