"""The configuration, as one table: every setting with its kind, bounds, default and description. The reader and the JSON Schema
both come from it. A default here is what one would write; what a setting means is in `build.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from idemproxy.config import values
from idemproxy.config.cors import CORS
from idemproxy.config.keys import (
    BATCHES,
    FIRST_SENT,
    IGNORED,
    MARKER,
    NATURAL,
    SCOPE_PART,
    SKEW,
    header_name,
    regex_field,
)
from idemproxy.config.kinds import (
    SUBSTITUTED,
    Flag,
    Listing,
    OrNull,
    Pairs,
    Schema,
    Whole,
    Words,
    choice,
    duration,
    matching,
    size,
    timeout,
)
from idemproxy.config.policies import ON_UNKNOWN, RETRY, Statuses
from idemproxy.config.presets import PRESETS
from idemproxy.config.reauthorize import REAUTHORIZE
from idemproxy.config.table import Either, Field, Table
from idemproxy.config.tokens import JWT
from idemproxy.config.verify import VERIFY
from idemproxy.config.workers import Workers
from idemproxy.idempotency.patterns import OwnPattern, Pattern
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.routes import Birth, BodyRecipe, Guarantee, InFlight, Mode, OnStoreFailure
from idemproxy.idempotency.shapes import Shape


@dataclass(frozen=True, slots=True)
class KeyForm:
    """A `key.format`: its name, what a key must match whole, and how long such a key is (0: it varies), and whether it
    bears the time that it was made at."""

    name: str
    pattern: Pattern | OwnPattern | None = None
    length: int = 0
    birth: Birth | None = None


def _uuid(version: str, variant: str) -> OwnPattern:
    hexes = "[0-9a-fA-F]"
    form = f"{hexes}{{8}}-{hexes}{{4}}-{version}{hexes}{{3}}-{variant}{hexes}{{3}}-{hexes}{{12}}"
    return OwnPattern(re.compile(form.encode()))


_FORMS = {
    "any": KeyForm("any"),
    "uuid": KeyForm("uuid", _uuid("[0-9a-fA-F]", "[0-9a-fA-F]"), 36),
    "uuid4": KeyForm("uuid4", _uuid("4", "[89abAB]"), 36),
    "uuid7": KeyForm("uuid7", _uuid("7", "[89abAB]"), 36, Birth.UUID7),
    "ulid": KeyForm("ulid", OwnPattern(re.compile(b"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}")), 26, Birth.ULID),
}


FORMAT = Either(
    choice(_FORMS),
    Table("format", (regex_field("regex", "What a whole key matches."),)),
    lambda found: KeyForm("regex", found.need("regex", Pattern)),
)

MATCH = Table(
    "rule.match",
    (
        Field(
            "methods",
            Listing(Words(values.method, values.METHOD, {"pattern": "^[!-~]+$"}), "methods"),
            "Methods; [] is any.",
            ["POST", "PUT", "PATCH", "DELETE"],
        ),
        Field(
            "path",
            Words(values.path, values.PATH, {"pattern": "^/"}),
            "The path: {name} is one segment, ** at the end any rest.",
            required=True,
            own=True,
        ),
        Field(
            "hosts", Listing(Words(values.hostname, values.HOST, {}), "hosts"), "Hosts, without port; [] is any.", []
        ),
        Field(
            "headers",
            Pairs(header_name(), Words(values.match_value, "write the value", {}), "header names and values"),
            "Header fields that must be there with these values.",
            {},
        ),
    ),
)

KEY = Table(
    "rule.key",
    (
        Field(
            "header",
            Listing(header_name(values.key_header), "headers", 1),
            "Headers that may carry the key.",
            ["Idempotency-Key"],
        ),
        NATURAL,
        Field("required", Flag(), "true: no key is an error; false: no key is forwarded untouched.", False),
        Field("format", FORMAT, "What a key looks like: a named form, or {regex: ...}.", "any"),
        Field("max_length", Whole(1, 8192), "The longest key from a header, in bytes.", 255),
        FIRST_SENT,
        SKEW,
        BATCHES,
        MARKER,
    ),
)

FINGERPRINT = Table(
    "rule.fingerprint",
    (
        Field(
            "headers", Listing(header_name(), "headers"), "Headers that must be the same in a retry.", ["Content-Type"]
        ),
        Field("query", Flag(), "Whether the query must be the same.", True),
        Field(
            "body",
            choice({each.value: each for each in BodyRecipe}),
            "raw: the body must be the same byte for byte; json, form, multipart: by what it says; none: it does not count.",
            "raw",
        ),
        IGNORED,
    ),
)

_SLUGS = {slug.value: slug for slug in Slug}
_REPLACEABLE = {name: slug for name, slug in _SLUGS.items() if slug is not Slug.NOT_HTTP}
_SLUG = choice(_REPLACEABLE)
_NAME = matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "write letters, digits, `.`, `_` and `-`", 64)

RULE = Table(
    "rule",
    (
        Field("name", _NAME, "The rule's name in logs and metrics; default route-N.", own=True),
        Field("match", MATCH, "Which requests the rule is for.", required=True),
        Field(
            "preset",
            OrNull(choice({name: name for name in PRESETS})),
            "The rest of the rule as that client or sender needs it; what the rule says itself goes before.",
            None,
            own=True,
        ),
        Field("key", KEY, "Where the key is, and what it looks like."),
        Field(
            "scope",
            Listing(SCOPE_PART, "scopes"),
            "What a key is unique within: the caller. [] is one for all.",
            ["header:Authorization"],
        ),
        Field("fingerprint", FINGERPRINT, "What must be the same in a retry, beside method and path."),
        Field(
            "guarantee",
            choice({each.value: each for each in Guarantee}),
            "at_most_once: never executed twice; at_least_once: executed again rather than not at all.",
            "at_most_once",
        ),
        Field(
            "in_flight",
            choice({each.value: each for each in InFlight}),
            "A retry of a running operation waits for its answer, or is rejected (409).",
            "wait",
        ),
        Field("wait_timeout", duration("1ms", "1h", "10s"), "How long it waits; then 409.", "10s"),
        Field("max_waiters", Whole(1, 100_000), "How many wait for one key; past it 409 at once.", 100),
        Field("retry_after", duration("1ms", "1h", "1s"), "What Retry-After says (whole seconds, rounded up).", "1s"),
        Field(
            "on_unknown",
            ON_UNKNOWN,
            "Where the outcome is unknown: block (409), retry (execute again), or {probe: ..}. Default by guarantee.",
        ),
        Field(
            "on_store_failure",
            choice({each.value: each for each in OnStoreFailure}),
            "While the store is away: fail_closed (503) or fail_open (forwarded unprotected). Default by guarantee.",
        ),
        Field("ttl", duration("100ms", "400d", "24h"), "How long an answer is remembered.", "24h"),
        Field(
            "lease", duration("100ms", "1h", "30s"), "How long an owner counts as alive without a sign of life.", "30s"
        ),
        Field(
            "release_statuses",
            Listing(Statuses(), "statuses"),
            "Answers that mean: not executed. Default by guarantee.",
        ),
        Field("unknown_statuses", Listing(Statuses(), "statuses"), "Answers that mean: it may have been executed.", []),
        Field("verify", VERIFY, "The signature that a webhook must bear before its key is claimed."),
        Field(
            "reauthorize",
            REAUTHORIZE,
            "What the upstream is asked before a replay to another credential than began the operation.",
        ),
        Field("retry", RETRY, "The proxy's own further attempts."),
        Field(
            "attempt_header",
            OrNull(header_name(values.attempt_header)),
            "A header that carries the attempt's number to the upstream.",
            None,
        ),
        Field("fresh_connection", Flag(), "true: never a reused upstream connection.", False),
        Field("max_request_body", size("1GiB", "8MiB"), "The largest request body; past it 413.", "8MiB"),
        Field("max_response_body", size("256MiB", "8MiB"), "The largest answer that is kept for replays.", "8MiB"),
        Field(
            "replay_drop_headers",
            Listing(header_name(), "headers"),
            "Header fields of the answer that a replay leaves out.",
            [],
        ),
        Field(
            "problem_status",
            Pairs(_SLUG, Whole(400, 599), "problems and statuses"),
            "Other statuses for the proxy's own answers.",
            {},
        ),
        Field(
            "problem_shape",
            choice({each.value: each for each in Shape}),
            "The body of the proxy's own answers: problem (RFC 9457), or as the errors of that API are.",
            "problem",
        ),
        Field("cors", CORS, "Origins whose scripts may read the proxy's own answers."),
        Field(
            "mode",
            choice({each.value: each for each in Mode}),
            "enforce: the rule is applied; observe: requests are passed on as they came, and what applying it would do is logged.",
            "enforce",
        ),
    ),
)

TIMEOUTS = Table(
    "upstream_timeouts",
    (
        Field("connect", timeout("1h", "5s"), "To a connection.", "5s"),
        Field("response", timeout("24h", "60s"), "To an answer's head.", "60s"),
        Field("idle", timeout("24h", "60s"), "Between two pieces of a body.", "60s"),
    ),
)

POOL = Table(
    "pool",
    (
        Field("max", Whole(1, 65_535), "Connections to the upstream at once.", 1024),
        Field("queue", Whole(0, 65_535), "Requests that may wait for one; past it 503.", 1024),
        Field("idle", duration("1ms", "1h", "60s"), "How long an unused connection is kept.", "60s"),
    ),
)

_FILE = Words(values.file, values.FILE, {"minLength": 1})

TLS = Table(
    "tls",
    (
        Field(
            "listen",
            Table(
                "tls.listen",
                (
                    Field("certificate", _FILE, "The certificate chain (PEM).", required=True),
                    Field("key", _FILE, "Its private key (PEM).", required=True),
                    Field("client_ca", _FILE, "Clients need a certificate of one of these authorities (PEM)."),
                ),
            ),
            "Clients speak TLS to the proxy. SIGHUP reads the files again.",
        ),
        Field(
            "upstream",
            Table(
                "tls.upstream",
                (
                    Field("ca", _FILE, "Authorities to trust instead of the system's (PEM)."),
                    Field(
                        "certificate", _FILE, "The proxy's own certificate, for an upstream that asks for one (PEM)."
                    ),
                    Field("key", _FILE, "Its private key (PEM)."),
                    Field(
                        "server_name",
                        Words(values.server_name, values.HOST, {}),
                        "The name to verify and to ask for (SNI), instead of the upstream's host.",
                    ),
                ),
            ),
            "How an https:// upstream is verified. It always is.",
        ),
    ),
)

_ADDRESS = Words(values.address, values.ADDRESS, {"pattern": r"^(unix:/.+|.+:[0-9]+)$"})

TOP = Table(
    "",
    (
        Field("listen", _ADDRESS, "Where clients connect: host:port or unix:/path.", "127.0.0.1:8080"),
        Field(
            "upstream",
            Words(values.upstream, values.UPSTREAM, {"pattern": "^([hH][tT][tT][pP][sS]?://[^?#]+|unix:/.+)$"}),
            "The service behind: http(s)://host[:port][/base] or unix:/path.",
            required=True,
        ),
        Field(
            "store",
            Words(values.store, values.STORE, {"pattern": "^(rediss?://|unix:/|sqlite:[^:])"}),
            "Where records are: redis://, rediss://, unix:// or sqlite:PATH.",
            "sqlite:idemproxy.db",
        ),
        Field("admin", OrNull(_ADDRESS), "Where health is asked for; left out: nowhere.", None),
        Field("namespace", _NAME, "Separates products that share a store.", "default"),
        Field("workers", Workers(), "Processes that serve: a number, or auto (one for each CPU).", 1),
        Field("upstream_timeouts", TIMEOUTS, "Time limits towards the upstream; 0 turns one off."),
        Field(
            "store_timeout",
            duration("1ms", "1m", "1s"),
            "How long the store may take to answer; for large answers a second more a MiB.",
            "1s",
        ),
        Field(
            "drain_timeout", duration("1ms", "1h", "25s"), "How long a shutdown waits for requests in flight.", "25s"
        ),
        Field(
            "forwarded_headers",
            Flag(),
            "true: appends the client to X-Forwarded-For, and sets X-Forwarded-Proto and -Host where absent.",
            False,
        ),
        Field("via", Flag(), "true: appends a Via field.", False),
        Field("upstream_host", Flag(), "true: Host is the upstream's own; false: as the client sent it.", False),
        Field("pool", POOL, "Connections to the upstream."),
        Field("tls", TLS, "Certificates of the listener, and for an https:// upstream."),
        Field("jwt", JWT, "How the tokens of `jwt:` scopes are verified. SIGHUP reads the files again."),
        Field(
            "docs_url",
            Words(values.docs_url, values.DOCS, {"format": "uri"}),
            "Your page about problems: the base of their types.",
        ),
        Field(
            "defaults",
            RULE.shared(),
            "Settings for every rule; a rule overrides them, key and fingerprint member by member.",
        ),
        Field(
            "routes",
            Listing(RULE, "rules", alone=False),
            "The rules: the first that matches counts, no match is forwarded untouched.",
        ),
    ),
)


def schema() -> Schema:
    """JSON Schema (2020-12) of a configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "idemproxy configuration",
        **TOP.schema(),
        "$defs": {"substituted": SUBSTITUTED},
    }
