"""What `explain` says beforehand is what the gateway does."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from idemproxy.config import load_text
from idemproxy.explaining.explainer import Explainer, OnlyLooks, word
from idemproxy.explaining.plain import plain
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.operation import Refuse
from idemproxy.requests_given.raw import read_raw
from tests.proxy.product import CREATED, Exchange, Product, created, post, serving

RULES = """
  - name: strict
    match: {methods: [POST, PUT], path: "/strict/{id}"}
    key: {required: true, max_length: 8}
    max_request_body: 40
  - name: orders
    match: {path: /orders, headers: {X-Kind: order}}
    key: {header: [Order-Key], from: "{json:/id}"}
    scope: ["header:Authorization", "cookie:session"]
    fingerprint: {body: json, ignore: ["json:/sent"]}
  - name: events
    match: {methods: [POST], path: /events}
    key: {from: "{query:id}", required: true}
    scope: []
    fingerprint: {body: none}
    guarantee: at_least_once
  - name: signed
    match: {path: /signed}
    verify: {scheme: github, secrets: ["hunter2"]}
  - name: marked
    match: {path: /marked}
    key: {retry_marker: {header: x-retry, window: 10m}}
  - name: aged
    match: {path: /aged}
    key: {format: uuid7}
    ttl: 1h
  - name: rest
    match: {methods: [POST], path: /rest/**}
"""
PATHS = (
    *("/strict/1", "/strict/2", "/Strict//1", "/orders", "/orders", "/events?id=1", "/events?id=2", "/events"),
    *("/signed", "/rest/a", "/rest/fail", "/rest/release", "/marked", "/other", "/aged"),
)
OLD = "018f0000-0000-7000-8000-000000000000"
"""A key of 2024."""
ROUNDS = 400


def explainer(product: Product, rules: str = RULES) -> Explainer:
    text = f"upstream: http://127.0.0.1:9\nroutes:{rules}"
    settings = load_text(text, "test.yaml", {})
    return Explainer(settings.rules, settings.namespace, OnlyLooks(product.store))


def some_request(chance: random.Random) -> bytes:
    """A request like one of few others, so that many of them meet again."""
    path = chance.choice(PATHS)
    if path == "/aged":
        return post(chance.choice([OLD, str(uuid.uuid4()), None]), b"{}", path)
    key = chance.choice(["k1", "k1", '"k1"', "k2", None, "", "a, b", "far-too-long"])
    body = chance.choice([b"{}", b'{"id": 1}', b'{"id":1,"sent":5}', b'{"id": 2}', b"x" * 60, b""])
    more = "".join(
        line
        for line in [
            "X-Kind: order\r\n",
            "Authorization: Bearer a\r\n",
            "Cookie: session=1\r\n",
            "Order-Key: o1\r\n",
            "X-Retry: 0\r\n",
            "Connection: x-kind\r\n",
        ]
        if chance.random() < (0.1 if line.startswith("Connection") else 0.5)
    )
    return post(key, body, path, more, chance.choice(["POST", "POST", "POST", "PUT", "GET"]))


async def answering(exchange: Exchange) -> None:
    if b"/rest/fail" in exchange.raw:
        exchange.reset()
    elif b"/rest/release" in exchange.raw:
        await exchange.send(CREATED.replace(b"201 Created", b"429 Slow"))
    else:
        await created(exchange)


def done(lines: list[MutableMapping[str, Any]], sent: bool) -> tuple[str, str | None]:
    """What the gateway did, in the words of `explain`, and the operation's id."""
    decided = [line for line in lines if line["event"] == "decision"]
    if not decided:
        return "forward" if sent else "refuse:not-http", None
    (line,) = decided
    if line["decision"] == "refused":
        return f"refuse:{line['state']}", line.get("id")
    return {"executed": "execute", "replayed": "replay"}[line["decision"]], line.get("id")


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_explained_is_what_happens(store_url: str, seed: int) -> None:
    chance = random.Random(seed)
    counted: Counter[str] = Counter()
    async with serving(store_url, rules=RULES) as product:
        product.api.respond = answering
        explained = explainer(product)
        for _ in range(ROUNDS):
            raw = some_request(chance)
            before = await explained.explain(read_raw(raw), "127.0.0.1")
            sent = len(product.api.requests)
            with capture_logs() as lines:
                reply = await product.ask(raw)
            did, record = done(lines, len(product.api.requests) > sent)
            assert word(before.verdict) == did, (raw, before, reply)
            if record is not None and before.rule is not None and before.rule.name != "marked":
                assert before.named is not None
                assert short_id(before.named.operation.record_id) == record
            shown = plain(before, "")
            if did == "execute":
                assert len(product.api.requests) == sent + 1
            if did.startswith("refuse") or did == "replay":
                assert shown["status"] == reply.status
            if did == "refuse:key-reused":
                assert isinstance(before.verdict, Refuse)
                assert [line["differs"] for line in lines if "differs" in line] == [list(before.verdict.differs)]
            counted[did] += 1
    wanted = {"execute", "replay", "forward", "refuse:key-reused", "refuse:key-missing", "refuse:key-invalid"}
    wanted |= {"refuse:key-underivable", "refuse:request-too-large", "refuse:signature-invalid", "refuse:not-http"}
    wanted |= {"refuse:key-expired"}
    assert wanted <= set(counted), counted


@pytest.mark.parametrize(("in_flight", "decision"), [("wait", "wait"), ("reject", "refuse:key-in-flight")])
async def test_an_operation_that_runs(store_url: str, in_flight: str, decision: str) -> None:
    rules = f"\n  - {{name: all, match: {{path: /v1/**}}, in_flight: {in_flight}}}\n"
    async with serving(store_url, rules=rules) as product:
        answer = asyncio.Event()

        async def late(exchange: Exchange) -> None:
            await answer.wait()
            await created(exchange)

        product.api.respond = late
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        found = await explainer(product, rules).explain(read_raw(post()))
        assert word(found.verdict) == decision
        record = plain(found, "")["record"]
        assert isinstance(record, dict)
        assert (record["state"], record["attempt"]) == ("processing", 1)
        assert 0 < record["lease_left"] <= 30_000
        answer.set()
        assert (await first).status == 201


@pytest.mark.parametrize(("on_unknown", "decision"), [("block", "refuse:outcome-unknown"), ("retry", "execute")])
async def test_an_operation_of_unknown_outcome(store_url: str, on_unknown: str, decision: str) -> None:
    rules = f"\n  - {{name: all, match: {{path: /v1/**}}, on_unknown: {on_unknown}}}\n"
    async with serving(store_url, rules=rules) as product:

        async def cut(exchange: Exchange) -> None:
            exchange.reset()

        product.api.respond = cut
        assert (await product.ask(post())).status == 502
        found = await explainer(product, rules).explain(read_raw(post()))
    assert word(found.verdict) == decision
    record = plain(found, "")["record"]
    assert isinstance(record, dict)
    assert (record["state"], record["reason"]) == ("unknown", "reset")


async def test_a_marked_retry_is_told_from_a_new_operation_and_names_nothing(store_url: str) -> None:
    first, again = (post(None, path="/marked", more=f"X-Retry: {number}\r\n") for number in (0, 1))
    async with serving(store_url, rules=RULES) as product:
        explained = explainer(product)
        for raw in (first, again, again):
            assert word((await explained.explain(read_raw(raw))).verdict) == "execute"
        assert (await product.ask(first)).status == 201
        for raw, decision in ((again, "replay"), (first, "execute"), (again, "replay")):
            assert word((await explained.explain(read_raw(raw))).verdict) == decision
        assert (await product.ask(again)).values(b"idempotent-replayed") == [b"true"]
