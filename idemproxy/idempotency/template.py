"""Templates: text with parts that are read from a request, such as `/v1/charges/by-key/{header:Idempotency-Key}`
(DESIGN.md section 6, *Derived keys*)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never
from urllib.parse import quote_from_bytes, unquote_to_bytes

from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import split_target


class Source(Enum):
    """Where in a request a part is read."""

    HEADER = "header"
    QUERY = "query"
    PATH = "path"
    COOKIE = "cookie"


class Filter(Enum):
    """What is done to a part before it is used."""

    LOWER = "lower"
    TRIM = "trim"
    SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a request: `name` is a field's in lower case, a segment's, a parameter's or a cookie's."""

    source: Source
    name: str
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and parts, in order."""

    pieces: tuple[bytes | Part, ...]


class BadTemplate(ValueError):
    """A text that is no template. The message says why, and holds nothing of the text, which may be a secret."""


_PART: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[!-~]+")


def parse_template(text: str) -> Template:
    """The template that a text writes: `{source:name|filter}` are its parts. Raises BadTemplate."""
    pieces: list[bytes | Part] = []
    at = 0
    for found in _PART.finditer(text):
        pieces += _literal(text[at : found.start()])
        pieces.append(_part(found[1]))
        at = found.end()
    return Template((*pieces, *_literal(text[at:])))


def _literal(text: str) -> list[bytes | Part]:
    if "{" in text or "}" in text:
        raise BadTemplate("a brace has no partner")
    return [text.encode()] if text else []


def _part(text: str) -> Part:
    said, *filters = text.split("|")
    source, colon, name = said.partition(":")
    try:
        kind = Source(source)
    except ValueError:
        raise BadTemplate(f"a part's source is none of {', '.join(each.value for each in Source)}") from None
    if not colon or not _NAME.fullmatch(name):
        raise BadTemplate("a part's source needs a name behind a colon")
    return Part(kind, name.lower() if kind is Source.HEADER else name, tuple(_filter(each) for each in filters))


def _filter(text: str) -> Filter:
    try:
        return Filter(text)
    except ValueError:
        raise BadTemplate(f"a part's filter is none of {', '.join(each.value for each in Filter)}") from None


def target_of(template: Template, path: str, target: bytes, fields: Fields) -> bytes | None:
    """The template filled in as a target of a request of its own: each part is percent-encoded, so that none can mean anything but
    itself there. `path` is the pattern of the rule whose request it is. None: a part is absent, empty, or several things at once."""
    filled: list[bytes] = []
    for piece in template.pieces:
        if isinstance(piece, bytes):
            filled.append(piece)
            continue
        value = _value(piece, path, target, fields)
        if value is None or value in (b".", b".."):
            return None
        filled.append(quote_from_bytes(value, safe="").encode())
    return b"".join(filled)


def _value(part: Part, path: str, target: bytes, fields: Fields) -> bytes | None:
    found = set(_found(part, path, target, fields))
    if len(found) != 1:
        return None
    value = found.pop()
    for each in part.filters:
        value = _filtered(value, each)
    return value or None


def _found(part: Part, path: str, target: bytes, fields: Fields) -> list[bytes]:
    name = part.name.encode()
    _, raw, query = split_target(target)
    match part.source:
        case Source.HEADER:
            return values(fields, name)
        case Source.QUERY:
            pairs = [pair.partition(b"=") for pair in (query or b"").split(b"&")]
            return [_plain(value) for said, _, value in pairs if _plain(said) == name]
        case Source.PATH:
            return _segment(f"{{{part.name}}}", path, raw)
        case Source.COOKIE:
            cookies = [pair.strip().partition(b"=") for line in values(fields, b"cookie") for pair in line.split(b";")]
            return [value for said, _, value in cookies if said == name]
        case other:
            assert_never(other)


def _plain(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _segment(wild: str, pattern: str, path: bytes) -> list[bytes]:
    """The segment that stands where the pattern has `{name}`. None where the path is not built as the pattern is."""
    wanted, given = pattern.strip("/").split("/"), path.strip(b"/").split(b"/")
    rest = wanted[-1] == "**"
    if len(given) < len(wanted) - 1 if rest else len(given) != len(wanted):
        return []
    return [unquote_to_bytes(segment) for name, segment in zip(wanted, given, strict=False) if name == wild]


def _filtered(value: bytes, said: Filter) -> bytes:
    match said:
        case Filter.LOWER:
            return value.lower()
        case Filter.TRIM:
            return value.strip(b" \t\r\n")
        case Filter.SHA256:
            return hashlib.sha256(value).hexdigest().encode()
        case other:
            assert_never(other)
