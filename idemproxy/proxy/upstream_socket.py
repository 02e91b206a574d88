"""One connection to the upstream: bytes, flow control and one timer. It knows whether a byte was written."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from enum import Enum, auto
from typing import Final, cast

from idemproxy.proxy.alarm import Alarm

HIGH_WATER: Final = 65_536
_NOTHING: Final = 1
"""Bytes that a transport may hold and still call for more. It then writes at once, under uvloop too, and tells when all has left. (At 0,
those of TLS would pause with nothing held.)"""

_RESET: Final = struct.pack("ii", 1, 0)


class Ended(Enum):
    """How a connection came to its end."""

    NOT = auto()
    EOF = auto()
    RESET = auto()


class UpstreamSocket(asyncio.Protocol):
    """Collects what comes; one reader at a time waits for it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = Ended.NOT
        self.holder: object | None = None
        """The exchange that has it, and with it a place among the connections."""
        self.tls = False
        """What is unsent cannot be seen: it waits below the encryption."""
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._paused_reading = False
        self._resting = False
        self._poll: select.poll | None = None
        self._alarm = Alarm(asyncio.get_running_loop(), self._ring)
        self._late = False

    # ---------------------------------------------------------------------------------------------------- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_NOTHING)
        self.tls = transport.get_extra_info("ssl_object") is not None
        if (found := transport.get_extra_info("socket")) is not None:
            self._poll = select.poll()
            self._poll.register(found.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._resting:
            self.drop()
            return
        if len(self.received) > HIGH_WATER and not self._paused_reading:
            self._paused_reading = True
            self.transport.pause_reading()
        self.wake()

    def eof_received(self) -> bool:
        if self.ended is Ended.NOT:
            self.ended = Ended.EOF
        self.wake()
        # Whether it stays open for writing. Under TLS it cannot, and a warning would be logged.
        return not (self._resting or self.tls)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.ended is Ended.NOT:
            self.ended = Ended.EOF if exc is None else Ended.RESET
        self.wake()
        self._let_write()
        self._alarm.stop()

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._let_write()

    # ------------------------------------------------------------------------------------------------------------------- use

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "not connected"
        return self._transport

    @property
    def quiet(self) -> bool:
        """Nothing has come that nobody asked for: bytes or an end there mean that the upstream is done with this connection
        (FORWARDING.md, points 17 and 18)."""
        return not self.received and self.ended is Ended.NOT and not self.transport.is_closing()

    @property
    def usable(self) -> bool:
        """`quiet`, and nothing waits in the kernel either."""
        return self.quiet and not self.readable

    @property
    def readable(self) -> bool:
        """Bytes or an end wait in the kernel: the loop had no turn yet to see them."""
        return self._poll is not None and bool(self._poll.poll(0))

    @property
    def unsent(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    async def writable(self) -> None:
        """Wait until the upstream takes more, or the connection has ended."""
        while self._paused_writing and self.ended is not Ended.RESET and not self.transport.is_closing():
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def drained(self, within: float) -> None:
        """Wait until the upstream takes more, the connection has ended, or so many seconds are over."""
        loop = asyncio.get_running_loop()
        waiting = self._drained = loop.create_future()
        timer = loop.call_later(within, _let_go, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    def rest(self) -> None:
        """Nobody uses the connection until `work`: as soon as the upstream closes it or says anything, it ends by itself."""
        self._resting = True
        self._resume_reading()

    def work(self) -> None:
        """Somebody uses the connection."""
        self._resting = False

    def finish(self) -> None:
        """Nothing more will be written; the upstream may go on sending. TLS cannot: then the connection stays as it is."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    async def more(self, patience: float = 0) -> bool:
        """Wait until something more came, or the connection ended; False where neither was so within `patience` seconds (0: for ever). A
        wait that is cancelled loses nothing."""
        if len(self.received) <= HIGH_WATER:
            self._resume_reading()
        if self.ended is not Ended.NOT:
            return True
        self._late = False
        self._alarm.set(patience)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._alarm.clear()
        # What came in the very turn in which the time ran out is not thrown away.
        return not self._late or bool(self.received) or self.ended is not Ended.NOT

    def _ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._late = True
            self._waiter.set_result(None)

    def abort(self) -> None:
        """Break the connection: nothing more is sent, not even what the kernel still has."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.drop()

    def drop(self) -> None:
        """Give up a connection that has nothing left to send."""
        if self.ended is Ended.NOT:
            self.ended = Ended.RESET
        self.transport.abort()

    def wake(self) -> None:
        """Let whoever waits for more look again."""
        if self._waiter is not None:
            _let_go(self._waiter)

    def _let_write(self) -> None:
        if self._drained is not None:
            _let_go(self._drained)

    def _resume_reading(self) -> None:
        if self._paused_reading:
            self._paused_reading = False
            self.transport.resume_reading()


def _let_go(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
