"""`reauthorize:` on the wire: a recorded answer goes to another credential only once the upstream lets that in, and nothing is executed
for it."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy import reauthorizing
from idemproxy.observe.exposition import exposition
from tests.proxy.product import CREATED, Exchange, Product, post, problem, serving
from tests.proxy.wire import Reply, eventually
from tests.unit.exposed import Exposed

RULES = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    scope: ["header:X-Account"]
    reauthorize: {path: /v1/me}
"""
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme"
ALICE, RENEWED, MALLORY = (
    f"X-Account: 1\r\nAuthorization: Bearer {name}\r\n" for name in ("alice", "alice-2", "mallory")
)


def is_question(exchange: Exchange) -> bool:
    return exchange.raw.startswith(b"GET ")


def questions(product: Product) -> list[Exchange]:
    return [exchange for exchange in product.api.requests if is_question(exchange)]


def executions(product: Product) -> list[Exchange]:
    return [exchange for exchange in product.api.requests if not is_question(exchange)]


def saying(product: Product, answer: bytes) -> None:
    """From now on questions get that, and everything else is executed."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(answer if is_question(exchange) else CREATED)

    product.api.respond = respond


def seen(product: Product) -> Exposed:
    return Exposed(exposition(product.metrics, "")[0].decode())


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()


def replayed(reply: Reply) -> bool:
    return reply.values(b"idempotent-replayed") == [b"true"]


async def test_who_began_an_operation_is_not_asked_about(store_url: str) -> None:
    async with serving(store_url, rules=RULES) as product:
        saying(product, status("401 Unauthorized"))
        assert not replayed(await product.ask(post(more=ALICE)))
        assert replayed(await product.ask(post(more=ALICE)))
        assert not questions(product)
        assert len(executions(product)) == 1


async def test_another_credential_gets_the_replay_once_the_upstream_lets_it_in(store_url: str) -> None:
    async with serving(store_url, rules=RULES) as product:
        saying(product, YES)
        await product.ask(post(more=ALICE))
        more = f"{RENEWED}Cookie: sid=1\r\nX-API-Key: k\r\nX-Other: 1\r\n"
        for _ in range(3):
            assert replayed(await product.ask(post(more=more)))
        (question,) = questions(product)
        assert question.raw == (
            b"GET /v1/me HTTP/1.1\r\nHost: api.test\r\nX-Account: 1\r\nAuthorization: Bearer alice-2\r\n"
            b"Cookie: sid=1\r\nX-API-Key: k\r\n\r\n"
        )
        assert len(executions(product)) == 1


@pytest.mark.parametrize("line", ["401 Unauthorized", "403 Forbidden"])
async def test_who_is_not_let_in_is_told_so_by_the_same_status(store_url: str, line: str) -> None:
    async with serving(store_url, rules=RULES) as product:
        saying(product, status(line))
        await product.ask(post(more=ALICE))
        for number in (1, 2):
            refused = problem(await product.ask(post(more=MALLORY)))
            assert (refused["slug"], refused["status"]) == ("not-authorized", int(line[:3]))
            assert refused["retry"] == "fix_request"
            assert len(questions(product)) == number, "a no is not remembered"
        assert replayed(await product.ask(post(more=ALICE)))
        assert len(executions(product)) == 1


@pytest.mark.parametrize("line", ["500 Oops", "404 Not Found", "302 Found", "429 Too Many Requests", "nonsense"])
async def test_any_other_answer_is_none(store_url: str, line: str) -> None:
    async with serving(store_url, rules=f"{RULES}    retry_after: 3s\n") as product:
        saying(product, status(line) if line != "nonsense" else b"nonsense\r\n\r\n")
        await product.ask(post(more=ALICE))
        reply = await product.ask(post(more=MALLORY))
        refused = problem(reply)
        assert (refused["slug"], refused["status"], refused["retry"]) == ("reauthorize-unavailable", 503, "same_key")
        assert reply.values(b"retry-after") == [b"3"]
        saying(product, YES)
        assert replayed(await product.ask(post(more=MALLORY)))
        assert len(executions(product)) == 1


async def test_an_upstream_that_hangs_up_or_hangs_is_no_answer(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reauthorizing, "LONGEST", 0.3)
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        await product.ask(post(more=ALICE))

        async def hang_up(exchange: Exchange) -> None:
            exchange.close()

        async def hang(exchange: Exchange) -> None:
            pass

        for respond in (hang_up, hang):
            product.api.respond = respond
            assert problem(await product.ask(post(more=MALLORY)))["slug"] == "reauthorize-unavailable"
        assert len(executions(product)) == 1


async def test_an_upstream_that_is_down_is_no_answer(tmp_path: object) -> None:
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        await product.ask(post(more=ALICE))
        await product.api.stop()
        assert problem(await product.ask(post(more=MALLORY)))["slug"] == "reauthorize-unavailable"
        assert replayed(await product.ask(post(more=ALICE)))


async def test_a_yes_holds_for_a_time_and_for_every_operation_that_it_is_asked_about(tmp_path: object) -> None:
    rules = RULES.replace("/v1/me}", "/v1/me, cache: 0}").replace("charges", "strict") + RULES
    async with serving(f"sqlite:{tmp_path}/store.db", rules=rules) as product:
        saying(product, YES)
        for key in ("k1", "k2"):
            await product.ask(post(key, more=ALICE))
        for key in ("k1", "k2", "k1"):
            assert replayed(await product.ask(post(key, more=RENEWED)))
        assert len(questions(product)) == 1
        await product.ask(post("k3", path="/v1/strict", more=ALICE))
        for number in (2, 3):
            assert replayed(await product.ask(post("k3", path="/v1/strict", more=RENEWED)))
            assert len(questions(product)) == number, "cache: 0 asks each time, whatever another rule remembers"
        saying(product, status("403 Forbidden"))
        assert (await product.ask(post("k3", path="/v1/strict", more=RENEWED))).status == 403
        assert (await product.ask(post("k1", more=RENEWED))).status == 403, (
            "what is refused now is not remembered as let in"
        )


async def test_another_account_of_the_same_credential_is_another_question(tmp_path: object) -> None:
    rules = RULES.replace('["header:X-Account"]', '[{header: X-Account, pattern: "^([a-z]+)"}]')
    async with serving(f"sqlite:{tmp_path}/store.db", rules=rules) as product:
        saying(product, YES)
        await product.ask(post(more="X-Account: a1\r\nAuthorization: Bearer alice\r\n"))
        for number, account in enumerate(("a2", "a3", "a2"), 1):
            assert replayed(await product.ask(post(more=f"X-Account: {account}\r\nAuthorization: Bearer alice\r\n")))
            assert len(questions(product)) == min(number, 2)


async def test_who_shows_nothing_is_always_asked_about(tmp_path: object) -> None:
    rules = RULES.replace('["header:X-Account"]', "[]")
    async with serving(f"sqlite:{tmp_path}/store.db", rules=rules) as product:
        saying(product, status("401 Unauthorized"))
        assert (await product.ask(post())).status == 201
        assert problem(await product.ask(post()))["slug"] == "not-authorized"
        assert len(executions(product)) == 1


async def test_many_who_ask_the_same_at_once_share_one_question(tmp_path: object) -> None:
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES.replace("/v1/me}", "/v1/me, cache: 0}")) as product:
        await product.ask(post(more=ALICE))
        free = asyncio.Event()

        async def respond(exchange: Exchange) -> None:
            await free.wait()
            await exchange.send(YES)

        product.api.respond = respond
        asked = [asyncio.ensure_future(product.ask(post(more=RENEWED))) for _ in range(5)]
        await eventually(lambda: bool(questions(product)), "the question")
        late = asyncio.ensure_future(product.ask(post(more=MALLORY)))
        await eventually(lambda: len(questions(product)) == 2, "the other question")
        free.set()
        assert all(replayed(reply) for reply in await asyncio.gather(*asked, late))
        assert len(questions(product)) <= 3


async def test_who_waited_is_asked_about_too_and_the_first_execution_is_not_delayed(store_url: str) -> None:
    async with serving(store_url, rules=RULES) as product:
        free = asyncio.Event()

        async def respond(exchange: Exchange) -> None:
            if is_question(exchange):
                await exchange.send(status("403 Forbidden"))
                return
            await free.wait()
            await exchange.send(CREATED)

        product.api.respond = respond
        first = asyncio.ensure_future(product.ask(post(more=ALICE)))
        await product.api.got(1)
        waiting = {who: asyncio.ensure_future(product.ask(post(more=who))) for who in (MALLORY, ALICE)}
        await eventually(lambda: seen(product).value("idemproxy_waiters", rule="charges") == 2, "two waiters")
        assert not questions(product)
        free.set()
        assert (await first).status == 201
        assert problem(await waiting[MALLORY])["slug"] == "not-authorized"
        assert replayed(await waiting[ALICE])
        assert len(questions(product)) == 1
        assert len(executions(product)) == 1


async def test_another_process_knows_who_began_it(store_url: str) -> None:
    async with serving(store_url, rules=RULES) as one, serving(store_url, rules=RULES, api=one.api) as two:
        saying(one, status("401 Unauthorized"))
        assert (await one.ask(post(more=ALICE))).status == 201
        assert replayed(await two.ask(post(more=ALICE)))
        assert (await two.ask(post(more=MALLORY))).status == 401
        assert len(executions(one)) == 1


async def test_what_tells_no_content_needs_no_question(tmp_path: object) -> None:
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        saying(product, status("401 Unauthorized"))
        await product.ask(post(more=ALICE))
        assert problem(await product.ask(post(body=b"amount=6", more=MALLORY)))["slug"] == "key-reused"

        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        product.api.respond = reset
        assert (await product.ask(post("k2", more=ALICE))).status == 502
        assert problem(await product.ask(post("k2", more=MALLORY)))["slug"] == "outcome-unknown"
        assert not questions(product)


async def test_an_answer_that_a_take_over_got_is_not_for_who_began_without_it(store_url: str) -> None:
    """Whoever begins an operation with a credential of no worth, and has it broken off, gets nothing of what another one got for it."""
    async with serving(store_url, rules=f"{RULES}    on_unknown: retry\n") as product:

        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        product.api.respond = reset
        assert (await product.ask(post(more=MALLORY))).status == 502
        saying(product, status("401 Unauthorized"))
        assert (await product.ask(post(more=ALICE))).status == 201
        assert problem(await product.ask(post(more=MALLORY)))["slug"] == "not-authorized"
        saying(product, YES)
        assert replayed(await product.ask(post(more=ALICE)))


async def test_an_answer_of_a_probe_is_asked_about(store_url: str) -> None:
    rules = f"{RULES}    on_unknown: {{probe: {{url: '/v1/by-key/{{header:Idempotency-Key}}', settle: 1h}}}}\n"
    async with serving(store_url, rules=rules) as product:

        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        product.api.respond = reset
        assert (await product.ask(post(more=MALLORY))).status == 502
        refuse = True

        async def respond(exchange: Exchange) -> None:
            question = exchange.raw.startswith(b"GET /v1/me ")
            await exchange.send(status("401 Unauthorized") if question and refuse else YES)

        product.api.respond = respond
        assert (await product.ask(post(more=ALICE))).status == 401
        assert (await product.ask(post(more=MALLORY))).status == 401
        refuse = False
        assert replayed(await product.ask(post(more=ALICE)))
        assert len(executions(product)) == 1


async def test_a_refused_first_request_leaves_the_operation_to_the_next(store_url: str) -> None:
    async with serving(store_url, rules=RULES) as product:

        async def refuse(exchange: Exchange) -> None:
            await exchange.send(status("401 Unauthorized"))

        product.api.respond = refuse
        assert (await product.ask(post(more=MALLORY))).status == 401
        saying(product, status("401 Unauthorized"))
        assert (await product.ask(post(more=ALICE))).status == 201
        assert replayed(await product.ask(post(more=ALICE)))
        assert problem(await product.ask(post(more=MALLORY)))["slug"] == "not-authorized"


async def test_a_tenant_of_the_path_is_in_the_question(tmp_path: object) -> None:
    rules = """
  - name: orders
    match: {methods: [POST], path: "/t/{tenant}/orders"}
    scope: ["path:tenant"]
    reauthorize: {path: "/t/{path:tenant}"}
"""
    async with serving(f"sqlite:{tmp_path}/store.db", rules=rules) as product:
        saying(product, status("403 Forbidden"))
        await product.ask(post(path="/t/a%2Fb/orders", more=ALICE))
        assert (await product.ask(post(path="/t/a%2Fb/orders", more=MALLORY))).status == 403
        (question,) = questions(product)
        assert question.raw.startswith(b"GET /t/a%2Fb HTTP/1.1\r\n")


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-API-Key"])
async def test_a_credential_is_not_taken_away_by_connection(tmp_path: object, name: str) -> None:
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        assert (await product.ask(post(more=f"{ALICE}Connection: {name}\r\n"))).status == 400
        assert not product.api.requests


async def test_only_so_many_are_remembered(tmp_path: object) -> None:
    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        product.service._plan.reauthorizer._most = 2
        saying(product, YES)
        await product.ask(post(more=ALICE))
        for name in ("b", "c", "d", "d", "c", "b"):
            assert replayed(await product.ask(post(more=f"X-Account: 1\r\nAuthorization: Bearer {name}\r\n")))
        assert len(questions(product)) == 4


async def test_only_so_many_questions_are_asked_at_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reauthorizing, "AT_ONCE", 2)
    go = asyncio.Event()

    async def respond(exchange: Exchange) -> None:
        if is_question(exchange):
            await go.wait()
        await exchange.send(YES if is_question(exchange) else CREATED)

    async with serving(f"sqlite:{tmp_path}/store.db", rules=RULES) as product:
        product.api.respond = respond
        await product.ask(post(more=ALICE))
        others = [f"X-Account: 1\r\nAuthorization: Bearer other-{number}\r\n" for number in range(3)]
        waiting = [asyncio.ensure_future(product.ask(post(more=more))) for more in others[:2]]
        await eventually(lambda: len(questions(product)) == 2, "two questions")
        refused = await product.ask(post(more=others[2]))
        assert refused.status == 503
        assert str(problem(refused)["type"]).endswith(":reauthorize-unavailable")
        go.set()
        assert all(map(replayed, await asyncio.gather(*waiting)))
        assert replayed(await product.ask(post(more=others[2])))
