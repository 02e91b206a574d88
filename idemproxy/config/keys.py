"""What names an operation, its caller, and what may differ in a retry: `key.from`, `scope`, `fingerprint.ignore`, and a key's age."""

from __future__ import annotations

import re
from typing import Final

from idemproxy.config import values
from idemproxy.config.faults import Faults, nearest
from idemproxy.config.kinds import Listing, Words, WrongError, duration
from idemproxy.config.table import Either, Field, Found, Table
from idemproxy.idempotency.content import parse_pointer
from idemproxy.idempotency.patterns import Pattern
from idemproxy.idempotency.routes import (
    BodyRecipe,
    CertificateScope,
    ClaimScope,
    CookieScope,
    HeaderScope,
    Ignored,
    LiteralScope,
    PathScope,
    RetryMarker,
    Rule,
    Within,
)
from idemproxy.idempotency.template import BadTemplate, Part, Source, Template, parse_template

FROM: Final = 'write it in quotes, such as "{path:order}-{json:/amount}" or "{header:ce-source}/{header:ce-id}"'
IGNORE: Final = 'write "json:/pointer", "form:NAME", "query:NAME" or "header:NAME"'
_LONGEST: Final = 512


def header_name(parse: values.Parse = values.lower_header) -> Words:
    """A header's name."""
    return Words(parse, values.HEADER, {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"})


def _natural(text: str) -> Template:
    if len(text) > _LONGEST:
        raise WrongError(f"longer than {_LONGEST} characters", FROM)
    try:
        template = parse_template(text, frozenset(Source))
    except BadTemplate as error:
        raise WrongError(str(error), FROM) from None
    parts = [each for each in template.pieces if isinstance(each, Part)]
    if not parts:
        raise WrongError("the same for every request", FROM)
    for each in parts:
        if each.source is Source.HEADER:
            values.key_header(each.name)
    return template


NATURAL: Final = Field(
    "from",
    Listing(Words(_natural, FROM, {"pattern": r"\{[^{}]+\}", "maxLength": _LONGEST}), "templates", 1),
    "A natural key: the first of these templates that can be filled. With header too: where no header is there.",
)
FIRST_SENT: Final = Field(
    "first_sent", header_name(), "The header that says when the request was first sent, which bears the key's age."
)
BATCHES: Final = Field(
    "batches",
    Listing(
        Words(values.media_type, values.MEDIA_TYPE, {"pattern": r"^[^/;\s]+/[^/;\s]+$", "maxLength": 255}),
        "media types",
    ),
    "Content types of bodies that hold several operations: where a natural key is to name one of them, they are refused.",
    [],
)
SKEW: Final = Field("max_clock_skew", duration("1ms", "24h", "5m"), "How far clients' clocks may be off.", "5m")


MARKER: Final = Field(
    "retry_marker",
    Table(
        "rule.key.retry_marker",
        (
            Field("header", header_name(values.key_header), "The header that numbers attempts from 0."),
            Field(
                "window", duration("1s", "24h", "30m"), "How long after its beginning an operation has retries.", "30m"
            ),
        ),
    ),
    "For clients that send no key: attempt 0 is a new operation, a further one joins the newest with the same request.",
)


def retry_marker(key: Found) -> RetryMarker | None:
    """The marker that a rule's `key` names."""
    found = key.inner("retry_marker")
    header = found.get("header", bytes)
    return None if header is None else RetryMarker(header, found.need("window", int))


def _scope(text: str) -> object:
    source, colon, rest = text.partition(":")
    match source:
        case "header" if colon:
            return HeaderScope(values.lower_header(rest))
        case "literal" if colon:
            return LiteralScope(values.literal(rest))
        case "cookie" if colon:
            return CookieScope(_token(rest))
        case "client_cert" if not colon:
            return CertificateScope()
        case "jwt" if colon:
            return ClaimScope(_claim(rest))
        case "path" if colon:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
                raise WrongError("without the name of a segment", values.SCOPE)
            return PathScope(rest)
        case _:
            close = nearest(source, ["header", "literal", "cookie", "path", "client_cert", "jwt"])
            hint = f"did you mean {close}:{rest}?" if close else "" if colon else f"did you mean header:{text}?"
            raise WrongError("no source of a scope", values.SCOPE, hint)


def _token(text: str) -> bytes:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise WrongError("without the name of a cookie", values.SCOPE)
    return text.encode()


def _claim(text: str) -> str:
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise WrongError("without the name of a claim", values.SCOPE)
    return text


def regex_field(name: str, doc: str) -> Field:
    """A regular expression, required where its table is."""
    parse = values.grouped if name == "pattern" else values.regex
    return Field(name, Words(parse, values.REGEX, {"format": "regex"}), doc, required=True)


SCOPE_PART: Final = Either(
    Words(_scope, values.SCOPE, {"pattern": "^((header|cookie|path|jwt):.+|literal:.*|client_cert)$"}),
    Table(
        "scope",
        (
            Field("header", header_name(), "The field's name.", required=True),
            regex_field("pattern", "Its first group counts."),
        ),
    ),
    lambda found: HeaderScope(found.need("header", bytes), found.need("pattern", Pattern)),
)


def _ignored(text: str) -> object:
    """An Ignored, or the name of a header."""
    source, colon, name = ("json", ":", text) if text.startswith("/") else text.partition(":")
    if not colon or not name or len(name) > _LONGEST:
        raise WrongError("", IGNORE)
    match source:
        case "header":
            return values.lower_header(name)
        case "json":
            try:
                parse_pointer(name)
            except ValueError as error:
                raise WrongError(str(error), IGNORE) from None
            return Ignored(Within.JSON, name)
        case "form" | "query":
            return Ignored(Within(source), name)
        case _:
            close = nearest(source, ["header", "json", "form", "query"])
            raise WrongError("", IGNORE, f"did you mean {close}:{name}?" if close else "")


IGNORED: Final = Field(
    "ignore",
    Listing(Words(_ignored, IGNORE, {"pattern": "^(/|(json|form|query|header):).*$"}), "parts"),
    "Parts that may differ in a retry: a JSON pointer, a field of a form or of the query, a header.",
    [],
)


def _natural_parts(rule: Found) -> list[Part]:
    templates = rule.inner("key").get("from", tuple) or ()
    return [piece for template in templates for piece in template.pieces if isinstance(piece, Part)]


def natural_headers(rule: Found) -> list[bytes]:
    """The header fields, in lower case, that natural keys are made of."""
    return [piece.name.encode() for piece in _natural_parts(rule) if piece.source is Source.HEADER]


def check_keys(rule: Found, top: Found, faults: Faults) -> None:
    """Parts of a path that the rule's path has not, and ignored parts of a body that is not read so."""
    marker = rule.inner("key").inner("retry_marker")
    compared = rule.inner("fingerprint").written("body")
    if "header" in marker.items and compared and compared.place and compared.value is BodyRecipe.NONE:
        right = "a retry would get the answer of another request: compare the body, or leave key.retry_marker out"
        faults.add(
            compared.place, compared.path, "is none, and key.retry_marker knows an operation by its request", right
        )
    window = marker.written("window")
    if window and window.place and "header" not in marker.items:
        faults.add(window.place, window.path, "is nothing without header", "write the header that numbers attempts")
    named = set(re.findall(r"\{([^{}]+)\}", rule.inner("match").get("path", str) or ""))
    right = "name a {segment} of match.path"
    item = rule.inner("key").written("from")
    if any(piece.source is Source.PATH and piece.name not in named for piece in _natural_parts(rule)):
        assert item is not None
        assert item.place is not None
        faults.add(item.place, item.path, "has a path: part that the rule's path has not", right)
    scope = rule.written("scope")
    parts = scope.value if scope is not None and isinstance(scope.value, tuple) else ()
    foreign = any(isinstance(part, PathScope) and part.name not in named for part in parts)
    if foreign and scope is not None and scope.place is not None:
        faults.add(scope.place, scope.path, "has a path: part that the rule's path has not", right)
    asks = top.inner("tls").inner("listen").written("client_ca") is not None
    if any(isinstance(part, CertificateScope) for part in parts) and scope is not None and scope.place and not asks:
        faults.add(
            scope.place,
            scope.path,
            "has client_cert, and no client shows a certificate",
            "write tls.listen.client_ca too",
        )
    claimed = any(isinstance(part, ClaimScope) for part in parts)
    if claimed and scope is not None and scope.place and top.written("jwt") is None:
        right = "write jwt: {keys: .., algorithms: ..} at the top, since a claim counts only once it is verified"
        faults.add(scope.place, scope.path, "has jwt:, and there is nothing to verify tokens with", right)
    _check_ignored(rule.inner("fingerprint"), faults)


_READS: Final = {Within.JSON: BodyRecipe.JSON, Within.FORM: BodyRecipe.FORM}


def _check_ignored(found: Found, faults: Faults) -> None:
    item, body = found.written("ignore"), found.get("body", BodyRecipe)
    if item is None or item.place is None or body is None or not isinstance(item.value, tuple):
        return
    for each in item.value:
        reads = _READS.get(each.within) if isinstance(each, Ignored) else None
        if reads is not None and reads is not body:
            right = f"write fingerprint.body: {reads.value}, or leave it out"
            faults.add(item.place, item.path, f"has a {reads.value}: part, and the body is not read so", right)


_EVERY_ATTEMPT: Final = frozenset(
    {
        b"date",
        b"dpop",
        b"signature",
        b"x-amz-date",
        b"x-signature",
        b"x-timestamp",
        b"stripe-signature",
        b"webhook-signature",
    }
    | {b"webhook-timestamp", b"svix-signature", b"x-hub-signature-256", b"x-shopify-hmac-sha256", b"x-slack-signature"}
)
"""Fields that a client writes anew for each attempt."""

LONG: Final = 600_000
"""Milliseconds in which people do the same thing twice on purpose."""


def warn_keys(rule: Rule) -> list[str]:
    """What is fragile, weak or surprising about a rule's scope and natural keys."""
    scopes = [part for part in rule.scope if isinstance(part, HeaderScope)]
    names = {part.name for part in scopes}
    said = [
        f"scope has {name.decode()}, which differs in each attempt: no retry would be known again"
        for name in sorted(names & _EVERY_ATTEMPT)
    ]
    if b"cookie" in names:
        said.append(
            "scope has all cookies, of which some change often: no retry would be known again; write cookie:NAME"
        )
    signed = any(name.startswith(b"x-amz-") for name, _ in rule.match.headers)
    if signed and any(part.name == b"authorization" and part.pattern is None for part in scopes):
        said.append(
            "scope has Authorization, and requests signed by AWS SigV4 have another one in each attempt: "
            "write {header: Authorization, pattern: 'Credential=([^/]+)/'}"
        )
    sources = [{piece.source for piece in each.pieces if isinstance(piece, Part)} for each in rule.key.natural]
    if any(Source.CLIENT_IP in each for each in sources):
        said.append(
            "key.from has client_ip: callers behind one address are one, and a caller that changes its address is another"
        )
    if rule.key.marker is not None and rule.ttl < rule.key.marker.window:
        said.append("ttl is shorter than key.retry_marker.window: a retry whose answer is forgotten executes again")
    if rule.key.marker is not None and (rule.fingerprint.ignore or not rule.fingerprint.query):
        said.append(
            "key.retry_marker knows an operation by its request, and the fingerprint leaves parts of that out: a retry can get the answer "
            "of a request that differs there"
        )
    if rule.ttl > LONG and any(each - {Source.TARGET} <= {Source.BODY, Source.CLIENT_IP} for each in sources):
        said.append(
            "key.from is the body alone, and ttl is longer than 10 minutes: a request that is sent twice on purpose runs once"
        )
    return said
