"""Presets of senders on the wire: a delivery and its redelivery are one execution, and no other delivery is taken for it
(docs/presets.md)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from idemproxy.observe.exposition import exposition
from tests.proxy.deliveries import SENDERS, Sender, binary, sent, written
from tests.proxy.product import CREATED, Exchange, Product, post, problem, serving, sqlite
from tests.proxy.wire import eventually
from tests.unit.config.test_presets import DELIVERS_AGAIN

CASES = [
    pytest.param(name, sender, id=f"{name} {case}".strip())
    for name, cases in SENDERS.items()
    for case, sender in cases.items()
]
ONE_EACH = [pytest.param(name, next(iter(cases.values())), id=name) for name, cases in SENDERS.items()]


def rules(name: str, secret: str = "", more: str = "") -> str:
    verify = f"\n    verify: {{secrets: ['{secret}']}}" if secret else ""
    return f"""
  - name: hooks
    match: {{methods: [POST], path: "/hooks/**"}}
    preset: {name}{verify}
    {more}
"""


async def statuses(product: Product, *requests: bytes) -> list[tuple[int, bool]]:
    """Status of each answer, and whether it was a replay."""
    replies = [await product.ask(each) for each in requests]
    return [(reply.status, reply.values(b"idempotent-replayed") == [b"true"]) for reply in replies]


NEW, AGAIN = (201, False), (201, True)


@pytest.mark.parametrize(("name", "sender"), CASES)
async def test_a_redelivery_gets_the_first_deliverys_answer(name: str, sender: Sender, tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules(name, sender.secret)) as product:
        assert await statuses(product, sender.first, sender.again, *sender.others) == [
            NEW,
            AGAIN,
            *[NEW] * len(sender.others),
        ]
        assert await statuses(product, *sender.others, sender.again) == [AGAIN] * (len(sender.others) + 1)
        assert len(product.api.requests) == 1 + len(sender.others)


@pytest.mark.parametrize(("name", "sender"), [each for each in CASES if each.values[1].passes])  # type: ignore[union-attr]
async def test_what_names_no_event_passes_each_time(name: str, sender: Sender, tmp_path: Path) -> None:
    assert sender.passes is not None
    async with serving(sqlite(tmp_path), rules=rules(name, sender.secret)) as product:
        assert await statuses(product, sender.passes, sender.passes) == [NEW, NEW]


@pytest.mark.parametrize(("name", "sender"), ONE_EACH)
async def test_a_redelivery_meanwhile_waits_for_the_answer(name: str, sender: Sender, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        product.api.respond = held
        first = asyncio.ensure_future(product.ask(sender.first))
        await product.api.got(1)
        async with await product.connect() as wire:
            await wire.send(sender.again)
            await eventually(lambda: 'idemproxy_waiters{rule="hooks"} 1' in exposition(product.metrics, "")[0].decode())
            go.set()
            assert (await wire.answer(b"POST")).status == 201
        assert (await first).status == 201
        assert len(product.api.requests) == 1


@pytest.mark.parametrize(("name", "sender"), ONE_EACH)
async def test_a_redelivery_that_waited_in_vain_is_sent_again_by_its_sender(
    name: str, sender: Sender, tmp_path: Path
) -> None:
    go = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    async with serving(sqlite(tmp_path), rules=rules(name, more="wait_timeout: 50ms")) as product:
        product.api.respond = held
        first = asyncio.ensure_future(product.ask(sender.first))
        await product.api.got(1)
        refused = problem(await product.ask(sender.again))
        assert refused["slug"] == "key-in-flight"
        assert isinstance(refused["status"], int)
        assert DELIVERS_AGAIN[name](refused["status"])
        go.set()
        await first
        assert await statuses(product, sender.again) == [AGAIN]
        assert len(product.api.requests) == 1


@pytest.mark.parametrize("status", [b"302 Found", b"404 Not Found", b"500 Internal Server Error"])
@pytest.mark.parametrize(("name", "sender"), ONE_EACH)
async def test_an_answer_that_acknowledges_nothing_is_not_kept(
    name: str, sender: Sender, status: bytes, tmp_path: Path
) -> None:
    async def refusing(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        answering, product.api.respond = product.api.respond, refusing
        assert await statuses(product, sender.first) == [(int(status[:3]), False)]
        product.api.respond = answering
        assert await statuses(product, sender.again, sender.again) == [NEW, AGAIN]


async def test_pubsub_acknowledges_by_few_statuses(tmp_path: Path) -> None:
    sender = SENDERS["google-pubsub"]["wrapped"]

    async def partial(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n")

    async with serving(sqlite(tmp_path), rules=rules("google-pubsub")) as product:
        answering, product.api.respond = product.api.respond, partial
        assert await statuses(product, sender.first) == [(206, False)]
        product.api.respond = answering
        assert await statuses(product, sender.again, sender.again) == [NEW, AGAIN]


@pytest.mark.parametrize(("name", "sender"), ONE_EACH)
async def test_a_delivery_without_an_answer_is_delivered_again(name: str, sender: Sender, tmp_path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.reset()

    async with serving(sqlite(tmp_path), rules=rules(name)) as product:
        answering, product.api.respond = product.api.respond, cut
        reply = await product.ask(sender.first)
        assert DELIVERS_AGAIN[name](reply.status)
        product.api.respond = answering
        assert await statuses(product, sender.again, sender.again) == [NEW, AGAIN]


async def test_sns_hears_503_of_whatever_cannot_be_done_now(tmp_path: Path) -> None:
    named = ("x-amz-sns-message-id: 1", "x-amz-sns-topic-arn: arn")
    async with serving(sqlite(tmp_path), rules=rules("aws-sns", more="max_request_body: 200B")) as product:
        large = problem(await product.ask(sent(b"x" * 201, *named)))
        assert (large["slug"], large["status"]) == ("request-too-large", 503)
        ambiguous = problem(await product.ask(sent(b"x", *named, "x-amz-sns-message-id: 2")))
        assert (ambiguous["slug"], ambiguous["status"]) == ("key-underivable", 503)
        assert not product.api.requests


# --------------------------------------------------------------------------------------------------------------------- batches

BATCH = written([{"specversion": "1.0", "source": "/a", "id": "1", "type": "t"}] * 2)


@pytest.mark.parametrize(
    "kind",
    [
        "application/cloudevents-batch+json",
        "Application/CloudEvents-Batch+JSON;charset=utf-8",
        "application/cloudevents-batch+json ; charset=utf-8",
    ],
)
async def test_a_batch_of_cloudevents_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules("cloudevents")) as product:
        said = problem(await product.ask(sent(BATCH, kind=kind)))
        assert (said["slug"], said["status"], said["retry"]) == ("key-underivable", 400, "fix_request")
        assert "Batches (application/cloudevents-batch+json) are not supported" in str(said["detail"])
        assert not product.api.requests
        assert await statuses(product, binary("/a", "1")) == [NEW]


async def test_a_rule_can_let_batches_pass(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules("cloudevents", more="key: {batches: []}")) as product:
        batch = sent(BATCH, kind="application/cloudevents-batch+json")
        assert await statuses(product, batch, batch) == [NEW, NEW]
        assert product.api.requests[0].body == BATCH


async def test_a_forged_delivery_is_refused(tmp_path: Path) -> None:
    sender = SENDERS["github"][""]
    async with serving(sqlite(tmp_path), rules=rules("github", "another secret")) as product:
        assert problem(await product.ask(sender.first))["slug"] == "signature-invalid"
        assert not product.api.requests


async def test_a_senders_path_elsewhere_is_untouched(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=rules("github")) as product:
        elsewhere = post(None, path="/other", more="X-GitHub-Delivery: 1\r\n")
        assert await statuses(product, elsewhere, elsewhere) == [NEW, NEW]
