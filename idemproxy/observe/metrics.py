"""What is counted. Adding is an integer's addition in this process's own memory, and fails no request; the text for Prometheus is made
in `exposition.py`, of the sums over all workers.

One object a process, `Metrics`; one a rule, `Metrics.rule(name)`, the same one however often it is asked for, so that a reload of the
configuration goes on from where it was."""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum
from typing import Final

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency import observation
from idemproxy.idempotency.observation import Judgement, Suspected
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import Reason, State
from idemproxy.idempotency.routes import RetryCause
from idemproxy.observe import families
from idemproxy.observe.cells import Block, Cells, Kind
from idemproxy.observe.families import Family, Type

OTHER: Final = "other"
"""The label of a state that the table below does not know: no text that comes from elsewhere becomes a label."""


class Decided(StrEnum):
    """What a protected request got."""

    EXECUTED = "executed"
    REPLAYED = "replayed"
    REFUSED = "refused"


class Passed(StrEnum):
    """Why a request was passed on as it came."""

    NO_RULE = "no_rule"
    NO_KEY = "no_key"


class Probed(StrEnum):
    """What a probe brought."""

    HAPPENED = "happened"
    DID_NOT_HAPPEN = "did_not_happen"
    NO_ANSWER = "no_answer"


class StoreFailure(StrEnum):
    """Why a store command gave no fact."""

    UNAVAILABLE = "unavailable"
    AMBIGUOUS = "ambiguous"
    UNREADABLE = "unreadable"


STATES: Final = {
    Decided.EXECUTED: ("completed", "failed", "unknown", "released", "streaming"),
    Decided.REPLAYED: ("completed", "failed"),
    Decided.REFUSED: tuple(slug.value for slug in Slug),
}
"""Which states each decision may come with."""


# ---------------------------------------------------------------------------------------------------------------- instruments


class Counter:
    """A number that only grows."""

    __slots__ = ("_at", "_cells")

    def __init__(self, block: Block) -> None:
        self._cells = block.cells
        self._at = block.at

    def add(self) -> None:
        """One more."""
        self._cells[self._at] += 1


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("_at", "_cells")

    def __init__(self, block: Block) -> None:
        self._cells = block.cells
        self._at = block.at

    def up(self) -> None:
        """One more."""
        self._cells[self._at] += 1

    def down(self) -> None:
        """One less."""
        self._cells[self._at] -= 1

    def set(self, value: int) -> None:
        """This process's part of the sum."""
        self._cells[self._at] = value


class Histogram:
    """How long something took: a cell for each bound, one for what exceeds them all, and one for the sum in microseconds."""

    __slots__ = ("_at", "_bounds", "_cells", "_sum")

    def __init__(self, block: Block, bounds: tuple[int, ...]) -> None:
        self._cells = block.cells
        self._at = block.at
        self._sum = block.at + len(bounds) + 1
        self._bounds = bounds

    def observe(self, seconds: float) -> None:
        """It took that long once more."""
        micros = int(seconds * 1e6)
        cells = self._cells
        cells[self._at + bisect_left(self._bounds, micros)] += 1
        cells[self._sum] += micros


class _Maker:
    """Instruments over the cells of one process."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def counter(self, family: Family, *labels: str) -> Counter:
        return Counter(self._cells.block(Kind.COUNTER, _name(family, Type.COUNTER, labels)))

    def gauge(self, family: Family, *labels: str) -> Gauge:
        return Gauge(self._cells.block(Kind.GAUGE, _name(family, Type.GAUGE, labels)))

    def histogram(self, family: Family, *labels: str) -> Histogram:
        width = len(family.bounds) + 2
        block = self._cells.block(Kind.COUNTER, _name(family, Type.HISTOGRAM, labels), width)
        return Histogram(block, family.bounds)


def _name(family: Family, wanted: Type, labels: tuple[str, ...]) -> tuple[str, ...]:
    assert family.type is wanted
    assert len(family.labels) == len(labels)
    return (family.name, *labels)


# -------------------------------------------------------------------------------------------------------------- what is counted


class RuleMetrics:
    """What is counted of one rule."""

    def __init__(self, make: _Maker, rule: str) -> None:
        self.executions = make.gauge(families.EXECUTIONS, rule)
        """Executions in flight: up when one begins, down when it is over."""
        self.waiters = make.gauge(families.WAITERS, rule)
        """Requests that wait for an outcome."""
        self.lease_losses = make.counter(families.LEASE_LOSSES, rule)
        """An owner found another one in its place."""
        self.leases_not_renewed = make.counter(families.LEASES_NOT_RENEWED, rule)
        """The store did not confirm a renewal."""
        self.fenced = make.counter(families.FENCED, rule)
        """The fence refused an end."""
        self.ends_given_up = make.counter(families.GIVEN_UP, rule)
        """An end was not recorded, and is not asked for any more."""
        self.take_overs = make.counter(families.TAKE_OVERS, rule)
        """An unknown operation was claimed, to be executed again."""
        self.unprotected = make.counter(families.UNPROTECTED, rule)
        """An execution began without the store."""
        self.upstream_seconds = make.histogram(families.UPSTREAM_SECONDS, rule)
        """One attempt at the upstream."""
        self._make = make
        self._rule = rule
        self._decisions = {
            (decision, state): make.counter(families.DECISIONS, rule, decision, state)
            for decision, states in STATES.items()
            for state in states
        }
        self._request_seconds = {
            decision: make.histogram(families.REQUEST_SECONDS, rule, decision) for decision in Decided
        }
        known = (State.COMPLETED, State.FAILED, State.RELEASED)
        possible = [*((state, Reason.NONE) for state in known), *((State.UNKNOWN, reason) for reason in Reason)]
        self._ends = {end: self._end(*end) for end in possible}
        self._unknown = {reason: make.counter(families.UNKNOWN, rule, _label(reason)) for reason in Reason}
        self._own_retries = {cause: make.counter(families.OWN_RETRIES, rule, cause.value) for cause in RetryCause}
        self._probes = {result: make.counter(families.PROBES, rule, result) for result in Probed}

    def decided(self, decision: Decided, state: str, seconds: float) -> None:
        """A protected request got something, that long after its head. `state` is the operation's, or the problem's slug."""
        counter = self._decisions.get((decision, state))
        if counter is None:
            counter = self._make.counter(families.DECISIONS, self._rule, decision, OTHER)
        counter.add()
        self._request_seconds[decision].observe(seconds)

    def ended(self, state: State, reason: Reason = Reason.NONE) -> None:
        """The store acknowledged an execution's end: it left the operation in that state. `reason` is why it is unknown."""
        (self._ends.get((state, reason)) or self._end(state, reason)).add()
        if state is State.UNKNOWN:
            self._unknown[reason].add()

    def sends_again(self, cause: RetryCause) -> None:
        """The proxy itself makes a further attempt."""
        self._own_retries[cause].add()

    def probed(self, result: Probed) -> None:
        """The upstream was asked for a request whether its operation happened."""
        self._probes[result].add()

    def _end(self, state: State, reason: Reason) -> Counter:
        return self._make.counter(families.ENDS, self._rule, _label(state), _label(reason))


class ObservedMetrics:
    """What is counted of one rule that only observes."""

    def __init__(self, make: _Maker, rule: str) -> None:
        self._observed = {
            (would, state): make.counter(families.OBSERVED, rule, would, state)
            for would, states in observation.STATES.items()
            for state in states
        }
        self._suspected = {kind: make.counter(families.SUSPECTED, rule, kind) for kind in Suspected}

    def judged(self, judgement: Judgement) -> None:
        """Enforcing would have done that with one more request."""
        self._observed[judgement.would, judgement.state].add()

    def suspected(self, kind: Suspected) -> None:
        """One more request may have been a duplicate."""
        self._suspected[kind].add()


class CommandErrors:
    """How often one store command gave no fact, by why."""

    def __init__(self, make: _Maker, command: str) -> None:
        self._errors = {kind: make.counter(families.STORE_ERRORS, command, kind) for kind in StoreFailure}

    def add(self, error: StoreError) -> None:
        """Once more."""
        match error:
            case StoreUnavailable():
                kind = StoreFailure.UNAVAILABLE
            case StoreAmbiguous():
                kind = StoreFailure.AMBIGUOUS
            case _:
                kind = StoreFailure.UNREADABLE
        self._errors[kind].add()


class CommandMetrics:
    """What is counted of one store command: its errors, and how long it took to give a fact or to fail."""

    def __init__(self, make: _Maker, command: str) -> None:
        self.errors = CommandErrors(make, command)
        self.seconds = make.histogram(families.STORE_SECONDS, command)


class Metrics:
    """What this process counts. One thread adds."""

    def __init__(self, cells: Cells) -> None:
        self._make = make = _Maker(cells)
        self._cells = cells
        self._rules: dict[str, RuleMetrics] = {}
        self._observed: dict[str, ObservedMetrics] = {}
        self._forwarded = {kind: make.counter(families.FORWARDED, kind) for kind in Passed}
        self.ends_pending = make.gauge(families.ENDS_PENDING)
        """Ends that the store was asked for and has not acknowledged."""
        self.store_circuit_open = make.gauge(families.CIRCUIT_OPEN)
        """1 while this process asks the store for nothing but trials."""
        make.gauge(families.WORKERS).set(1)
        replaced = make.counter(families.REPLACED)
        if cells.inherited:
            replaced.add()

    def rule(self, name: str) -> RuleMetrics:
        """What is counted of the rule of that name."""
        found = self._rules.get(name)
        if found is None:
            found = self._rules[name] = RuleMetrics(self._make, name)
        return found

    def observed(self, name: str) -> ObservedMetrics:
        """What is counted of the rule of that name while it only observes."""
        found = self._observed.get(name)
        if found is None:
            found = self._observed[name] = ObservedMetrics(self._make, name)
        return found

    def command(self, name: str) -> CommandMetrics:
        """What is counted of the store command of that name."""
        return CommandMetrics(self._make, name)

    def command_errors(self, name: str) -> CommandErrors:
        """The errors alone, of a command that lasts as long as it is wanted."""
        return CommandErrors(self._make, name)

    def passed_on(self, kind: Passed) -> None:
        """A request was forwarded that no rule protects."""
        self._forwarded[kind].add()

    @property
    def workers(self) -> int:
        """How many workers there are to be."""
        return self._cells.places

    def sums(self) -> dict[tuple[str, ...], list[int]]:
        """The cells of every metric, by its name and its labels' values, summed over all workers. May be called from any thread."""
        return self._cells.sums()


def _label(member: State | Reason) -> str:
    return member.name.lower()
