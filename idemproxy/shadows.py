"""Shadows: what the store would hold if a rule that only observes were enforced. They are records in a namespace of their own, with an
answer that is nothing but its status, made and ended by the store's own commands and judged by the decision table itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from idemproxy.execution import Operation
from idemproxy.idempotency.age import Age
from idemproxy.idempotency.observation import Judgement, Unjudged, Would, judgement, shadow_rule
from idemproxy.idempotency.operation import (
    Complete,
    Free,
    LeaveUnknown,
    TakeOver,
    Transition,
    decide,
    in_flight,
)
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import Record
from idemproxy.idempotency.routes import Rule
from idemproxy.identifying import reused, same
from idemproxy.stores import base
from idemproxy.stores.base import (
    Claim,
    Claimed,
    Completion,
    Dead,
    Found,
    Locked,
    MarkUnknown,
    Missing,
    Release,
    Store,
)


@dataclass(frozen=True, slots=True)
class Owned:
    """The request is the one that enforcing would have executed: its shadow ends as its exchange does."""


@dataclass(frozen=True, slots=True)
class Met:
    """Another was there first. `behind` is how many milliseconds before, where that is known; `differs` names the parts in which it was
    another request."""

    judgement: Judgement
    behind: int | None = None
    differs: tuple[str, ...] = ()


_MOVED = Met(Judgement(Would.NOT_JUDGED, Unjudged.MOVED.value))
_EXPIRED = Met(Judgement(Would.REFUSE, Slug.KEY_EXPIRED.value))


@dataclass(frozen=True, slots=True)
class Shadow:
    """The shadow of an operation, as one request stands to it: it holds nothing of what was sent. `lease` is milliseconds."""

    record_id: str
    token: bytes
    lease: int
    rule: Rule


class Shadows:
    """All of one store."""

    def __init__(self, store: Store, tokens: Callable[[], bytes]) -> None:
        self._store = store
        self._tokens = tokens

    def of(self, operation: Operation, lease: int) -> Shadow:
        """The operation's."""
        return Shadow(operation.record_id, self._tokens(), lease, operation.rule)

    async def meet(self, shadow: Shadow, operation: Operation, age: Age) -> Owned | Met:
        """Claim it, or learn what enforcing would have done about whoever has. Raises StoreError."""
        rule = shadow.rule
        if age is Age.OLD:
            looked = await self._store.get(shadow.record_id)
            return _EXPIRED if isinstance(looked, Missing) else await self._met(shadow, operation, looked)
        asked = Claim(
            token=shadow.token,
            fingerprint=operation.fingerprint,
            recipe=operation.recipe,
            rule=shadow_rule(rule.name),
            on_unknown=rule.on_unknown,
            lease=shadow.lease,
            ttl=rule.ttl,
        )
        return await self._met(shadow, operation, await self._store.claim(shadow.record_id, asked))

    async def _met(self, shadow: Shadow, operation: Operation, fact: Claimed | Found | Locked | Dead) -> Owned | Met:
        rule = shadow.rule
        match fact:
            case Claimed():
                return Owned()
            case Dead():
                return _MOVED
            case Locked(lease_left):
                return Met(judgement(in_flight(rule, lease_left)))
            case Found(record, lease_left, now):
                behind = max(0, now - record.created_at)
                if not same(operation, record.recipe, record.fingerprint):
                    refused = reused(operation, record.recipe, record.fingerprint)
                    return Met(judgement(refused), behind, refused.differs)
                decision = decide(record, lease_left, now, True, rule)
                if isinstance(decision, TakeOver):
                    return await self._take_over(shadow, record)
                return Met(judgement(decision), behind)
            case other:
                assert_never(other)

    async def _take_over(self, shadow: Shadow, seen: Record) -> Owned | Met:
        asked = base.TakeOver(shadow.token, seen.token, seen.version, shadow.lease, shadow.rule.ttl)
        fact = await self._store.take_over(shadow.record_id, asked)
        return Owned() if isinstance(fact, Claimed) else _MOVED

    async def end(self, shadow: Shadow, transition: Transition) -> None:
        """Its exchange is over. Raises StoreError."""
        ttl = shadow.rule.ttl
        match transition:
            case Complete(answer):
                await self._store.complete(shadow.record_id, Completion(shadow.token, answer, ttl, None))
            case Free():
                await self._store.release(shadow.record_id, Release(shadow.token, ttl))
            case LeaveUnknown(reason):
                await self._store.mark_unknown(shadow.record_id, MarkUnknown(shadow.token, reason, ttl, None))
            case other:
                assert_never(other)
