"""What a log says of the requests in it: lines in, counts by rule and by client out. Bounded in memory, however long the log is."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Annotated, Final

import msgspec

from idemproxy.idempotency.observation import Suspected, Would
from idemproxy.idempotency.problems import Slug

MOST_RULES: Final = 1_000
MOST_CLIENTS: Final = 5_000
"""Of one rule. Those beyond are counted together."""
MOST_OPERATIONS: Final = 50_000
"""Operations that are remembered until their other lines come: those of one operation stand near each other."""
OTHERS: Final = "(others)"

REPEATS: Final = frozenset({Slug.OUTCOME_UNKNOWN.value, Slug.ANSWER_NOT_KEPT.value})
"""Problems of a request that repeats an operation, beside one that is no retry of it."""


_Ms = Annotated[float, msgspec.Meta(ge=0, le=1e13)]


class Line(msgspec.Struct, frozen=True):
    """One line of the log, as far as it is looked at."""

    event: str
    timestamp: str = ""
    rule: str = ""
    decision: str = ""
    state: str = ""
    status: int | None = None
    ms: _Ms = 0.0
    id: str = ""
    client: str = ""
    agent: str = ""
    key: str = ""
    key_form: str = ""
    behind_ms: _Ms | None = None
    suspected: str = ""
    differs: tuple[str, ...] = ()


class Spread:
    """How long some things took, in milliseconds: the longest, and bounds of any part of them, exact to a tenth."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._steps: Counter[int] = Counter()

    def add(self, ms: float) -> None:
        """One more."""
        self.count += 1
        self.longest = max(self.longest, ms)
        self._steps[math.ceil(math.log(ms, 1.1)) if ms > 1 else 0] += 1

    def within(self, part: float) -> float:
        """What that part of them (0 to 1) did not exceed."""
        wanted, passed = math.ceil(self.count * part), 0
        for step, count in sorted(self._steps.items()):
            passed += count
            if passed >= wanted:
                return min(self.longest, float(1.1**step))
        return self.longest

    def share(self, ms: float) -> float:
        """Which part of them took no longer than that, at least."""
        if ms >= self.longest:
            return 1.0
        return sum(count for step, count in self._steps.items() if 1.1**step <= ms) / self.count


@dataclass(slots=True)
class Tally:
    """Counts of requests that were observed. `repeated` are those that enforcing would not have executed since their operation had been
    begun; `succeeded` are those of them that the service answered below 400 once more."""

    requests: int = 0
    with_key: int = 0
    without_key: int = 0
    executed: int = 0
    duplicates: int = 0
    conflicts: int = 0
    mismatches: int = 0
    repeated: int = 0
    succeeded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    suspected: Counter[str] = field(default_factory=Counter)
    not_judged: Counter[str] = field(default_factory=Counter)

    def add(self, line: Line) -> None:
        """One more request."""
        self.requests += 1
        self.with_key += line.key in ("sent", "derived")
        self.without_key += line.key == "none"
        if line.suspected:
            self.suspected[line.suspected] += 1
        repeats = True
        match Would(line.decision):
            case Would.REPLAY:
                self.duplicates += 1
            case Would.WAIT:
                self.conflicts += 1
            case Would.REFUSE if line.state == Slug.KEY_IN_FLIGHT.value:
                self.conflicts += 1
            case Would.REFUSE if line.state == Slug.KEY_REUSED.value:
                self.mismatches += 1
                repeats = False
            case Would.REFUSE:
                self.refused[line.state] += 1
                repeats = line.state in REPEATS
            case Would.EXECUTE:
                self.executed += 1
                repeats = False
            case Would.NOT_JUDGED:
                self.not_judged[line.state] += 1
                repeats = False
            case Would.PASS_ON | Would.PROBE:
                repeats = False
        if repeats:
            self.repeated += 1
            self.succeeded += line.status is not None and line.status < 400


@dataclass(slots=True)
class Client:
    """One client of a rule: who called, by which program."""

    name: str
    agent: str
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class RuleReport:
    """What the log says of one rule. `enforced` counts its requests while it was enforced, by decision and state."""

    name: str
    tally: Tally = field(default_factory=Tally)
    clients: dict[tuple[str, str], Client] = field(default_factory=dict)
    enforced: Counter[tuple[str, str]] = field(default_factory=Counter)
    key_forms: Counter[str] = field(default_factory=Counter)
    differs: Counter[tuple[str, ...]] = field(default_factory=Counter)
    switched: int = 0
    gaps: Spread = field(default_factory=Spread)
    """From an operation's first request to each later one."""
    overlaps: Spread = field(default_factory=Spread)
    """From a request that came while the first was running to the end of that."""

    def client(self, line: Line) -> Client:
        """The client of a line."""
        key = (line.client, line.agent)
        found = self.clients.get(key)
        if found is None:
            if len(self.clients) >= MOST_CLIENTS:
                key = (OTHERS, "")
            found = self.clients.setdefault(key, Client(*key))
        return found


class Seen(Enum):
    """What a line of a log is."""

    COUNTED = auto()
    OTHER_EVENT = auto()
    OTHER_VERSION = auto()
    NO_LINE = auto()


@dataclass(slots=True)
class _Operation:
    """What is known of one operation so far: how long its first request took, and how far behind those came that met it running."""

    took: float | None = None
    behind: list[float] = field(default_factory=list)


class Report:
    """Counts over one log."""

    def __init__(self) -> None:
        self.rules: dict[str, RuleReport] = {}
        self.lines: Counter[Seen] = Counter()
        self.cut = False
        """The last line is cut."""
        self.since = ""
        self.until = ""
        self._decoder = msgspec.json.Decoder(Line)
        self._operations: OrderedDict[tuple[str, str], _Operation] = OrderedDict()

    def read(self, lines: Iterable[bytes]) -> None:
        """Count them all; each but the last ends with a line feed."""
        for text in lines:
            if not text.strip():
                continue
            seen = self._add(text)
            if seen is Seen.NO_LINE and not text.endswith(b"\n"):
                self.cut = True
            else:
                self.lines[seen] += 1

    def _add(self, text: bytes) -> Seen:
        try:
            line = self._decoder.decode(text)
        except msgspec.ValidationError:
            return Seen.OTHER_VERSION if b'"event":' in text else Seen.NO_LINE
        except (msgspec.MsgspecError, ValueError):
            return Seen.NO_LINE
        match line.event:
            case "observed":
                seen = self._observed(line)
            case "decision":
                seen = self._enforced(line)
            case _:
                return Seen.OTHER_EVENT
        if seen is Seen.COUNTED and line.timestamp:
            self.since = min(self.since or line.timestamp, line.timestamp)
            self.until = max(self.until, line.timestamp)
        return seen

    def _rule(self, line: Line) -> RuleReport:
        found = self.rules.get(line.rule)
        if found is None:
            name = line.rule if len(self.rules) < MOST_RULES else OTHERS
            found = self.rules.setdefault(name, RuleReport(name))
        return found

    def _enforced(self, line: Line) -> Seen:
        rule = self._rule(line)
        if len(rule.enforced) < MOST_CLIENTS:
            rule.enforced[line.decision, line.state] += 1
        self._mismatch(rule, line)
        return Seen.COUNTED

    def _mismatch(self, rule: RuleReport, line: Line) -> None:
        if line.state == Slug.KEY_REUSED.value and len(rule.differs) < MOST_CLIENTS:
            rule.differs[line.differs] += 1

    def _observed(self, line: Line) -> Seen:
        if line.decision not in _DECISIONS or line.suspected not in _SUSPICIONS:
            return Seen.OTHER_VERSION
        rule = self._rule(line)
        rule.tally.add(line)
        if line.client:
            rule.client(line).tally.add(line)
        if line.key_form:
            rule.key_forms[line.key_form] += 1
        self._mismatch(rule, line)
        if line.behind_ms is not None and line.state != Slug.KEY_REUSED.value:
            rule.gaps.add(line.behind_ms)
        rule.switched += line.status == 101
        if line.id:
            self._overlap(rule, line)
        return Seen.COUNTED

    def _overlap(self, rule: RuleReport, line: Line) -> None:
        """The line of the first request and those of the ones that met it come in any order."""
        running = line.decision == Would.WAIT or line.state == Slug.KEY_IN_FLIGHT.value
        if not running and line.decision != Would.EXECUTE:
            return
        operation = self._operations.setdefault((rule.name, line.id), _Operation())
        self._operations.move_to_end((rule.name, line.id))
        if len(self._operations) > MOST_OPERATIONS:
            self._operations.popitem(last=False)
        if not running:
            operation.took = line.ms
        elif line.behind_ms is not None:
            operation.behind.append(line.behind_ms)
        if operation.took is not None:
            for behind in operation.behind:
                rule.overlaps.add(max(0.0, operation.took - behind))
            operation.behind.clear()


_DECISIONS: Final = frozenset(Would)
_SUSPICIONS: Final = frozenset({"", *Suspected})


def busiest(clients: Iterable[Client]) -> Iterator[Client]:
    """Those first of whom an operator wants to hear: by what would have been repeated, refused or is suspected, then by requests. Those
    that were counted together come last."""

    def telling(client: Client) -> tuple[bool, int, int]:
        tally = client.tally
        told = tally.repeated + tally.mismatches + tally.refused.total() + tally.suspected.total()
        return client.name != OTHERS, told, tally.requests

    yield from sorted(clients, key=telling, reverse=True)
