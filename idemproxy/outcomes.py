"""What an execution gives: to the request that began it, and to those that wait for it in the same process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import structs

from idemproxy.execution import Answered, Delivery, Failed
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Complete, Free, LeaveUnknown, Transition
from idemproxy.idempotency.record import Reason, State, Tombstone
from idemproxy.idempotency.routes import Rule
from idemproxy.stores.base import Dead, Done, EndFact, Found, Locked, Missing


class NotWon(msgspec.Struct, frozen=True):
    """Somebody else's record stands there: what the store said."""

    fact: Found | Locked | Missing | Dead


@dataclass(frozen=True, slots=True)
class StoreDown:
    """The store gave no fact, and the rule fails closed: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The operation was taken from its owner: its answer is what the record says."""


Outcome = Delivery | NotWon | StoreDown | Fenced
Left = Found | Locked | Missing | Dead | StoreDown | None
"""How an execution left the registry: with what its claim found, or without a fact, or (None) having executed."""
Seen = tuple[bytes, int]
"""The token and version of an unknown record, as it was read before it is taken over."""


LARGE: Final = 1 << 20
TRIES_WHOLE: Final = 5
"""How often a large answer is asked to be recorded whole, before the record says only that it was too large to keep."""


def state_left(transition: Transition, fact: EndFact | None) -> tuple[State, Reason]:
    """The state that an acknowledged end left, and why it is unknown where it is."""
    match fact, transition:
        case Done(state), LeaveUnknown(reason):
            return state, reason if state is State.UNKNOWN else Reason.NONE
        case Done(State.UNKNOWN), _:
            return State.UNKNOWN, Reason.RELEASED_AFTER_SEND
        case Done(state), _:
            return state, Reason.NONE
        case _:
            return State.RELEASED, Reason.NONE


def after_end(fact: EndFact | None, transition: Transition, delivery: Delivery, rule: Rule) -> Delivery:
    """A release of what an earlier attempt may have executed leaves it unknown: the client is told so."""
    match fact, transition, delivery:
        case Done(State.UNKNOWN), Free(), Failed():
            return Failed.lost(Reason.RELEASED_AFTER_SEND, rule)
        case Done(State.UNKNOWN), Free(), Answered():
            return structs.replace(delivery, state="unknown")
        case _:
            return delivery


def smaller(transition: Transition, asked: int) -> Transition:
    """An answer that the store does not take is not asked for ever: that it was executed is what must be kept."""
    match transition:
        case Complete(Answer(status=status, body=body)) if len(body) > LARGE and asked >= TRIES_WHOLE:
            return Complete(Tombstone(status))
        case _:
            return transition
