"""Templates: text with parts that are read from a request, such as `/v1/charges/by-key/{header:Idempotency-Key}`
(DESIGN.md section 6, *Derived keys*)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, assert_never
from urllib.parse import quote_from_bytes, unquote_to_bytes

from msgspec import Raw

from idemproxy.idempotency.content import Content, Unreadable, at, parse_pointer, plain
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import split_target


class Source(Enum):
    """Where in a request a part is read."""

    HEADER = "header"
    QUERY = "query"
    PATH = "path"
    COOKIE = "cookie"
    JSON = "json"
    FORM = "form"
    BODY = "body"
    CLIENT_IP = "client_ip"
    TARGET = "target"


OF_HEAD: Final = frozenset({Source.HEADER, Source.QUERY, Source.PATH, Source.COOKIE})
"""What can be read before a body came."""
NAMELESS: Final = frozenset({Source.BODY, Source.CLIENT_IP, Source.TARGET})
"""Sources of which a request has one."""


class Filter(Enum):
    """What is done to a part before it is used."""

    LOWER = "lower"
    TRIM = "trim"
    SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a request: `name` is a field's in lower case, a segment's, a parameter's, a cookie's, a JSON pointer, or "" where a
    source has no names. `pointer` is the JSON pointer's tokens."""

    source: Source
    name: str = ""
    filters: tuple[Filter, ...] = ()
    pointer: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and parts, in order."""

    pieces: tuple[bytes | Part, ...]


class BadTemplate(ValueError):
    """A text that is no template. The message says why, and holds nothing of the text, which may be a secret."""


_PART: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[!-~]+")


def parse_template(text: str, sources: Collection[Source] = OF_HEAD) -> Template:
    """The template that a text writes: `{source:name|filter}` are its parts, from these sources. Raises BadTemplate."""
    pieces: list[bytes | Part] = []
    at = 0
    for found in _PART.finditer(text):
        pieces += _literal(text[at : found.start()])
        pieces.append(_part(found[1], sources))
        at = found.end()
    return Template((*pieces, *_literal(text[at:])))


def _literal(text: str) -> list[bytes | Part]:
    if "{" in text or "}" in text:
        raise BadTemplate("a brace has no partner")
    return [text.encode()] if text else []


def _part(text: str, sources: Collection[Source]) -> Part:
    said, *filters = text.split("|")
    source, colon, name = said.partition(":")
    kind = next((each for each in Source if each in sources and each.value == source), None)
    if kind is None:
        raise BadTemplate(f"a part's source is none of {', '.join(each.value for each in Source if each in sources)}")
    wanted = tuple(_filter(each) for each in filters)
    if kind in NAMELESS:
        if colon:
            raise BadTemplate(f"{kind.value} has no name behind it")
        return Part(kind, filters=wanted)
    if kind is Source.JSON:
        return Part(kind, name, wanted, _pointer(name))
    if not colon or not _NAME.fullmatch(name):
        raise BadTemplate("a part's source needs a name behind a colon")
    return Part(kind, name.lower() if kind is Source.HEADER else name, wanted)


def _pointer(text: str) -> tuple[str, ...]:
    try:
        pointer = parse_pointer(text)
    except ValueError as error:
        raise BadTemplate(str(error)) from None
    if not pointer:
        raise BadTemplate("json needs a pointer behind a colon, such as json:/order/id")
    return pointer


def _filter(text: str) -> Filter:
    try:
        return Filter(text)
    except ValueError:
        raise BadTemplate(f"a part's filter is none of {', '.join(each.value for each in Filter)}") from None


@dataclass(frozen=True, slots=True)
class Asked:
    """What parts are read from. `path` is the pattern of the rule whose request it is; `peer` the client's IP address, or ""."""

    path: str
    target: bytes
    fields: Fields
    peer: str = ""
    content: Content = field(default_factory=lambda: Content(b""))


def target_of(template: Template, path: str, target: bytes, fields: Fields) -> bytes | None:
    """The template filled in as a target of a request of its own: each part is percent-encoded, so that none can mean anything but
    itself there. `path` is the pattern of the rule whose request it is. None: a part is absent, empty, or several things at once."""
    asked = Asked(path, target, fields)
    filled: list[bytes] = []
    for piece in template.pieces:
        if isinstance(piece, bytes):
            filled.append(piece)
            continue
        found = read_part(piece, asked)
        if len(found) != 1:
            return None
        (value,) = found
        if value.text in (b".", b".."):
            return None
        filled.append(quote_from_bytes(value.text, safe="").encode())
    return b"".join(filled)


class Type(Enum):
    """What a part was: JSON tells text `"1"` from number `1`, and the rest of a request is text."""

    TEXT = b"text"
    NUMBER = b"number"
    FLAG = b"flag"


@dataclass(frozen=True, slots=True)
class Value:
    """A part of a request, as it is used."""

    type: Type
    text: bytes


def read_part(part: Part, asked: Asked) -> set[Value]:
    """The different values of a part: none where it is absent or empty, several where it is not certain which counts."""
    found = {Value(each.type, _through(part.filters, each.text)) for each in _found(part, asked)}
    return found if len(found) > 1 else {each for each in found if each.text}


def _found(part: Part, asked: Asked) -> list[Value]:
    match part.source:
        case Source.JSON:
            return _in_json(part, asked.content)
        case Source.HEADER:
            found = values(asked.fields, part.name.encode())
        case Source.QUERY:
            found = _in_query(part.name.encode(), split_target(asked.target)[2] or b"")
        case Source.PATH:
            found = segment(part.name, asked.path, split_target(asked.target)[1])
        case Source.COOKIE:
            found = cookies(part.name.encode(), asked.fields)
        case Source.FORM:
            found = _in_form(part.name.encode(), asked.content)
        case Source.BODY:
            found = [asked.content.body]
        case Source.CLIENT_IP:
            found = [asked.peer.encode()]
        case Source.TARGET:
            _, path, query = split_target(asked.target)
            found = [path if query is None else b"%b?%b" % (path, query)]
        case other:
            assert_never(other)
    return [Value(Type.TEXT, each) for each in found]


def _in_json(part: Part, content: Content) -> list[Value]:
    """Null, an object and an array are no values."""
    try:
        value = at(content.json().value, part.pointer)
    except Unreadable:
        return []
    match value:
        case bool():
            return [Value(Type.FLAG, b"true" if value else b"false")]
        case str():
            return [Value(Type.TEXT, value.encode())]
        case int():
            return [Value(Type.NUMBER, b"%d" % value)]
        case Raw():
            return [Value(Type.NUMBER, bytes(value))]
        case _:
            return []


def _in_query(name: bytes, query: bytes) -> list[bytes]:
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    return [plain(value) for said, _, value in pairs if plain(said) == name]


def _in_form(name: bytes, content: Content) -> list[bytes]:
    try:
        return [value for said, value in content.form() if said == name]
    except Unreadable:
        return []


def cookies(name: bytes, fields: Fields) -> list[bytes]:
    """The values of every cookie of that name (RFC 6265, section 4.2.1)."""
    pairs = [pair.strip().partition(b"=") for line in values(fields, b"cookie") for pair in line.split(b";")]
    return [value for said, _, value in pairs if said == name]


def segment(name: str, pattern: str, path: bytes) -> list[bytes]:
    """The segment that stands where the pattern has `{name}`. None where the path is not built as the pattern is."""
    wild = f"{{{name}}}"
    wanted, given = pattern.strip("/").split("/"), path.strip(b"/").split(b"/")
    rest = wanted[-1] == "**"
    if len(given) < len(wanted) - 1 if rest else len(given) != len(wanted):
        return []
    return [unquote_to_bytes(each) for said, each in zip(wanted, given, strict=False) if said == wild]


def _through(filters: tuple[Filter, ...], value: bytes) -> bytes:
    """What is empty stays so: a digest of nothing names nothing."""
    for each in filters:
        if not value:
            break
        value = _filtered(value, each)
    return value


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
