"""What a rule asks of a client and promises to it, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from idemproxy.documents.answers import possible
from idemproxy.idempotency.patterns import Pattern
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    BodyRecipe,
    CertificateScope,
    ClaimScope,
    CookieScope,
    Guarantee,
    HeaderScope,
    Ignored,
    InFlight,
    LiteralScope,
    PathScope,
    Rule,
    ScopePart,
    Within,
)
from idemproxy.idempotency.template import Part, Source, Template

_SPELLED: Final = {
    "etag": "ETag",
    "paypal-request-id": "PayPal-Request-Id",
    "repeatability-request-id": "Repeatability-Request-ID",
    "x-api-key": "X-API-Key",
}
_SHORT: Final = frozenset({"id", "url", "api"})


def header_name(name: bytes) -> str:
    """A header's name as people write it; the case means nothing."""
    text = name.decode("ascii")
    return _SPELLED.get(text) or "-".join(part[:1].upper() + part[1:] for part in text.split("-"))


def code(text: str) -> str:
    """A text in a code span, also in a cell of a table."""
    marks = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{marks}{space}{text}{space}{marks}".replace("|", "\\|")


def _either(names: Iterable[str], last: str = "or") -> str:
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def duration(milliseconds: int) -> str:
    """In the largest unit that says it exactly."""
    for unit, length in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)):
        if milliseconds % length == 0 and milliseconds >= length and (unit != "day" or milliseconds > length):
            count = milliseconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{milliseconds} milliseconds"


def size(octets: int) -> str:
    """In the largest unit that says it exactly."""
    for unit, length in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= length and octets % length == 0:
            return f"{octets // length} {unit}"
    return f"{octets} bytes"


# ------------------------------------------------------------------------------------------------------------------------ key


def key_place(rule: Rule) -> str:
    """Where the key goes, and whether it must, as a table's cell says it."""
    if not rule.key.headers:
        return "none: the request itself" if rule.key.natural else "none: attempts are numbered"
    needed = "required" if rule.key.required and not (rule.key.natural or rule.key.marker) else "optional"
    return f"{code(header_name(rule.key.headers[0]))}, {needed}"


_FORMS: Final = {
    "any": "any printable ASCII text, best a random UUID",
    "uuid": "a UUID, such as `5f0c6a52-8f3e-4f0b-9a55-0c2b8f1f7d3e`",
    "uuid4": "a random UUID (version 4), such as `5f0c6a52-8f3e-4f0b-9a55-0c2b8f1f7d3e`",
    "uuid7": "a UUID of version 7, which bears the time that it was made at, such as `019a1f0e-7c00-7b3a-8d21-5a0f2c9e4b17`",
    "ulid": "a ULID, which bears the time that it was made at, such as `01JB7W3Z5T9N8Q2RVXK4M6C0DH`",
}


def key_terms(rule: Rule) -> list[str]:
    """Sentences on the key: where it goes, what it looks like, what happens without."""
    said = []
    if rule.key.headers:
        names = _either(code(header_name(name)) for name in rule.key.headers)
        if isinstance(rule.key.pattern, Pattern):
            form = f"a text that matches {code(rule.key.pattern.text.decode('ascii'))} as a whole"
        else:
            form = _FORMS[rule.key.form]
        said.append(f"The key goes into the header {names}: {form}, of at most {rule.key.max_length} bytes.")
    if rule.key.natural:
        ways = _either((_made_of(each) for each in rule.key.natural), "or, where that is not there,")
        begin = "Without the header, the request itself" if rule.key.headers else "The request itself"
        said.append(f"{begin} names its operation, by {ways}.")
        if rule.key.headers:
            said.append("A key of your own is better: it also tells two intents apart that look alike.")
    if rule.key.marker is not None:
        number, window = code(header_name(rule.key.marker.header)), duration(rule.key.marker.window)
        begin = "Without a key, " if rule.key.headers or rule.key.natural else ""
        said.append(
            f"{begin}{number} says how many attempts there were before: 0 is a new operation, any other number a retry of the "
            f"newest one with the same request that began within {window}."
        )
    if Slug.KEY_MISSING in {each.slug for each in possible(rule)}:
        numbered = ", and which does not number its attempts," if rule.key.marker is not None else ""
        said.append(f"A request without a key{numbered} is refused.")
    elif rule.key.natural:
        said.append(
            "A request in which that is missing is refused."
            if rule.key.required
            else "A request in which that is missing is not protected: sent twice, it is executed twice."
        )
    else:
        said.append("A request without a key is not protected: sent twice, it is executed twice.")
    if rule.key.age is not None and isinstance(rule.key.age.by, bytes):
        said.append(
            f"{code(header_name(rule.key.age.by))} says when the request was first sent; a retry sends the same time."
        )
    return said


_SOURCES: Final = {
    Source.HEADER: "the header",
    Source.QUERY: "the query's",
    Source.PATH: "the path's",
    Source.COOKIE: "the cookie",
    Source.JSON: "the JSON body's",
    Source.FORM: "the form's",
    Source.BODY: "its body",
    Source.CLIENT_IP: "your address",
    Source.TARGET: "the path and query",
}


def _made_of(template: Template) -> str:
    parts = []
    for piece in template.pieces:
        if isinstance(piece, Part):
            name = header_name(piece.name.encode()) if piece.source is Source.HEADER else piece.name
            parts.append(f"{_SOURCES[piece.source]} {code(name)}" if name else _SOURCES[piece.source])
    return _either(parts, "and")


# -------------------------------------------------------------------------------------------------------- scope, what is equal


def scope_terms(rule: Rule) -> str:
    """Within what a key is unique."""
    if not rule.scope or all(isinstance(part, LiteralScope) for part in rule.scope):
        return "Keys are shared by all callers: make them so that nobody else can have the same one."
    shown = _either((_shown(part) for part in rule.scope if not isinstance(part, LiteralScope)), "and")
    return (
        f"A key is yours: callers are told apart by {shown}. A retry must show the same there: with another one it is somebody else's, "
        "and is executed."
    )


def _shown(part: ScopePart) -> str:
    match part:
        case HeaderScope(name, None):
            return f"the header {code(header_name(name))}"
        case HeaderScope(name):
            return f"a part of the header {code(header_name(name))}"
        case CookieScope(name):
            return f"the cookie {code(name.decode('ascii', 'replace'))}"
        case PathScope(name):
            return f"the path's {code(name)}"
        case CertificateScope():
            return "the client's certificate"
        case ClaimScope(name):
            return f"the Bearer token's {code(name)}"
        case LiteralScope():
            return "nothing of the request"
        case other:
            assert_never(other)


_BODIES: Final = {
    BodyRecipe.RAW: "the body, byte for byte",
    BodyRecipe.JSON: "the body, by what its JSON says (order of members and white space may differ, not how a number is written)",
    BodyRecipe.FORM: "the body, by the form's fields",
    BodyRecipe.MULTIPART: "the body, by its parts",
    BodyRecipe.NONE: "",
}
_WITHIN: Final = {Within.JSON: "the JSON body's", Within.FORM: "the form's", Within.QUERY: "the query's"}


def equal_terms(rule: Rule) -> str:
    """What must be the same in a retry."""
    recipe = rule.fingerprint
    same = ["method", "path", *(["query"] if recipe.query else [])]
    same += [f"the header {code(header_name(name))}" for name in recipe.headers]
    if _BODIES[recipe.body]:
        same.append(_BODIES[recipe.body])
    said = f"A retry is the same request: {_either(same, 'and')}."
    if recipe.body is BodyRecipe.NONE:
        said += " The body may differ."
    if recipe.ignore:
        said += f" May differ: {_either((_ignored(each) for each in recipe.ignore), 'and')}."
    return said


def _ignored(part: Ignored) -> str:
    return f"{_WITHIN[part.within]} {code(part.name)}"


# ------------------------------------------------------------------------------------------------------------------- promises


def promises(rule: Rule) -> list[str]:
    """What becomes of an operation and of its retries: how long, and with which answer."""
    said = [_remembered(rule), _running(rule), _unknown(rule)]
    if rule.retry.attempts > 1:
        said.append(
            f"The request is sent to the service up to {rule.retry.attempts} times while you wait, where that is safe."
        )
    said.append(f"A request's body may be up to {size(rule.max_request_body)} long.")
    if rule.verify is not None:
        said.append(f"The request must be signed as {code(rule.verify.scheme.value)} has it.")
    return said


def _remembered(rule: Rule) -> str:
    kept = f"The answer is remembered for {duration(rule.ttl)}: each retry gets it again, with `Idempotent-Replayed: true`."
    free = rule.release_statuses
    if rule.guarantee is Guarantee.AT_LEAST_ONCE and free >= frozenset(range(400, 600)):
        kept += " An answer of 400 or above is not: the same request with the same key is executed again."
    elif free:
        kept += (
            f" After {_either(map(str, sorted(free)))} nothing was executed: the same key may be sent again."
            if len(free) <= 12
            else (" After some answers nothing was executed, by their meaning: the same key may be sent again.")
        )
    after = (
        "A key that is older is refused."
        if rule.key.age is not None
        else "Later, a request with the same key is a new operation."
    )
    return f"{kept} {after}"


def _running(rule: Rule) -> str:
    status = next(each.statuses[0] for each in possible(rule) if each.slug is Slug.KEY_IN_FLIGHT)
    if rule.in_flight is InFlight.REJECT:
        return f"A retry that comes while the first request still runs is answered at once, with {status}."
    return f"A retry that comes while the first request still runs waits for its answer up to {duration(rule.wait_timeout)}; then {status}."


def _unknown(rule: Rule) -> str:
    match rule.on_unknown:
        case OnUnknown.BLOCK:
            return "If no answer came of a request that was sent, it is not executed again: support can tell whether it was executed."
        case OnUnknown.PROBE:
            return (
                "If no answer came of a request that was sent, a retry makes the service look whether it was executed."
            )
        case OnUnknown.RETRY:
            return "If no answer came of a request that was sent, a retry executes it again: it may be executed twice."
        case other:
            assert_never(other)
