"""The settings of a rule that say what happens when things go wrong: what a status means, the proxy's own further attempts, and
operations whose outcome is unknown."""

from __future__ import annotations

from dataclasses import dataclass

from idemproxy.config import values
from idemproxy.config.faults import Faults
from idemproxy.config.kinds import INVALID, Listing, Schema, Whole, Words, WrongError, duration
from idemproxy.config.table import Either, Field, Found, Table
from idemproxy.config.tree import Leaf, Node, Shape
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import RetryCause
from idemproxy.idempotency.template import Template


@dataclass(frozen=True, slots=True)
class Statuses:
    """A status or a class of them, as a set."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if isinstance(node, Leaf) and (node.shape is Shape.WHOLE or (node.foreign and node.text.isdecimal())):
            number = Whole(200, 599).read(node, path, faults)
            return frozenset({number}) if isinstance(number, int) else number
        return Words(values.statuses, values.STATUS, {}).read(node, path, faults)

    def schema(self) -> Schema:
        text = {"type": "string", "pattern": "^[2-5][xX][xX]$"}
        return {"anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, text, {"$ref": "#/$defs/substituted"}]}


@dataclass(frozen=True, slots=True)
class ProbeSetting:
    """`on_unknown: {probe: ..}`. `settle` is milliseconds; None: as long as the upstream may take."""

    target: Template
    settle: int | None


def _probe(found: Found) -> object:
    inner = found.inner("probe")
    target = inner.get("url", Template)
    return INVALID if target is None else ProbeSetting(target, inner.get("settle", int))


_POLICIES = {"block": OnUnknown.BLOCK, "retry": OnUnknown.RETRY}


def _on_unknown(text: str) -> object:
    if text in _POLICIES:
        return _POLICIES[text]
    raise WrongError("", values.ON_UNKNOWN)


ON_UNKNOWN = Either(
    Words(_on_unknown, values.ON_UNKNOWN, {"enum": list(_POLICIES)}),
    Table(
        "on_unknown",
        (
            Field(
                "probe",
                Table(
                    "probe",
                    (
                        Field(
                            "url",
                            Words(values.probe_target, values.PROBE, {"pattern": "^/"}),
                            "A path of the upstream that tells whether the operation happened; parts as {header:Idempotency-Key}.",
                            required=True,
                        ),
                        Field(
                            "settle",
                            duration("1ms", "24h", "60s"),
                            "How long a 404 does not count after the owner's last sign of life. Default: upstream_timeouts.response.",
                        ),
                    ),
                ),
                "Ask the upstream.",
                required=True,
            ),
        ),
    ),
    _probe,
)


def _retry_cause(text: str) -> object:
    if text in _CAUSES:
        return _CAUSES[text]
    try:
        return values.statuses(text)
    except WrongError:
        raise WrongError("", values.RETRY_ON) from None


_CAUSES = {"unreachable": RetryCause.UNREACHABLE, "unknown": RetryCause.UNKNOWN}


@dataclass(frozen=True, slots=True)
class RetryCauses:
    """What the proxy sends again after: a cause by name, a status or a class of them."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if isinstance(node, Leaf) and (node.shape is Shape.WHOLE or (node.foreign and node.text.isdecimal())):
            return Statuses().read(node, path, faults)
        return Words(_retry_cause, values.RETRY_ON, {}).read(node, path, faults)

    def schema(self) -> Schema:
        named: Schema = {"type": "string", "enum": list(_CAUSES)}
        return {"anyOf": [named, *Statuses().schema()["anyOf"]]}


RETRY = Table(
    "rule.retry",
    (
        Field("attempts", Whole(1, 20), "How often the proxy itself sends a request, the first time included.", 1),
        Field(
            "on",
            Listing(RetryCauses(), "causes"),
            "After what it sends again: unreachable (nothing was sent), unknown (at_least_once only), statuses.",
            ["unreachable"],
        ),
        Field(
            "backoff", duration("1ms", "1m", "100ms"), "The first pause; each further one is twice as long.", "100ms"
        ),
        Field(
            "max_backoff",
            duration("1ms", "10m", "5s"),
            "The longest pause. An answer that asks for a longer one (Retry-After) goes to the client at once.",
            "5s",
        ),
    ),
)
