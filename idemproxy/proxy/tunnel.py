"""After a 101: bytes both ways (RFC 9110, section 7.8), with backpressure, half-close, and an end where both fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from idemproxy.errors import IdemproxyError
from idemproxy.http1.heads import AnswerHead
from idemproxy.proxy.incoming import ClientGone, Incoming
from idemproxy.proxy.upstream_socket import Ended, UpstreamSocket


class UpstreamGone(IdemproxyError):
    """The upstream broke a tunnel."""


class Switched:
    """An exchange that ended in another protocol, as its upstream's side. `head` is the 101's."""

    def __init__(self, head: AnswerHead, connection: UpstreamSocket, dropped: Callable[[UpstreamSocket], None]) -> None:
        self.head = head
        self._connection: UpstreamSocket | None = connection
        self._dropped = dropped

    async def piece(self) -> bytes | None:
        """The upstream's next bytes, None where it half-closes. Raises UpstreamGone."""
        connection = self._open
        while not connection.received:
            if connection.ended is Ended.EOF:
                return None
            if connection.ended is Ended.RESET:
                raise UpstreamGone("the upstream reset the tunnel")
            await connection.more()
        data = bytes(connection.received)
        connection.received.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the upstream is slow. Raises UpstreamGone."""
        connection = self._open
        if connection.ended is Ended.RESET or connection.transport.is_closing():
            raise UpstreamGone("the upstream closed the tunnel")
        connection.transport.write(data)
        await connection.writable()

    def finish(self) -> None:
        """Nothing more will be written."""
        self._open.finish()

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._dropped(connection)

    @property
    def _open(self) -> UpstreamSocket:
        if self._connection is None:
            raise UpstreamGone("the tunnel was closed")
        return self._connection


async def carry(incoming: Incoming, switched: Switched, idle: float) -> None:
    """Carry bytes until both sides have closed, one breaks, or neither sends for `idle` seconds (0: for ever)."""
    loop = asyncio.get_running_loop()
    ways: list[asyncio.Task[None]] = []
    whole = False
    try:
        async with asyncio.timeout(idle or None) as limit:

            def moved() -> None:
                if idle:
                    limit.reschedule(loop.time() + idle)

            ways += [
                asyncio.create_task(_up(incoming, switched, moved)),
                asyncio.create_task(_down(incoming, switched, moved)),
            ]
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            whole = all(way.exception() is None for way in done)
    except TimeoutError:
        pass
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        switched.close()
    if whole:
        await incoming.end()
    else:
        incoming.abort()


async def _up(incoming: Incoming, switched: Switched, moved: Callable[[], None]) -> None:
    try:
        while (data := await incoming.piece()) is not None:
            moved()
            await switched.write(data)
        switched.finish()
    except ClientGone:
        switched.close()
        raise


async def _down(incoming: Incoming, switched: Switched, moved: Callable[[], None]) -> None:
    while (data := await switched.piece()) is not None:
        moved()
        await incoming.write(data)
    incoming.finish()
