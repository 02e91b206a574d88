"""What a client gets: framing, versions, bodiless answers, interim answers, and answers that are misused."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.http1.heads import Chunked, Framing, Length, NoBody, UntilClose
from idemproxy.idempotency.messages import Answer
from idemproxy.proxy.downstream import Serve
from idemproxy.proxy.incoming import Incoming
from tests.proxy.downstream.serving import Start, hello, ok

HEAD_LINES = b"200 Fine enough\r\nx-A: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"


def request(method: bytes = b"GET", version: bytes = b"1.1", *fields: bytes) -> bytes:
    return b"%b / HTTP/%b\r\nHost: h\r\n%b\r\n" % (method, version, b"".join(field + b"\r\n" for field in fields))


# -------------------------------------------------------------------------------------------------------------- whole answers


async def test_an_answer_with_a_length_goes_out_as_it_is(start: Start) -> None:
    answer = Answer(200, HEAD_LINES + b"content-LENGTH: 3\r\n", b"abc")

    async def serve(incoming: Incoming) -> None:
        assert (incoming.started, incoming.answered) == (False, False)
        await incoming.answer(answer)
        assert (incoming.started, incoming.answered) == (True, True)

    wire = await (await start(serve)).connect()
    await wire.send(request())
    expected = b"HTTP/1.1 " + answer.head + b"\r\nabc"
    assert await wire.read(len(expected)) == expected
    await wire.send(request(b"GET", b"1.1", b"Connection: close"))
    assert await wire.until_eof() == b"HTTP/1.1 " + answer.head + b"Connection: close\r\n\r\nabc"


async def test_extra_lines_come_behind_the_answer_s_own(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(ok(b"abc"), b"Idempotent-Replayed: true\r\n")

    wire = await (await start(serve)).connect()
    await wire.send(request())
    assert (await wire.until(b"abc")) == b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nIdempotent-Replayed: true\r\n\r\nabc"


@pytest.mark.parametrize("reason", [b"200 OK", b"200 ", b"200", b"299 \xe9", b"599 Odd one"])
async def test_status_and_reason_are_kept(start: Start, reason: bytes) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(Answer(int(reason[:3]), reason + b"\r\nContent-Length: 0\r\n", b""))

    wire = await (await start(serve)).connect()
    await wire.send(request())
    assert await wire.until(b"\r\n") == b"HTTP/1.1 " + reason + b"\r\n"
    await wire.until(b"\r\n\r\n")


async def test_an_answer_without_a_length_is_chunked_with_its_trailers(start: Start) -> None:
    bodies = [b"abc", b""]

    async def serve(incoming: Incoming) -> None:
        await incoming.answer(Answer(200, HEAD_LINES, bodies.pop(0), b"Sum: 7\r\n"))

    wire = await (await start(serve)).connect()
    await wire.send(request() * 2)
    for body in (b"abc", b""):
        reply = await wire.answer()
        assert (reply.body, reply.trailers) == (body, b"Sum: 7\r\n")
        assert reply.values(b"transfer-encoding") == [b"chunked"]
        assert reply.values(b"connection") == []


async def test_an_answer_without_a_length_ends_with_the_connection_for_1_0(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await incoming.answer(Answer(200, HEAD_LINES, b"abc", b"Sum: 7\r\n"))

    wire = await (await start(serve)).connect()
    await wire.send(request(b"GET", b"1.0", b"Connection: keep-alive"))
    assert await wire.until_eof() == b"HTTP/1.1 " + HEAD_LINES + b"Connection: close\r\n\r\nabc"


async def test_an_http_1_0_connection_is_kept_only_if_asked(start: Start) -> None:
    served = await start(hello)
    wire = await served.connect()
    for _ in range(2):
        await wire.send(request(b"GET", b"1.0", b"Connection: keep-alive"))
        reply = await wire.answer()
        assert (reply.body, reply.values(b"connection")) == (b"hello", [b"keep-alive"])
    await wire.send(request(b"GET", b"1.0"))
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"hello", [b"close"])
    assert await wire.until_eof() == b""


async def test_a_client_that_asks_for_a_close_gets_it(start: Start) -> None:
    served = await start(hello)
    wire = await served.connect()
    await wire.send(request(b"GET", b"1.1", b"Connection: close") + request())
    reply = await wire.answer()
    assert (reply.body, reply.values(b"connection")) == (b"hello", [b"close"])
    assert await wire.until_eof() == b"", "nothing behind it is answered"


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 5\r\n"),
        (b"HEAD", b"200 OK\r\n"),
        (b"GET", b"204 No Content\r\n"),
        (b"GET", b"304 Not Modified\r\nContent-Length: 5\r\n"),
    ],
)
async def test_bodiless_answers_have_no_body_whatever_they_say(start: Start, method: bytes, head: bytes) -> None:
    streamed = iter((False, True, False))

    async def serve(incoming: Incoming) -> None:
        if not next(streamed):
            await incoming.answer(Answer(int(head[:3]), head, b"abcde", b"Sum: 7\r\n"))
            return
        await incoming.begin(head, UntilClose())
        await incoming.write(b"abcde")
        await incoming.end(b"Sum: 7\r\n")

    wire = await (await start(serve)).connect()
    for _ in range(2):
        await wire.send(request(method))
        assert (await wire.head()).raw == b"HTTP/1.1 " + head + b"\r\n"
    await wire.send(request(method, b"1.1", b"Connection: close"))
    assert await wire.until_eof() == b"HTTP/1.1 " + head + b"Connection: close\r\n\r\n"


# ----------------------------------------------------------------------------------------------------------- streamed answers


def streaming(head: bytes, framing: Framing, *pieces: bytes) -> Serve:
    async def serve(incoming: Incoming) -> None:
        await incoming.begin(head, framing)
        assert (incoming.started, incoming.answered) == (True, False)
        for piece in pieces:
            await incoming.write(piece)
        await incoming.end(b"Sum: 7\r\n")
        assert incoming.answered

    return serve


async def test_a_streamed_answer_with_a_length(start: Start) -> None:
    served = await start(streaming(b"200 OK\r\nContent-Length: 5\r\n", Length(5), b"ab", b"", b"cde"))
    wire = await served.connect()
    for _ in range(2):
        await wire.send(request())
        assert await wire.until(b"abcde") == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"


@pytest.mark.parametrize("framing", [Chunked(), UntilClose()])
async def test_a_streamed_answer_without_a_length(start: Start, framing: Framing) -> None:
    served = await start(streaming(b"200 OK\r\nA: b\r\n", framing, b"ab", b"", b"c" * 17))
    wire = await served.connect()
    for _ in range(2):
        await wire.send(request())
        expected = (
            b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n11\r\n"
            + b"c" * 17
            + b"\r\n0\r\nSum: 7\r\n\r\n"
        )
        assert await wire.read(len(expected)) == expected
    await wire.send(request(b"GET", b"1.0", b"Connection: keep-alive"))
    assert await wire.until_eof() == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\nab" + b"c" * 17


async def test_an_answer_that_has_no_body_by_its_framing(start: Start) -> None:
    served = await start(streaming(b"200 OK\r\nContent-Length: 0\r\n", NoBody()))
    wire = await served.connect()
    for _ in range(2):
        await wire.send(request())
        assert (await wire.answer()).body == b""


async def test_pieces_and_the_head_go_out_as_they_come(start: Start) -> None:
    go = asyncio.Event()

    async def serve(incoming: Incoming) -> None:
        await incoming.begin(b"200 OK\r\n", Chunked())
        for piece in (b"one", b"two"):
            await go.wait()
            go.clear()
            await incoming.write(piece)
        await go.wait()
        await incoming.end()

    wire = await (await start(serve)).connect()
    await wire.send(request())
    assert (await wire.head()).status == 200, "the head waits for no piece"
    go.set()
    assert await wire.read(8) == b"3\r\none\r\n"
    go.set()
    assert await wire.read(8) == b"3\r\ntwo\r\n"
    go.set()
    assert await wire.read(5) == b"0\r\n\r\n"


async def test_head_and_first_piece_leave_together(start: Start) -> None:
    writes: list[bytes] = []
    served = await start(streaming(b"200 OK\r\n", Chunked(), b"abc"))
    wire = await served.connect()
    served.last.tap.writes = writes
    await wire.send(request())
    assert (await wire.answer()).body == b"abc"
    assert writes[0].endswith(b"\r\n\r\n3\r\nabc\r\n")


async def test_a_whole_answer_is_one_write(start: Start) -> None:
    writes: list[bytes] = []
    served = await start(hello)
    wire = await served.connect()
    served.last.tap.writes = writes
    await wire.send(request() * 2)
    for _ in range(2):
        assert (await wire.answer()).body == b"hello"
    assert writes == [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"] * 2


# -------------------------------------------------------------------------------------------------------------- interim answers


async def test_interim_answers_come_before_the_answer(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        incoming.interim(b"103 Early Hints\r\nLink: </a>\r\n")
        incoming.interim(b"102 Processing\r\n")
        await hello(incoming)
        incoming.interim(b"103 Late\r\n")

    served = await start(serve)
    wire = await served.connect()
    await wire.send(request() * 2)
    for _ in range(2):
        reply = await wire.answer()
        assert [head.raw for head in reply.interim] == [
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
        ]
        assert reply.body == b"hello"
    await wire.send(request(b"GET", b"1.0"))
    reply = await wire.answer()
    assert (reply.interim, reply.body) == ((), b"hello"), "HTTP/1.0 knows no interim answers"


# --------------------------------------------------------------------------------------------------------------------- misuse


async def test_a_second_answer_is_a_defect_and_the_first_one_stands(start: Start) -> None:
    async def serve(incoming: Incoming) -> None:
        await hello(incoming)
        await incoming.answer(ok(b"again"))

    served = await start(serve)
    served.expected_failures = 1
    wire = await served.connect()
    await wire.send(request(b"GET", b"1.1", b"Connection: close"))
    assert (await wire.answer()).body == b"hello"
    assert await wire.until_eof() == b""


@pytest.mark.parametrize(
    "pieces", [(b"abcdef",), (b"abcde", b"f"), (b"abcd",), ()], ids=["longer", "one more", "shorter", "none"]
)
async def test_a_body_of_another_length_is_never_passed_off_as_whole(start: Start, pieces: tuple[bytes, ...]) -> None:
    served = await start(streaming(b"200 OK\r\nContent-Length: 5\r\n", Length(5), *pieces))
    served.expected_failures = 1
    wire = await served.connect()
    await wire.send(request())
    with pytest.raises(ConnectionResetError):
        await wire.until_eof()
    await served.empty()


async def test_writing_out_of_turn_is_a_defect(start: Start) -> None:
    async def write_first(incoming: Incoming) -> None:
        await incoming.write(b"abc")

    async def end_first(incoming: Incoming) -> None:
        await incoming.end()

    for serve in (write_first, end_first):
        served = await start(serve)
        served.expected_failures = 1
        wire = await served.connect()
        await wire.send(request())
        reply = await wire.answer()
        assert reply.status == 500
