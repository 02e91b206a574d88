"""One exchange of a rule that only observes, overheard while it passes: what was asked, and what became of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from idemproxy.clocks import Clock
from idemproxy.errors import IdemproxyError
from idemproxy.execution import CUT, REASONS
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.idempotency.observation import LEFT, Unjudged
from idemproxy.idempotency.operation import Free, LeaveUnknown, Transition, answered, broken
from idemproxy.idempotency.record import Tombstone
from idemproxy.idempotency.routes import Rule
from idemproxy.proxy.incoming import BodyTooLarge, Incoming
from idemproxy.proxy.outcome import AnswerBroken, NotSent, SentNoAnswer


class NotHeard(IdemproxyError):
    """The request's body is not to be had."""

    def __init__(self, why: Unjudged) -> None:
        super().__init__(why.value)
        self.why = why


class Room:
    """How many bytes of bodies may be held at once."""

    def __init__(self, free: int) -> None:
        self.free = free


class _Body(Enum):
    """How far the request's body is."""

    PASSING = auto()
    WHOLE = auto()
    TOO_LARGE = auto()
    NOT_KEPT = auto()
    CUT = auto()


class _Gone(Enum):
    """How an exchange ended that its client left."""

    GONE = auto()


class Overheard:
    """An exchange. `told` is called once: when all is known that will ever be of what is asked for."""

    def __init__(self, incoming: Incoming, rule: Rule, room: Room, clock: Clock, told: Callable[[], None]) -> None:
        self.head = incoming.head
        self.peer = incoming.peer
        self.certificate = incoming.certificate
        self.trailers: Fields = ()
        """They are in no fingerprint."""
        self.status: int | None = None
        """The answer's."""
        self.ended = asyncio.Event()
        """Nothing more passes."""
        self.written = asyncio.Event()
        """What became of it is in the store."""
        self.shadow_id: str | None = None
        self.rule = rule
        self._room = room
        self._clock = clock
        self._told: Callable[[], None] | None = told
        self._began = self._until = clock()
        self._body = _Body.PASSING
        self._pieces: list[bytes] = []
        self._digest = hashlib.sha256()
        self._size = 0
        self._held = 0
        self._answer_size = 0
        self._how: NotSent | SentNoAnswer | AnswerBroken | _Gone | None = None

    # ------------------------------------------------------------------------------------------------------- while it passes

    def request_piece(self, piece: bytes) -> None:
        """Keep it, within the rule's limit and the room that there is."""
        self._size += len(piece)
        if self._body is not _Body.PASSING:
            return
        if self._size > self.rule.max_request_body:
            self._settle(_Body.TOO_LARGE)
        elif len(piece) > self._room.free:
            self._settle(_Body.NOT_KEPT)
        else:
            self._room.free -= len(piece)
            self._held += len(piece)
            self._pieces.append(piece)
            self._digest.update(piece)

    def request_whole(self) -> None:
        """What is asked for can be told."""
        self._settle(_Body.WHOLE)

    def answer_head(self, status: int) -> None:
        """Keep the status."""
        self.status = status

    def answer_piece(self, piece: bytes) -> None:
        """Of the answer's body only its size counts."""
        self._answer_size += len(piece)

    def over(self, how: NotSent | SentNoAnswer | AnswerBroken | None) -> None:
        """The upstream's part is over."""
        self._end(how)

    def left(self) -> None:
        """Nothing more passes. Where the upstream's part is not over, its client went away."""
        self._end(_Gone.GONE)

    def _end(self, how: NotSent | SentNoAnswer | AnswerBroken | _Gone | None) -> None:
        if self.ended.is_set():
            return
        self._how = how
        self._until = self._clock()
        self.ended.set()
        self._settle(_Body.CUT)

    def _settle(self, body: _Body) -> None:
        if self._body is _Body.PASSING:
            self._body = body
            if body is not _Body.WHOLE:
                self.forget()
            told, self._told = self._told, None
            if told is not None:
                told()

    # ------------------------------------------------------------------------------------------------------- what is asked for

    @property
    def whole(self) -> bool:
        """The request's body has passed, and was kept."""
        return self._body is _Body.WHOLE

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, NotHeard."""
        match self._body:
            case _Body.WHOLE if self._size <= limit:
                return b"".join(self._pieces)
            case _Body.WHOLE | _Body.TOO_LARGE:
                raise BodyTooLarge(f"{self._size} bytes or more passed, {limit} are allowed")
            case _Body.NOT_KEPT:
                raise NotHeard(Unjudged.BUSY)
            case _Body.PASSING | _Body.CUT:
                raise NotHeard(Unjudged.CUT_BODY)
            case other:
                assert_never(other)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of a whole body: made piece by piece, so that a large one holds nobody up for long."""
        return self._digest.digest()

    def accept(self) -> None:
        """The client's expectation goes to the upstream as it came."""

    def unread(self, body: bytes) -> None:
        """It has passed, and is kept until it is forgotten."""

    def interim(self, head: bytes) -> None:
        """Interim answers pass by themselves."""

    def forget(self) -> None:
        """The body is needed no more."""
        self._pieces.clear()
        self._room.free += self._held
        self._held = 0

    # ------------------------------------------------------------------------------------------------------- what became of it

    @property
    def seconds(self) -> float:
        """From the head to the end of what passed."""
        return self._until - self._began

    @property
    def client_gone(self) -> bool:
        """Whether its client went away before the answer's head."""
        return self._how is _Gone.GONE and self.status is None

    def transition(self) -> Transition:
        """What enforcing the rule would have made of the operation, had it executed it."""
        match self._how:
            case NotSent():
                return Free()
            case SentNoAnswer(reason=reason):
                return LeaveUnknown(REASONS[reason])
            case AnswerBroken() as error:
                assert self.status is not None
                return broken(self.status, CUT[error.reason], self.rule)
            case _Gone.GONE | None:
                if self.status is None:
                    return LEFT
                return answered(self._kept(self.status), self.rule)
            case other:
                assert_never(other)

    def _kept(self, status: int) -> Answer | Tombstone:
        """A client that leaves while a body streams does not end an enforced execution: its answer counts as it was so far."""
        return Answer(status, b"", b"") if self._answer_size <= self.rule.max_response_body else Tombstone(status)
