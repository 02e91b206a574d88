"""The bodies of the proxy's own answers in the shapes of well-known APIs, for clients that read nothing else.

Each shape is what the API's own client library was seen to read (docs/clients.md), as further members of a problem document (RFC 9457,
section 3.2). Where a library shows its caller only the inside of a member, that has `problem` (the problem's type), `retry` and
`retry_after` too. The words in it are the API's own where it has one for the case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import assert_never

Body = dict[str, object]


class Shape(Enum):
    """Whose error body an answer has."""

    PROBLEM = "problem"
    STRIPE = "stripe"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    SVIX = "svix"
    SQUARE = "square"
    GOCARDLESS = "gocardless"
    WORKOS = "workos"
    GOOGLE = "google"
    AZURE = "azure"
    AWS = "aws"
    SLACK = "slack"


class About(Enum):
    """What a problem is about, as the errors of APIs tell them apart."""

    KEY = "key"
    OUTCOME = "outcome"
    REQUEST = "request"
    CALLER = "caller"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Words:
    """What an answer says. `slug` and `type` name the problem; `retry_after` is seconds; `hopeless`: a retry cannot help."""

    slug: str
    type: str
    title: str
    status: int
    detail: str
    retry: str
    retry_after: int | None
    about: About
    hopeless: bool

    @property
    def code(self) -> str:
        """The slug as APIs write their codes: `key_in_flight`."""
        return self.slug.replace("-", "_")

    @property
    def pascal(self) -> str:
        """The slug as APIs write the names of errors: `KeyInFlight`."""
        return "".join(word.capitalize() for word in self.slug.split("-"))

    @property
    def advice(self) -> Body:
        """What no API has a word for."""
        waited = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return {"problem": self.type, "retry": self.retry, **waited}


@dataclass(frozen=True, slots=True)
class Shaped:
    """The body's members, and further header fields as `Name: value`."""

    body: Body
    fields: tuple[str, ...] = ()


def shaped(shape: Shape, words: Words) -> Shaped:
    """The answer's body in that shape."""
    own = _own(shape, words)
    return Shaped({**_problem(words), **own.body}, own.fields)


def _own(shape: Shape, words: Words) -> Shaped:
    """What the shape has beside a problem's members, or in the place of one."""
    match shape:
        case Shape.PROBLEM:
            return Shaped(_error(words))
        case Shape.STRIPE:
            return Shaped(_stripe(words))
        case Shape.OPENAI:
            return Shaped(_openai(words))
        case Shape.ANTHROPIC:
            return Shaped(_anthropic(words))
        case Shape.SVIX:
            return Shaped(_svix(words))
        case Shape.SQUARE:
            return Shaped(_square(words))
        case Shape.GOCARDLESS:
            return Shaped(_gocardless(words))
        case Shape.WORKOS:
            return Shaped({"code": words.code, "message": words.detail})
        case Shape.GOOGLE:
            return Shaped(_google(words))
        case Shape.AZURE:
            inner = {"code": words.pascal, "message": words.detail, "innererror": words.advice}
            return Shaped({"error": inner}, (f"x-ms-error-code: {words.pascal}",))
        case Shape.AWS:
            name = f"{words.pascal}Exception"
            return Shaped({"__type": name, "message": words.detail}, (f"x-amzn-ErrorType: {name}",))
        case Shape.SLACK:
            # Slack reads no body: a field tells it not to deliver again (docs.slack.dev, Events API, "Error handling").
            return Shaped(_error(words), ("X-Slack-No-Retry: 1",) if words.hopeless else ())
        case other:
            assert_never(other)


def _problem(words: Words) -> Body:
    """RFC 9457, section 3."""
    body: Body = {
        "type": words.type,
        "title": words.title,
        "status": words.status,
        "detail": words.detail,
        "retry": words.retry,
    }
    return body if words.retry_after is None else {**body, "retry_after": words.retry_after}


def _error(words: Words) -> Body:
    """A member for clients that look for nothing else: stripe-node takes an answer without it for a success, whatever its status, and its
    application a charge for made that was refused."""
    kinds = {About.KEY: "idempotency_error", About.OUTCOME: "api_error", About.SERVICE: "api_error"}
    kind = kinds.get(words.about, "invalid_request_error")
    code = "idempotency_key_in_use" if words.slug == "key-in-flight" else words.code
    return {"error": {"type": kind, "code": code, "message": words.detail}}


def _stripe(words: Words) -> Body:
    """docs.stripe.com/api/errors."""
    error = _error(words)["error"]
    assert isinstance(error, dict)
    return {"error": {**error, **words.advice}}


def _openai(words: Words) -> Body:
    """platform.openai.com, "Error codes". The library shows its caller the inside of `error` only."""
    kind = "server_error" if words.about in (About.SERVICE, About.OUTCOME) else "invalid_request_error"
    return {"error": {"message": words.detail, "type": kind, "param": None, "code": words.code, **words.advice}}


_ANTHROPIC: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
    }
)


def _anthropic(words: Words) -> Body:
    """docs.anthropic.com, "Errors"."""
    kind = _ANTHROPIC.get(words.status, "api_error" if words.status >= 500 else "invalid_request_error")
    inner = {"type": kind, "message": words.detail, "details": {"error_code": words.code}, **words.advice}
    return {"error": inner}


def _svix(words: Words) -> Body:
    """api.svix.com/docs: `HttpErrorOut`, and at 422 `HTTPValidationError`, whose `detail` is a list."""
    if words.status == 422:
        told = {"loc": ["header", "idempotency-key"], "msg": words.detail, "type": words.code}
        return {"detail": [told]}
    return {"code": words.code}


_SQUARE: Mapping[int, str] = MappingProxyType(
    {
        400: "BAD_REQUEST",
        401: "UNAUTHORIZED",
        403: "FORBIDDEN",
        409: "CONFLICT",
        413: "REQUEST_ENTITY_TOO_LARGE",
        422: "UNPROCESSABLE_ENTITY",
        429: "RATE_LIMITED",
        502: "BAD_GATEWAY",
        503: "SERVICE_UNAVAILABLE",
        504: "GATEWAY_TIMEOUT",
    }
)


def _square(words: Words) -> Body:
    """developer.squareup.com, "Handling errors". Its codes are a closed list."""
    kinds = {About.CALLER: "AUTHENTICATION_ERROR", About.SERVICE: "API_ERROR", About.OUTCOME: "API_ERROR"}
    by_status = _SQUARE.get(words.status, "INTERNAL_SERVER_ERROR" if words.status >= 500 else "BAD_REQUEST")
    code = "IDEMPOTENCY_KEY_REUSED" if words.slug == "key-reused" else by_status
    kind = kinds.get(words.about, "INVALID_REQUEST_ERROR")
    return {"errors": [{"category": kind, "code": code, "detail": words.detail, **words.advice}]}


def _gocardless(words: Words) -> Body:
    """developer.gocardless.com, "Errors". Not `idempotent_creation_conflict`: its library would ask for the resource that it names."""
    conflict = words.status in (409, 422)
    kind = "gocardless" if words.status >= 500 else "invalid_state" if conflict else "invalid_api_usage"
    reasons = [{"reason": words.code, "message": words.detail}]
    inner = {"type": kind, "code": words.status, "message": words.detail, "errors": reasons, **words.advice}
    return {"error": inner}


_GOOGLE: Mapping[int, str] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        409: "ABORTED",
        413: "INVALID_ARGUMENT",
        422: "FAILED_PRECONDITION",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)


def _google(words: Words) -> Body:
    """AIP-193, and google.rpc.ErrorInfo and RetryInfo. `metadata` holds texts only."""
    metadata = {name: str(value) for name, value in words.advice.items()}
    kinds = "type.googleapis.com/google.rpc"
    info: Body = {"@type": f"{kinds}.ErrorInfo", "reason": words.code.upper(), "domain": "idemproxy"}
    details: list[Body] = [{**info, "metadata": metadata}]
    if words.retry_after is not None:
        details.append({"@type": f"{kinds}.RetryInfo", "retryDelay": f"{words.retry_after}s"})
    status = _GOOGLE.get(words.status, "INTERNAL" if words.status >= 500 else "FAILED_PRECONDITION")
    return {"error": {"code": words.status, "message": words.detail, "status": status, "details": details}}
