"""The operations of a schedule, and the ledger of what the upstream did for them."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Effect:
    """The upstream executed: once more than it should, if the operation has several."""

    serial: int
    when: float
    incarnation: str
    attempt: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Sending:
    """The first byte of an exchange went out."""

    when: float
    incarnation: str
    attempt: int


@dataclass(eq=False, slots=True)
class Op:
    """An operation as its client means it: the caller's credential and key, and the bodies that were sent under it."""

    caller: bytes
    key: bytes
    bodies: list[bytes] = field(default_factory=list)
    record_id: str = ""
    """As the product computed it, once a claim was seen."""
    effects: list[Effect] = field(default_factory=list)
    sendings: list[Sending] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.caller.decode()}/{self.key.decode()}"

    def __str__(self) -> str:
        return self.name


CURRENT: ContextVar[Op | None] = ContextVar("CURRENT", default=None)
"""The operation whose request a task serves: what an owner's task inherits."""


def answer_body(op: Op, body: bytes, attempt: int, serial: int) -> bytes:
    """An answer's body tells whose it is, and which execution made it."""
    return b"for=%b key=%b body=%b attempt=%d effect=%d;" % (op.caller, op.key, body[:8], attempt, serial)
