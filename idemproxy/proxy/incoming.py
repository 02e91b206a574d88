"""One request on a client's connection: its body as it comes, and the one answer to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from idemproxy.errors import IdemproxyError
from idemproxy.http1.body import BadBody, BodyReader
from idemproxy.http1.heads import Chunked, Framing, Length, NoBody, RequestHead, UntilClose
from idemproxy.http1.writing import chunk, last_chunk
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.proxy.client_socket import ClientGone, ClientSocket, Limits

__all__ = ["BadBody", "BodyTooLarge", "ClientGone", "Incoming"]


class BodyTooLarge(IdemproxyError):
    """The request's body is larger than was asked for."""


class _Answer(Enum):
    """How far the answer is, and, while it is on its way, how its body is written."""

    NOT_BEGUN = auto()
    NO_BODY = auto()
    COUNTED = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    WHOLE = auto()
    CUT = auto()


class Incoming:
    """A request. Whoever serves it reads its body, if at all, before the answer begins: what is unread then is given up, and a
    client that is still sending its body is read and ignored, so that it gets to the answer (FORWARDING.md, point 8).

    `closes` is whether the connection ends with the answer, once that began."""

    __slots__ = (
        "_answer",
        "_arrived",
        "_behind",
        "_client_ended",
        "_fault",
        "_held",
        "_last",
        "_left",
        "_limits",
        "_on_gone",
        "_pending",
        "_pieces",
        "_reader",
        "_socket",
        "_switched",
        "_waiting",
        "body_came",
        "closes",
        "expecting",
        "gone",
        "head",
    )

    def __init__(
        self,
        head: RequestHead,
        socket: ClientSocket,
        limits: Limits,
        last: Callable[[], bool],
        behind: Callable[[], bytes],
    ) -> None:
        """`last` says whether no request will follow; `behind` takes what the client sent behind this one."""
        self.head = head
        self.gone = False
        self.closes = False
        self.expecting = head.expects_continue
        """The client waits for a 100 before it sends the body."""
        self._socket = socket
        self._limits = limits
        self._last = last
        self._behind = behind
        self._reader = None if isinstance(head.framing, NoBody) else BodyReader(head.framing)
        self.body_came = self._reader is None or self._reader.complete
        """Every byte of the body was received, be it read or not."""
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._fault: IdemproxyError | None = None
        self._arrived: asyncio.Event | None = None
        self._waiting = False
        self._switched = False
        self._client_ended = False
        self._on_gone: list[Callable[[], object]] = []
        self._answer = _Answer.NOT_BEGUN
        self._pending = b""
        self._left = 0

    @property
    def peer(self) -> str:
        """The client's IP address, or "" where it has none."""
        return self._socket.peer

    @property
    def certificate(self) -> bytes | None:
        """The client's verified TLS certificate (DER), where it showed one."""
        return self._socket.certificate

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call back, once, when the client is gone; at once where it is already. A client that only half-closes after its request
        is not gone: it waits for its answer."""
        if self.gone:
            callback()
        else:
            self._on_gone.append(callback)

    # -------------------------------------------------------------------------------------------------------------- its body

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge (before anything is read, where the length is declared), BadBody, ClientGone."""
        framing = self.head.framing
        if isinstance(framing, Length) and framing.octets > limit:
            raise BodyTooLarge(f"{framing.octets} bytes were declared, {limit} are allowed")
        pieces = []
        room = limit
        while (piece := await self.piece()) is not None:
            room -= len(piece)
            if room < 0:
                raise BodyTooLarge(f"more than {limit} bytes came")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unread(self, body: bytes) -> None:
        """Put a whole body back that was read: whoever asks next gets it."""
        if body:
            self._pieces.append(body)
            self._held += len(body)

    async def piece(self) -> bytes | None:
        """The body's next piece, None at its end. While nobody asks, the client is held back. Raises BadBody, ClientGone."""
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                if not self.body_came and self._held <= self._limits.buffer:
                    self._socket.resume_reading()
                return piece
            if self._fault is not None:
                raise self._fault
            if self.body_came:
                return None
            await self._more()

    @property
    def trailers(self) -> Fields:
        """The fields behind a chunked body, once it is whole."""
        return () if self._reader is None else self._reader.trailers

    def accept(self) -> None:
        """Send `100 Continue`, where the client waits for it."""
        self.interim(b"100 Continue\r\n")

    async def _more(self) -> None:
        if self._arrived is None:
            self._arrived = asyncio.Event()
        self._arrived.clear()
        self._waiting = not self._switched
        if self._waiting:
            self._socket.alarm.set(self._limits.body_idle)
        try:
            await self._arrived.wait()
        finally:
            self._waiting = False

    @property
    def malformed(self) -> BadBody | None:
        """What is wrong with the body that came so far."""
        return self._fault if isinstance(self._fault, BadBody) else None

    # ------------------------------------------------------------------------------------------------------------ its answer

    @property
    def started(self) -> bool:
        """A final answer was begun."""
        return self._answer is not _Answer.NOT_BEGUN

    @property
    def answered(self) -> bool:
        """The answer is whole."""
        return self._answer is _Answer.WHOLE

    def interim(self, head: bytes) -> None:
        """Send an interim answer: status, reason and field lines, each ended by CRLF. Not to HTTP/1.0, and a 100 only to a client that
        waits for it; a client that does not read misses it."""
        if self.gone or self.started or self.head.minor == 0 or self._socket.full:
            return
        if head.startswith(b"100"):
            if not self.expecting:
                return
            self.expecting = False
        self._socket.write(b"HTTP/1.1 %b\r\n" % head)

    async def answer(self, answer: Answer, extra: bytes = b"") -> None:
        """Send a whole answer in one write; `extra` are further field lines. Raises ClientGone."""
        how = self._begin(answer.head, None)
        lines = b"HTTP/1.1 %b%b%b" % (answer.head, extra, self._connection())
        self._answer = _Answer.WHOLE
        match how:
            case _Answer.NO_BODY:
                self._socket.write(lines + b"\r\n")
            case _Answer.CHUNKED:
                ending = last_chunk(answer.trailers)
                self._socket.write(b"%bTransfer-Encoding: chunked\r\n\r\n%b%b" % (lines, chunk(answer.body), ending))
            case _:
                self._socket.write(b"%b\r\n%b" % (lines, answer.body))
        await self._drained()

    async def begin(self, head: bytes, framing: Framing) -> None:
        """Send an answer's head: status, reason and field lines as in Answer.head. A body that is not Length goes out chunked, and
        until the close to HTTP/1.0. Raises ClientGone."""
        how = self._begin(head, framing)
        coding = b"Transfer-Encoding: chunked\r\n" if how is _Answer.CHUNKED else b""
        self._answer = how
        self._pending = b"HTTP/1.1 %b%b%b\r\n" % (head, self._connection(), coding)
        # The first piece is often there already: it shares a segment with the head, which otherwise leaves at the end of this turn.
        asyncio.get_running_loop().call_soon(self._flush)

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, waiting while the client is slow. Raises ClientGone, and ValueError past the declared length."""
        if self.gone:
            raise ClientGone
        match self._answer:
            case _Answer.CHUNKED:
                piece = chunk(piece)
            case _Answer.COUNTED:
                if len(piece) > self._left:
                    raise ValueError("the answer's body is longer than its Content-Length")
                self._left -= len(piece)
            case _Answer.UNTIL_CLOSE:
                pass
            case _Answer.NO_BODY:
                piece = b""
            case _Answer.NOT_BEGUN | _Answer.WHOLE | _Answer.CUT:
                raise RuntimeError("a piece of an answer that is not on its way")
            case other:
                assert_never(other)
        self._flush(piece)
        await self._drained()

    async def end(self, trailers: bytes = b"") -> None:
        """The answer is whole; `trailers` are field lines. Raises ClientGone, and ValueError where the declared length was not reached."""
        if self.gone:
            raise ClientGone
        if self._answer in (_Answer.NOT_BEGUN, _Answer.WHOLE, _Answer.CUT):
            raise RuntimeError("the end of an answer that is not on its way")
        if self._left:
            raise ValueError("the answer's body is shorter than its Content-Length")
        ending = last_chunk(trailers) if self._answer is _Answer.CHUNKED else b""
        self._answer = _Answer.WHOLE
        self._flush(ending)
        await self._drained()

    async def switch(self, head: bytes) -> None:
        """Answer 101 and give the connection to another protocol: from now on `piece` gives the client's bytes and None where it
        half-closes, and `write` sends bytes as they are. Raises ClientGone."""
        if self.gone:
            raise ClientGone
        if self.started or not self.body_came:
            raise RuntimeError("a switch after an answer began, or before the request was whole")
        self.closes = self._switched = True
        self._answer = _Answer.UNTIL_CLOSE
        self._socket.write(b"HTTP/1.1 %b\r\n" % head)
        self._reader = BodyReader(UntilClose())
        self.body_came = False
        self.feed(self._behind())
        if self._client_ended:
            self.ended()
        self._socket.resume_reading()
        await self._drained()

    def finish(self) -> None:
        """After a switch: nothing more will be written, the client may go on sending."""
        self._socket.shut_writing()

    def abort(self) -> None:
        """Break the connection: the answer will not be whole, and must not pass for whole. Nothing happens to one that is."""
        if self.answered:
            return
        self._answer = _Answer.CUT
        self._pending = b""
        self._on_gone.clear()
        self._socket.reset()
        self.lost()

    def _begin(self, head: bytes, framing: Framing | None) -> _Answer:
        """Settle how the body is written and whether the connection ends with it. Without `framing` the head tells."""
        if self.gone:
            raise ClientGone
        if self.started:
            raise RuntimeError("a second answer")
        self.expecting = False
        self.closes = not self.body_came or not self.head.keep_alive or self._last()
        self._give_up_body()
        match framing:
            case _ if self.head.method == b"HEAD" or head[:3] in (b"204", b"304"):
                return _Answer.NO_BODY
            case NoBody():
                return _Answer.NO_BODY
            case Length(octets):
                self._left = octets
                return _Answer.COUNTED
            case None if b"\r\ncontent-length:" in head.lower():
                return _Answer.COUNTED
            case Chunked() | UntilClose() | None:
                if self.head.minor:
                    return _Answer.CHUNKED
                self.closes = True
                return _Answer.UNTIL_CLOSE
            case other:
                assert_never(other)

    def _connection(self) -> bytes:
        if self.closes:
            return b"Connection: close\r\n"
        return b"" if self.head.minor else b"Connection: keep-alive\r\n"

    def _flush(self, more: bytes = b"") -> None:
        data = self._pending + more
        self._pending = b""
        if data:
            self._socket.write(data)

    async def _drained(self) -> None:
        if self._socket.full:
            await self._socket.drained()

    # ---------------------------------------------------------------------------------------- what the connection tells of it

    @property
    def waiting(self) -> bool:
        """Somebody waits for more of the body, and nothing came."""
        return self._waiting and self._arrived is not None and not self._arrived.is_set()

    def feed(self, data: bytes) -> bytes:
        """Bytes came. Gives those behind the body."""
        if self.body_came:
            return data
        if self._fault is not None:
            return b""
        reader = self._reader
        assert reader is not None
        self.expecting = False
        try:
            pieces = reader.feed(data)
        except BadBody as error:
            self._fail(error)
            return b""
        self._pieces.extend(pieces)
        self._held += sum(map(len, pieces))
        if reader.complete:
            self.body_came = True
            self._wake()
            return reader.rest
        if self._held > self._limits.buffer:
            self._socket.pause_reading()
        if pieces:
            self._wake()
        return b""

    def ended(self) -> None:
        """The client sends no more. Before the body's end that is the same as going away, but for an answer that is on its way."""
        self._client_ended = True
        if self._switched:
            assert self._reader is not None
            self._reader.end()
            self.body_came = True
            self._wake()
        elif not self.body_came and not self.started:
            self.lost()

    def lost(self) -> None:
        """The client is gone."""
        if self.gone:
            return
        self.gone = True
        if not self.body_came:
            self._fail(ClientGone("the connection ended before the body did"))
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()

    def _give_up_body(self) -> None:
        if self._pieces or not self.body_came:
            self._pieces.clear()
            self._held = 0
            self._fail(ClientGone("the answer began: the rest of the body is not to be had"))
            self._socket.resume_reading()

    def _fail(self, fault: IdemproxyError) -> None:
        self._fault = self._fault or fault
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
