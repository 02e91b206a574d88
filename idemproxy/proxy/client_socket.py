"""A client's transport: timers that cost little, flow control both ways, and the ways to end a connection."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idemproxy.errors import IdemproxyError
from idemproxy.proxy.alarm import Alarm

_RESET: Final = struct.pack("ii", 1, 0)


class ClientGone(IdemproxyError):
    """The client's connection was lost, or ended before its request did."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client's connection may cost. Times are in seconds, `buffer` is in bytes.

    `head_timeout` is for a whole head since its first byte, `idle_timeout` for the time between requests, `body_idle` for the time
    without any progress of a body that is waited for, or of an answer that is not read; 0 turns one of them off. Of a request's
    unread body, or of further requests that wait, about `buffer` bytes are taken before the client is held back. After a last
    answer a client that is still sending is read for `linger` seconds since its last byte, and `linger_total` seconds in all."""

    head_timeout: float = 10.0
    idle_timeout: float = 75.0
    body_idle: float = 60.0
    buffer: int = 65_536
    linger: float = 2.0
    linger_total: float = 30.0


class ClientSocket:
    """The connection as its requests see it. `alarm` is the connection's own; `stalled` is called when the client has read
    nothing for `stall` seconds although there is something to read."""

    __slots__ = (
        "_finishing",
        "_free",
        "_reading",
        "_stall",
        "_stall_alarm",
        "_stalled",
        "_transport",
        "_unsent",
        "alarm",
        "certificate",
        "lost",
        "peer",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        ring: Callable[[], None],
        stalled: Callable[[], None],
        stall: float,
    ) -> None:
        self._transport = transport
        self.alarm = Alarm(loop, ring)
        self.lost = False
        peer = transport.get_extra_info("peername")
        self.peer: str = peer[0] if isinstance(peer, tuple) else ""
        tls = transport.get_extra_info("ssl_object")
        self.certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
        """The certificate that the client showed (DER), and the listener verified."""
        self._stall = stall
        self._stalled = stalled
        self._stall_alarm = Alarm(loop, self._look)
        self._unsent = 0
        self._finishing = False
        self._reading = True
        self._free = asyncio.Event()
        self._free.set()

    # --------------------------------------------------------------------------------------------------------------- writing

    def write(self, data: bytes) -> None:
        """Send, or keep what the client does not take now."""
        if not self.lost:
            self._transport.write(data)

    @property
    def full(self) -> bool:
        """The client takes less than it is given: the next writer waits."""
        return not self._free.is_set()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel did not take yet."""
        return 0 if self.lost else self._transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Wait while `full`. Raises ClientGone."""
        await self._free.wait()
        if self.lost:
            raise ClientGone

    def fill(self) -> None:
        """The transport has more than enough to send."""
        self._free.clear()
        self._watch()

    def free(self) -> None:
        """The transport takes more again."""
        self._free.set()

    def _watch(self) -> None:
        self._unsent = self.unsent
        self._stall_alarm.set(self._stall)

    def _look(self) -> None:
        if not (self.full or self._finishing):
            return
        before = self._unsent
        if self.unsent and self.unsent >= before:
            self._stalled()
        elif self.unsent:
            self._watch()

    # --------------------------------------------------------------------------------------------------------------- reading

    @property
    def readable(self) -> bool:
        """Bytes or an end wait in the kernel."""
        if self.lost or (raw := self._transport.get_extra_info("socket")) is None:
            return False
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    @property
    def reading(self) -> bool:
        """The client may send."""
        return self._reading

    def pause_reading(self) -> None:
        """Hold the client back."""
        if self._reading and not self.lost and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the client send again."""
        if not self._reading and not self.lost and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # ---------------------------------------------------------------------------------------------------------------- ending

    @property
    def half_closes(self) -> bool:
        """Each direction ends for itself: not so under TLS, where asyncio ends both."""
        return self._transport.can_write_eof()

    def shut_writing(self) -> None:
        """Tell the client that nothing follows what was written, where the transport can."""
        self._finishing = True
        self._watch()
        if self.half_closes and not self.lost and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Close, once everything was sent. A client that is still sending would get a reset."""
        self._finishing = True
        self._watch()
        self._transport.close()

    def reset(self) -> None:
        """Break the connection, so that its client cannot take what it got for whole (a unix socket, which knows no reset, is
        closed)."""
        if not self.lost:
            if (raw := self._transport.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def set_lost(self) -> None:
        """The transport is no more."""
        self.lost = True
        self.alarm.stop()
        self._stall_alarm.stop()
        self._free.set()
