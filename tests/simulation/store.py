"""The modelled store: `semantics.py` on a clock of its own, behind a network that delays, loses and repeats nothing but tells late.

A command that its caller was told to be doubtful (StoreAmbiguous) may have been applied, may never be, or may be applied later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final, Protocol

from msgspec import structs

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import Record
from idemproxy.stores.base import Found, Refused
from idemproxy.stores.semantics import EMPTY, Slot
from tests.simulation.loop import Handle, Moment, ProcessLoop
from tests.simulation.operations import CURRENT
from tests.simulation.telling import Trace

Step = Callable[[Slot, Any, int], tuple[Slot, Any]]

EPOCH: Final = 1_700_000_000_000
"""What the store's clock shows at the begin of a schedule, in milliseconds."""
TELLING: Final = frozenset({"complete", "mark_unknown", "release", "take_back", "settle"})
"""Commands whose change is told to those who watch."""
QUICK: Final = 0.002
ABRIDGED: Final = frozenset({"renew", "next_attempt", "complete", "mark_unknown", "release", "settle"})
"""Commands whose fact may lack a large answer."""

_MOMENTS: Final = {
    "claim": Moment.CLAIMED,
    "take_over": Moment.CLAIMED,
    "complete": Moment.ENDED,
    "mark_unknown": Moment.ENDED,
    "release": Moment.ENDED,
}


class Trouble(Enum):
    """What ails the whole store."""

    NONE = auto()
    REFUSING = auto()
    """Certainly not applied."""
    SILENT = auto()
    """Commands vanish."""
    FROZEN = auto()
    """Commands wait, and are applied when it is over."""


@dataclass(frozen=True, slots=True)
class StoreFaults:
    """How likely one command meets what, and `timeout` and `lateness` in seconds."""

    timeout: float = 1.0
    lost_command: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    lateness: float = 0.0
    lost_notice: float = 0.0
    nameless_notice: float = 0.0
    large: int = 40
    """Bytes of an answer that is left out of the facts that may lack it."""


class Network(Protocol):
    """What carries commands and replies, and its time."""

    chance: random.Random

    @property
    def now(self) -> float:
        """Seconds."""

    def after(self, seconds: float, callback: Callable[..., object], *args: object) -> Handle:
        """Call on nobody's behalf."""

    def deliver(self, seconds: float, loop: ProcessLoop, callback: Callable[..., object], *args: object) -> Handle:
        """Call in that process."""


class Observer(Protocol):
    """Who looks at each command as it is applied."""

    def applied(self, command: Command, before: Slot, after: Slot, fact: object, now: int) -> None: ...

    def replied(self, command: Command, fact: object) -> None:
        """The process has the reply."""

    def troubled(self, loop: ProcessLoop) -> None:
        """The process was told that a command failed."""


class Command:
    """A command on its way."""

    __slots__ = ("asked", "dropped", "future", "loop", "name", "op", "record_id", "step", "timer")

    def __init__(
        self, name: str, record_id: str, asked: object, step: Step, loop: ProcessLoop, future: asyncio.Future[Any]
    ) -> None:
        self.name = name
        self.record_id = record_id
        self.asked = asked
        self.step = step
        self.loop = loop
        self.future = future
        self.timer: Handle | None = None
        self.op = CURRENT.get()
        if self.op is not None and name in ("claim", "take_over"):
            self.op.record_id = record_id
        self.dropped = False


@dataclass(eq=False, slots=True)
class Watch:
    """One process that listens."""

    loop: ProcessLoop
    wake: Callable[[str | None], None]
    broken: asyncio.Future[None]


class Server:
    """What all processes share. `now` is what its clock shows, in milliseconds."""

    def __init__(
        self, world: Network, trace: Trace, faults: StoreFaults, observer: Observer, quiet_at: float = 0.0
    ) -> None:
        """`quiet_at`: when the last late command is applied."""
        self.slots: dict[str, Slot] = {}
        self.trouble = Trouble.NONE
        self.timers = False
        """Whether each command has a timer of its caller's own: it matters only where processes are stopped."""
        self._quiet_at = quiet_at
        self._world = world
        self._trace = trace
        self._faults = faults
        self._observer = observer
        self._frozen: list[tuple[Command, bool]] = []
        self._watches: list[Watch] = []

    @property
    def now(self) -> int:
        return EPOCH + int(self._world.now * 1000)

    def quiet(self) -> None:
        """From now on everything works, and soon."""
        self.end_trouble()
        self._faults = StoreFaults(timeout=self._faults.timeout)

    def begin_trouble(self, trouble: Trouble) -> None:
        self._trace.say("store", "trouble", trouble.name.lower())
        self.trouble = trouble
        for watch in self._watches:
            error = StoreUnavailable("the store is away")
            self._world.deliver(self._delay(), watch.loop, _fail, watch.broken, error)
        self._watches.clear()

    def end_trouble(self) -> None:
        if self.trouble is Trouble.NONE:
            return
        self._trace.say("store", "trouble is over")
        self.trouble = Trouble.NONE
        frozen, self._frozen = self._frozen, []
        self._world.chance.shuffle(frozen)
        for command, answers in frozen:
            self._apply(command, answers)

    def wipe(self) -> None:
        self._trace.say("store", "wiped", len(self.slots))
        self.slots.clear()

    def submit(self, command: Command) -> None:
        """A process has sent it."""
        faults, chance, world = self._faults, self._world.chance, self._world
        if self.trouble is Trouble.REFUSING:
            error = chance.choice((StoreUnavailable("refused"), Refused("out of memory")))
            world.deliver(self._delay(), command.loop, self._fail, command, error)
            return
        drawn = chance.random()
        if drawn < faults.lost_command:
            self._trace.say(command.loop.name, f"{command.name} lost")
            self._doubt(command, self._told_after())
        elif (drawn := drawn - faults.lost_command) < faults.lost_reply:
            self._doubt(command, self._told_after())
            world.after(self._delay(), self._arrive, command, False)
        elif drawn - faults.lost_reply < faults.late:
            told = self._told_after()
            self._doubt(command, told)
            late = min(told + chance.random() * faults.lateness, max(told, self._quiet_at - world.now))
            world.after(late, self._arrive, command, False)
        else:
            if self.timers or self.trouble is not Trouble.NONE:
                self._doubt(command, faults.timeout)
            world.after(self._delay(), self._arrive, command, True)

    def broken(self, command: Command) -> None:
        """Its connection broke: whether it still arrives is open."""
        command.dropped = self._world.chance.random() < 0.5
        self._fail(command, StoreAmbiguous("the connection broke"))

    def listen(self, watch: Watch) -> None:
        self._watches.append(watch)

    def ignore(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def _delay(self) -> float:
        chance = self._world.chance
        if self._faults.slow and chance.random() < self._faults.slow:
            return chance.random() * self._faults.timeout * 0.49
        return chance.random() * QUICK

    def _told_after(self) -> float:
        """A closed connection is noticed at once, silence after the time-out."""
        chance = self._world.chance
        return self._faults.timeout * (1.0 if chance.random() < 0.5 else chance.random())

    def _doubt(self, command: Command, after: float) -> None:
        error = StoreAmbiguous("no reply in time")
        command.timer = self._world.deliver(after, command.loop, self._fail, command, error)
        command.timer.timer = True

    def _fail(self, command: Command, error: StoreError) -> None:
        if not command.future.done():
            self._trace.say(command.loop.name, f"{command.name} failed", error)
            self._observer.troubled(command.loop)
            command.future.set_exception(error)

    def _arrive(self, command: Command, answers: bool) -> None:
        match self.trouble:
            case Trouble.NONE:
                self._apply(command, answers)
            case Trouble.FROZEN:
                if command.timer is None:
                    self._doubt(command, self._faults.timeout)
                self._frozen.append((command, answers))
            case Trouble.REFUSING | Trouble.SILENT:
                if command.timer is None:
                    self._doubt(command, self._told_after())

    def _apply(self, command: Command, answers: bool) -> None:
        if command.dropped:
            return
        now, before = self.now, self.slots.get(command.record_id, EMPTY)
        after, fact = command.step(before, command.asked, now)
        self.slots[command.record_id] = after
        if command.name != "get":
            self._trace.say("store", f"{command.name} of {command.loop.name} for {command.op}", (command.asked, fact))
        self._observer.applied(command, before, after, fact, now)
        if after is not before and command.name in TELLING:
            self._tell(command.record_id)
        if answers:
            self._world.deliver(self._delay(), command.loop, self._reply, command, self._abridged(command.name, fact))

    def _reply(self, command: Command, fact: object) -> None:
        if command.timer is not None:
            command.timer.cancel()
        if not command.future.done():
            command.future.set_result(fact)
            self._observer.replied(command, fact)
            if (moment := _MOMENTS.get(command.name)) is not None:
                command.loop.reached(moment)

    def _abridged(self, name: str, fact: object) -> object:
        match fact:
            case Found(Record(answer=Answer(body=body)) as record) if (
                name in ABRIDGED and len(body) > self._faults.large
            ):
                return replace(fact, record=structs.replace(record, answer=None))
            case _:
                return fact

    def _tell(self, record_id: str) -> None:
        chance = self._world.chance
        for watch in self._watches:
            if self._faults.lost_notice and chance.random() < self._faults.lost_notice:
                continue
            named = None if chance.random() < self._faults.nameless_notice else record_id
            self._world.deliver(self._delay(), watch.loop, watch.wake, named)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
