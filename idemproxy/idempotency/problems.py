"""Every answer that the proxy gives in its own name, as RFC 9457 problem types, in one table (DESIGN.md section 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.shapes import About, Shape, Words, shaped

DEFAULT_BASE = "urn:idemproxy:problem:"


class Slug(Enum):
    """The name of a problem type."""

    KEY_MISSING = "key-missing"
    KEY_INVALID = "key-invalid"
    KEY_EXPIRED = "key-expired"
    KEY_UNDERIVABLE = "key-underivable"
    REQUEST_TOO_LARGE = "request-too-large"
    KEY_IN_FLIGHT = "key-in-flight"
    OUTCOME_UNKNOWN = "outcome-unknown"
    ANSWER_NOT_KEPT = "answer-not-kept"
    KEY_REUSED = "key-reused"
    UPSTREAM_UNREACHABLE = "upstream-unreachable"
    UPSTREAM_FAILED = "upstream-failed"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    STORE_UNAVAILABLE = "store-unavailable"
    SIGNATURE_INVALID = "signature-invalid"
    CREDENTIAL_INVALID = "credential-invalid"
    NOT_AUTHORIZED = "not-authorized"
    REAUTHORIZE_UNAVAILABLE = "reauthorize-unavailable"
    NOT_HTTP = "not-http"
    SHUTTING_DOWN = "shutting-down"


class Retry(Enum):
    """What the client can do about it."""

    SAME_KEY = "same_key"
    NEW_KEY = "new_key"
    FIX_REQUEST = "fix_request"
    ASK_OPERATOR = "ask_operator"


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: `retry` is what holds unless the problem says otherwise; `hopeless`: a retry cannot help."""

    status: int
    title: str
    retry: Retry
    about: About
    hopeless: bool = False


TABLE: Mapping[Slug, Kind] = MappingProxyType(
    {
        Slug.KEY_MISSING: Kind(400, "Idempotency key missing", Retry.FIX_REQUEST, About.KEY),
        Slug.KEY_INVALID: Kind(400, "Idempotency key invalid", Retry.FIX_REQUEST, About.KEY),
        Slug.KEY_EXPIRED: Kind(409, "Idempotency key expired", Retry.ASK_OPERATOR, About.KEY, hopeless=True),
        Slug.KEY_UNDERIVABLE: Kind(400, "Idempotency key cannot be derived", Retry.FIX_REQUEST, About.KEY),
        Slug.REQUEST_TOO_LARGE: Kind(413, "Request body too large", Retry.FIX_REQUEST, About.REQUEST),
        Slug.KEY_IN_FLIGHT: Kind(409, "Operation still in flight", Retry.SAME_KEY, About.KEY),
        Slug.OUTCOME_UNKNOWN: Kind(409, "Outcome unknown", Retry.ASK_OPERATOR, About.OUTCOME, hopeless=True),
        Slug.ANSWER_NOT_KEPT: Kind(409, "Answer not kept", Retry.ASK_OPERATOR, About.OUTCOME, hopeless=True),
        Slug.KEY_REUSED: Kind(
            422, "Idempotency key reused for another request", Retry.NEW_KEY, About.KEY, hopeless=True
        ),
        Slug.UPSTREAM_UNREACHABLE: Kind(502, "Upstream unreachable", Retry.SAME_KEY, About.SERVICE),
        Slug.UPSTREAM_FAILED: Kind(502, "Upstream failed", Retry.ASK_OPERATOR, About.OUTCOME),
        Slug.UPSTREAM_TIMEOUT: Kind(504, "Upstream timed out", Retry.ASK_OPERATOR, About.OUTCOME),
        Slug.STORE_UNAVAILABLE: Kind(503, "Store unavailable", Retry.SAME_KEY, About.SERVICE),
        Slug.SIGNATURE_INVALID: Kind(401, "Signature invalid", Retry.FIX_REQUEST, About.CALLER),
        Slug.CREDENTIAL_INVALID: Kind(401, "Credential not verified", Retry.FIX_REQUEST, About.CALLER),
        Slug.NOT_AUTHORIZED: Kind(401, "Not authorized", Retry.FIX_REQUEST, About.CALLER),
        Slug.REAUTHORIZE_UNAVAILABLE: Kind(503, "Authorization could not be checked", Retry.SAME_KEY, About.SERVICE),
        Slug.NOT_HTTP: Kind(400, "Not an acceptable HTTP request", Retry.FIX_REQUEST, About.REQUEST),
        Slug.SHUTTING_DOWN: Kind(503, "Shutting down", Retry.SAME_KEY, About.SERVICE),
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer in the proxy's own name. `status`, `retry`: None is the table's. `retry_after` is milliseconds."""

    slug: Slug
    detail: str
    retry_after: int | None = None
    status: int | None = None
    retry: Retry | None = None


_REASONS: Mapping[int, str] = MappingProxyType(
    {
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        408: "Request Timeout",
        409: "Conflict",
        413: "Content Too Large",
        414: "URI Too Long",
        422: "Unprocessable Content",
        425: "Too Early",
        429: "Too Many Requests",
        431: "Request Header Fields Too Large",
        500: "Internal Server Error",
        501: "Not Implemented",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Gateway Timeout",
        505: "HTTP Version Not Supported",
    }
)


def status_of(problem: Problem, problem_status: Mapping[Slug, int] = MappingProxyType({})) -> int:
    """The status that the problem is given with; `problem_status` is the rule's."""
    return problem_status.get(problem.slug, problem.status or TABLE[problem.slug].status)


def render(
    problem: Problem,
    docs_url: str = "",
    problem_status: Mapping[Slug, int] = MappingProxyType({}),
    shape: Shape = Shape.PROBLEM,
    further: tuple[str, ...] = (),
) -> Answer:
    """The problem as an answer: `application/problem+json` (RFC 9457, section 3), with the members of `shape` too. `problem_status` and
    `shape` are the rule's; `further` are header fields more, as `Name: value`."""
    kind = TABLE[problem.slug]
    retry = problem.retry or kind.retry
    base = f"{docs_url}#" if docs_url else DEFAULT_BASE
    words = Words(
        slug=problem.slug.value,
        type=f"{base}{problem.slug.value}",
        title=kind.title,
        status=status_of(problem, problem_status),
        detail=problem.detail,
        retry=retry.value,
        retry_after=max(1, -(-(problem.retry_after or 1_000) // 1_000)) if retry is Retry.SAME_KEY else None,
        about=kind.about,
        hopeless=kind.hopeless and retry is not Retry.SAME_KEY,
    )
    content = shaped(shape, words)
    lines = [f"{words.status} {_REASONS.get(words.status, '')}", "Content-Type: application/problem+json"]
    if words.retry_after is not None:
        lines.append(f"Retry-After: {words.retry_after}")
    if docs_url:
        lines.append(f'Link: <{docs_url}>; rel="describedby"')
    if words.hopeless:
        lines += ["Stripe-Should-Retry: false", "X-Should-Retry: false"]
    lines += [*content.fields, *further, "Cache-Control: no-store"]
    body = json.dumps(content.body, ensure_ascii=False).encode() + b"\n"
    lines.append(f"Content-Length: {len(body)}")
    return Answer(words.status, "".join(f"{line}\r\n" for line in lines).encode(), body)
