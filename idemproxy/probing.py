"""Asking the upstream whether an operation happened whose outcome is unknown (DESIGN.md section 4, *Probe*)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, assert_never

from msgspec import structs

from idemproxy.execution import Operation
from idemproxy.forwarding import Forwarding, answer_head, request_head, trailer_lines
from idemproxy.http1.heads import AnswerHead, NoBody
from idemproxy.idempotency.identity import Key, read_key
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.idempotency.operation import Probe, Said
from idemproxy.idempotency.routes import HeaderScope, Rule
from idemproxy.idempotency.template import target_of
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.outcome import AnswerBroken, NotSent, Outgoing, Reuse, SentNoAnswer
from idemproxy.proxy.tunnel import Switched
from idemproxy.stores.base import Dead, Done, Found, Locked, Missing, SettleComplete, Store

LONGEST: Final = 60.0
"""Seconds for a probe's whole answer, where the upstream has no time limit of its own."""

_CARRIED: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"cookie",
        b"x-api-key",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
    }
)
"""Fields of the request that a probe carries too: who asks, and what answers the asker can read."""


@dataclass(frozen=True, slots=True)
class Happened:
    """The upstream executed the operation: this is its answer, and it is recorded."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Moved:
    """The record is not any more as it was seen before the probe."""

    fact: Found | Locked | Dead


Learnt = Happened | Moved | Said


class Prober:
    """Every probe of the process: one at a time for an operation, however many ask."""

    def __init__(self, forwarding: Forwarding, store: Store) -> None:
        self._forwarding = forwarding
        self._store = store
        self._asking: dict[tuple[str, bytes, int], asyncio.Task[Learnt]] = {}

    async def learn(self, operation: Operation, probe: Probe, patience: float) -> Learnt:
        """What the upstream says, within `patience` seconds. Raises StoreError where its answer could not be recorded."""
        name = (operation.record_id, probe.token, probe.version)
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.ensure_future(self._learn(operation, probe))
            task.add_done_callback(lambda done: self._over(name, done))
        done, _ = await asyncio.wait([task], timeout=patience)
        return task.result() if done and not task.cancelled() else Said.NOTHING

    async def close(self) -> None:
        """Give up every probe."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, name: tuple[str, bytes, int], task: asyncio.Task[Learnt]) -> None:
        del self._asking[name]
        if not task.cancelled():
            task.exception()  # whoever asked has it; where all of them have gone, nobody needs it

    async def _learn(self, operation: Operation, probe: Probe) -> Learnt:
        answer = await self._answer(operation)
        if answer is None:
            return Said.NOTHING
        if answer.status == 404:
            return Said.DID_NOT_HAPPEN
        if not 200 <= answer.status < 300:
            return Said.NOTHING
        settlement = SettleComplete(probe.token, probe.version, answer, operation.rule.ttl)
        match await self._store.settle(operation.record_id, settlement):
            case Done() | Missing():
                return Happened(answer)
            case (Found() | Locked() | Dead()) as fact:
                return Moved(fact)
            case other:
                assert_never(other)

    async def _answer(self, operation: Operation) -> Answer | None:
        """The upstream's whole answer; None where there is none that could be kept."""
        outgoing = self._outgoing(operation)
        if outgoing is None:
            return None
        try:
            async with asyncio.timeout(self._forwarding.patience.response or LONGEST):
                match await self._forwarding.upstream.exchange(outgoing):
                    case Answering() as answering:
                        try:
                            return await _whole(answering, operation.rule.max_response_body)
                        finally:
                            answering.close()
                    case Switched() as switched:
                        switched.close()
                        return None
                    case NotSent() | SentNoAnswer():
                        return None
                    case other:
                        assert_never(other)
        except (TimeoutError, AnswerBroken):
            return None

    def _outgoing(self, operation: Operation) -> Outgoing | None:
        rule, head = operation.rule, operation.head
        assert rule.probe is not None
        target = target_of(rule.probe.target, rule.match.path, head.target, _named(rule, head.fields))
        if target is None:
            return None
        asking = structs.replace(
            head, method=b"GET", target=target, fields=_carried(rule, head.fields), framing=NoBody()
        )
        return Outgoing(
            head=request_head(asking, operation.peer, self._forwarding.hop),
            method=b"GET",
            body=None,
            patience=self._forwarding.patience,
            guard=None,
            reuse=Reuse.FRESH,
            interim=_ignored,
        )


def _named(rule: Rule, fields: Fields) -> Fields:
    """The fields with the key in its bare form, under each name that the rule reads it from."""
    match read_key(rule, fields):
        case Key(value):
            others = tuple([field for field in fields if field[0].lower() not in rule.key.headers])
            return (*others, *((name, value) for name in rule.key.headers))
        case _:
            return fields


def _carried(rule: Rule, fields: Fields) -> Fields:
    kept = _CARRIED | {part.name for part in rule.scope if isinstance(part, HeaderScope)}
    return tuple([field for field in fields if field[0].lower() in kept])


def _ignored(head: AnswerHead) -> None:
    """An interim answer to a probe says nothing."""


async def _whole(answering: Answering, limit: int) -> Answer | None:
    pieces: list[bytes] = []
    size = 0
    while (piece := await answering.piece()) is not None:
        size += len(piece)
        if size > limit:
            return None
        pieces.append(piece)
    head = answering.head
    return Answer(head.status, answer_head(head), b"".join(pieces), trailer_lines(answering.trailers))
