"""A streamed answer between its owner and its client."""

from __future__ import annotations

import asyncio

import pytest

from idemproxy.tee import BUFFERED, Broken, Tee


async def read(tee: Tee) -> list[bytes]:
    pieces = []
    while (piece := await tee.get()) is not None:
        pieces.append(piece)
    return pieces


async def test_the_end_is_held_back_until_it_is_let_go() -> None:
    tee = Tee()
    reading = asyncio.ensure_future(read(tee))
    await tee.put(b"a", 0)
    await tee.put(b"b", 0)
    tee.finish(b"X: 1\r\n")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()
    tee.let_go()
    assert await reading == [b"a", b"b"]
    assert tee.trailers == b"X: 1\r\n"


async def test_the_piece_that_makes_a_body_whole_is_held_back_too() -> None:
    tee = Tee()
    await tee.put(b"a", 0)
    tee.hold(b"b")
    tee.finish(b"")
    assert await tee.get() == b"a"
    reading = asyncio.ensure_future(read(tee))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()
    tee.let_go()
    assert await reading == [b"b"]


async def test_a_cut_is_seen_after_what_came_before_it() -> None:
    tee = Tee([b"a"])
    tee.cut()
    assert await tee.get() == b"a"
    with pytest.raises(Broken):
        await tee.get()


async def test_a_slow_reader_holds_the_writer_back() -> None:
    tee = Tee()
    writing = asyncio.ensure_future(tee.put(bytes(BUFFERED + 1), 0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not writing.done()
    await tee.get()
    async with asyncio.timeout(20):
        await writing


async def test_a_reader_that_is_too_slow_is_left_behind() -> None:
    tee = Tee()
    await tee.put(bytes(BUFFERED + 1), 0.01)
    async with asyncio.timeout(20):
        await tee.put(bytes(BUFFERED + 1), 0)
    with pytest.raises(Broken):
        await tee.get()


async def test_a_reader_that_left_costs_nothing() -> None:
    tee = Tee()
    writing = asyncio.ensure_future(tee.put(bytes(BUFFERED + 1), 0))
    await asyncio.sleep(0)
    tee.leave()
    async with asyncio.timeout(20):
        await writing
        for _ in range(10):
            await tee.put(bytes(BUFFERED), 0)
