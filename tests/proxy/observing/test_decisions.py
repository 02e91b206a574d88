"""What a rule that only observes says that enforcing it would have done."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.errors import StoreAmbiguous
from tests.proxy.observing.watching import OBSERVE, Held, memory, stored, told, watching
from tests.proxy.product import CREATED, Exchange, post, serving
from tests.proxy.scripted import Scripted, answering
from tests.proxy.test_jwt import SHARED, bearing, signed
from tests.proxy.test_verify import delivery
from tests.proxy.wire import eventually
from tests.unit.idempotency.tokens import SECRET

ALICE = "Authorization: Bearer alice-secret\r\nUser-Agent: Shop/2.1 (linux) extra\r\n"
BOB = "Authorization: Bearer bob-secret\r\n"
UUID4 = "8e03978e-40d5-43e8-bc93-6894a57f9324"


async def test_a_first_request_would_be_executed_and_its_retry_replayed(store_url: str) -> None:
    async with stored(store_url) as store, watching(store) as watched:
        for _ in range(2):
            reply = await watched.product.ask(post("k1", more=ALICE))
            assert reply.status == 201
            assert reply.values(b"idempotent-replayed") == []
        first, second = await watched.lines(2)
        assert len(watched.product.api.requests) == 2
        assert told(first) == ("would_execute", "completed")
        assert told(second) == ("would_replay", "completed")
        assert first["id"] == second["id"]
        assert first["status"] == second["status"] == 201
        assert second["behind_ms"] >= 0
        assert first["client"] == second["client"]
        assert first["agent"] == "Shop/2.1"
        assert (first["key"], first["key_form"]) == ("sent", "any")
        assert watched.counted("idemproxy_observed_total") == {
            ("would_execute", "completed"): 1,
            ("would_replay", "completed"): 1,
        }
        for secret in ("k1", "alice-secret", "amount"):
            assert f"'{secret}" not in watched.everything()
            assert secret == "k1" or secret not in watched.everything()


async def test_a_duplicate_of_a_running_operation_would_wait_or_be_rejected() -> None:
    for rules, expected in (
        (OBSERVE, ("would_wait", "processing")),
        (OBSERVE + "    in_flight: reject\n", ("would_refuse", "key-in-flight")),
    ):
        held = Held()
        await held.api.start()
        async with watching(memory(), held.api, rules=rules) as watched:
            asking = [asyncio.ensure_future(watched.product.ask(post("k1")))]
            await held.api.got(1)
            asking.append(asyncio.ensure_future(watched.product.ask(post("k1"))))
            await held.api.got(2)
            held.go.set()
            for each in asking:
                assert (await each).status == 201
            lines = await watched.lines(2)
            assert sorted(map(told, lines)) == sorted([("would_execute", "completed"), expected])
        await held.api.stop()


async def test_a_key_with_another_request_would_be_refused_and_what_differed_is_told() -> None:
    async with watching(memory()) as watched:
        await watched.product.ask(post("k1", b"amount=5", more=BOB))
        await watched.product.ask(post("k1", b"amount=6", more=BOB))
        await watched.product.ask(post("k1", b"amount=5", path="/v1/charges?a=1", more=BOB))
        await watched.product.ask(post("k1", b"amount=5", more=f"{BOB}Content-Type: text/plain\r\n"))
        await watched.product.ask(post("k1", b"amount=5", method="PUT", more=BOB))
        lines = (await watched.lines(5))[1:]
        assert [told(line) for line in lines] == [("would_refuse", "key-reused")] * 4
        assert [line["differs"] for line in lines] == [["body"], ["query"], ["header:content-type"], ["method"]]


async def test_callers_do_not_share_operations() -> None:
    async with watching(memory()) as watched:
        for caller in (ALICE, BOB, ""):
            await watched.product.ask(post("k1", more=caller))
        lines = await watched.lines(3)
        assert [told(line) for line in lines] == [("would_execute", "completed")] * 3
        assert len({line["client"] for line in lines}) == 3
        assert lines[2]["client"] == "anonymous"


@pytest.mark.parametrize(
    ("more", "request_", "expected", "key"),
    [
        ("", post(None), ("would_pass_on", "no_key"), "none"),
        ("    key: {required: true}\n", post(None), ("would_refuse", "key-missing"), "none"),
        ("    key: {max_length: 3}\n", post("long"), ("would_refuse", "key-invalid"), "unusable"),
        ("    max_request_body: 4\n", post("k"), ("would_refuse", "request-too-large"), "sent"),
        ("    key: {from: '{json:/id}'}\n", post(None), ("would_pass_on", "no_key"), "none"),
        ("    key: {from: '{json:/id}', required: true}\n", post(None), ("would_refuse", "key-underivable"), "none"),
        ("    key: {from: '{body}'}\n", post(None), ("would_execute", "completed"), "derived"),
        (
            "    key: {format: uuid7}\n",
            post("0190163d-8694-739b-aea5-966c26f8ad91"),
            ("would_refuse", "key-expired"),
            "sent",
        ),
        ("", post("k", more="Connection: Content-Type\r\n"), ("would_refuse", "not-http"), "sent"),
        ("", post(UUID4), ("would_execute", "completed"), "sent"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
async def test_every_request_passes_and_is_judged_alone(
    more: str, request_: bytes, expected: tuple[str, str], key: str
) -> None:
    async with watching(memory(), rules=OBSERVE + more) as watched:
        assert (await watched.product.ask(request_)).status == 201
        (line,) = await watched.lines(1)
        assert told(line) == expected
        assert line["key"] == key
        assert line["status"] == 201
        assert (line.get("key_form") == "uuid4") == (UUID4.encode() in request_)


@pytest.mark.parametrize(
    ("answer", "more", "first", "second"),
    [
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", "", "released", ("would_execute", "released")),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "", "failed", ("would_replay", "failed")),
        (
            b"HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n",
            "    unknown_statuses: [502]\n",
            "unknown",
            ("would_refuse", "outcome-unknown"),
        ),
        (
            b"HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n",
            "    unknown_statuses: [502]\n    on_unknown: retry\n    guarantee: at_least_once\n",
            "unknown",
            ("would_execute", "unknown"),
        ),
        (
            b"HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n",
            "    unknown_statuses: [502]\n    on_unknown: {probe: {url: '/by-key/{header:Idempotency-Key}'}}\n",
            "unknown",
            ("would_probe", "unknown"),
        ),
        (CREATED, "    max_response_body: 3\n", "completed", ("would_refuse", "answer-not-kept")),
    ],
    ids=["released", "failed", "unknown", "taken over", "probed", "too large to keep"],
)
async def test_how_the_first_ended_decides_what_its_retry_gets(
    answer: bytes, more: str, first: str, second: tuple[str, str]
) -> None:
    async with watching(memory(), rules=OBSERVE + more) as watched:
        watched.product.api.respond = lambda exchange: exchange.send(answer)
        for _ in range(2):
            await watched.product.ask(post("k1"))
        lines = await watched.lines(2)
        assert [told(line) for line in lines] == [("would_execute", first), second]


async def test_an_answer_that_never_came_leaves_the_outcome_unknown() -> None:
    async def broken(exchange: Exchange) -> None:
        exchange.reset()

    async with watching(memory()) as watched:
        watched.product.api.respond = broken
        for _ in range(2):
            assert (await watched.product.ask(post("k1"))).status == 502
        first, second = await watched.lines(2)
        assert told(first) == ("would_execute", "unknown")
        assert "status" not in first
        assert told(second) == ("would_refuse", "outcome-unknown")


async def test_an_answer_that_breaks_leaves_the_outcome_unknown() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\ncut")
        exchange.close()

    async with watching(memory()) as watched, await watched.product.connect() as wire:
        watched.product.api.respond = cut
        await wire.send(post("k1"))
        await wire.until_gone()
        (line,) = await watched.lines(1)
        assert told(line) == ("would_execute", "unknown")
        assert line["status"] == 201


async def test_what_was_never_sent_is_free_again() -> None:
    async with Scripted() as upstream:
        port = upstream.port
    async with watching(memory(), port=port) as watched:
        for _ in range(2):
            assert (await watched.product.ask(post("k1"))).status == 502
        assert [told(line) for line in await watched.lines(2)] == [("would_execute", "released")] * 2


async def test_an_unknown_outcome_that_is_retried_has_the_retrys_outcome() -> None:
    rules = OBSERVE + "    unknown_statuses: [502]\n    guarantee: at_least_once\n"
    async with watching(memory(), rules=rules) as watched:
        for status in (b"502", b"201", b"201"):
            answer = b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status
            watched.product.api.respond = lambda exchange, answer=answer: exchange.send(answer)  # type: ignore[misc]
            await watched.product.ask(post("k1"))
        assert [told(line) for line in await watched.lines(3)] == [
            ("would_execute", "unknown"),
            ("would_execute", "completed"),
            ("would_replay", "completed"),
        ]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((b"5\r\nabcde\r\n", b"0\r\n\r\n"), ("would_execute", "completed")),
        ((b"5\r\nabcde\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n"), ("would_refuse", "request-too-large")),
    ],
    ids=["within the limit", "beyond it"],
)
async def test_a_body_without_a_length_is_judged_as_it_passes(
    chunks: tuple[bytes, ...], expected: tuple[str, str]
) -> None:
    head = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Scripted(answering(CREATED)) as upstream:
        rules = OBSERVE + "    max_request_body: 8\n"
        async with (
            watching(memory(), port=upstream.port, rules=rules) as watched,
            await watched.product.connect() as wire,
        ):
            passed = len(head)
            await wire.send(head)
            for piece in chunks:
                # the next one is sent once this one is through: nothing is held back until the end
                await wire.send(piece)
                await upstream.got(passed := passed + len(piece))
            assert (await wire.answer(b"POST")).status == 201
            (line,) = await watched.lines(1)
            assert told(line) == expected


async def test_a_client_that_goes_away_and_comes_back_would_get_what_was_recorded() -> None:
    """Enforced, the execution would have gone on without it."""
    held = Held()
    await held.api.start()
    async with watching(memory(), held.api) as watched:
        wire = await watched.product.connect()
        await wire.send(post("k1"))
        await held.api.got(1)
        wire.reset()
        await watched.lines(1)
        held.go.set()
        await watched.product.ask(post("k1"))
        first, second = await watched.lines(2)
        assert told(first) == ("would_execute", "client_gone")
        assert told(second)[0] == "would_replay"
    await held.api.stop()


@pytest.mark.parametrize(("key", "expected"), [("k1", ("not_judged", "cut_body")), (None, ("would_pass_on", "no_key"))])
async def test_a_body_that_never_came_whole_is_not_judged(key: str | None, expected: tuple[str, str]) -> None:
    async with watching(memory()) as watched:
        for count in (1, 2):
            wire = await watched.product.connect()
            await wire.send(post(key, b"x" * 100_000)[:50_000])
            await eventually(lambda count=count: watched.product.api.connections >= count, "the forward")  # type: ignore[misc]
            wire.reset()
            line = (await watched.lines(count))[-1]
            assert told(line) == expected
            assert "suspected" not in line


async def test_a_forged_delivery_is_passed_on_and_counted() -> None:
    rules = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    mode: observe
    key: {header: X-GitHub-Delivery}
    verify: {scheme: github, secrets: ["It's a secret to everybody"]}
"""
    async with watching(memory(), rules=rules) as watched:
        assert (await watched.product.ask(delivery(secret=b"guessed"))).status == 201
        assert (await watched.product.ask(delivery())).status == 201
        lines = await watched.lines(2)
        assert [told(line) for line in lines] == [("would_refuse", "signature-invalid"), ("would_execute", "completed")]


# ------------------------------------------------------------------------------------------------------ suspected duplicates


async def test_the_same_bytes_of_one_caller_within_seconds_are_suspected() -> None:
    async with watching(memory()) as watched:
        for request in (
            post(None, b"amount=5", more=ALICE),
            post(None, b"amount=6", more=ALICE),
            post(None, b"amount=5", more=BOB),
            post(None, b"amount=5", path="/v1/charges?a", more=ALICE),
            post(None, b"amount=5", more=ALICE),
            post("k1", b"amount=9", more=ALICE),
            post("k1", b"amount=9", more=ALICE),
            post("k2", b"amount=9", more=ALICE),
        ):
            await watched.product.ask(request)
        lines = await watched.lines(8)
        assert [line.get("suspected") for line in lines] == [None] * 4 + ["no_key", None, None, "new_key"]
        assert watched.counted("idemproxy_suspected_duplicates_total") == {
            ("no_key",): 1,
            ("new_key",): 1,
        }


# ----------------------------------------------------------------------------------------------------------- retry markers

MARKED = OBSERVE + "    key: {retry_marker: {header: x-attempt, window: 1m}}\n"


def attempt(number: int) -> bytes:
    return post(None, b"the same prompt", more=f"X-Attempt: {number}\r\n")


async def test_a_retry_that_is_marked_joins_what_it_repeats(store_url: str) -> None:
    async with stored(store_url) as store, watching(store, rules=MARKED) as watched:
        for count, number in enumerate((0, 1, 0), 1):
            await watched.product.ask(attempt(number))
            await watched.lines(count)
        lines = watched.now()
        assert [line["decision"] for line in lines] == ["would_execute", "would_replay", "would_execute"]
        assert {line["key"] for line in lines} == {"derived"}
        assert [line.get("suspected") for line in lines] == [None] * 3, "the same twice on purpose"


async def test_a_store_that_cannot_name_the_newest_operation_fails_nothing() -> None:
    async def fails(command: str) -> None:
        raise StoreAmbiguous("no reply")

    store = memory()
    store.before = fails
    async with watching(store, rules=MARKED) as watched:
        assert (await watched.product.ask(attempt(0))).status == 201
        (line,) = await watched.lines(1)
        assert told(line) == ("would_refuse", "store-unavailable")


# ------------------------------------------------------------------------------------------------------------------ tokens


async def test_a_caller_is_who_a_token_that_holds_says() -> None:
    rules = OBSERVE + '    scope: ["jwt:sub"]\n'
    async with watching(memory(), rules=rules, more=SHARED) as watched:
        for more in (bearing(signed()), bearing(signed()), bearing(signed(sub="bob")), bearing(signed(SECRET[::-1]))):
            assert (await watched.product.ask(post("k1", more=more))).status == 201
        lines = await watched.lines(4)
        assert [told(line)[0] for line in lines] == ["would_execute", "would_replay", "would_execute", "would_refuse"]
        assert lines[0]["client"] == lines[1]["client"] != lines[2]["client"]
        assert (lines[3]["client"], lines[3]["state"]) == ("unverified", "credential-invalid")


async def test_a_replay_asks_nobody_whether_its_caller_may_see_it() -> None:
    rules = OBSERVE + "    scope: []\n    reauthorize: {path: /v1/me}\n"
    async with watching(memory(), rules=rules) as watched:
        for more in (ALICE, BOB):
            assert (await watched.product.ask(post("k1", more=more))).status == 201
        assert [told(line)[0] for line in await watched.lines(2)] == ["would_execute", "would_replay"]
        assert len(watched.product.api.requests) == 2


async def test_an_enforced_rule_is_enforced_under_every_spelling_of_its_path(store_url: str) -> None:
    """Though one that only observes stands before it, and is met by the path as it is written."""
    rules = """
  - name: looked-at
    match: {methods: [POST], path: "/v1/x/**"}
    mode: observe
  - name: charges
    match: {methods: [POST], path: /v1/charges}
"""
    async with serving(store_url, rules=rules) as product:
        for _ in range(2):
            reply = await product.ask(post("k1", path="/v1/x/../charges"))
        assert reply.values(b"idempotent-replayed") == [b"true"]
        assert len(product.api.requests) == 1
