"""Which answers in the proxy's own name can occur under a rule, when, and what a client does on each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from idemproxy.idempotency.problems import TABLE, Retry, Slug
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import Rule, claims_of

BELOW_THE_RULES: Final = (400, 408, 414, 431, 501, 505)
"""Statuses of not-http: a request that is refused before any rule is looked at."""
BUSY: Final = 503
"""The status of upstream-unreachable where every connection is in use."""


@dataclass(frozen=True, slots=True)
class Possible:
    """An answer that can occur: with which statuses, and what it can say in `retry`."""

    slug: Slug
    statuses: tuple[int, ...]
    retries: tuple[Retry, ...]


def possible(rule: Rule) -> tuple[Possible, ...]:
    """The answers that can occur under a rule, in the order of the table of problems."""
    return tuple(_possible(slug, rule) for slug in TABLE if slug in _can_occur(rule))


def _can_occur(rule: Rule) -> frozenset[Slug]:
    always = (
        *(Slug.REQUEST_TOO_LARGE, Slug.KEY_IN_FLIGHT, Slug.ANSWER_NOT_KEPT, Slug.KEY_REUSED, Slug.SHUTTING_DOWN),
        # also where the rule fails open: a record that cannot be read, a retry while the first request runs
        Slug.STORE_UNAVAILABLE,
        *(Slug.UPSTREAM_UNREACHABLE, Slug.UPSTREAM_FAILED, Slug.UPSTREAM_TIMEOUT),
    )
    key = rule.key
    conditions = {
        Slug.KEY_MISSING: key.required and not key.natural,
        Slug.KEY_INVALID: bool(key.headers or key.marker) or (key.age is not None and isinstance(key.age.by, bytes)),
        Slug.KEY_UNDERIVABLE: bool(key.natural),
        Slug.KEY_EXPIRED: key.age is not None,
        Slug.OUTCOME_UNKNOWN: rule.on_unknown is not OnUnknown.RETRY,
        Slug.SIGNATURE_INVALID: rule.verify is not None,
        Slug.CREDENTIAL_INVALID: bool(claims_of(rule)),
        Slug.NOT_AUTHORIZED: rule.reauthorize is not None,
        Slug.REAUTHORIZE_UNAVAILABLE: rule.reauthorize is not None,
    }
    return frozenset({*always, *(slug for slug, holds in conditions.items() if holds)})


def _possible(slug: Slug, rule: Rule) -> Possible:
    statuses: tuple[int, ...] = (TABLE[slug].status,)
    if slug is Slug.UPSTREAM_UNREACHABLE:
        statuses = (*statuses, BUSY)
    if slug is Slug.CREDENTIAL_INVALID:
        statuses = (*statuses, 503)
    if slug is Slug.NOT_AUTHORIZED:
        statuses = (*statuses, 403)
    if slug in rule.problem_status:
        statuses = (rule.problem_status[slug],)
    return Possible(slug, statuses, _retries(slug, rule))


def _retries(slug: Slug, rule: Rule) -> tuple[Retry, ...]:
    """What `on_unknown` makes of it, where the request may have been executed."""
    blocks = rule.on_unknown is OnUnknown.BLOCK
    match slug:
        case Slug.UPSTREAM_FAILED | Slug.UPSTREAM_TIMEOUT | Slug.OUTCOME_UNKNOWN:
            return (Retry.ASK_OPERATOR if blocks else Retry.SAME_KEY,)
        case Slug.CREDENTIAL_INVALID:
            return (Retry.FIX_REQUEST, Retry.SAME_KEY)
        case Slug.SHUTTING_DOWN if blocks:
            return (Retry.SAME_KEY, Retry.ASK_OPERATOR)
        case _:
            return (TABLE[slug].retry,)


def by_status(answers: Iterable[Possible]) -> dict[int, tuple[Possible, ...]]:
    """The answers that come with each status, lowest first."""
    found: dict[int, list[Possible]] = {}
    for answer in answers:
        for status in answer.statuses:
            found.setdefault(status, []).append(answer)
    return {status: tuple(found[status]) for status in sorted(found)}


WHEN: Final[Mapping[Slug, str]] = MappingProxyType(
    {
        Slug.KEY_MISSING: "The request carries no key. Nothing was executed.",
        Slug.KEY_INVALID: "The key is empty, too long, of another format, or there are several different ones. Nothing was executed.",
        Slug.KEY_EXPIRED: "The key is older than answers are remembered: its operation may have been executed long ago.",
        Slug.KEY_UNDERIVABLE: "What the key is made of is not in the request, or twice with different values. Nothing was executed.",
        Slug.REQUEST_TOO_LARGE: "The request's body is larger than allowed. Nothing was executed.",
        Slug.KEY_IN_FLIGHT: "The first request with this key is still being executed.",
        Slug.OUTCOME_UNKNOWN: "The first request with this key may have been executed: no answer came. It was not executed again.",
        Slug.ANSWER_NOT_KEPT: "The operation was executed, and its answer was too large to keep for a retry.",
        Slug.KEY_REUSED: "The key came before with another request. This one was not executed.",
        Slug.UPSTREAM_UNREACHABLE: "The service could not be reached. Nothing was executed.",
        Slug.UPSTREAM_FAILED: "The request was sent to the service, and no usable answer came: it may have been executed.",
        Slug.UPSTREAM_TIMEOUT: "The request was sent to the service, and no answer came in time: it may have been executed.",
        Slug.STORE_UNAVAILABLE: "What was answered before cannot be looked up now.",
        Slug.SIGNATURE_INVALID: "The request does not bear a valid signature of its sender, or too old a one. Nothing was executed.",
        Slug.CREDENTIAL_INVALID: "The request's token is missing, expired or not valid. Nothing was executed.",
        Slug.NOT_AUTHORIZED: "The service does not let this credential see the answer. Nothing was executed.",
        Slug.REAUTHORIZE_UNAVAILABLE: "Whether this credential may see the answer could not be checked. Nothing was executed.",
        Slug.NOT_HTTP: "The request is malformed, ambiguous, too slow or its head too large. Nothing was executed.",
        Slug.SHUTTING_DOWN: "The proxy is being replaced. If the request had been sent, it may have been executed.",
    }
)
"""For the API's users."""

DO: Final[Mapping[Retry, str]] = MappingProxyType(
    {
        Retry.SAME_KEY: "Send the same request again with the same key, after `Retry-After` seconds.",
        Retry.NEW_KEY: "Do not send it again. If it is a new intent, make a new key for it; if not, look for the mistake.",
        Retry.FIX_REQUEST: "Do not send it again as it is: correct the request first.",
        Retry.ASK_OPERATOR: "Do not send it again, neither with this key nor with a new one: ask support what became of it.",
    }
)
"""What a client does, by the member `retry`."""
