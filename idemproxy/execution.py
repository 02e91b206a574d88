"""One execution of an operation: the forward that a won claim allows, and what its end means for the record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Self, assert_never

import msgspec

from idemproxy.forwarding import Forwarding, answer_head, request_head, trailer_lines, unreachable, whole_body
from idemproxy.http1.heads import AnswerHead, Chunked, Framing, Length, NoBody, RequestHead, UntilClose
from idemproxy.idempotency.messages import Answer, Fields, values
from idemproxy.idempotency.operation import Free, LeaveUnknown, Transition, answered, broken, lost
from idemproxy.idempotency.problems import Problem
from idemproxy.idempotency.record import Reason, Tombstone
from idemproxy.idempotency.routes import Rule, own_fields
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.outcome import AnswerBroken, Lost, NotSent, Outgoing, Reuse, SentNoAnswer
from idemproxy.proxy.tunnel import Switched
from idemproxy.tee import Tee

SOON: Final = 0.25
"""Seconds after its head in which an answer's body must be whole to be recorded before it is sent; past that it is streamed."""


class Operation(msgspec.Struct, frozen=True):
    """A request that a rule protects: read whole and identified."""

    record_id: str
    fingerprint: bytes
    recipe: str
    rule: Rule
    head: RequestHead
    peer: str
    body: bytes
    trailers: Fields
    interim: Callable[[AnswerHead], None]
    credential: str = ""
    """Names what its caller showed, under a rule with `reauthorize`."""

    def __repr__(self) -> str:
        """Without what its client sent."""
        return f"Operation(record_id={self.record_id!r}, rule={self.rule.name!r})"


class Answered(msgspec.Struct, frozen=True):
    """The upstream's answer, whole."""

    answer: Answer
    state: str


class Streaming(msgspec.Struct, frozen=True):
    """The upstream's answer as it comes: `head` as in Answer.head."""

    status: int
    head: bytes
    framing: Framing
    tee: Tee


class Failed(msgspec.Struct, frozen=True):
    """The upstream gave no answer that could be used: what the client gets instead, and the state it leaves."""

    problem: Problem
    state: str

    @classmethod
    def lost(cls, reason: Reason, rule: Rule) -> Self:
        """The request was sent, in part or whole."""
        return cls(lost(reason, rule), "unknown")


Delivery = Answered | Streaming | Failed


class End(msgspec.Struct, frozen=True):
    """How a forward ended: what the record becomes, and what the client gets. `status` is the upstream's, None where no head came."""

    transition: Transition
    delivery: Delivery
    status: int | None = None


class Forward(msgspec.Struct, frozen=True):
    """Leave to send an operation, as the attempt of that number. `guard` is asked before each byte; `give` hands the client
    an answer that is to be seen before it is whole."""

    operation: Operation
    attempt: int
    guard: Callable[[], bool]
    give: Callable[[Streaming], None]


class Execution:
    """Sends operations to the upstream."""

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    async def carry_out(self, forward: Forward) -> End:
        """Send the operation and read its answer: what the record becomes, and what the client gets. When this returns, the
        upstream connection sends nothing more (DESIGN.md section 4, *Stop, then say*)."""
        rule = forward.operation.rule
        match await self._forwarding.upstream.exchange(self._outgoing(forward)):
            case NotSent(reason=reason):
                return End(Free(), Failed(unreachable(rule.retry_after, reason), "released"))
            case SentNoAnswer(reason=lost_by):
                return self._lost(REASONS[lost_by], rule)
            case Switched() as switched:
                switched.close()
                return self._lost(Reason.UNREADABLE, rule)
            case Answering() as answering:
                try:
                    return await self._read(answering, forward)
                finally:
                    answering.close()
            case other:
                assert_never(other)

    def _outgoing(self, forward: Forward) -> Outgoing:
        operation = forward.operation
        rule = operation.rule
        drop: frozenset[bytes] = frozenset({b"expect"})
        add: Fields = ()
        if (name := rule.attempt_header) is not None:
            drop, add = drop | {name.lower()}, ((name, b"%d" % forward.attempt),)
        trailers = trailer_lines(operation.trailers, own_fields(rule)) if operation.trailers else b""
        return Outgoing(
            head=request_head(operation.head, operation.peer, self._forwarding.hop, drop=drop, add=add),
            method=operation.head.method,
            body=whole_body(operation.head, operation.body, trailers),
            patience=self._forwarding.patience,
            guard=forward.guard,
            reuse=Reuse.FRESH if rule.fresh_connection else Reuse.POOLED,
            interim=operation.interim,
        )

    async def _read(self, answering: Answering, forward: Forward) -> End:
        """A small answer is read whole before its client sees any of it; a larger or streamed one is teed."""
        rule = forward.operation.rule
        head, status = answer_head(answering.head), answering.head.status
        pieces: list[bytes] = []
        whole = False
        if not _streamed(answering, rule):
            try:
                whole = await _collect(answering, pieces, rule.max_response_body)
            except AnswerBroken as error:
                return self._cut(status, head, pieces, answering, error.reason, rule)
        if whole:
            return self._whole(Answer(status, head, b"".join(pieces), trailer_lines(answering.trailers)), rule)
        tee = Tee()
        forward.give(Streaming(status, head, answering.framing, tee))
        return await self._tee(answering, forward, tee, pieces)

    async def _tee(self, answering: Answering, forward: Forward, tee: Tee, pieces: list[bytes]) -> End:
        rule, status, head = forward.operation.rule, answering.head.status, answer_head(answering.head)
        delivery = Streaming(status, head, answering.framing, tee)
        patience = self._forwarding.patience.idle
        kept = _Kept(rule.max_response_body)
        whole = answering.framing.octets if isinstance(answering.framing, Length) else None
        try:
            for piece in pieces:
                kept.add(piece)
                await tee.put(piece, patience)
            while (more := await answering.piece()) is not None:
                kept.add(more)
                if kept.size == whole:
                    tee.hold(more)
                else:
                    await tee.put(more, patience)
        except AnswerBroken as error:
            tee.cut()
            return End(broken(status, CUT[error.reason], rule), delivery, status)
        except BaseException:
            tee.cut()
            raise
        trailers = trailer_lines(answering.trailers)
        tee.finish(trailers)
        body = kept.body()
        answer = Tombstone(status) if body is None else Answer(status, head, body, trailers)
        return End(answered(answer, rule), delivery, status)

    def _whole(self, answer: Answer, rule: Rule) -> End:
        transition = answered(answer, rule)
        return End(transition, Answered(answer, _state(transition, answer.status)), answer.status)

    def _cut(
        self, status: int, head: bytes, pieces: list[bytes], answering: Answering, reason: Lost, rule: Rule
    ) -> End:
        """An answer that broke before its client saw any of it. One that by its meaning was not executed still tells its status."""
        transition = broken(status, CUT[reason], rule)
        if isinstance(transition, LeaveUnknown):
            return End(transition, Failed.lost(transition.reason, rule), status)
        tee = Tee(pieces)
        tee.cut()
        return End(transition, Streaming(status, head, answering.framing, tee), status)

    def _lost(self, reason: Reason, rule: Rule) -> End:
        return End(LeaveUnknown(reason), Failed.lost(reason, rule))


def asked_pause(delivery: Delivery) -> int | None:
    """Milliseconds that an answer asks to wait before the next attempt (Retry-After: RFC 9110, section 10.2.3). A date is counted from
    the answer's own Date, so that nobody's clock has to be right."""
    match delivery:
        case Answered(Answer(head=head)) | Streaming(head=head):
            lines = [line.partition(b":") for line in head.split(b"\r\n")]
            said = {name.lower(): value.strip() for name, _, value in lines}
        case Failed():
            return None
        case other:
            assert_never(other)
    asked = said.get(b"retry-after", b"")
    if asked.isdigit():
        return int(asked[:9]) * 1000
    until, since = _date(asked), _date(said.get(b"date", b""))
    return None if until is None or since is None else max(0, round((until - since).total_seconds() * 1000))


def _date(value: bytes) -> datetime | None:
    try:
        found = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


class _Kept:
    """What is kept of a teed body: all of it, or nothing past `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._room = limit

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._room -= len(piece)
        if self._room < 0:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def body(self) -> bytes | None:
        return None if self._room < 0 else b"".join(self._pieces)


async def _collect(answering: Answering, pieces: list[bytes], limit: int) -> bool:
    """Read the body into `pieces`; False where it is not whole soon, or larger than `limit`."""
    if (body := answering.take()) is not None:
        pieces.append(body)
        return len(body) <= limit
    size = 0
    try:
        async with asyncio.timeout(SOON):
            while (piece := await answering.piece()) is not None:
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    return False
    except TimeoutError:
        return False
    return True


def _streamed(answering: Answering, rule: Rule) -> bool:
    """DESIGN.md section 4, *Streamed*."""
    match answering.framing:
        case NoBody():
            return False
        case Length(octets) if octets > rule.max_response_body:
            return True
        case Length() | Chunked() | UntilClose():
            pass
        case other:
            assert_never(other)
    fields, names = answering.head.fields, answering.head.names
    if b"x-accel-buffering" in names and any(value.lower() == b"no" for value in values(fields, b"x-accel-buffering")):
        return True
    if b"content-type" not in names:
        return False
    kinds = [value.partition(b";")[0].strip().lower() for value in values(fields, b"content-type")]
    return any(kind in _STREAMS for kind in kinds)


_STREAMS: Final = frozenset(
    {
        b"text/event-stream",
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/json-seq",
    }
)


def _state(transition: Transition, status: int) -> str:
    match transition:
        case Free():
            return "released"
        case LeaveUnknown():
            return "unknown"
        case _:
            return "completed" if status < 400 else "failed"


REASONS: Final = {
    Lost.RESET: Reason.RESET,
    Lost.CLOSED: Reason.RESET,
    Lost.TIMEOUT: Reason.TIMEOUT,
    Lost.UNREADABLE: Reason.UNREADABLE,
    Lost.GUARD: Reason.GUARD,
}
"""Why an operation is unknown that was sent and got no answer's head."""
CUT: Final = {**REASONS, Lost.RESET: Reason.CUT_BODY, Lost.CLOSED: Reason.CUT_BODY}
"""The same, of an answer whose body did not come whole."""
