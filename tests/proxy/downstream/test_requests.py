"""What a client sends: heads, pipelines, bodies."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.http1.heads import Chunked, Length
from idemproxy.idempotency.messages import Fields
from idemproxy.proxy.incoming import BadBody, BodyTooLarge, ClientGone, Incoming
from tests.proxy.downstream.serving import Start, echo, hello, ok

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


# ------------------------------------------------------------------------------------------------------------ pipelines


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


# --------------------------------------------------------------------------------------------------------------- bodies


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
    begun = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        begun.set()
        with pytest.raises(BadBody):
            await incoming.body(100)
        await incoming.answer(ok(b"bad"))

    wire = await (await start(serve)).connect()
    malformed = CHUNKED.replace(b"2\r\nde", b"zz\r\nde") + GET
    end = malformed.index(b"\r\n\r\n") + 4
    await wire.send(malformed[:end])
    await begun.wait()
    await wire.send(malformed[end:])
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"bad", [b"close"])
    assert await wire.until_eof() == b"", "what follows a malformed body is no request"


async def test_a_body_that_is_malformed_when_it_comes_with_its_head_is_not_served(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        raise AssertionError("served")

    wire = await (await start(serve)).connect()
    await wire.send(CHUNKED.replace(b"2\r\nde", b"zz\r\nde") + GET)
    reply = await wire.answer()
    assert (reply.status, reply.values(b"connection")) == (400, [b"close"])
    assert await wire.until_eof() == b""


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
