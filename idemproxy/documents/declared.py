"""What a description declares about an operation's key and its callers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from idemproxy.config.kinds import WrongError
from idemproxy.config.values import key_header
from idemproxy.documents.description import Description, Operation
from idemproxy.documents.tree import Branch, Row, items

_OTHERWISE: Final = frozenset(
    {"paypal-request-id", "repeatability-request-id", "x-amz-client-token", "x-client-token", "client-token"}
    | {"x-request-token", "client-request-token", "x-amz-client-request-token"}
)
_NAMED: Final = re.compile(r"idempoten", re.IGNORECASE)
_ABOUT: Final = re.compile(r"replay|expir|ttl|status|hit", re.IGNORECASE)


def names_key(header: str) -> bool:
    """Whether a header with this name looks as if it carried an idempotency key."""
    return header.lower() in _OTHERWISE or (_NAMED.search(header) is not None and _ABOUT.search(header) is None)


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """The key headers of an operation as they are written, in order. `uuid`: the schema says so. `max_length`: 0 is none."""

    headers: tuple[str, ...]
    required: bool
    uuid: bool
    max_length: int


def key_of(description: Description, operation: Operation) -> DeclaredKey | None:
    """The key that an operation declares; None: it declares none."""
    found: list[Branch] = []
    headers: list[str] = []
    for parameter in description.parameters(operation):
        name = parameter.text("name") or ""
        if (parameter.text("in") or "").lower() != "header" or not names_key(name):
            continue
        try:
            key_header(name)
        except WrongError:
            continue
        if name.lower() not in [each.lower() for each in headers]:
            headers.append(name)
            found.append(parameter)
    if not found:
        return None
    node = found[0].get("schema")
    schema = None if node is None else description.resolve(node)
    uuid, longest = False, 0
    if isinstance(schema, Branch):
        uuid = schema.text("format") == "uuid"
        longest = _length(schema.text("maxLength"))
    return DeclaredKey(tuple(headers), any(each.true("required") for each in found), uuid, longest)


def _length(text: str | None) -> int:
    if text is None or not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 8192:
        return 0
    return int(text)


@dataclass(frozen=True, slots=True)
class Callers:
    """How callers show who they are. `scope` is as the config says it; `unsayable` are security schemes that a scope cannot say, in words.
    `open`: the operation asks for nothing."""

    scope: tuple[str, ...]
    unsayable: tuple[str, ...] = ()
    open: bool = False


def callers_of(description: Description, operation: Operation) -> Callers:
    """The scope that an operation's security schemes make: every field that one of its alternatives asks for."""
    security = operation.node.get("security") or description.root.get("security")
    if not isinstance(security, Row):
        return Callers((), open=True)
    scope: dict[str, None] = {}
    unsayable: dict[str, None] = {}
    for alternative in items(security):
        for name in alternative.members if isinstance(alternative, Branch) else ():
            node = description.root.get("components", "securitySchemes", name)
            scheme = None if node is None else description.resolve(node)
            part, words = _part(scheme) if isinstance(scheme, Branch) else ("", "a scheme that is not described")
            if part:
                scope[part] = None
            else:
                unsayable[words] = None
    return Callers(tuple(scope), tuple(unsayable), not scope and not unsayable)


def _part(scheme: Branch) -> tuple[str, str]:
    """A scope's part, or why there is none."""
    name = scheme.text("name") or ""
    match scheme.text("type"), scheme.text("in"):
        case "http" | "oauth2" | "openIdConnect", _:
            return "header:Authorization", ""
        case "apiKey", "header":
            try:
                key_header(name)
            except WrongError:
                return "", "an API key in a header that cannot be one"
            return f"header:{name}", ""
        case "apiKey", "cookie" if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", name):
            return f"cookie:{name}", ""
        case "apiKey", "query":
            return "", "an API key in the query"
        case "mutualTLS", _:
            return "", "client certificates (scope client_cert, with tls.listen.client_ca)"
        case _:
            return "", "a scheme of a kind that is not known"
