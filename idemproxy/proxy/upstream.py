"""Exchanges with the upstream. The outcome's type says what may have happened: NotSent, SentNoAnswer, or an answer.

A byte counts as sent from the moment that it is handed to the transport. When an exchange has failed, its connection was aborted
before the outcome is given (DESIGN.md section 4, *Stop, then say*)."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from typing import Final

from aiohappyeyeballs import start_connection

from idemproxy.clocks import Clock, boottime
from idemproxy.errors import IdemproxyError
from idemproxy.http1.body import BadBody
from idemproxy.http1.heads import (
    MAX_HEAD,
    AnswerHead,
    BadHead,
    answer_end,
    answer_framing,
    parse_answer,
)
from idemproxy.idempotency.messages import values
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.outcome import (
    Lost,
    NotSent,
    Origin,
    Outgoing,
    Pieces,
    Reuse,
    SentNoAnswer,
    Unsent,
    Upgrade,
)
from idemproxy.proxy.pool import Limits, Pool
from idemproxy.proxy.tunnel import Switched
from idemproxy.proxy.upstream_socket import Ended, UpstreamSocket

__all__ = ["Answering", "Upstream"]

HAPPY_EYEBALLS: Final = 0.25
PIECE: Final = 16_384
"""Bytes of a body that are given to a transport at once. What it holds leaves without the guard being asked again, also after the process
was stopped for an hour: so it never holds a large body."""
WATCH: Final = 0.01
"""Seconds between two looks at the guard while the transport holds bytes."""
SWEEP: Final = 0.1
"""The least seconds between two looks for idle connections past their time."""


class _Guarded(Exception):
    """The guard said no."""


class Upstream:
    """The upstream and the connections to it."""

    def __init__(self, origin: Origin, limits: Limits, clock: Clock = boottime) -> None:
        self._origin = origin
        self._limits = limits
        self._pool: Pool[UpstreamSocket] = Pool(limits, UpstreamSocket.drop, clock)
        self._queue: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    async def exchange(self, outgoing: Outgoing) -> NotSent | SentNoAnswer | Answering | Switched:
        """Send a request and wait for its answer's head. Cancelled, it drops its connection. Raises BadBody where the body that was to
        be sent is malformed."""
        if not await self._admitted(outgoing.patience.connect):
            return NotSent(Unsent.BUSY, "every connection to the upstream is in use")
        connection: UpstreamSocket | NotSent | None = None
        try:
            connection = await self._connected(outgoing)
        finally:
            if not isinstance(connection, UpstreamSocket):
                self._leave()
        if isinstance(connection, NotSent):
            return connection
        connection.holder = exchange = _Exchange(self, connection, outgoing)
        if outgoing.guard is not None and not outgoing.guard():
            connection.drop()
            self._vacate(connection)
            return NotSent(Unsent.GUARD, "the lease may have lapsed before the first byte")
        kept = False
        try:
            outcome = await exchange.run()
            # These give their connection back themselves; an answer without a body has done so already.
            kept = isinstance(outcome, Answering | Switched)
            return outcome
        finally:
            # What has been given back may be another exchange's by now.
            if not kept and connection.holder is exchange:
                self.dropped(connection)

    def over(self, connection: UpstreamSocket, head: AnswerHead, *, early: bool) -> None:
        """An answer was read whole. `early`: the request was not sent whole."""
        if early:
            self.dropped(connection)
        elif head.keep_alive:
            self._keep(connection, _keep_alive_limit(head))
        else:
            connection.drop()
            self._vacate(connection)

    def dropped(self, connection: UpstreamSocket) -> None:
        """An exchange that ended badly, or whose answer will not be read to its end."""
        connection.abort()
        self._vacate(connection)

    def close(self) -> None:
        """Drop every idle connection, and from now on each one whose exchange is over."""
        self._pool.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _keep(self, connection: UpstreamSocket, limit: float | None) -> None:
        if connection.quiet:
            connection.rest()
            self._pool.keep(connection, limit)
            if self._sweeper is None:
                self._sweep()
        else:
            connection.drop()
        self._vacate(connection)

    def _sweep(self) -> None:
        """Those past their time go though nobody asks for them. One timer for all of them, armed while there are any."""
        after = self._pool.sweep()
        loop = asyncio.get_running_loop()
        self._sweeper = None if after is None else loop.call_later(max(after, SWEEP), self._sweep)

    def _vacate(self, connection: UpstreamSocket) -> None:
        """Its place is free, once."""
        if connection.holder is not None:
            connection.holder = None
            self._leave()

    async def _admitted(self, patience: float) -> bool:
        """Wait for a place among the connections, in order; False where too many wait, or none came free in time."""
        if not self._pool.full:
            self._pool.used += 1
            return True
        if len(self._queue) >= self._limits.queue:
            return False
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(patience or None):
                await place
        except TimeoutError:
            self._give_up(place)
            return False
        except asyncio.CancelledError:
            self._give_up(place)
            raise
        return True

    def _give_up(self, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            self._leave()
        elif place in self._queue:
            self._queue.remove(place)

    def _leave(self) -> None:
        """A place is free: the first who waits has it."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._pool.used -= 1

    async def _connected(self, outgoing: Outgoing) -> UpstreamSocket | NotSent:
        if outgoing.reuse is Reuse.POOLED:
            while (connection := self._pool.take()) is not None:
                if connection.usable:
                    connection.work()
                    return connection
                connection.drop()
        self._pool.make_room()
        try:
            async with asyncio.timeout(outgoing.patience.connect or None):
                connection = await self._connect()
        except TimeoutError:
            return NotSent(Unsent.TIMEOUT, "no connection in time")
        except ssl.SSLError as error:
            return NotSent(Unsent.TLS, f"TLS: {error.reason or 'failed'}")
        except OSError as error:
            return NotSent(Unsent.UNREACHABLE, error.strerror or "cannot be reached")
        except UnicodeError:
            return NotSent(Unsent.UNREACHABLE, "not a name that can be resolved")
        # Under TLS, what waits in the kernel may be the handshake's own: session tickets.
        if connection.quiet if connection.tls else connection.usable:
            return connection
        connection.drop()
        return NotSent(Unsent.UNREACHABLE, "the upstream closed the new connection at once")

    async def _connect(self) -> UpstreamSocket:
        loop, origin = asyncio.get_running_loop(), self._origin
        if origin.path is not None:
            _, connection = await loop.create_unix_connection(UpstreamSocket, origin.path)
            return connection
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        raw = await start_connection(found, happy_eyeballs_delay=HAPPY_EYEBALLS, interleave=1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            _, connection = await loop.create_connection(
                UpstreamSocket, sock=raw, ssl=origin.tls, server_hostname=origin.server_name
            )
        except BaseException:
            raw.close()
            raise
        return connection


class _Exchange:
    """One request on one connection, from its first byte to its answer's head."""

    def __init__(self, upstream: Upstream, connection: UpstreamSocket, outgoing: Outgoing) -> None:
        self._upstream = upstream
        self._connection = connection
        self._outgoing = outgoing
        self._answer_by: float | None = None
        self._written = False
        self._began = False

    async def run(self) -> SentNoAnswer | Answering | Switched:
        """The first bytes are written before anything is awaited: the guard was asked just now."""
        body, transport = self._outgoing.body, self._connection.transport
        sending: asyncio.Task[None] | None = None
        if body is None or (isinstance(body, bytes) and len(body) <= PIECE):
            transport.write(self._outgoing.head + (body or b""))
            self._written = True
            if self._connection.unsent:
                sending = asyncio.ensure_future(self._drain())
        else:
            transport.write(self._outgoing.head)
            sending = asyncio.ensure_future(self._send(_Cut(body).piece if isinstance(body, bytes) else body))
        if sending is not None:
            sending.add_done_callback(lambda _: self._connection.wake())
        try:
            return await self._answer(sending)
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    @property
    def _large_over_tls(self) -> bool:
        """A body of which some may stay behind unseen: its transport does not tell what is unsent."""
        body = self._outgoing.body
        return self._connection.tls and body is not None and not (isinstance(body, bytes) and len(body) <= PIECE)

    async def _drain(self) -> None:
        """Wait until the transport holds nothing: what it holds would leave unasked, so the guard watches it."""
        connection, idle, now = self._connection, self._outgoing.patience.idle, asyncio.get_running_loop().time
        left, since = connection.unsent, now()
        while left and connection.ended is Ended.NOT:
            self._check()
            await connection.drained(WATCH)
            before, left = left, connection.unsent
            if left < before:
                since = now()
            elif idle and now() - since >= idle:
                raise TimeoutError

    async def _send(self, take: Pieces) -> None:
        connection = self._connection
        while (piece := await take()) is not None:
            await self._drain()
            if connection.readable:
                # An answer that came is read before a write can fail and take it along. The second turn is asyncio's to read in.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if connection.ended is Ended.RESET or connection.transport.is_closing():
                return
            self._check()
            if piece:
                connection.transport.write(piece)
                if connection.tls:
                    await asyncio.sleep(0)
        self._written = True
        await self._drain()

    def _check(self) -> None:
        if self._outgoing.guard is not None and not self._outgoing.guard():
            self._connection.abort()
            raise _Guarded

    async def _answer(self, sending: asyncio.Task[None] | None) -> SentNoAnswer | Answering | Switched:
        connection, start = self._connection, 0
        while True:
            end = answer_end(connection.received, start)
            if end > MAX_HEAD or (end < 0 and len(connection.received) > MAX_HEAD):
                return self._lost(Lost.UNREADABLE, "the upstream's head is too large")
            if end >= 0:
                found = self._head(end)
                if found is not None:
                    return found
                start = 0
                continue
            start = len(connection.received)
            lost = await self._wait(sending)
            if lost is not None:
                return lost

    async def _wait(self, sending: asyncio.Task[None] | None) -> SentNoAnswer | None:
        """Until something more came, or the request is sent; the outcome, where nothing will come."""
        connection, patience = self._connection, self._outgoing.patience
        if sending is not None and sending.done() and (lost := self._unsent(sending)) is not None:
            return lost
        if connection.ended is not Ended.NOT:
            reset = connection.ended is Ended.RESET
            return self._lost(
                Lost.RESET if reset else Lost.CLOSED, "the upstream closed the connection without an answer"
            )
        if sending is not None and not sending.done():
            await connection.more()
            return None
        if not patience.response:
            await connection.more()
            return None
        now = asyncio.get_running_loop().time()
        if self._answer_by is None:
            self._answer_by = now + patience.response
        left = self._answer_by - now
        if left > 0 and await connection.more(left):
            return None
        return self._lost(Lost.TIMEOUT, "the upstream did not answer in time")

    def _unsent(self, sending: asyncio.Task[None]) -> SentNoAnswer | None:
        """The outcome, where the request could not be sent whole."""
        try:
            sending.result()
        except _Guarded:
            return self._lost(Lost.GUARD, "the lease may have lapsed while the request was sent")
        except TimeoutError:
            return self._lost(Lost.TIMEOUT, "the upstream stopped reading the request")
        except BadBody:
            # The client's fault, and not the upstream's: who asked for the exchange tells the client so.
            self._connection.abort()
            raise
        except (IdemproxyError, OSError):
            return self._lost(Lost.CLOSED, "the request's body broke")
        return None

    def _head(self, end: int) -> SentNoAnswer | Answering | Switched | None:
        """Read the head that came; None where it was an interim answer's."""
        connection = self._connection
        block = bytes(connection.received[:end])
        del connection.received[:end]
        self._began = True
        try:
            head = parse_answer(block)
            framing = answer_framing(head, self._outgoing.method)
        except BadHead as error:
            return self._lost(Lost.UNREADABLE, error.detail)
        if head.status == 101:
            if self._outgoing.upgrade is Upgrade.NEVER:
                return self._lost(Lost.UNREADABLE, "the upstream switched protocols unasked")
            return Switched(head, connection, self._upstream.dropped)
        if head.status < 200:
            self._outgoing.interim(head)
            return None
        early = not self._written or bool(connection.unsent) or self._large_over_tls
        return Answering(self._upstream, connection, head, framing, early, self._outgoing.patience.idle)

    def _lost(self, reason: Lost, detail: str) -> SentNoAnswer:
        self._connection.abort()
        return SentNoAnswer(reason, detail, self._began or bool(self._connection.received))


class _Cut:
    """A whole body, cut into pieces."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    async def piece(self) -> bytes | None:
        start, self._at = self._at, self._at + PIECE
        return self._body[start : self._at] or None


_LIMIT: Final = re.compile(rb"timeout[ \t]*=[ \t]*\"?(\d{1,6})", re.IGNORECASE)


def _keep_alive_limit(head: AnswerHead) -> float | None:
    """Seconds, of `Keep-Alive: timeout=` (RFC 2068, section 19.7.1)."""
    if b"keep-alive" not in head.names:
        return None
    for value in values(head.fields, b"keep-alive"):
        if (found := _LIMIT.search(value)) is not None:
            return float(found[1])
    return None
