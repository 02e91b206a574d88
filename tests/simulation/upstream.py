"""The modelled upstream: what `proxy.upstream.Upstream` is to the product, without a socket. The guard is asked where the real one
asks it, a process that dies or gives up leaves its half-done exchanges behind, and every effect is in the operation's ledger."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol

from idemproxy.http1.heads import AnswerHead, Framing, answer_framing, parse_answer
from idemproxy.idempotency.messages import Fields
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.outcome import AnswerBroken, Lost, NotSent, Outgoing, SentNoAnswer, Unsent
from idemproxy.proxy.upstream import PIECE
from tests.simulation.fates import Fate, Form, UpstreamFaults, draw
from tests.simulation.loop import Moment, Pace, ProcessLoop, World
from tests.simulation.operations import Effect, Op, Sending, answer_body
from tests.simulation.telling import Trace

PIECES: Final = 3
"""Of an answer that comes in pieces."""
FILLING: Final = b"x" * 400
"""What makes an answer large."""

_FIELD: Final = re.compile(rb"(?i)\r\n(authorization|idempotency-key|attempt): ([^\r]*)")

Outcome = NotSent | SentNoAnswer | Answering


class Observer(Protocol):
    """Who looks at what the upstream gets."""

    def sent(self, op: Op, sending: Sending, *, first: bool, guarded: bool) -> None: ...

    def executed(self, op: Op, effect: Effect) -> None: ...

    def over(self, op: Op, sending: Sending) -> None:
        """The process does not wait for an answer to it any more."""


class Service:
    """The one service behind all processes."""

    def __init__(
        self,
        world: World,
        trace: Trace,
        faults: UpstreamFaults,
        ops: dict[tuple[bytes, bytes], Op],
        observer: Observer,
        quiet_at: float,
    ) -> None:
        self.world = world
        self.trace = trace
        self.observer = observer
        self._faults = faults
        self._ops = ops
        self._quiet_at = quiet_at
        self._serial = 0

    def op(self, head: bytes) -> tuple[Op, int]:
        """Whose request it is, and the attempt's number."""
        fields = {name.lower(): value for name, value in _FIELD.findall(head)}
        return self._ops[fields[b"authorization"], fields[b"idempotency-key"]], int(fields.get(b"attempt", b"0"))

    def probed(self, head: bytes) -> Op:
        """Whose operation a probe asks for."""
        caller, key = dict(_FIELD.findall(head))[b"Authorization"], head.split(b" ", 2)[1].rpartition(b"/")[2]
        return self._ops[caller, key]

    def fate(self) -> Fate:
        return draw(self.world.chance, self._faults, self._quiet_at - self.world.now)

    def execute(self, op: Op, sending: Sending, body: bytes) -> Effect:
        self._serial += 1
        effect = Effect(self._serial, self.world.now, sending.incarnation, sending.attempt, body)
        op.effects.append(effect)
        self.trace.say("api", f"EFFECT of {op}", effect.serial)
        self.observer.executed(op, effect)
        return effect


class SimUpstream:
    """The upstream as one process has it."""

    def __init__(self, service: Service, loop: ProcessLoop, response: float) -> None:
        """`response`: seconds to wait for an answer's head."""
        self._service = service
        self._loop = loop
        self._response = response

    async def exchange(self, outgoing: Outgoing) -> Outcome:
        """As `proxy.upstream.Upstream.exchange`."""
        if self._loop.pace is Pace.BURIED:
            raise asyncio.CancelledError
        fate = self._service.fate()
        if outgoing.method == b"GET":
            return await self._probe(self._service.probed(outgoing.head), fate)
        op, attempt = self._service.op(outgoing.head)
        await self._pause(fate.connect, Moment.CONNECTED)
        if fate.unsent is not None:
            return NotSent(fate.unsent, "drawn")
        if outgoing.guard is not None and not outgoing.guard():
            return NotSent(Unsent.GUARD, "drawn")
        exchange = Exchange(self._service, self._loop, op, attempt, outgoing, fate, self._response)
        try:
            return await self._send(exchange, outgoing)
        except asyncio.CancelledError:
            exchange.abort()
            raise
        finally:
            exchange.over()

    def close(self) -> None:
        """As the real one."""

    async def _send(self, exchange: Exchange, outgoing: Outgoing) -> Outcome:
        assert outgoing.body is None or isinstance(outgoing.body, bytes)
        exchange.sent(first=True)
        if exchange.fate.interim:
            outgoing.interim(_head(103, Form.SMALL, 0))
        if outgoing.body is not None and len(outgoing.body) > PIECE:
            for _ in range(0, len(outgoing.body), PIECE):
                await self._pause(exchange.fate.gap)
                if exchange.outcome.done():
                    break
                if outgoing.guard is not None and not outgoing.guard():
                    exchange.abort()
                    return SentNoAnswer(Lost.GUARD, "drawn", False)
                exchange.sent(first=False)
        exchange.whole()
        return await exchange.outcome

    async def _probe(self, op: Op, fate: Fate) -> Outcome:
        await self._pause(fate.connect + min(fate.answer, self._response))
        if fate.unsent is not None:
            return NotSent(fate.unsent, "drawn")
        if fate.lost is not None:
            return SentNoAnswer(fate.lost, "drawn", False)
        status, body = 404, b"none"
        if op.effects:
            effect = op.effects[0]
            status, body = 200, answer_body(op, effect.body, effect.attempt, effect.serial)
        elif fate.status >= 500:
            status = fate.status
        self._service.trace.say(self._loop.name, f"probe of {op}", status)
        answering = SimAnswering(self._loop, _head(status, Form.SMALL, len(body)), lambda: None)
        answering.arrive(body)
        answering.arrive(None)
        return answering

    async def _pause(self, seconds: float, moment: Moment | None = None) -> None:
        over: asyncio.Future[None] = self._loop.create_future()
        self._service.world.deliver(seconds, self._loop, self._over, over, moment)
        await over

    def _over(self, pause: asyncio.Future[None], moment: Moment | None) -> None:
        if not pause.done():
            pause.set_result(None)
            if moment is not None:
                self._loop.reached(moment)


class Exchange:
    """A request on the wire, and what the upstream makes of it."""

    def __init__(
        self,
        service: Service,
        loop: ProcessLoop,
        op: Op,
        attempt: int,
        outgoing: Outgoing,
        fate: Fate,
        response: float,
    ) -> None:
        self.fate = fate
        self.outcome: asyncio.Future[Outcome] = loop.create_future()
        self._service = service
        self._world = service.world
        self._loop = loop
        self._op = op
        self._body = outgoing.body if isinstance(outgoing.body, bytes) else b""
        self._guarded = outgoing.guard is not None
        self._response = response
        self._sending = Sending(self._world.now, loop.name, attempt)
        self._gone = False
        self._effect: Effect | None = None

    def sent(self, *, first: bool) -> None:
        if first:
            self._service.trace.say(self._loop.name, f"SENDS {self._op}", f"attempt {self._sending.attempt}")
        self._service.observer.sent(self._op, self._sending, first=first, guarded=self._guarded)
        if first:
            self._op.sendings.append(self._sending)
            self._loop.reached(Moment.SENT)
            if self.fate.hasty:
                self._world.after(self.fate.answer, self._answer)
            if self.fate.early and self.fate.effect is not None:
                self._world.after(self.fate.effect, self._execute)

    def whole(self) -> None:
        """The last byte was sent."""
        fate = self.fate
        if fate.effect is not None and not fate.early:
            self._world.after(fate.effect, self._execute)
        if fate.answer > self._response:
            timeout = SentNoAnswer(Lost.TIMEOUT, "drawn", False)
            self._world.deliver(self._response, self._loop, self._give, timeout).timer = True
        elif not fate.hasty:
            self._world.after(fate.answer, self._answer)

    def abort(self) -> None:
        """The process drops the connection."""
        self._gone = True

    def over(self) -> None:
        self._service.observer.over(self._op, self._sending)

    def _execute(self) -> None:
        if self._effect is None and (self.fate.stubborn or not (self._gone or self._loop.pace is Pace.DEAD)):
            self._effect = self._service.execute(self._op, self._sending, self._body)

    def _answer(self) -> None:
        if self._gone:
            return
        fate, chance = self.fate, self._world.chance
        if fate.lost is not None:
            lost = SentNoAnswer(fate.lost, "drawn", fate.lost is Lost.UNREADABLE)
            self._world.deliver(0.0005, self._loop, self._give, lost)
            return
        if fate.effect is not None and self._effect is None:
            self._execute()
        serial = 0 if self._effect is None else self._effect.serial
        body = answer_body(self._op, self._body, self._sending.attempt, serial)
        form, pieces = fate.form, [body]
        if form is Form.LARGE:
            pieces = [body, FILLING]
        elif form is not Form.SMALL:
            pieces = [body[at : at + 20] for at in range(0, len(body), 20)][: PIECES - 1]
            pieces.append(body[20 * len(pieces) :])
        length = sum(map(len, pieces)) if chance.random() < 0.5 else None
        answering = SimAnswering(self._loop, _head(fate.status, form, length), self.abort)
        at = 0.0005
        self._world.deliver(at, self._loop, self._give, answering)
        if fate.cut is not None:
            pieces.pop()
        for piece in pieces:
            self._world.deliver(at, self._loop, answering.arrive, piece)
            at += fate.pause
        self._world.deliver(at, self._loop, answering.arrive, fate.cut)

    def _give(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
            self._loop.reached(Moment.ANSWERED)
            if isinstance(outcome, SentNoAnswer):
                self.abort()


class SimAnswering(Answering):
    """An answer as the product reads it, whose pieces come when the world says so."""

    def __init__(self, loop: ProcessLoop, head: AnswerHead, dropped: Callable[[], None]) -> None:
        self.head = head
        self.framing: Framing = answer_framing(head, b"POST")
        self.early = False
        self._loop = loop
        self._dropped: Callable[[], None] | None = dropped
        self._came: deque[bytes | Lost | None] = deque()
        self._waiting: asyncio.Future[None] | None = None

    @property
    def trailers(self) -> Fields:
        return ()

    def arrive(self, piece: bytes | Lost | None) -> None:
        """A piece; None is the end, and a Lost how it broke."""
        self._came.append(piece)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def take(self) -> bytes | None:
        return None

    async def piece(self) -> bytes | None:
        while not self._came:
            if self._dropped is None:
                raise AnswerBroken(Lost.CLOSED, "closed")
            self._waiting = self._loop.create_future()
            await self._waiting
        piece = self._came[0]
        if piece is None:
            self._dropped = None
            return None
        if isinstance(piece, Lost):
            self.close()
            raise AnswerBroken(piece, "drawn")
        self._came.popleft()
        return piece

    def close(self) -> None:
        if self._dropped is not None:
            self._dropped()
            self._dropped = None


_KINDS: Final = {Form.EVENTS: b"text/event-stream"}


@cache
def _head(status: int, form: Form, length: int | None) -> AnswerHead:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    kind = _KINDS.get(form, b"text/plain")
    return parse_answer(b"HTTP/1.1 %d Drawn\r\nContent-Type: %b\r\n%b\r\n\r\n" % (status, kind, framing))
