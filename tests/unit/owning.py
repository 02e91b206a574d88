"""A world for tests of owners: a store that can be broken at a chosen moment, a clock, and an upstream that a test decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from idemproxy.execution import Answered, End, Failed, Forward, Operation
from idemproxy.http1.heads import AnswerHead, parse_request
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Complete, Free
from idemproxy.idempotency.record import Reason, State
from idemproxy.idempotency.routes import Match, Rule
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.outcomes import Seen
from idemproxy.owner import Owner
from idemproxy.ownership import Ownership
from idemproxy.stores.semantics import EMPTY
from tests.stores.memory import MemoryStore

ID = "ab" * 32
RULE = Rule("charges", Match(frozenset({b"POST"}), "/v1/charges"), lease=3_000, ttl=60_000)
ANSWER = Answer(201, b"201 Created\r\nContent-Length: 2\r\n", b"ok")
WHOLE = End(Complete(ANSWER), Answered(ANSWER, "completed"), 201)
HEAD = parse_request(b"POST /v1/charges HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\n\r\n")


def ignore(head: AnswerHead) -> None:
    """No client to tell."""


def operation(rule: Rule = RULE) -> Operation:
    return Operation(ID, b"f" * 32, "r", rule, HEAD, "", b"{}", (), ignore)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """An ownership, its store and an upstream that counts what is sent to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.sent: list[int] = []
        self.respond: Callable[[Forward], Awaitable[End]] = self.at_once
        self._number = 0
        self.metrics = Metrics(own_cells())
        self.ownership = Ownership(self.store, self._forward, self.clock, self._token, self.metrics)

    def begin(self, operation: Operation, seen: Seen | None) -> Owner:
        """An execution whose client has gone away before its claim was asked: all of it runs in the owner's task."""
        owner = self.ownership._enter(operation, seen)
        self.ownership._start(owner, owner.run())
        return owner

    async def at_once(self, forward: Forward) -> End:
        return WHOLE

    async def _forward(self, forward: Forward) -> End:
        if not forward.guard():
            return End(Free(), Failed.lost(Reason.GUARD, forward.operation.rule))
        self.sent.append(forward.attempt)
        return await self.respond(forward)

    def _token(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(16, "big")

    def state(self) -> State | None:
        record = self.store.slots.get(ID, EMPTY).record
        return None if record is None else record.state
