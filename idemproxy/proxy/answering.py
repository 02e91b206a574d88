"""An answer of the upstream, from its head to the end of its body."""

from __future__ import annotations

from typing import Protocol

from idemproxy.http1.body import AnswerBodyReader, BadBody, CutShort
from idemproxy.http1.heads import AnswerHead, Framing
from idemproxy.idempotency.messages import Fields
from idemproxy.proxy.outcome import AnswerBroken, Lost
from idemproxy.proxy.upstream_socket import Ended, UpstreamSocket


class Home(Protocol):
    """Where connections come from."""

    def over(self, connection: UpstreamSocket, head: AnswerHead, *, early: bool) -> None:
        """An answer was read whole. `early`: the request was not sent whole."""

    def dropped(self, connection: UpstreamSocket) -> None:
        """An answer will not be read to its end."""


class Answering:
    """An answer whose head came. `early`: before the request was sent whole. It has its connection until the body is whole, or until it
    is closed, and then gives it back to `home`."""

    def __init__(
        self,
        home: Home,
        connection: UpstreamSocket,
        head: AnswerHead,
        framing: Framing,
        early: bool,
        idle: float,
    ) -> None:
        self.head = head
        self.framing = framing
        self.early = early
        self._home = home
        self._connection: UpstreamSocket | None = connection
        self._idle = idle
        self._reader = AnswerBodyReader(framing)
        self._pieces: list[bytes] = []
        self._over()

    @property
    def trailers(self) -> Fields:
        """The trailers, once the body is whole."""
        return self._reader.trailers

    async def piece(self) -> bytes | None:
        """The next piece of the body, None when it is whole. A call that is cancelled loses nothing. Raises AnswerBroken."""
        while not self._pieces:
            if self._reader.complete:
                return None
            await self._read()
        return self._pieces.pop(0)

    def take(self) -> bytes | None:
        """The body, where it is whole already; None: `piece` gives it. Raises AnswerBroken."""
        if self._connection is not None and self._connection.received:
            self._feed(self._connection)
        if not self._reader.complete:
            return None
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return body

    def close(self) -> None:
        """Drop what is left of the exchange."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._home.dropped(connection)

    async def _read(self) -> None:
        connection = self._connection
        if connection is None:
            raise AnswerBroken(Lost.CLOSED, "the exchange was closed")
        if not connection.received:
            if connection.ended is not Ended.NOT:
                self._at_end(connection)
                return
            if not await connection.more(self._idle):
                self.close()
                raise AnswerBroken(Lost.TIMEOUT, "the upstream fell silent in its answer")
            return
        self._feed(connection)

    def _feed(self, connection: UpstreamSocket) -> None:
        data = bytes(connection.received)
        connection.received.clear()
        try:
            self._pieces += self._reader.feed(data)
        except BadBody as error:
            self.close()
            raise AnswerBroken(Lost.UNREADABLE, str(error)) from None
        self._over()

    def _at_end(self, connection: UpstreamSocket) -> None:
        try:
            if connection.ended is Ended.RESET:
                raise CutShort("the upstream reset the connection in its answer")
            self._reader.end()
        except CutShort as error:
            self.close()
            raise AnswerBroken(Lost.RESET if connection.ended is Ended.RESET else Lost.CLOSED, str(error)) from None
        self.close()

    def _over(self) -> None:
        """The connection goes back before the last piece is given, so that the next request may use it."""
        connection = self._connection
        if connection is None or not self._reader.complete:
            return
        if self._reader.rest:
            self.close()
            return
        self._connection = None
        self._home.over(connection, self.head, early=self.early)
