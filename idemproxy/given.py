"""What a protected request gets in the end."""

from __future__ import annotations

from typing import assert_never

import msgspec
from msgspec import structs

from idemproxy.execution import Answered, Failed, Streaming
from idemproxy.idempotency.jwt_claims import Doubt
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.operation import Refuse
from idemproxy.idempotency.problems import Problem, Retry, Slug, status_of
from idemproxy.idempotency.routes import Rule
from idemproxy.observe.metrics import Decided

FENCED = Problem(
    Slug.KEY_IN_FLIGHT,
    "The operation with this key was taken over or settled while this request was being executed, and its outcome is not recorded "
    "yet. Send the same request again with the same key to learn it.",
)
UNSIGNED = Problem(
    Slug.SIGNATURE_INVALID,
    "The request does not bear a valid signature of its sender, or bears one that is too old. Nothing was executed, and nothing is "
    "remembered of it.",
)


class Recorded(msgspec.Struct, frozen=True):
    """The recorded answer, for a retry."""

    answer: Answer


Given = Answered | Streaming | Failed | Recorded | Refuse


def without_dropped(answer: Answer, rule: Rule) -> Answer:
    """A recorded answer without the fields that the rule's replays leave out."""
    if not rule.replay_drop_headers:
        return answer
    first, *lines = answer.head.split(b"\r\n")[:-1]
    kept = [line for line in lines if line.partition(b":")[0].lower() not in rule.replay_drop_headers]
    return structs.replace(answer, head=b"".join(line + b"\r\n" for line in (first, *kept)))


def store_down(rule: Rule) -> Refuse:
    """The store gave no fact, and nothing was sent."""
    detail = "The store that remembers operations cannot be reached. Nothing was executed: send the same request again with the same key."
    return Refuse(Problem(Slug.STORE_UNAVAILABLE, detail, rule.retry_after))


def key_missing(rule: Rule) -> Problem:
    """The rule asks for a key, and there is none."""
    names = " or ".join(name.decode().title() for name in rule.key.headers)
    ways = [f"an idempotency key in {names}"] if names else []
    if rule.key.marker is not None:
        ways.append(f"the number of attempts before this one in {rule.key.marker.header.decode().title()}")
    return Problem(Slug.KEY_MISSING, f"Send {', or '.join(ways)}. Nothing was executed.")


def credential_invalid(doubt: Doubt) -> Problem:
    """Who is calling is told by a token, and there is none that shows it."""
    return Problem(
        Slug.CREDENTIAL_INVALID,
        f"The caller is known here by a verified Bearer token, and {doubt.value}. Nothing was executed: send the same request again with "
        "the same key and a valid token.",
    )


def credential_undecided(rule: Rule) -> Problem:
    """The token is no worse than any: it is the keys that cannot be had."""
    return Problem(
        Slug.CREDENTIAL_INVALID,
        "The key that signed the token is not known, and the issuer's keys cannot be fetched now. Nothing was executed: send the same "
        "request again with the same key.",
        rule.retry_after,
        503,
        Retry.SAME_KEY,
    )


def not_authorized(status: int) -> Problem:
    """The upstream does not let the caller in. `status` is its own: 401 or 403."""
    return Problem(
        Slug.NOT_AUTHORIZED,
        "The operation was executed before, for another credential than this one, which the service refuses. Nothing was executed now: "
        "send the same request again with the same key and a credential that the service accepts.",
        status=status,
    )


def reauthorize_unavailable(rule: Rule) -> Problem:
    """The upstream did not say whether it lets the caller in."""
    return Problem(
        Slug.REAUTHORIZE_UNAVAILABLE,
        "The operation was executed before, for another credential than this one, and the service does not say now whether it accepts "
        "this one. Nothing was executed now: send the same request again with the same key.",
        rule.retry_after,
    )


def too_large(rule: Rule) -> Problem:
    """The request's body is larger than the rule reads."""
    detail = f"The request's body is larger than the {rule.max_request_body} bytes that are allowed here. Nothing was executed."
    return Problem(Slug.REQUEST_TOO_LARGE, detail)


def shutting_down(rule: Rule) -> Problem:
    """Whoever waits for another's outcome waits no longer."""
    detail = "The proxy is shutting down, and the operation still runs. Send the same request again with the same key."
    return Problem(Slug.SHUTTING_DOWN, detail, rule.retry_after)


class Told(msgspec.Struct, frozen=True):
    """What log and metrics say of it: `state` is the operation's, or the problem's slug."""

    decision: Decided
    state: str
    status: int


def told(given: Given, rule: Rule) -> Told:
    """In a word."""
    match given:
        case Answered(answer, state):
            return Told(Decided.EXECUTED, state, answer.status)
        case Streaming(status):
            return Told(Decided.EXECUTED, "streaming", status)
        case Failed(problem, state):
            return Told(Decided.EXECUTED, state, status_of(problem, rule.problem_status))
        case Recorded(answer):
            return Told(Decided.REPLAYED, "completed" if answer.status < 400 else "failed", answer.status)
        case Refuse(problem):
            return Told(Decided.REFUSED, problem.slug.value, status_of(problem, rule.problem_status))
        case other:
            assert_never(other)
