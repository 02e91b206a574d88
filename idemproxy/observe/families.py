"""Every metric, in one table: its name, type, labels and meaning. Labels are closed sets and rules' names, never anything that a
caller sends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Type(Enum):
    """What a metric's values are. A counter's name is written with `_total` behind it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `bounds` are a histogram's, in microseconds: a value counts below the first bound that it does not exceed."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str
    bounds: tuple[int, ...] = ()


def _counter(name: str, labels: tuple[str, ...], meaning: str) -> Family:
    return Family(f"idemproxy_{name}", Type.COUNTER, labels, meaning)


def _gauge(name: str, labels: tuple[str, ...], meaning: str) -> Family:
    return Family(f"idemproxy_{name}", Type.GAUGE, labels, meaning)


def _seconds(name: str, labels: tuple[str, ...], meaning: str, bounds: tuple[int, ...]) -> Family:
    return Family(f"idemproxy_{name}_seconds", Type.HISTOGRAM, labels, meaning, bounds)


MS: Final = 1_000
_REQUEST_BOUNDS: Final = (
    *(500, 1 * MS, 2_500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS),
    *(1_000 * MS, 2_500 * MS, 5_000 * MS, 10_000 * MS, 30_000 * MS, 60_000 * MS),
)
_STORE_BOUNDS: Final = (
    *(100, 250, 500, 1 * MS, 2_500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS),
    *(1_000 * MS, 2_500 * MS),
)

DECISIONS: Final = _counter(
    "decisions",
    ("rule", "decision", "state"),
    "Protected requests, by what they got: executed or replayed, with the operation's state, or refused, with the problem.",
)
FORWARDED: Final = _counter(
    "forwarded", ("kind",), "Requests passed on as they came: no_rule named them, or no_key came."
)
ENDS: Final = _counter("ends", ("rule", "state", "reason"), "Ends of executions that the store acknowledged.")
UNKNOWN: Final = _counter("unknown", ("rule", "reason"), "Executions whose outcome was recorded as unknown, by why.")
FENCED: Final = _counter("fenced", ("rule",), "Ends that the fence refused: the operation was taken over or settled.")
GIVEN_UP: Final = _counter(
    "ends_given_up", ("rule",), "Ends that the store never took: the operation's lease lapses instead."
)
LEASE_LOSSES: Final = _counter("lease_losses", ("rule",), "Owners that found another one in their place.")
LEASES_NOT_RENEWED: Final = _counter(
    "lease_not_renewed", ("rule",), "Renewals of a lease that the store did not confirm."
)
TAKE_OVERS: Final = _counter("take_overs", ("rule",), "Unknown operations that were claimed to be executed again.")
OWN_RETRIES: Final = _counter("own_retries", ("rule", "cause"), "Further attempts that the proxy made of itself.")
PROBES: Final = _counter("probes", ("rule", "result"), "Requests for which the upstream was asked whether it happened.")
UNPROTECTED: Final = _counter("unprotected", ("rule",), "Executions without the store, as the rule's fail_open allows.")
OBSERVED: Final = _counter(
    "observed",
    ("rule", "decision", "state"),
    "Requests under rules that only observe, by what enforcing the rule would have done.",
)
SUSPECTED: Final = _counter(
    "suspected_duplicates",
    ("rule", "kind"),
    "Observed requests that repeat a caller's bytes within seconds, with no key or with a new one.",
)
STORE_ERRORS: Final = _counter("store_errors", ("command", "kind"), "Store commands that gave no fact.")
REPLACED: Final = _counter("workers_replaced", (), "Workers that took the place of one that had ended.")

EXECUTIONS: Final = _gauge("executions_in_flight", ("rule",), "Executions from the won claim to the end.")
WAITERS: Final = _gauge("waiters", ("rule",), "Requests that wait for the outcome of a running operation.")
ENDS_PENDING: Final = _gauge("ends_pending", (), "Ends that the store was asked for and has not acknowledged yet.")
CIRCUIT_OPEN: Final = _gauge(
    "store_circuit_open", (), "Workers that ask the store for nothing but trials, since it failed."
)
WORKERS: Final = _gauge("workers", (), "Worker processes that live.")
WORKERS_CONFIGURED: Final = _gauge("workers_configured", (), "Worker processes that there should be.")
BUILD: Final = _gauge("build_info", ("version",), "Always 1: the version that runs.")

REQUEST_SECONDS: Final = _seconds(
    "request", ("rule", "decision"), "From a protected request's head to what it got decided.", _REQUEST_BOUNDS
)
UPSTREAM_SECONDS: Final = _seconds(
    "upstream",
    ("rule",),
    "One attempt at the upstream, from before it is sent to the end of its answer.",
    _REQUEST_BOUNDS,
)
STORE_SECONDS: Final = _seconds("store", ("command",), "Store commands, failed ones too.", _STORE_BOUNDS)

FAMILIES: Final = (
    *(DECISIONS, FORWARDED, ENDS, UNKNOWN, FENCED, GIVEN_UP, LEASE_LOSSES, LEASES_NOT_RENEWED, TAKE_OVERS, OWN_RETRIES),
    *(PROBES, UNPROTECTED, OBSERVED, SUSPECTED, EXECUTIONS, WAITERS, ENDS_PENDING, REQUEST_SECONDS, UPSTREAM_SECONDS),
    *(STORE_SECONDS, STORE_ERRORS, CIRCUIT_OPEN, WORKERS, WORKERS_CONFIGURED, REPLACED, BUILD),
)
