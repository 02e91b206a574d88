"""Timers and stalled clients, without a client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import pytest

from idemproxy.proxy.alarm import Alarm
from idemproxy.proxy.client_socket import ClientGone, ClientSocket
from tests.proxy.wire import eventually

SHORT = 0.02


async def test_an_alarm_rings_once_at_its_last_setting() -> None:
    loop = asyncio.get_running_loop()
    rung: list[float] = []
    alarm = Alarm(loop, lambda: rung.append(loop.time()))
    began = loop.time()
    for seconds in (SHORT * 3, SHORT, SHORT * 2, SHORT * 5):
        alarm.set(seconds)
    await eventually(lambda: rung)
    assert rung[0] >= began + SHORT * 5
    await asyncio.sleep(SHORT)
    assert len(rung) == 1
    alarm.set(SHORT)
    await eventually(lambda: len(rung) == 2)


async def test_an_alarm_that_is_off_does_not_ring() -> None:
    loop = asyncio.get_running_loop()
    rung: list[str] = []
    cleared, zero, stopped = (Alarm(loop, partial(rung.append, name)) for name in ("cleared", "zero", "stopped"))
    for alarm in (cleared, zero, stopped):
        alarm.set(SHORT)
    cleared.clear()
    zero.set(0)
    stopped.stop()
    last = Alarm(loop, lambda: rung.append("last"))
    last.set(SHORT * 3)
    await eventually(lambda: rung)
    assert rung == ["last"]
    cleared.set(SHORT)
    await eventually(lambda: rung == ["last", "cleared"])
    stopped.set(SHORT * 2)
    await eventually(lambda: rung == ["last", "cleared", "stopped"])


async def test_moving_an_alarm_later_sets_no_timer() -> None:
    """It is moved with every read."""
    loop = asyncio.get_running_loop()
    timers = 0

    class Counting:
        def time(self) -> float:
            return loop.time()

        def call_at(self, *_: object) -> None:
            nonlocal timers
            timers += 1

    alarm = Alarm(cast("asyncio.AbstractEventLoop", Counting()), lambda: None)
    for _ in range(1_000):
        alarm.set(60)
        alarm.clear()
    assert timers == 1


class Transport:
    """A transport whose client reads when the test says so."""

    unsent = 0
    closed = False

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.closed = True


def made(stall: float) -> tuple[ClientSocket, Transport, asyncio.Event]:
    transport, stalled = Transport(), asyncio.Event()
    loop = asyncio.get_running_loop()
    return (
        ClientSocket(cast("asyncio.Transport", transport), loop, lambda: None, stalled.set, stall),
        transport,
        stalled,
    )


async def test_a_client_that_reads_nothing_is_stalled() -> None:
    client, transport, stalled = made(SHORT)
    transport.unsent = 100_000
    client.fill()
    await eventually(stalled.is_set)
    client.set_lost()
    with pytest.raises(ClientGone):
        await client.drained()


async def test_a_client_that_reads_a_little_is_not_stalled_until_it_stops() -> None:
    client, transport, stalled = made(SHORT)
    transport.unsent = 5
    reads = 0

    def read() -> int:
        nonlocal reads
        reads += 1
        transport.unsent = max(1, transport.unsent - 1)
        return transport.unsent

    client.fill()
    transport.get_write_buffer_size = read  # type: ignore[method-assign]
    await eventually(stalled.is_set)
    assert reads > 4
    client.set_lost()


async def test_a_client_that_has_read_enough_is_not_stalled() -> None:
    """An answer may pause for as long as its upstream likes."""
    client, transport, stalled = made(SHORT)
    transport.unsent = 100_000
    client.fill()
    assert client.full
    client.free()
    await client.drained()
    await asyncio.sleep(SHORT * 3)
    assert not stalled.is_set()
    client.set_lost()


async def test_a_closed_connection_whose_end_is_not_read_is_stalled() -> None:
    client, transport, stalled = made(SHORT)
    transport.unsent = 10
    client.close()
    assert transport.closed
    await eventually(stalled.is_set)
    client.set_lost()
