"""How executions end, on the wire: answered, released, unknown, streamed, drained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from idemproxy.idempotency.record import State
from idemproxy.stores.base import Completion, EndFact
from tests.proxy.product import CREATED, RULE, Exchange, Product, post, problem, serving, sqlite
from tests.proxy.wire import Ended, eventually

# ------------------------------------------------------------------------------------------------------------------ the ends


async def test_an_unreachable_upstream_frees_the_key(product: Product) -> None:
    await product.api.stop()
    refused = problem(await product.ask(post()))
    assert (refused["slug"], refused["status"], refused["retry"]) == ("upstream-unreachable", 502, "same_key")
    await product.api.start()


async def test_after_an_unreachable_upstream_the_same_key_executes(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path)) as product:
        behind = product.api._server
        assert behind is not None
        port = product.api.port
        await product.api.stop()
        await behind.wait_closed()
        assert problem(await product.ask(post()))["slug"] == "upstream-unreachable"
        product.api._server = await asyncio.start_server(product.api._connected, "127.0.0.1", port)
        assert (await product.ask(post())).status == 201
    assert len(product.api.requests) == 1


@pytest.mark.parametrize(
    ("end", "slug", "status"),
    [
        (b"reset", "upstream-failed", 502),
        (b"close", "upstream-failed", 502),
        (b"silence", "upstream-timeout", 504),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "upstream-failed", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "upstream-failed", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", "upstream-failed", 502),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "upstream-failed", 502),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "upstream-failed", 502),
    ],
)
async def test_sent_and_not_answered_is_unknown(store_url: str, end: bytes, slug: str, status: int) -> None:
    more = "upstream_timeouts: {response: 300ms}\n"
    async with serving(store_url, more=more) as product:

        async def break_off(exchange: Exchange) -> None:
            match end:
                case b"reset":
                    exchange.reset()
                case b"silence":
                    await asyncio.sleep(20)
                case b"close":
                    exchange.close()
                case answer:
                    await exchange.send(answer)
                    exchange.close()

        product.api.respond = break_off
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["status"], refused["retry"]) == (slug, status, "ask_operator")
        retry = problem(await product.ask(post()))
        assert (retry["slug"], retry["status"], retry["retry"]) == ("outcome-unknown", 409, "ask_operator")
        page = await product.store.scan(state=State.UNKNOWN, rule="charges", limit=10, cursor=None)
        assert len(page.found) == 1
    assert len(product.api.requests) == 1


async def test_on_unknown_retry_executes_again_with_the_next_number(store_url: str) -> None:
    rules = RULE + "    on_unknown: retry\n    attempt_header: X-Attempt\n"
    async with serving(store_url, rules=rules) as product:

        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        product.api.respond = reset
        refused = problem(await product.ask(post()))
        assert refused["retry"] == "same_key"
        product.api.respond = lambda exchange: exchange.send(CREATED)
        assert (await product.ask(post())).status == 201
        assert (await product.ask(post())).values(b"idempotent-replayed") == [b"true"]
    assert [b"X-Attempt: %d\r\n" % number in product.api.requests[number - 1].raw for number in (1, 2)] == [True, True]
    assert len(product.api.requests) == 2


async def test_a_released_status_with_a_cut_body_is_released_and_seen_cut(product: Product) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 402 Pay\r\nContent-Length: 10\r\n\r\nabc")
        exchange.close()

    product.api.respond = cut
    async with await product.connect() as wire:
        await wire.send(post())
        with pytest.raises((Ended, ConnectionResetError)):
            await wire.answer(b"POST")
    product.api.respond = lambda exchange: exchange.send(CREATED)
    assert (await product.ask(post())).status == 201


async def test_the_store_is_down(tmp_path: Path) -> None:
    async with serving(f"sqlite:{tmp_path / 'absent' / 'store.db'}") as product:
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("store-unavailable", 503, "same_key")
        assert not product.api.requests
        (tmp_path / "absent").mkdir()
        assert (await product.ask(post())).status == 201


async def test_fail_open_forwards_while_the_store_is_down(tmp_path: Path) -> None:
    rules = RULE + "    on_store_failure: fail_open\n"
    async with serving(f"sqlite:{tmp_path / 'absent' / 'store.db'}", rules=rules) as product:
        assert (await product.ask(post())).status == 201
        assert (await product.ask(post("k2"))).status == 201
        assert len(product.api.requests) == 2


# ------------------------------------------------------------------------------------------------------------------- streams


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_an_event_stream_goes_on_as_it_comes_and_is_replayed_whole(product: Product) -> None:
    go = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        await exchange.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
        await go.wait()
        await exchange.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    product.api.respond = stream
    async with await product.connect() as wire:
        await wire.send(post())
        await wire.head()
        assert b"data: 1\n\n" in await wire.until(b"data: 1\n\n")
        go.set()
        await wire.until(b"0\r\n\r\n")
    replayed = await product.ask(post())
    assert replayed.body == b"data: 1\n\ndata: 2\n\n"
    assert replayed.values(b"idempotent-replayed") == [b"true"]
    assert len(product.api.requests) == 1


async def test_a_stream_goes_on_being_recorded_without_its_client(product: Product) -> None:
    go = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        await exchange.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
        await go.wait()
        await exchange.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    product.api.respond = stream
    async with await product.connect() as wire:
        await wire.send(post())
        await wire.until(b"data: 1\n\n")
        wire.reset()
    go.set()
    assert (await product.ask(post())).body == b"data: 1\n\ndata: 2\n\n"


async def test_a_stream_that_breaks_is_seen_broken_and_unknown(product: Product) -> None:
    async def stream(exchange: Exchange) -> None:
        await exchange.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
        exchange.reset()

    product.api.respond = stream
    async with await product.connect() as wire:
        await wire.send(post())
        with pytest.raises((Ended, ConnectionResetError)):
            await wire.answer(b"POST")
    assert problem(await product.ask(post()))["slug"] == "outcome-unknown"


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_too_large_to_keep_is_given_once_and_never_executed_again(
    store_url: str, chunked: bool
) -> None:
    async with serving(store_url, rules=RULE + "    max_response_body: 1KiB\n") as product:
        body = bytes(range(256)) * 8
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n800\r\n%b\r\n0\r\n\r\n"
            if chunked
            else b"Content-Length: 2048\r\n\r\n%b"
        )
        product.api.respond = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\n" + framing % body)
        first = await product.ask(post())
        assert first.body == body
        refused = problem(await product.ask(post()))
        assert (refused["slug"], refused["status"], refused["retry"]) == ("answer-not-kept", 409, "ask_operator")
    assert len(product.api.requests) == 1


async def test_a_slow_small_answer_is_streamed_and_recorded(product: Product) -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await go.wait()
        await exchange.send(b"def")

    product.api.respond = slow
    async with await product.connect() as wire:
        await wire.send(post())
        await wire.head()
        assert await wire.read(3) == b"abc"
        go.set()
        assert await wire.read(3) == b"def"
    assert (await product.ask(post())).body == b"abcdef"
    assert len(product.api.requests) == 1


async def test_expect_100_continue_on_a_rules_route(product: Product) -> None:
    async with await product.connect() as wire:
        request = post(more="Expect: 100-continue\r\n")
        head, body = request[: -len(b"amount=5")], b"amount=5"
        await wire.send(head)
        assert (await wire.head()).status == 100
        await wire.send(body)
        assert (await wire.answer(b"POST")).status == 201
    assert b"Expect" not in product.api.requests[0].raw


async def test_expect_is_not_accepted_for_a_body_that_is_too_large(product: Product) -> None:
    head = b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n"
    async with await product.connect() as wire:
        await wire.send(head)
        refused = await wire.answer(b"POST")
    assert refused.status == 413
    assert refused.interim == ()
    assert not product.api.requests


async def test_a_trailer_cannot_slip_in_what_the_rule_reads(tmp_path: Path) -> None:
    rules = RULE + "    key: {header: X-Token}\n    scope: ['header:X-Caller']\n"
    async with serving(sqlite(tmp_path), rules=rules) as product:
        await product.ask(
            b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nX-Token: k\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\nX-Token: other\r\nx-caller: root\r\nX-Sum: 1\r\n\r\n"
        )
        assert product.api.requests[0].raw.endswith(b"\r\n0\r\nX-Sum: 1\r\n\r\n")


async def test_replay_drop_headers(tmp_path: Path) -> None:
    async with serving(sqlite(tmp_path), rules=RULE + "    replay_drop_headers: [X-Case]\n") as product:
        first, again = await product.ask(post()), await product.ask(post())
    assert first.values(b"x-case") == [b"Kept"]
    assert again.values(b"x-case") == []
    assert again.body == first.body


async def test_waiting_requests_are_told_of_the_shutdown(store_url: str) -> None:
    async with serving(store_url) as one, serving(store_url, api=one.api) as other:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await exchange.send(CREATED)

        one.api.respond = slow
        first = asyncio.ensure_future(one.ask(post()))
        await one.api.got(1)
        waiting = asyncio.ensure_future(other.ask(post()))
        await eventually(lambda: other.service._waiters._vigils)
        hurry = asyncio.Event()
        hurry.set()
        await other.service.drain(hurry.wait())
        refused = problem(await waiting)
        assert (refused["slug"], refused["status"], refused["retry"]) == ("shutting-down", 503, "same_key")
        go.set()
        assert (await first).status == 201
    assert len(one.api.requests) == 1


async def test_drained_while_sending_is_unknown_and_before_sending_is_free(product: Product) -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.sleep(20)

    product.api.respond = never
    asking = asyncio.ensure_future(product.ask(post()))
    await product.api.got(1)
    hurry = asyncio.Event()
    hurry.set()
    await product.service.drain(hurry.wait())
    refused = problem(await asking)
    assert (refused["slug"], refused["status"], refused["retry"]) == ("shutting-down", 503, "ask_operator")
    await eventually(lambda: not product.service._port.connections.open)


async def test_a_client_that_left_before_its_stream_began_holds_nothing_back(tmp_path: Path) -> None:
    """Nobody reads it: the upstream is not made to wait, not even where waiting has no limit."""
    go = asyncio.Event()
    piece = bytes(64 << 10)

    async def stream(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(EVENTS)
        for _ in range(128):
            await exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await exchange.send(b"0\r\n\r\n")

    more = "upstream_timeouts: {idle: 0}\n"
    async with serving(sqlite(tmp_path), rules=RULE + "    max_response_body: 16MiB\n", more=more) as product:
        product.api.respond = stream
        async with await product.connect() as wire:
            await wire.send(post())
            await product.api.got(1)
            wire.reset()
        await eventually(lambda: not product.service._port.connections.open)
        go.set()
        assert (await product.ask(post())).body == piece * 128
    assert len(product.api.requests) == 1


async def test_a_streamed_answer_of_known_length_is_whole_only_once_it_is_recorded(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, asked, record = asyncio.Event(), asyncio.Event(), asyncio.Event()
    complete = product.store.complete

    async def slow_store(record_id: str, completion: Completion) -> EndFact:
        asked.set()
        await record.wait()
        return await complete(record_id, completion)

    async def slow(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await go.wait()
        await exchange.send(b"def")

    monkeypatch.setattr(product.store, "complete", slow_store)
    product.api.respond = slow
    async with await product.connect() as wire:
        await wire.send(post())
        await wire.head()
        assert await wire.read(3) == b"abc"
        go.set()
        await asyncio.wait_for(asked.wait(), 25)
        rest = asyncio.ensure_future(wire.read(3))
        await asyncio.sleep(0.2)
        assert not rest.done(), "its client holds a whole answer that is not recorded"
        record.set()
        assert await rest == b"def"
