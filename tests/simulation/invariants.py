"""What must hold in every schedule (DESIGN.md section 4, *Invariants*): looked at while it runs, each time that the store applies a
command, a byte is sent, the upstream executes, or a client reads an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Meaning, meaning
from idemproxy.idempotency.record import OnUnknown, Record, State
from idemproxy.idempotency.routes import Rule
from idemproxy.stores.base import Claim, Claimed, Done, TakeBack, TakeOver
from idemproxy.stores.semantics import EMPTY, Slot, current
from tests.simulation.clients import Client, Reply
from tests.simulation.loop import Pace, ProcessLoop, World
from tests.simulation.operations import CURRENT, Effect, Op, Sending
from tests.simulation.store import Command, Server
from tests.simulation.telling import Trace

OWNERS_COMMANDS: Final = frozenset({"renew", "next_attempt", "complete", "mark_unknown", "release"})
UNTROUBLED: Final = 1.5
"""Leases after its last trouble in which an owner must have renewed."""
FINISHED: Final = (State.COMPLETED, State.FAILED)

_ANSWER: Final = re.compile(rb"for=([^ ]+) key=([^ ]+) body=([^ ]+) attempt=(\d+) effect=(\d+);")


@dataclass(slots=True)
class Shadow:
    """What is known of a record beside the store's own words."""

    owner: bytes | None = None
    numbers: dict[int, bytes] = field(default_factory=dict)
    """Which claim was given an attempt's number."""
    dead: dict[bytes, int] = field(default_factory=dict)
    """Tokens that were taken back, and until when by the store's clock."""
    freed: int = 0
    """The last attempt of which it was known that nothing ran."""
    lost: int = 0
    """How often the record expired or was wiped."""
    doubtful: bool = False
    """The store failed a command that would have recorded an end."""


class Invariants:
    """Every check of one schedule. `at_most_once`: whether the rule promises that."""

    def __init__(self, world: World, trace: Trace, rule: Rule, *, at_most_once: bool) -> None:
        self.server: Server | None = None
        self.at_most_once = at_most_once
        self._world = world
        self._trace = trace
        self._rule = rule
        self._shadows: dict[str, Shadow] = {}
        self._holders: dict[bytes, ProcessLoop] = {}
        self._confirmed: set[bytes] = set()
        """Tokens whose owner knows that it owns."""
        self._replaced: set[tuple[str, Op]] = set()
        """Which process knows of which operation that another has taken it over."""
        self._troubled: dict[ProcessLoop, float] = {}
        self._unprotected: set[Op] = set()
        self._underway: dict[tuple[Op, str], Sending] = {}
        self._answers: dict[Op, Reply] = {}

    # -------------------------------------------------------------------------------------------------- what explains a deviation

    def troubled(self, loop: ProcessLoop) -> None:
        self._troubled[loop] = self._world.now

    def wiped(self) -> None:
        for shadow in self._shadows.values():
            shadow.lost += 1
            shadow.owner = None
            shadow.numbers.clear()

    def logged(self, name: str, level: str, event: str, fields: dict[str, object]) -> None:
        """A line of the product's log."""
        op = CURRENT.get()
        match event:
            case "forwarded unprotected" if op is not None:
                self._unprotected.add(op)
            case "operation taken over" if op is not None:
                self._replaced.add((name, op))
            case "owner failed" | "request failed" | "forward failed":
                self._trace.find("no defect is logged", f"{name}: {event} {fields}")
            case _:
                pass

    def _shadow(self, op: Op) -> Shadow:
        return self._shadows.setdefault(op.record_id, Shadow())

    def _untroubled(self, loop: ProcessLoop) -> bool:
        since = self._world.now - self._troubled.get(loop, 0.0)
        return loop.pace is Pace.RUNNING and since > self._rule.lease / 1000 * UNTROUBLED

    # ----------------------------------------------------------------------------------------------------------------- the store

    def applied(self, command: Command, before: Slot, after: Slot, fact: object, now: int) -> None:
        op = command.op
        shadow = self._shadows.setdefault(command.record_id, Shadow())
        standing = current(before, now)
        if before.record is not None and standing.record is None:
            self._expired(before.record)
            shadow.lost += 1
            shadow.owner = None
            shadow.numbers.clear()
        if not shadow.lost and (op is None or op not in self._unprotected):
            self._living_owner(command, standing)
        record = standing.record
        if record is not None and record.state in FINISHED and command.name != "settle":
            self._kept(command, record, after.record)
        token: bytes | None = getattr(command.asked, "token", None)
        if isinstance(fact, Claimed) and token is not None and command.name != "next_attempt":
            self._claimed(command, token, shadow, standing, now)
        elif token is not None and command.name in OWNERS_COMMANDS and after.record is not record:
            self._changed(command, token, shadow, record)
        if isinstance(command.asked, TakeBack):
            shadow.dead[command.asked.token] = now + self._rule.lease
        if op is not None and token is not None and fact == Done(State.RELEASED):
            self._freed(op, token, shadow)
        if isinstance(fact, Claimed) and token is not None:
            self._numbered(command, token, fact, shadow)

    def _expired(self, record: Record) -> None:
        if record.state is not State.RELEASED:
            last = record.lease_until if record.state is State.PROCESSING else record.updated_at
            if record.expires_at - last < self._rule.ttl:
                self._trace.find(
                    "evidence outlives its lease by ttl", f"{record.state.name} had {record.expires_at - last} ms"
                )

    def _freed(self, op: Op, token: bytes, shadow: Shadow) -> None:
        """Nothing was sent by anyone, or by its answer's meaning nothing was executed."""
        if shadow.lost or op in self._unprotected:
            return
        by_others = [each for each in op.sendings if shadow.numbers.get(each.attempt, token) != token]
        if by_others and max(each.attempt for each in by_others) > shadow.freed:
            self._trace.find("a release keeps evidence", f"{op}: attempt {by_others[-1].attempt} may have run")
        shadow.freed = max(shadow.numbers, default=0)

    def replied(self, command: Command, fact: object) -> None:
        if isinstance(fact, Claimed) and isinstance(command.asked, Claim | TakeOver):
            self._confirmed.add(command.asked.token)

    def _claimed(self, command: Command, token: bytes, shadow: Shadow, standing: Slot, now: int) -> None:
        record, lock = standing.record, standing.lock
        running = record is not None and record.state is State.PROCESSING
        if running and lock is not None and lock.token != token:
            self._trace.find("a lease excludes", f"{command.name} of {command.record_id[:8]} won while a lease ran")
        if shadow.dead.get(token, 0) > now and not shadow.lost:
            self._trace.find("a dead token owns nothing", f"{command.name} of {command.record_id[:8]} was taken back")
        if command.name == "take_over" and record is not None and record.on_unknown is OnUnknown.BLOCK:
            self._trace.find("the stricter policy counts", f"{command.record_id[:8]} blocks, and was taken over")
        shadow.owner = token
        self._holders[token] = command.loop

    def _numbered(self, command: Command, token: bytes, fact: Claimed, shadow: Shadow) -> None:
        known = shadow.numbers.setdefault(fact.attempt, token)
        if known != token:
            self._trace.find("attempts are numbered once", f"{fact.attempt} of {command.record_id[:8]} was given twice")

    def _changed(self, command: Command, token: bytes, shadow: Shadow, record: Record | None) -> None:
        if record is None:
            shadow.owner = token
        elif shadow.owner != token:
            self._trace.find("only the owner records", f"{command.name} of {command.record_id[:8]} by another")

    def _kept(self, command: Command, record: Record, after: Record | None) -> None:
        if after is None or after.state is not record.state or after.answer != record.answer:
            self._trace.find("a finished record stays", f"{command.name} changed {command.record_id[:8]}")

    def _living_owner(self, command: Command, standing: Slot) -> None:
        """An owner that lives, undisturbed, keeps its lease."""
        record = standing.record
        if record is None or record.state is not State.PROCESSING or standing.lock is not None:
            return
        holder = self._holders.get(record.token)
        asks = getattr(command.asked, "token", None)
        if holder is None or record.token not in self._confirmed or asks == record.token:
            return
        if self._untroubled(holder):
            self._trace.find("a living owner keeps its lease", f"{command.name} met {command.record_id[:8]} lapsed")

    # -------------------------------------------------------------------------------------------------------------- the upstream

    def sent(self, op: Op, sending: Sending, *, first: bool, guarded: bool) -> None:
        if not guarded or op in self._unprotected:
            return
        shadow = self._shadow(op)
        if first:
            self._alone(op, sending, shadow)
        if shadow.lost:
            return
        assert self.server is not None
        slot = current(self.server.slots.get(op.record_id, EMPTY), self.server.now)
        record = slot.record
        if record is None or slot.lock is None or record.attempt != sending.attempt:
            held = "nothing" if record is None else f"attempt {record.attempt}, lock {slot.lock}"
            self._trace.find("only an owner sends", f"{op} by {sending.incarnation}, attempt {sending.attempt}; {held}")

    def _alone(self, op: Op, sending: Sending, shadow: Shadow) -> None:
        place = (op, sending.incarnation)
        replaced = (sending.incarnation, op) in self._replaced
        if self.at_most_once and place in self._underway and not replaced:
            self._trace.find("one process, one execution", f"{op} twice at once in {sending.incarnation}")
        self._underway[place] = sending
        if not shadow.lost and any(each.attempt == sending.attempt for each in op.sendings):
            self._trace.find("no two sends have a number", f"{op} attempt {sending.attempt}")

    def over(self, op: Op, sending: Sending) -> None:
        self._underway.pop((op, sending.incarnation), None)

    def executed(self, op: Op, effect: Effect) -> None:
        if self.at_most_once and len(op.effects) > 1 + self._shadow(op).lost:
            self._trace.find("never twice", f"{op} was executed {len(op.effects)} times")

    # --------------------------------------------------------------------------------------------------------------- the clients

    def answered(self, client: Client, reply: Reply) -> None:
        op = client.op
        if reply.problem is not None:
            self._problem(op, reply)
            return
        said = _ANSWER.match(reply.body)
        if said is None:
            self._trace.find("an answer is the upstream's", f"{op}: {reply.body!r}")
            return
        if (said[1], said[2], said[3]) != (op.caller, op.key, client.body[:8]):
            self._trace.find("an answer is for its caller", f"{op}, body {client.body[:8]!r} got {said[0]!r}")
        if 200 <= reply.status < 300:
            self._identical(op, reply)
        if not reply.replayed and not reply.streamed:
            self._recorded_first(op, reply)

    def _problem(self, op: Op, reply: Reply) -> None:
        if reply.problem == "key-reused" and len(op.bodies) == 1:
            self._trace.find("422 only for another request", f"{op}")
        if reply.problem == "outcome-unknown" and not op.sendings and not self._troubled:
            self._trace.find("never a lie", f"{op} is said to be unknown, and nothing was ever sent")

    def _identical(self, op: Op, reply: Reply) -> None:
        """Documented: two answers where one could not be recorded or was streamed already, and under fail-open. A process that knows that
        another has taken the operation over gives no answer of its own."""
        known = self._answers.setdefault(op, reply)
        if known.body == reply.body and (known.head == reply.head or self._rule.probe is not None):
            return
        first_recorded = known.replayed or not (known.streamed or self._shadow(op).doubtful)
        shadow = self._shadow(op)
        this_recorded = reply.replayed or not (reply.streamed or self._store_failed(reply))
        replaced = not reply.streamed and (reply.loop.name, op) in self._replaced
        strict = self.at_most_once and self._rule.probe is None
        documented = not strict and not (first_recorded and (this_recorded or replaced))
        if shadow.lost or op in self._unprotected or documented:
            self._answers[op] = reply
            return
        self._trace.find("answers are identical", f"{op}: {known.body!r}, then {reply.body!r}")

    def _recorded_first(self, op: Op, reply: Reply) -> None:
        """An answer that is not streamed is in the record before its client has it, unless the store failed."""
        if meaning(reply.status, self._rule) is not Meaning.OUTCOME or op in self._unprotected:
            return
        assert self.server is not None
        shadow = self._shadow(op)
        record = current(self.server.slots.get(op.record_id, EMPTY), self.server.now).record
        if record is not None and isinstance(record.answer, Answer) and record.answer.body == reply.body:
            return
        if shadow.lost:
            return
        if self._store_failed(reply):
            shadow.doubtful = True
            return
        self._trace.find("recorded before it is sent", f"{op}: {reply.body!r}")

    def _store_failed(self, reply: Reply) -> bool:
        """The answer was given because the store failed its first recording, just now."""
        return self._troubled.get(reply.loop) == reply.when

    # -------------------------------------------------------------------------------------------------------------------- the end

    def settled(self, ops: list[Op], dead: Callable[[ProcessLoop], bool]) -> None:
        """Nothing happens any more: where does every operation stand?"""
        assert self.server is not None
        for op in ops:
            record = self.server.slots.get(op.record_id, EMPTY).record
            if record is None or op.sendings or record.state not in (State.UNKNOWN, State.PROCESSING):
                continue
            holder = self._holders.get(record.token)
            if holder is not None and not dead(holder) and not self._shadow(op).lost:
                self._trace.find(
                    "unknown only if sent", f"{op} stays {record.state.name}, and not a byte was ever sent"
                )
