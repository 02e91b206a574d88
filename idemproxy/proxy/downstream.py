"""A client's connection: its requests in order, one served at a time, and a polite end."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, Final, assert_never, cast

from idemproxy.http1.heads import MAX_HEAD, BadHead, parse_request, request_end, skip_empty_lines
from idemproxy.idempotency.messages import Answer
from idemproxy.proxy.client_socket import ClientSocket, Limits
from idemproxy.proxy.incoming import BadBody, BodyTooLarge, ClientGone, Incoming

__all__ = ["Connections", "Downstream", "Limits", "Refuse", "Serve"]

Refuse = Callable[[int, str], Answer]
"""Makes the answer that refuses a request below the rules, from a status and a detail."""

Serve = Callable[[Incoming], Coroutine[Any, Any, None]]
"""Answers one request."""

_HOPELESS: Final = re.compile(rb"(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""What no head can hold, so that there is no use in waiting for its end: a TLS greeting, lines that end with a bare LF."""


_GLANCE: Final = 0.05
"""Seconds that a connection which is about to be closed gets to read what the kernel has of it already."""


class Connections:
    """Those of one port, in `open`. While it drains, `grace` is the seconds in which a connection that waits for a request still gets
    one; None: it does not drain."""

    def __init__(self) -> None:
        self.open: set[Downstream] = set()
        self.grace: float | None = None


class _Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    SERVING = auto()
    LINGERING = auto()
    CLOSED = auto()


class Downstream(asyncio.Protocol):
    """One connection, plain or TLS, under any event loop. It is in `connections` from its beginning to its end. `failed` is told
    of exceptions that `serve` let out, which are defects."""

    __slots__ = (
        "_buffer",
        "_connections",
        "_eof",
        "_failed",
        "_incoming",
        "_limits",
        "_linger_until",
        "_loop",
        "_phase",
        "_refuse",
        "_searched",
        "_serve",
        "_socket",
        "_task",
    )

    _socket: ClientSocket

    def __init__(
        self,
        serve: Serve,
        refuse: Refuse,
        failed: Callable[[BaseException], None],
        limits: Limits,
        connections: Connections,
    ) -> None:
        self._serve = serve
        self._refuse = refuse
        self._failed = failed
        self._limits = limits
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._phase = _Phase.IDLE
        self._buffer = bytearray()
        self._searched = 0
        self._incoming: Incoming | None = None
        self._task: asyncio.Task[None] | None = None
        self._eof = False
        self._linger_until = 0.0

    # -------------------------------------------------------------------------------------------------------- the connection

    def begin_drain(self) -> None:
        """The port drains: an idle connection closes after the grace, a busy one after an answer that says so."""
        if self._phase is _Phase.IDLE:
            self._rest()

    def abort(self) -> None:
        """Break the connection, whatever is going on."""
        self._phase = _Phase.CLOSED
        self._socket.reset()
        if self._incoming is not None:
            self._incoming.lost()

    # --------------------------------------------------------------------------------------------- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        limits = self._limits
        self._socket = ClientSocket(
            cast("asyncio.Transport", transport), self._loop, self._late, self.abort, limits.body_idle
        )
        self._connections.open.add(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        match self._phase:
            case _Phase.IDLE | _Phase.HEAD:
                self._buffer += data
                self._next()
            case _Phase.SERVING:
                assert self._incoming is not None
                self._buffer += self._incoming.feed(data)
                self._hold_back(self._incoming)
            case _Phase.LINGERING:
                self._linger()
            case _Phase.CLOSED:
                pass
            case other:
                assert_never(other)

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A client that waits for an answer keeps its connection, but for TLS, where the end of one direction
        is the end of both."""
        self._eof = True
        match self._phase:
            case _Phase.IDLE | _Phase.HEAD | _Phase.LINGERING:
                self._close()
            case _Phase.SERVING:
                assert self._incoming is not None
                self._incoming.ended()
            case _Phase.CLOSED:
                pass
            case other:
                assert_never(other)
        return self._socket.half_closes

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._socket.fill()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._socket.free()

    def connection_lost(self, _: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._phase = _Phase.CLOSED
        self._connections.open.discard(self)
        self._socket.set_lost()
        if self._incoming is not None:
            self._incoming.lost()

    # ---------------------------------------------------------------------------------------------------------- its requests

    def _next(self) -> None:
        """Begin the next request, if its head is here."""
        buffer = self._buffer
        if buffer[:1] == b"\r":
            skip_empty_lines(buffer)
        end = request_end(buffer, self._searched)
        if end < 0 and len(buffer) <= MAX_HEAD:
            self._wait_for_head()
            return
        # Without an end the head is too large already: it is refused for that, as it would be whole.
        block = bytes(buffer if end < 0 else buffer[:end])
        del buffer[: len(block)]
        self._searched = 0
        try:
            head = parse_request(block)
        except BadHead as error:
            self._turn_away(error.status, error.detail)
            return
        self._phase = _Phase.SERVING
        incoming = self._incoming = Incoming(head, self._socket, self._limits, self._is_last, self._take_behind)
        if buffer and not incoming.body_came:
            more = bytes(buffer)
            buffer.clear()
            buffer += incoming.feed(more)
            if (fault := incoming.malformed) is not None:
                self._incoming = None
                self._turn_away(400, f"The request's body is malformed: {fault}.")
                return
        if buffer:
            self._hold_back(incoming)
        if self._eof:
            incoming.ended()
        self._task = self._loop.create_task(self._run(incoming))

    def _wait_for_head(self) -> None:
        buffer = self._buffer
        if self._eof:
            self._close()
        elif _HOPELESS.search(buffer, self._searched) is not None:
            self._turn_away(400, "The request's head holds a control character or a bare line feed.")
        elif buffer:
            self._searched = len(buffer)
            if self._phase is _Phase.IDLE:
                self._phase = _Phase.HEAD
                self._socket.alarm.set(self._limits.head_timeout)

    def _is_last(self) -> bool:
        """No request will follow the present one. Those that are here already are answered too."""
        return (self._connections.grace is not None or self._eof) and not self._buffer

    def _take_behind(self) -> bytes:
        """What came behind the present request, which is not a request: it switched protocols."""
        behind = bytes(self._buffer)
        self._buffer.clear()
        return behind

    def _hold_back(self, incoming: Incoming) -> None:
        """Further requests that wait for their turn hold the client back; a body that is unread does so itself."""
        if not incoming.body_came:
            return
        if len(self._buffer) > self._limits.buffer:
            self._socket.pause_reading()
        else:
            self._socket.resume_reading()

    async def _run(self, incoming: Incoming) -> None:
        try:
            await self._serve(incoming)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not incoming.gone:
                raise
        except BadBody as error:
            await self._say(incoming, 400, f"The request's body is malformed: {error}.")
        except BodyTooLarge:
            await self._say(incoming, 413, "The request's body is larger than is allowed here.")
        except Exception as error:  # whatever it is, one request ends with it and not the process
            self._failed(error)
            await self._say(incoming, 500, "The request met a defect of the proxy.")
        finally:
            self._served(incoming)

    async def _say(self, incoming: Incoming, status: int, detail: str) -> None:
        if not incoming.started:
            with contextlib.suppress(ClientGone):
                await incoming.answer(self._refuse(status, detail))

    def _served(self, incoming: Incoming) -> None:
        self._incoming = self._task = None
        if self._phase is not _Phase.SERVING:
            return
        if not incoming.answered:
            self._phase = _Phase.CLOSED
            incoming.abort()
        elif incoming.closes:
            unasked = self._buffer or not incoming.body_came or incoming.head.keep_alive
            self._end(still_sending=bool(unasked))
        else:
            self._phase = _Phase.IDLE
            self._rest()
            self._socket.resume_reading()
            if self._buffer:
                self._next()
            elif self._eof:
                self._close()

    def _rest(self) -> None:
        """Wait for the next request, for as long as it may take."""
        grace = self._connections.grace
        self._socket.alarm.set(self._limits.idle_timeout if grace is None else max(grace, _GLANCE))

    # --------------------------------------------------------------------------------------------------------------- its end

    def _late(self) -> None:
        """The alarm rang."""
        match self._phase:
            case _Phase.IDLE if self._socket.readable:
                # A request that is here already is answered, though the loop had no turn yet to see it.
                self._socket.alarm.set(_GLANCE)
            case _Phase.IDLE | _Phase.LINGERING:
                self._close()
            case _Phase.HEAD:
                self._turn_away(408, "The request's head did not come in time.")
            case _Phase.SERVING:
                assert self._incoming is not None
                self._late_body(self._incoming)
            case _Phase.CLOSED:
                pass
            case other:
                assert_never(other)

    def _late_body(self, incoming: Incoming) -> None:
        if not incoming.waiting:
            return
        self._turn_away(408, "The request's body did not come in time.")
        incoming.lost()

    def _turn_away(self, status: int, detail: str) -> None:
        """Refuse what came, in the proxy's own name, and end the connection."""
        answer = self._refuse(status, detail)
        self._socket.write(b"HTTP/1.1 %bConnection: close\r\n\r\n%b" % (answer.head, answer.body))
        self._end(still_sending=True)

    def _end(self, *, still_sending: bool) -> None:
        """End the connection after the last answer. A close while the client is sending would reset it, and the reset would take
        the answer with it (RFC 9112, section 9.6): so what it sends is read and dropped first."""
        self._buffer.clear()
        if self._eof or not still_sending:
            self._close()
            return
        self._phase = _Phase.LINGERING
        self._linger_until = self._loop.time() + self._limits.linger_total
        self._socket.shut_writing()
        self._socket.resume_reading()
        self._linger()

    def _linger(self) -> None:
        left = self._linger_until - self._loop.time()
        if left > 0:
            self._socket.alarm.set(min(self._limits.linger, left))
        else:
            self._close()

    def _close(self) -> None:
        self._phase = _Phase.CLOSED
        self._socket.alarm.clear()
        self._socket.close()
