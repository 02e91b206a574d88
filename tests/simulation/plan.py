"""What a schedule is made of, drawn from its seed before it begins: the rule, the processes, who asks for what and when, and what goes
wrong. Every schedule draws which kinds of faults it has at all, so that some are calm and each fault is often alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    AT_LEAST_ONCE_RELEASES,
    Guarantee,
    InFlight,
    Match,
    OnStoreFailure,
    OwnRetry,
    ProbeRule,
    RetryCause,
    Rule,
)
from idemproxy.idempotency.template import parse_template
from tests.simulation.clients import PATH, Habits
from tests.simulation.fates import UpstreamFaults
from tests.simulation.loop import Moment
from tests.simulation.store import StoreFaults, Trouble

LARGE: Final = 40_000
"""Bytes of a request's body that is sent in pieces."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A rule, and what holds under it. `longest`: leases that anything at the upstream takes at most."""

    rule: Rule
    at_most_once: bool
    weight: int
    longest: float = 2.5
    vague: tuple[int, ...] = ()
    declining: tuple[int, ...] = (402, 429)
    wiped: bool = False
    other: Rule | None = None
    """What every second process has for a rule: a deployment that is being changed."""


_BLOCK: Final = Rule(
    "charges",
    Match(frozenset({b"POST"}), PATH.decode()),
    lease=3_000,
    wait_timeout=8_000,
    max_response_body=300,
    attempt_header=b"Attempt",
)
_RETRY: Final = replace(_BLOCK, on_unknown=OnUnknown.RETRY)
_AGAIN: Final = replace(
    _RETRY,
    guarantee=Guarantee.AT_LEAST_ONCE,
    on_store_failure=OnStoreFailure.FAIL_OPEN,
    release_statuses=AT_LEAST_ONCE_RELEASES,
)
_PROBE: Final = replace(
    _BLOCK,
    on_unknown=OnUnknown.PROBE,
    probe=ProbeRule(parse_template("/v1/charges/by-key/{header:Idempotency-Key}"), settle=4_000),
)
_OWN: Final = OwnRetry(attempts=3, backoff=50, max_backoff=1_000)
_OWN_UNKNOWN: Final = replace(
    _OWN, causes=frozenset({RetryCause.UNREACHABLE, RetryCause.UNKNOWN}), statuses=frozenset({500})
)

VARIANTS: Final[dict[str, Variant]] = {
    "block": Variant(_BLOCK, at_most_once=True, weight=6),
    "short lease": Variant(replace(_BLOCK, lease=400, wait_timeout=2_000), at_most_once=True, weight=2),
    "short ttl": Variant(replace(_BLOCK, lease=1_000, ttl=2_500, wait_timeout=3_000), at_most_once=True, weight=1),
    "reject": Variant(replace(_BLOCK, in_flight=InFlight.REJECT), at_most_once=True, weight=1),
    "vague": Variant(replace(_BLOCK, unknown_statuses=frozenset({502})), at_most_once=True, weight=1, vague=(502,)),
    "own retries": Variant(replace(_BLOCK, retry=_OWN), at_most_once=True, weight=2),
    "probe": Variant(_PROBE, at_most_once=True, weight=2, longest=1.2),
    "mixed": Variant(_BLOCK, at_most_once=False, weight=1, other=_RETRY),
    "wiped": Variant(_BLOCK, at_most_once=True, weight=1, wiped=True),
    "retry": Variant(_RETRY, at_most_once=False, weight=3),
    "retry, short lease": Variant(replace(_RETRY, lease=400, wait_timeout=2_000), at_most_once=False, weight=1),
    "again": Variant(_AGAIN, at_most_once=False, weight=2),
    "again, own retries": Variant(replace(_AGAIN, retry=_OWN_UNKNOWN), at_most_once=False, weight=2),
}
_MOMENTS: Final = tuple(Moment)
_NAMES: Final = list(VARIANTS)
_WEIGHTS: Final = [variant.weight for variant in VARIANTS.values()]


class Act(Enum):
    """A fault of one process, or of one client."""

    CRASH = "crash"
    STOP = "stop"
    DRAIN = "drain"
    BREAK = "break"
    LEAVE = "leave"
    RELOAD = "reload"


_LIKELY: Final = {Act.CRASH: 0.15, Act.STOP: 0.25, Act.DRAIN: 0.12, Act.BREAK: 0.12, Act.LEAVE: 0.15, Act.RELOAD: 0.08}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a process: at `at` seconds; with `moment`, when it is there next; with `steps`, that many callbacks of it later.
    `lasts`: seconds until it goes on, or begins anew."""

    act: Act
    process: int
    at: float
    moment: Moment | None
    steps: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The store is in trouble."""

    trouble: Trouble
    at: float
    lasts: float


@dataclass(frozen=True, slots=True)
class Asking:
    """A client: which operation it asks for, with which body, when, and at which process first (None: at any)."""

    op: int
    body: bytes
    at: float
    process: int | None
    habits: Habits


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule, as far as it is settled beforehand. Times are seconds; at `quiet_at` every fault is over."""

    name: str
    variant: Variant
    processes: int
    ops: tuple[tuple[bytes, bytes], ...]
    askings: tuple[Asking, ...]
    faults: tuple[Fault, ...]
    outages: tuple[Outage, ...]
    wipes: tuple[float, ...]
    store: StoreFaults
    circuit: bool
    """Whether each process has its circuit around the store, as `open_store` gives it."""
    upstream: UpstreamFaults
    response: float
    quiet_at: float


@dataclass(frozen=True, slots=True)
class Focus:
    """What every schedule is to have: a variant, a kind of fault, that many operations; None leaves it to chance."""

    variant: str | None = None
    act: Act | None = None
    ops: int | None = None


ANY: Final = Focus()


def draw_plan(chance: random.Random, focus: Focus = ANY) -> Plan:
    """What the schedule of these random numbers is made of."""
    name = focus.variant or chance.choices(_NAMES, _WEIGHTS)[0]
    variant = VARIANTS[name]
    lease = variant.rule.lease / 1000
    quiet_at = lease * (2.5 + 2 * chance.random())
    processes = chance.choice((1, 2, 2, 2, 3))
    ops = _ops(chance, focus.ops or chance.choice((1, 1, 1, 2, 3)))
    response = lease * 2
    askings = _askings(chance, ops, processes, lease)
    return Plan(
        name,
        variant,
        processes,
        ops,
        askings,
        _faults(chance, processes, lease, quiet_at, [asking.at for asking in askings], focus.act),
        _outages(chance, lease, quiet_at),
        tuple(chance.random() * lease * 2 for _ in range(chance.randint(1, 2))) if variant.wiped else (),
        _store_faults(chance, lease),
        chance.random() < 0.5,
        UpstreamFaults(
            rough=chance.choice((0.0, 0.2, 0.5, 0.9)),
            longest=lease * variant.longest,
            response=response,
            declining=variant.declining,
            vague=variant.vague,
        ),
        response,
        quiet_at,
    )


def _ops(chance: random.Random, count: int) -> tuple[tuple[bytes, bytes], ...]:
    """Two callers may use the same key."""
    return tuple(chance.sample(((b"ann", b"k1"), (b"bob", b"k1"), (b"ann", b"k2")), count))


def _askings(
    chance: random.Random, ops: tuple[tuple[bytes, bytes], ...], processes: int, lease: float
) -> tuple[Asking, ...]:
    askings: list[Asking] = []
    large = chance.random() < 0.15
    impatient = chance.random() < 0.3
    slow = chance.random() < 0.1
    together = chance.random() < 0.4
    for op in range(len(ops)):
        count = chance.choice((1, 2, 2, 3, 4)) if len(ops) == 1 else chance.choice((1, 1, 2, 3))
        begin = 0.01 if together else chance.random() * lease / 2
        for _ in range(count):
            habits = Habits(
                tries=chance.choice((1, 1, 2, 3)),
                patience=chance.random() * lease if impatient and chance.random() < 0.5 else lease * 4,
                backoff=lease / 6,
                upload=chance.random() * 0.05 if slow else 0.0,
                reading=chance.random() * lease * 3 if slow else 0.0,
            )
            other = chance.random() < 0.06
            body = (b"reused.." if other else b"same....") + (b"." * LARGE if large else b"")
            process = None if chance.random() < 0.8 else chance.randrange(processes)
            askings.append(Asking(op, body, begin, process, habits))
            begin += chance.choice((0.0, 0.003, 0.05, 1.0)) * chance.random() * lease
    return tuple(askings)


def _faults(
    chance: random.Random, processes: int, lease: float, quiet_at: float, begins: list[float], sure: Act | None
) -> tuple[Fault, ...]:
    """`begins`: when clients ask. `sure`: a fault that is there in any case."""
    acts = [act for act in Act if chance.random() < _LIKELY[act] or act is sure]
    faults: list[Fault] = []
    for act in acts:
        for _ in range(chance.choice((1, 1, 2))):
            moment, steps, at = None, 0, chance.random() * min(quiet_at, lease * 2)
            match chance.choice(("moment", "moment", "step", "time")):
                case "moment":
                    moment, steps = chance.choice(_MOMENTS), chance.choice((1, 1, 2, 3))
                    at = 0.0 if chance.random() < 0.7 else at
                case "step":
                    at, steps = chance.choice(begins), chance.randrange(1, 60)
                case _:
                    pass
            lasts = min(chance.choice((0.02, 0.8, 1.4, 2.0)) * (0.7 + chance.random() * 0.6) * lease, quiet_at - at)
            faults.append(Fault(act, chance.randrange(processes), at, moment, steps, lasts))
    return tuple(faults)


def _outages(chance: random.Random, lease: float, quiet_at: float) -> tuple[Outage, ...]:
    if chance.random() < 0.8:
        return ()
    trouble = chance.choice((Trouble.REFUSING, Trouble.SILENT, Trouble.FROZEN))
    at = chance.random() * lease
    return (Outage(trouble, at, min(chance.choice((0.1, 0.5, 1.5)) * chance.random() * lease, quiet_at - at)),)


def _store_faults(chance: random.Random, lease: float) -> StoreFaults:
    timeout = lease / 5
    if chance.random() < 0.5:
        return StoreFaults(timeout=timeout, lost_notice=chance.choice((0.0, 0.0, 0.5)))
    rates = (0.0, 0.0, 0.05, 0.15, 0.4)
    return StoreFaults(
        timeout=timeout,
        lost_command=chance.choice(rates),
        lost_reply=chance.choice(rates),
        late=chance.choice(rates),
        slow=chance.choice((0.0, 0.0, 0.2)),
        lateness=lease * 0.6,
        lost_notice=chance.choice((0.0, 0.3, 1.0)),
        nameless_notice=chance.choice((0.0, 0.5)),
    )
