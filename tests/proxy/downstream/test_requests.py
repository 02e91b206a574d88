"""What a client sends: heads, bodies, expectations, pipelines, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from idemproxy.http1.heads import Chunked, Length
from idemproxy.idempotency.messages import Fields
from idemproxy.proxy.incoming import BadBody, BodyTooLarge, ClientGone, Incoming
from tests.proxy.downstream.serving import PATIENT, Start, echo, hello, ok

GET = b"GET /a%2Fb?c HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nSum: 7\r\n\r\n"
)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [(GET, b"GET /a%2Fb?c "), (POST, b"POST /p abcde"), (CHUNKED, b"PUT /c abcde")],
    ids=["get", "length", "chunked"],
)
async def test_a_request_may_be_split_at_any_byte(start: Start, request_: bytes, expected: bytes) -> None:
    served = await start(echo)
    wire = await served.connect()
    sent = 0
    for at in range(1, len(request_)):
        await wire.send(request_[:at])
        await served.took(sent + at)
        await wire.send(request_[at:])
        sent += len(request_)
        reply = await wire.answer()
        assert (reply.status, reply.body) == (200, expected)
        assert not wire.pending


async def test_a_request_may_come_byte_by_byte(start: Start) -> None:
    served = await start(echo)
    wire = await served.connect()
    await wire.send_by_byte(CHUNKED + POST)
    assert (await wire.answer()).body == b"PUT /c abcde"
    assert (await wire.answer()).body == b"POST /p abcde"


async def test_the_head_reaches_the_server_as_it_came(start: Start) -> None:
    heads: list[tuple[bytes, bytes, int, Fields]] = []

    async def serve(incoming: Incoming) -> None:
        head = incoming.head
        heads.append((head.method, head.target, head.minor, head.fields))
        await hello(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(b"get //x/%2e%2e?? HTTP/1.1\r\nhOST: h\r\nX:\r\nSet:  \xff a \r\nX: 2\r\n\r\n")
    assert (await wire.answer()).status == 200
    assert heads == [(b"get", b"//x/%2e%2e??", 1, ((b"hOST", b"h"), (b"X", b""), (b"Set", b"\xff a"), (b"X", b"2")))]


async def test_an_empty_line_before_a_request_is_ignored(start: Start) -> None:
    wire = await (await start(echo)).connect()
    await wire.send(b"\r\n" + POST)
    assert (await wire.answer()).body == b"POST /p abcde"
    await wire.send(b"\r\n")
    await wire.send(GET)
    assert (await wire.answer()).body == b"GET /a%2Fb?c "


async def test_the_peer_is_the_client_s_address(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(ok(incoming.peer.encode()))

    wire = await (await start(serve)).connect()
    await wire.send(GET)
    assert (await wire.answer()).body == b"127.0.0.1"


# ------------------------------------------------------------------------------------------------------------------ pipelines


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(start: Start) -> None:
    serving: list[bytes] = []
    most = 0

    async def serve(incoming: Incoming) -> None:
        nonlocal most
        serving.append(incoming.head.target)
        most = max(most, len(serving))
        for _ in range(3):
            await asyncio.sleep(0)
        await echo(incoming)
        serving.remove(incoming.head.target)

    wire = await (await start(serve)).connect()
    await wire.send(GET + POST + CHUNKED + GET)
    assert [(await wire.answer()).body for _ in range(4)] == [
        b"GET /a%2Fb?c ",
        b"POST /p abcde",
        b"PUT /c abcde",
        b"GET /a%2Fb?c ",
    ]
    assert most == 1


async def test_a_pipeline_that_arrives_while_a_body_is_unread(start: Start) -> None:
    go = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await go.wait()
        await echo(incoming)

    served = await start(serve)
    wire = await served.connect()
    await wire.send(POST[:-2])
    await served.took(len(POST) - 2)
    await wire.send(POST[-2:] + GET + CHUNKED[:-9])
    await served.took(len(POST + GET + CHUNKED) - 9)
    go.set()
    assert (await wire.answer()).body == b"POST /p abcde"
    assert (await wire.answer()).body == b"GET /a%2Fb?c "
    await wire.send(CHUNKED[-9:])
    assert (await wire.answer()).body == b"PUT /c abcde"


async def test_many_pipelined_requests(start: Start) -> None:
    wire = await (await start(echo)).connect()
    sending = asyncio.create_task(wire.send(GET * 3_000))
    for _ in range(3_000):
        assert (await wire.answer()).body == b"GET /a%2Fb?c "
    await sending


# --------------------------------------------------------------------------------------------------------------------- bodies


async def test_pieces_come_as_they_are_sent(start: Start) -> None:
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def serve(incoming: Incoming) -> None:
        assert incoming.head.framing == Length(6)
        while (piece := await incoming.piece()) is not None:
            pieces.put_nowait(piece)
        pieces.put_nowait(await incoming.piece())
        await incoming.answer(ok(b"done"))

    wire = await (await start(serve)).connect()
    await wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n")
    for sent in (b"one", b"two"):
        await wire.send(sent)
        assert await pieces.get() == sent
    assert await pieces.get() is None
    assert (await wire.answer()).body == b"done"


async def test_trailers_come_after_the_body(start: Start) -> None:
    seen: list[Fields] = []

    async def serve(incoming: Incoming) -> None:
        assert incoming.head.framing == Chunked()
        assert await incoming.body(5) == b"abcde"
        seen.append(incoming.trailers)
        await hello(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(CHUNKED)
    assert (await wire.answer()).status == 200
    assert seen[-1] == ((b"Sum", b"7"),)


async def test_no_trailers_without_chunks(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(ok(repr((await incoming.body(9), await incoming.piece(), incoming.trailers)).encode()))

    wire = await (await start(serve)).connect()
    await wire.send(GET + POST)
    assert (await wire.answer()).body == b"(b'', None, ())"
    assert (await wire.answer()).body == b"(b'abcde', None, ())"


async def test_a_declared_body_that_is_too_large_is_refused_before_it_is_read(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        with pytest.raises(BodyTooLarge):
            await incoming.body(4)
        await incoming.answer(ok(b"no"))

    wire = await (await start(serve)).connect()
    await wire.send(POST[:-5])
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"no", [b"close"])
    assert await wire.until_eof() == b""


async def test_a_chunked_body_that_is_too_large_is_refused_when_it_is(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        with pytest.raises(BodyTooLarge):
            await incoming.body(4)
        await incoming.answer(ok(b"no"))

    wire = await (await start(serve)).connect()
    await wire.send(CHUNKED[: CHUNKED.index(b"0\r\nSum")])
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"no", [b"close"])


async def test_a_body_of_just_the_limit_is_taken(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(ok(await incoming.body(5)))

    wire = await (await start(serve)).connect()
    await wire.send(POST + CHUNKED)
    assert (await wire.answer()).body == b"abcde"
    assert (await wire.answer()).body == b"abcde"


async def test_a_malformed_body_is_told_and_the_connection_ends(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        with pytest.raises(BadBody):
            await incoming.body(100)
        await incoming.answer(ok(b"bad"))

    wire = await (await start(serve)).connect()
    await wire.send(CHUNKED.replace(b"2\r\nde", b"zz\r\nde") + GET)
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"bad", [b"close"])
    assert await wire.until_eof() == b"", "what follows a malformed body is no request"


async def test_a_malformed_or_too_large_body_that_the_server_does_not_handle_is_refused(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.body(4)

    served = await start(serve)
    for request_, status in ((CHUNKED.replace(b"3;x=y", b"-3"), 400), (POST, 413)):
        wire = await served.connect()
        await wire.send(request_)
        reply = await wire.answer()
        assert reply.status == status
        if status == 400:
            assert reply.values(b"connection") == [b"close"]


async def test_an_unread_body_that_came_whole_does_not_end_the_connection(start: Start) -> None:
    served = await start(hello)
    wire = await served.connect()
    for _ in range(3):
        await wire.send(POST)
        reply = await wire.answer()
        assert (reply.body, reply.values(b"connection")) == (b"hello", [])


async def test_the_body_is_not_to_be_had_once_the_answer_began(start: Start) -> None:
    outcomes: list[str] = []

    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"200 OK\r\nContent-Length: 2\r\n", Length(2))
        try:
            await incoming.piece()
        except ClientGone:
            outcomes.append("given up")
        await incoming.write(b"ok")
        await incoming.end()

    served = await start(serve)
    for request_ in (POST, POST[:-2]):
        wire = await served.connect()
        await wire.send(request_)
        assert (await wire.answer()).body == b"ok"
    assert outcomes == ["given up"] * 2


# --------------------------------------------------------------------------------------------------------------- expectations

EXPECTING = POST[:-9].replace(b"Host", b"Expect: 100-continue\r\nHost") + b"\r\n\r\n"


async def test_an_accepted_expectation(start: Start) -> None:
    expecting: list[bool] = []

    async def serve(incoming: Incoming) -> None:
        expecting.append(incoming.expecting)
        incoming.accept()
        incoming.accept()
        expecting.append(incoming.expecting)
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    assert (await wire.head()).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"abcde" + GET)
    reply = await wire.answer()
    assert (reply.body, reply.interim, reply.values(b"connection")) == (b"POST /p abcde", (), [])
    reply = await wire.answer()
    assert (reply.body, reply.interim) == (b"GET /a%2Fb?c ", ())
    assert expecting == [True, False, False, False]


async def test_a_refused_expectation_gets_no_100_and_a_clean_end(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        with pytest.raises(BodyTooLarge):
            await incoming.body(1)
        await incoming.answer(ok(b"no"))
        incoming.accept()

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    reply = await wire.answer()
    assert (reply.body, reply.interim, reply.values(b"connection")) == (b"no", (), [b"close"])
    assert await wire.until_eof() == b""


async def test_no_100_when_the_body_came_unbidden(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        assert not incoming.expecting
        incoming.accept()
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING + b"ab")
    await wire.send(b"cde")
    reply = await wire.answer()
    assert (reply.body, reply.interim) == (b"POST /p abcde", ())


async def test_no_100_to_who_did_not_ask(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.accept()
        incoming.interim(b"100 Continue\r\n")
        await echo(incoming)

    served = await start(serve)
    for request_ in (POST[:-5], EXPECTING.replace(b"1.1", b"1.0")):
        wire = await served.connect()
        await wire.send(request_)
        await served.took(len(request_))
        await wire.send(b"abcde")
        reply = await wire.answer()
        assert (reply.body, reply.interim) == (b"POST /p abcde", ())


async def test_the_upstream_s_own_100_answers_the_expectation(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.interim(b"100 Go on\r\nX: 1\r\n")
        assert not incoming.expecting
        incoming.accept()
        await echo(incoming)

    wire = await (await start(serve)).connect()
    await wire.send(EXPECTING)
    assert (await wire.head()).raw == b"HTTP/1.1 100 Go on\r\nX: 1\r\n\r\n"
    await wire.send(b"abcde")
    assert (await wire.answer()).interim == ()


# ------------------------------------------------------------------------------------------------------------------ refusals

BAD = [
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: h\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    (b"GET /" + b"a" * 80_000, 414),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 80_000, 431),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize(
    ("request_", "status"), BAD, ids=[f"{status}-{number}" for number, (_, status) in enumerate(BAD)]
)
async def test_bad_heads_are_refused_and_the_connection_ends(start: Start, request_: bytes, status: int) -> None:
    async def serve(incoming: Incoming) -> None:
        raise AssertionError("served")

    wire = await (await start(serve)).connect()
    await wire.send(request_)
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (status, [b"close"])
    assert reply.body, "the detail is told"
    assert await wire.until_eof() == b""


async def test_a_bare_line_feed_is_found_wherever_the_head_is_split(start: Start) -> None:
    served = await start()
    request_ = b"GET / HTTP/1.1\r\nHost: h\nX"
    for at in range(len(request_) - 4, len(request_)):
        wire = await served.connect()
        await wire.send(request_[:at])
        await served.took(at)
        await wire.send(request_[at:])
        assert (await wire.answer()).status == 400
    wire = await served.connect()
    await wire.send_by_byte(GET)
    assert (await wire.answer()).status == 200, "the line ends themselves are none"


async def test_a_bad_head_in_a_pipeline_is_refused_in_its_turn(start: Start) -> None:
    wire = await (await start(echo)).connect()
    await wire.send(GET + b"BAD\r\n\r\n" + GET)
    assert (await wire.answer()).body == b"GET /a%2Fb?c "
    assert (await wire.answer()).status == 400
    assert await wire.until_eof() == b""


async def test_a_refusal_reaches_a_client_that_is_still_sending(start: Start) -> None:
    wire = await (await start()).connect()
    await wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5_000_000)
    assert (await wire.answer()).status == 431
    assert await wire.until_eof() == b""


async def test_a_head_that_is_too_slow_gets_a_408(start: Start) -> None:
    wire = await (await start(limits=replace(PATIENT, head_timeout=0.05))).connect()
    await wire.send(GET)
    assert (await wire.answer()).status == 200, "waiting for a request takes no time off its head"
    await wire.send(GET[:-1])
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (408, [b"close"])
    assert await wire.until_eof() == b""


async def test_a_body_that_is_too_slow_gets_a_408(start: Start) -> None:
    gone = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        incoming.on_gone(gone.set)
        with pytest.raises(ClientGone):
            await incoming.body(100)

    wire = await (await start(serve, replace(PATIENT, body_idle=0.05))).connect()
    await wire.send(POST[:-1])
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (408, [b"close"])
    assert await wire.until_eof() == b""
    assert gone.is_set()


async def test_a_body_that_nobody_waits_for_is_not_too_slow(start: Start) -> None:
    waited, came = asyncio.Event(), asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(incoming.piece(), 0.01)
        await asyncio.sleep(0.2)
        waited.set()
        await came.wait()
        await echo(incoming)

    served = await start(serve, replace(PATIENT, body_idle=0.1))
    wire = await served.connect()
    await wire.send(POST[:-5])
    await waited.wait()
    await wire.send(POST[-5:])
    await served.took(len(POST))
    came.set()
    assert (await wire.answer()).body == b"POST /p abcde"
