"""Answers as they come from the upstream (FORWARDING.md, points 11 to 16)."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.http1.heads import AnswerHead
from idemproxy.proxy.outcome import AnswerBroken, Lost, Upgrade
from idemproxy.proxy.tunnel import Switched
from tests.proxy.scripted import Accepted, answering
from tests.proxy.upstream.asking import OK, Reach, Whole, get, gone, read

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, Whole(200, b"ok")),
        (b"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", Whole(299, b"")),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Whole(200, b"ok")),
        (b"HTTP/1.1 200 OK\nX: 1\n folded\nContent-Length: 2\n\nok", Whole(200, b"ok")),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Whole(200, b"abcde")),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Whole(204, b"")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Whole(304, b"")),
    ],
    ids=["length", "empty", "old", "repaired", "chunked", "204", "304"],
)
async def test_whole_answers(reach: Reach, answer: bytes, expected: Whole) -> None:
    hop = await reach(answering(answer))
    assert await hop.ask() == expected


@pytest.mark.parametrize("answer", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"], ids=["length", "chunked"])
async def test_an_answer_that_comes_byte_by_byte(reach: Reach, answer: bytes) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send_by_byte(answer)

    hop = await reach(script)
    assert await hop.ask() == Whole(200, b"ok")
    assert hop.idle == 1


async def test_a_body_that_came_with_its_head_is_there_without_a_turn_of_the_loop(reach: Reach) -> None:
    hop = await reach(answering(OK))
    got = await hop.answer(get())
    with pytest.raises(StopIteration) as first:
        got.piece().send(None)
    with pytest.raises(StopIteration) as second:
        got.piece().send(None)
    assert (first.value.value, second.value.value) == (b"ok", None)


async def test_head_has_no_body_and_its_length_is_no_bodys(reach: Reach) -> None:
    hop = await reach(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", OK))
    assert await hop.ask(get(head=b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")) == Whole(200, b"")
    assert await hop.ask() == Whole(200, b"ok")
    assert len(hop.server.connections) == 1


async def test_trailers(reach: Reach) -> None:
    hop = await reach(answering(CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n", OK))
    got = await hop.answer(get())
    assert await read(got) == Whole(200, b"ok")
    assert got.trailers == ((b"X-Sum", b"1"), (b"x-sum", b"2"))
    await hop.ask()
    assert len(hop.server.connections) == 1


async def test_a_close_ends_a_body_that_has_no_other_end(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send_in(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def")
        accepted.close()

    hop = await reach(script)
    assert await hop.ask() == Whole(200, b"abcdef")
    assert hop.idle == 0


async def test_a_half_close_ends_such_a_body_too(reach: Reach) -> None:
    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        accepted.half_close()

    hop = await reach(script)
    assert await hop.ask() == Whole(200, b"abc")
    await gone(hop)


async def test_interim_answers_are_given_as_they_come_and_are_not_the_answer(reach: Reach) -> None:
    seen: list[AnswerHead] = []
    told = asyncio.Event()

    def interim(head: AnswerHead) -> None:
        seen.append(head)
        told.set()

    async def script(accepted: Accepted) -> None:
        await accepted.request()
        await accepted.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await told.wait()
        await accepted.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)

    hop = await reach(script)
    assert await hop.ask(get(interim=interim)) == Whole(200, b"ok")
    assert [head.status for head in seen] == [100, 102, 103]
    assert seen[2].fields == ((b"Link", b"</a>"),)
    assert hop.idle == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 65_536 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    ],
    ids=["banner", "empty", "http2", "both", "lengths", "length", "coding", "101", "large", "endless"],
)
async def test_what_is_no_answer(reach: Reach, answer: bytes) -> None:
    hop = await reach(answering(answer))
    outcome = await hop.lost()
    assert (outcome.reason, outcome.answer_began) == (Lost.UNREADABLE, True)
    await gone(hop)
    assert hop.idle == 0


async def test_a_head_of_just_the_allowed_size(reach: Reach) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ", b"\r\n\r\n"
    hop = await reach(answering(start + b"a" * (65_536 - len(start) - len(end)) + end + b"ok"))
    assert await hop.ask() == Whole(200, b"ok")


async def test_a_switch_that_was_asked_for(reach: Reach) -> None:
    hop = await reach(answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nfirst"))
    outcome = await hop.exchange(get(upgrade=Upgrade.ASKED))
    assert isinstance(outcome, Switched)
    assert await outcome.piece() == b"first"
    outcome.close()
    await gone(hop)


@pytest.mark.parametrize("rest", [b"X\r\n\r\n", b"2\r\nokay\r\n", b"-1\r\n"], ids=["size", "longer", "sign"])
async def test_a_chunked_body_that_is_malformed(reach: Reach, rest: bytes) -> None:
    hop = await reach(answering(CHUNKED + b"3\r\nabc\r\n" + rest))
    got = await hop.answer(get())
    with pytest.raises(AnswerBroken) as broken:
        await read(got)
    assert broken.value.reason is Lost.UNREADABLE
    await gone(hop)
