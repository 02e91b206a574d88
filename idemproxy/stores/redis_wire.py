"""One connection to a Redis server: commands are written in order, replies are matched in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from enum import Enum
from itertools import chain
from typing import NamedTuple, cast

import hiredis

from idemproxy.errors import StoreAmbiguous, StoreUnavailable

Reply = bytes | int | None | list["Reply"]
"""What the server answers to a command that it did not refuse (RESP2)."""

Replied = Reply | hiredis.ReplyError

_GRACE = 0.02
"""Seconds for a loop that was itself held up to read what has come meanwhile, before a reply counts as missing."""

LEAST_RATE = 2**20
"""Bytes a second that a line is expected to carry."""

_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: what has not left the machine is thrown away when the socket is closed."""


def bulk(*arguments: bytes) -> bytes:
    """Arguments of a command, without its head."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def command(*arguments: bytes) -> bytes:
    """A whole command."""
    return b"*%d\r\n%b" % (len(arguments), bulk(*arguments))


class _Life(Enum):
    OPEN = "commands can be asked"
    RETIRED = "only replies are awaited"
    OVER = "nothing is awaited"


class _Asked(NamedTuple):
    command: bytes
    size: int
    deadline: float
    reply: asyncio.Future[Replied]


class Wire(asyncio.Protocol):
    """Commands that are asked in one turn of the loop are written at once. A reply that misses its deadline ends the connection,
    since none behind it can be matched: commands that were written fail with StoreAmbiguous, those that were not with
    StoreUnavailable. A caller that was cancelled leaves its place in the order, so that its reply goes to nobody else."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._written: deque[_Asked] = deque()
        self._queue: deque[_Asked] = deque()
        self._paused = False
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._backlog = 0
        self._why = f"{name} closed the connection"
        self._life = _Life.OPEN
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is closed."""

    @property
    def open(self) -> bool:
        """Whether commands can be asked. Once not, never again."""
        return self._life is _Life.OPEN

    # ----------------------------------------------------------------------------------------------------------------- asking

    def ask(self, command: bytes, limit: float, size: int = 0) -> asyncio.Future[Replied]:
        """The server's reply, within `limit` seconds. `size` is of a large command, and of its reply, in bytes: the time that they
        take at LEAST_RATE, with those that were asked before and are not answered yet, is allowed besides. Raises StoreUnavailable,
        StoreAmbiguous."""
        reply: asyncio.Future[Replied] = self._loop.create_future()
        if self._life is not _Life.OPEN:
            reply.set_exception(StoreUnavailable(self._why))
            return reply
        self._backlog += size
        deadline = self._loop.time() + limit + self._backlog / LEAST_RATE
        self._queue.append(_Asked(command, size, deadline, reply))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._timer is None or deadline < self._due_at:
            self._wake_at(deadline)
        return reply

    def _flush(self) -> None:
        self._flushing = False
        if self._paused or self._transport is None:
            return
        asked = [one for one in self._queue if not one.reply.done()]
        self._backlog -= sum(one.size for one in self._queue if one.reply.done())
        self._queue.clear()
        if asked:
            self._written.extend(asked)
            self._transport.write(b"".join([one.command for one in asked]) if len(asked) > 1 else asked[0].command)
        self._end_if_retired()

    # ------------------------------------------------------------------------------------------------------------- time limit

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due_at = self._loop.call_at(when, self._due), when

    def _earliest(self) -> _Asked | None:
        """The command whose deadline comes first: a small one may come before a large one that was asked earlier."""
        return min(chain(self._written, self._queue), key=lambda one: one.deadline, default=None)

    def _due(self) -> None:
        self._timer = None
        earliest = self._earliest()
        if earliest is None:
            return
        if earliest.deadline > self._loop.time():
            self._wake_at(earliest.deadline)
        else:
            # No command that is asked meanwhile puts it off.
            self._timer, self._due_at = self._loop.call_later(_GRACE, self._overdue, earliest), float("-inf")

    def _overdue(self, asked: _Asked) -> None:
        if self._earliest() is asked:
            self.drop(f"{self._name} did not answer in time")
        else:
            self._due()

    # ---------------------------------------------------------------------------------------------------------------- the end

    def drop(self, why: str) -> None:
        """End the connection now. Every command on it fails, with `why` as the message; those that have not left the machine yet are
        not sent any more, so that they are not applied later."""
        abandoned = bool(self._written)
        if self._life is not _Life.OVER:
            self._why = why
            self._fail()
        if self._transport is None or self.gone.done():
            return
        raw = self._transport.get_extra_info("socket")
        if abandoned and raw is not None:
            # Under TLS the socket may be closed a turn before this is told of it.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def retire(self) -> None:
        """No command is asked any more; the connection ends when the last reply is in."""
        if self._life is _Life.OPEN:
            self._life = _Life.RETIRED
            self._why = f"{self._name} is being connected to anew"
            self._end_if_retired()

    def _end_if_retired(self) -> None:
        if self._life is _Life.RETIRED and not self._written and not self._queue:
            self.drop(self._why)

    def _fail(self) -> None:
        self._life = _Life.OVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for one in self._written:
            if not one.reply.done():
                one.reply.set_exception(StoreAmbiguous(self._why))
        for one in self._queue:
            if not one.reply.done():
                one.reply.set_exception(StoreUnavailable(self._why))
        self._written.clear()
        self._queue.clear()

    async def close(self) -> None:
        """End the connection, and wait until the socket is closed."""
        self.drop("the store was closed")
        if self._transport is not None:
            await self.gone

    # ---------------------------------------------------------------------------------------------- asyncio.Protocol's methods

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._life is not _Life.OVER:
            self._why = f"the connection to {self._name} broke: {exc}"
        self._fail()
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not False:
                self.received(reply)
        except hiredis.ProtocolError:
            self.drop(f"{self._name} does not speak the Redis protocol")

    def received(self, reply: Replied) -> None:
        """A whole reply has come: it answers the oldest command."""
        if not self._written:
            self.drop(f"{self._name} sent a reply that nobody asked for")
            return
        asked = self._written.popleft()
        self._backlog -= asked.size
        if not asked.reply.done():
            asked.reply.set_result(reply)
        self._end_if_retired()
