"""Simulated clients: they send an operation, wait as long as they like, go away, and retry with the same key as stripe-python does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

from idemproxy.http1.heads import Framing, RequestHead, parse_request
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.proxy.incoming import ClientGone
from tests.simulation.loop import ProcessLoop, World
from tests.simulation.operations import Op
from tests.simulation.telling import Trace

PATH: Final = b"/v1/charges"
_SLUG: Final = re.compile(rb'"type": "urn:idemproxy:problem:([a-z-]+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as its client read it, whole."""

    status: int
    head: bytes
    body: bytes
    replayed: bool
    streamed: bool
    when: float
    loop: ProcessLoop

    @property
    def problem(self) -> str | None:
        """The slug, where the proxy answered in its own name."""
        found = _SLUG.search(self.body)
        return None if found is None else found[1].decode()


@dataclass(frozen=True, slots=True)
class Habits:
    """`patience`: seconds to wait for an answer before going away. `upload`: seconds that the body takes. `reading`: seconds that it
    takes to read a piece of a streamed answer."""

    tries: int = 3
    patience: float = 30.0
    backoff: float = 0.5
    upload: float = 0.0
    reading: float = 0.0


class Door(Protocol):
    """A process that accepts connections."""

    loop: ProcessLoop

    def accept(self, incoming: SimIncoming) -> bool:
        """False: the connection is refused."""

    def closed(self, incoming: SimIncoming) -> None:
        """The connection is over."""


class Judge(Protocol):
    """Who looks at what clients get."""

    def answered(self, client: Client, reply: Reply) -> None: ...


class Client:
    """One caller of an operation, with its retries."""

    def __init__(
        self,
        world: World,
        trace: Trace,
        judge: Judge,
        name: str,
        op: Op,
        body: bytes,
        habits: Habits,
        door: Callable[[], Door | None],
        until: float,
    ) -> None:
        """`door` chooses a process; after `until` the client begins no retry."""
        self.name = name
        self.op = op
        self.body = body
        self.habits = habits
        self.reply: Reply | None = None
        """The last one."""
        self._world = world
        self._trace = trace
        self._judge = judge
        self._door = door
        self._until = until
        self._tries = 0
        self._open: SimIncoming | None = None
        if body not in op.bodies:
            op.bodies.append(body)

    def send(self) -> None:
        self._tries += 1
        door = self._door()
        if door is None:
            self._again()
            return
        incoming = SimIncoming(self._world, self, door)
        self._trace.say(self.name, f"asks {door.loop.name} for {self.op}")
        self._open = incoming
        if not door.accept(incoming):
            self.broken(incoming)
            return
        self._world.after(self.habits.patience, self._give_up, incoming)

    def broken(self, incoming: SimIncoming) -> None:
        """The connection is refused, reset, or cut in the answer."""
        if self._open is incoming:
            self._trace.say(self.name, "connection broken")
            self._open = None
            self._again()

    def answered(self, incoming: SimIncoming, reply: Reply) -> None:
        self._trace.say(
            self.name, f"gets {reply.status}{' replayed' if reply.replayed else ''}", reply.problem or reply.body
        )
        if self._open is not incoming:
            return
        self._open = None
        self.reply = reply
        self._judge.answered(self, reply)
        hopeless = b"Stripe-Should-Retry: false" in reply.head
        if not hopeless and (reply.status >= 500 or reply.status in (409, 429)):
            self._again()

    def leave(self) -> None:
        """Go away, and perhaps come back."""
        if self._open is not None:
            self._give_up(self._open)

    def _give_up(self, incoming: SimIncoming) -> None:
        if self._open is incoming:
            self._trace.say(self.name, "goes away")
            self._open = None
            incoming.leave()
            self._again()

    def _again(self) -> None:
        if self._tries < self.habits.tries and self._world.now < self._until:
            pause = self.habits.backoff * (1 << (self._tries - 1)) * (0.5 + self._world.chance.random() / 2)
            self._world.after(pause, self.send)


class SimIncoming:
    """A request as the gateway has it: what `proxy.incoming.Incoming` is to it, without a socket."""

    def __init__(self, world: World, client: Client, door: Door) -> None:
        op = client.op
        self.client = client
        self.head: RequestHead = _head(op.caller, op.key, len(client.body))
        self.gone = False
        self.peer = "192.0.2.1"
        self.certificate: bytes | None = None
        self.trailers: Fields = ()
        self.body_came = True
        self.expecting = False
        self._world = world
        self._door = door
        self._loop = door.loop
        self._on_gone: list[Callable[[], object]] = []
        self._begun = b""
        self._pieces: list[bytes] = []

    def leave(self) -> None:
        """The client closes: the process learns it when it runs."""
        self._world.deliver(0.0005, self._loop, self.lost)

    def lost(self) -> None:
        if not self.gone:
            self.gone = True
            self._door.closed(self)
            callbacks, self._on_gone = self._on_gone, []
            for callback in callbacks:
                callback()

    # ------------------------------------------------------------------------------------------------- what the gateway asks for

    def on_gone(self, callback: Callable[[], object]) -> None:
        if self.gone:
            callback()
        else:
            self._on_gone.append(callback)

    def accept(self) -> None:
        """Nobody waits for a 100."""

    def interim(self, head: bytes) -> None:
        """Interim answers say nothing of the outcome."""

    async def body(self, limit: int) -> bytes:
        await self._pause(self.client.habits.upload)
        return self.client.body

    async def answer(self, answer: Answer, extra: bytes = b"") -> None:
        self._check()
        self._whole(
            Reply(answer.status, answer.head, answer.body, b"Replayed" in extra, False, self._world.now, self._loop)
        )

    async def begin(self, head: bytes, framing: Framing) -> None:
        self._check()
        self._begun = head

    async def write(self, piece: bytes) -> None:
        self._check()
        self._pieces.append(piece)
        await self._pause(self.client.habits.reading)

    async def end(self, trailers: bytes = b"") -> None:
        self._check()
        status, body = int(self._begun[:3]), b"".join(self._pieces)
        self._whole(Reply(status, self._begun, body, False, True, self._world.now, self._loop))

    def abort(self) -> None:
        if not self.gone:
            self._world.after(0.0005, self.client.broken, self)
            self._on_gone.clear()
            self.lost()

    def _whole(self, reply: Reply) -> None:
        self._on_gone.clear()
        self._door.closed(self)
        self.client.answered(self, reply)

    def _check(self) -> None:
        if self.gone:
            raise ClientGone

    async def _pause(self, seconds: float) -> None:
        if seconds:
            over = self._loop.create_future()
            self._world.deliver(seconds, self._loop, _pass, over)
            await over


def _pass(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@cache
def _head(caller: bytes, key: bytes, length: int) -> RequestHead:
    return parse_request(
        b"POST %b HTTP/1.1\r\nHost: api\r\nAuthorization: %b\r\nIdempotency-Key: %b\r\nContent-Type: text/plain\r\n"
        b"Content-Length: %d\r\n\r\n" % (PATH, caller, key, length)
    )
