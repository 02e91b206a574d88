"""Rules: what `routes:` in the config says. Which rule a request meets is in `matching.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from idemproxy.idempotency.cors import Cors
from idemproxy.idempotency.patterns import OwnPattern, Pattern
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.shapes import Shape
from idemproxy.idempotency.signatures import SIGNED_FIELDS, Verification
from idemproxy.idempotency.template import Part, Source, Template


class InFlight(Enum):
    """What a duplicate of a running operation gets: the outcome, once it is there, or a 409 at once."""

    WAIT = "wait"
    REJECT = "reject"


class Guarantee(Enum):
    """What a rule promises of its operations' executions."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


class OnStoreFailure(Enum):
    """What happens to a matched request when the store gives no fact: refused (503), or forwarded unprotected."""

    FAIL_CLOSED = "fail_closed"
    FAIL_OPEN = "fail_open"


class Mode(Enum):
    """Whether a rule is applied, or only told what applying it would have done."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class BodyRecipe(Enum):
    """How a body enters the fingerprint."""

    RAW = "raw"
    JSON = "json"
    FORM = "form"
    MULTIPART = "multipart"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a rule is for. `methods`: empty is any method. `path` is the pattern as written: `{name}` is one segment,
    `**` any rest. `hosts` are lower case, without a port: empty is any. `headers`: (lower-case name, value), each must be there."""

    methods: frozenset[bytes]
    path: str
    hosts: frozenset[bytes] = frozenset()
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Birth(Enum):
    """Keys that bear the time that they were made at."""

    UUID7 = "uuid7"
    ULID = "ulid"


@dataclass(frozen=True, slots=True)
class KeyAge:
    """How a key's age is known: by the key itself, or by a header (lower case) that says when the request was first sent.
    `max_clock_skew` is milliseconds that clients' clocks may be off."""

    by: Birth | bytes
    max_clock_skew: int = 300_000


@dataclass(frozen=True, slots=True)
class RetryMarker:
    """The header (lower case) in which a client numbers its attempts from 0, and for how many milliseconds a further attempt belongs to
    an operation that began."""

    header: bytes
    window: int


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the key is read: header names in lower case; `pattern` must match the whole key (None: any); `form` is the format's
    name, for messages. Where none of the headers is there, the key is derived by the first of `natural` that can be filled; where none
    can, by the retry marker. `batches` are media types, in lower case, of bodies that hold several operations, which no derived key can
    name."""

    headers: tuple[bytes, ...] = (b"idempotency-key",)
    required: bool = False
    form: str = "any"
    pattern: Pattern | OwnPattern | None = None
    max_length: int = 255
    natural: tuple[Template, ...] = ()
    age: KeyAge | None = None
    batches: frozenset[bytes] = frozenset()
    marker: RetryMarker | None = None


@dataclass(frozen=True, slots=True)
class HeaderScope:
    """A header field's value, or the first group of `pattern` in it; the whole value where the pattern does not match."""

    name: bytes
    pattern: Pattern | None = None


@dataclass(frozen=True, slots=True)
class LiteralScope:
    """The same value for every caller."""

    text: bytes


@dataclass(frozen=True, slots=True)
class CookieScope:
    """A cookie's value."""

    name: bytes


@dataclass(frozen=True, slots=True)
class PathScope:
    """The segment of the request's path that stands where the rule's path has `{name}`."""

    name: str


@dataclass(frozen=True, slots=True)
class CertificateScope:
    """The SHA-256 of the client's TLS certificate."""


@dataclass(frozen=True, slots=True)
class ClaimScope:
    """What the verified token in Authorization claims under that name."""

    name: str


ScopePart = HeaderScope | LiteralScope | CookieScope | PathScope | CertificateScope | ClaimScope


class Within(Enum):
    """Where something is that may differ in a retry."""

    JSON = "json"
    FORM = "form"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A JSON pointer, or the name of a form's or the query's parameter."""

    within: Within
    name: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What must be equal in a retry, beside method and path. `headers` are in lower case."""

    headers: tuple[bytes, ...] = (b"content-type",)
    query: bool = True
    body: BodyRecipe = BodyRecipe.RAW
    ignore: tuple[Ignored, ...] = ()


class RetryCause(Enum):
    """Why the proxy itself may send an operation once more."""

    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class OwnRetry:
    """The proxy's own further attempts. `attempts` counts the first one too; an answer with one of `statuses` is a cause. `backoff` and
    `max_backoff` are milliseconds: the first pause, and the longest."""

    attempts: int = 1
    causes: frozenset[RetryCause] = frozenset({RetryCause.UNREACHABLE})
    statuses: frozenset[int] = frozenset()
    backoff: int = 100
    max_backoff: int = 5_000


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """How the upstream is asked whether an operation happened: a GET of `target`. `settle` is how many milliseconds after its owner's
    last sign of life an operation that the upstream does not know counts as not executed."""

    target: Template
    settle: int


@dataclass(frozen=True, slots=True)
class Reauthorize:
    """What the upstream is asked before a replay to a credential that is not known to have begun the operation: a GET of `target`.
    `cache` is how many milliseconds a yes is remembered."""

    target: Template
    cache: int = 60_000


AT_MOST_ONCE_RELEASES = frozenset({401, 402, 407, 421, 425, 428, 429})
AT_LEAST_ONCE_RELEASES = frozenset(range(400, 600))


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `routes:`. Durations are milliseconds, sizes bytes, header names lower case (but `attempt_header`, which is
    sent as written). `preset` is the name of the preset that it was made of."""

    name: str
    match: Match
    key: KeySource = KeySource()
    scope: tuple[ScopePart, ...] = (HeaderScope(b"authorization"),)
    fingerprint: Recipe = Recipe()
    guarantee: Guarantee = Guarantee.AT_MOST_ONCE
    in_flight: InFlight = InFlight.WAIT
    wait_timeout: int = 10_000
    max_waiters: int = 100
    retry_after: int = 1_000
    on_unknown: OnUnknown = OnUnknown.BLOCK
    probe: ProbeRule | None = None
    verify: Verification | None = None
    reauthorize: Reauthorize | None = None
    retry: OwnRetry = OwnRetry()
    on_store_failure: OnStoreFailure = OnStoreFailure.FAIL_CLOSED
    ttl: int = 86_400_000
    lease: int = 30_000
    release_statuses: frozenset[int] = AT_MOST_ONCE_RELEASES
    unknown_statuses: frozenset[int] = frozenset()
    attempt_header: bytes | None = None
    fresh_connection: bool = False
    max_request_body: int = 8 << 20
    max_response_body: int = 8 << 20
    replay_drop_headers: frozenset[bytes] = frozenset()
    problem_status: Mapping[Slug, int] = field(default_factory=lambda: MappingProxyType({}))
    mode: Mode = Mode.ENFORCE
    problem_shape: Shape = Shape.PROBLEM
    cors: Cors | None = None
    preset: str | None = None


def claims_of(rule: Rule) -> tuple[str, ...]:
    """What a token must claim for a rule to know its caller."""
    return tuple([part.name for part in rule.scope if isinstance(part, ClaimScope)])


def own_fields(rule: Rule) -> frozenset[bytes]:
    """The header fields that make a request what it is to a rule, in lower case: nothing on the way may make one vanish, or slip one in."""
    scope = {part.name for part in rule.scope if isinstance(part, HeaderScope)}
    if any(isinstance(part, CookieScope) for part in rule.scope):
        scope.add(b"cookie")
    if claims_of(rule):
        scope.add(b"authorization")
    if rule.reauthorize is not None:
        scope |= {b"authorization", b"cookie", b"x-api-key"}
    templates = (*rule.key.natural, *((rule.probe.target,) if rule.probe is not None else ()))
    read = {name for template in templates for each in template.pieces if (name := _field(each)) is not None}
    matched = {name for name, _ in rule.match.headers}
    born = {rule.key.age.by} if rule.key.age is not None and isinstance(rule.key.age.by, bytes) else set()
    kinds = {b"content-type"} if rule.key.batches else set()
    marked = {rule.key.marker.header} if rule.key.marker is not None else set()
    signed = SIGNED_FIELDS[rule.verify.scheme] if rule.verify is not None else frozenset()
    return frozenset(
        {*rule.key.headers, *rule.fingerprint.headers, *scope, *matched, *read, *born, *kinds, *marked, *signed}
    )


def _field(piece: bytes | Part) -> bytes | None:
    """The header field that a piece of a template is read from."""
    match piece:
        case Part(Source.HEADER, name):
            return name.encode()
        case Part(Source.COOKIE):
            return b"cookie"
        case _:
            return None
