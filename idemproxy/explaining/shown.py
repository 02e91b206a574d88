"""The parts of an explanation in words: where a key comes from, whose it is, and what a fingerprint is made of. Credentials are shown as
digests: enough to see whether two are the same."""

from __future__ import annotations

import hashlib
from typing import Final, assert_never

from idemproxy.explaining.explainer import Named
from idemproxy.idempotency.content import Content, Unreadable
from idemproxy.idempotency.fingerprint import part_names
from idemproxy.idempotency.identity import scope_values
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.natural import derive
from idemproxy.idempotency.paths import split_target
from idemproxy.idempotency.routes import (
    BodyRecipe,
    CertificateScope,
    ClaimScope,
    CookieScope,
    HeaderScope,
    LiteralScope,
    PathScope,
    Recipe,
    Rule,
    ScopePart,
    claims_of,
)
from idemproxy.idempotency.template import Asked, Part, Template, read_part, segment

SECRET: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key", b"apikey", b"x-auth-token"}
)
"""Header fields that are credentials wherever they come."""
_DIGITS: Final = 12


def digest(value: bytes) -> str:
    """A value that is not shown."""
    return f"sha256:{hashlib.sha256(value).hexdigest()[:_DIGITS]}"


def text(value: bytes) -> str:
    """A value that is shown, in characters that steer no terminal."""
    said = value.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in said)


# ------------------------------------------------------------------------------------------------------------------------- key


def key_shown(named: Named) -> tuple[str, str]:
    """The key, and where the request has it."""
    operation, rule, key = named.operation, named.operation.rule, named.key
    head = operation.head
    if not key.derived:
        name = next(each for each in rule.key.headers if values(head.fields, each))
        return text(key.value), f"header:{name.decode()}"
    asked = Asked(rule.match.path, head.target, head.fields, operation.peer, Content(operation.body))
    if rule.key.natural and derive(rule, asked) == key:
        for template in rule.key.natural:
            if (filled := _filled(template, asked)) is not None:
                return filled, _written(template)
    assert rule.key.marker is not None
    number = values(head.fields, rule.key.marker.header)[0]
    return f"attempt {text(number)}", f"retry_marker:{rule.key.marker.header.decode()}"


def _filled(template: Template, asked: Asked) -> str | None:
    said: list[str] = []
    for piece in template.pieces:
        if isinstance(piece, bytes):
            said.append(text(piece))
            continue
        found = read_part(piece, asked)
        if len(found) != 1:
            return None
        said += [text(value.text) for value in found]
    return "".join(said)


def _written(template: Template) -> str:
    return "".join(text(piece) if isinstance(piece, bytes) else _part(piece) for piece in template.pieces)


def _part(part: Part) -> str:
    name = f":{part.name}" if part.name else ""
    return f"{{{part.source.value}{name}{''.join(f'|{each.value}' for each in part.filters)}}}"


# ----------------------------------------------------------------------------------------------------------------------- scope


def scope_shown(named: Named) -> list[tuple[str, str | None]]:
    """Each part of the scope, and its value; None: the request does not have it."""
    rule, head = named.operation.rule, named.operation.head
    claims = dict.fromkeys(claims_of(rule), b"")  # which hold, since the request was identified
    found = scope_values(rule, head.fields, head.target, named.certificate, claims)
    return [
        (_scope_name(part), None if value is None else _scope_value(part, value, rule, head.target))
        for part, value in zip(rule.scope, found, strict=True)
    ]


def _scope_name(part: ScopePart) -> str:
    match part:
        case HeaderScope(name, pattern):
            return f"header:{name.decode()}" + ("" if pattern is None else f" by {pattern.text.decode()}")
        case CookieScope(name):
            return f"cookie:{name.decode()}"
        case PathScope(name):
            return f"path:{name}"
        case CertificateScope():
            return "client_cert"
        case LiteralScope(said):
            return f"literal:{said.decode()}"
        case ClaimScope(claim):
            return f"jwt:{claim}"
        case other:
            assert_never(other)


def _scope_value(part: ScopePart, value: bytes, rule: Rule, target: bytes) -> str:
    match part:
        case LiteralScope(said):
            return text(said)
        case PathScope(name):
            return ", ".join(map(text, segment(name, rule.match.path, split_target(target)[1])))
        case HeaderScope() | CookieScope() | CertificateScope():
            return digest(value)
        case ClaimScope():
            return "(as the token claims, which is verified)"
        case other:
            assert_never(other)


# ----------------------------------------------------------------------------------------------------------------- fingerprint


def parts_shown(named: Named, recipe: Recipe, most: int) -> list[tuple[str, str]]:
    """Each part of a fingerprint by that recipe, and what it says; of a body at most `most` characters, and its digest where that is 0."""
    operation = named.operation
    head = operation.head
    _, path, query = split_target(head.target)
    asked = "-" if query is None else text(query)
    said = [text(head.method), text(path), asked if recipe.query else "(does not count)"]
    said += [_header(name, head.fields) for name in recipe.headers]
    said.append(_body(recipe, operation.body, most))
    return list(zip(part_names(recipe), said, strict=True))


def _header(name: bytes, fields: Fields) -> str:
    found = values(fields, name)
    if not found:
        return "-"
    return " | ".join(digest(each) if name in SECRET else text(each) for each in found)


def _body(recipe: Recipe, body: bytes, most: int) -> str:
    if recipe.body is BodyRecipe.NONE:
        return "(does not count)"
    said = f"{len(body)} bytes, {_read_as(recipe, body)}"
    if not most:
        return f"{said}, {digest(body)}"
    shown = text(body[:most])
    return f"{said}: {shown}{'...' if len(body) > most else ''}"


def _read_as(recipe: Recipe, body: bytes) -> str:
    """How the body counts. One that cannot be read as the rule says counts byte for byte."""
    content = Content(body)
    try:
        match recipe.body:
            case BodyRecipe.RAW | BodyRecipe.NONE:
                return "byte for byte"
            case BodyRecipe.JSON:
                content.json()
                return "by its JSON value"
            case BodyRecipe.FORM:
                content.form()
                return "by its pairs"
            case BodyRecipe.MULTIPART:
                return "by its parts, where it has some"
            case other:
                assert_never(other)
    except Unreadable as unreadable:
        return f"byte for byte ({unreadable})"
