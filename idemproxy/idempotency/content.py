"""What a body says: JSON by value, forms by pairs, multipart by parts (DESIGN.md section 6, *Derived keys* and *Fingerprint*)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from idemproxy.idempotency.framing import framed

MOST_PARTS: Final = 1_000
"""Parts of a multipart body that are read: one with more says nothing."""
MOST_PAIRS: Final = 10_000
"""Pairs of a form that are read."""


class Unreadable(Exception):
    """A body that is not what it was to be read as. The message says why, and holds nothing of it."""


# ------------------------------------------------------------------------------------------------------------------------ JSON


Json = Any
"""dict, list, str, int, Raw (any other number, as it is written), bool or None."""

MOST_DEPTH: Final = 200
"""Objects and arrays within each other that are read: how deep a stack is must not decide what a body says."""

MOST_VALUES: Final = 100_000
"""Commas in a JSON body that is read: everybody else waits meanwhile."""

_MINUS_ZERO: Final = re.compile(rb"-0(?<![^\[:, \t\r\n]-0)(?![0-9.eE])")
_DECODER: Final = msgspec.json.Decoder(float_hook=msgspec.Raw)
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Document:
    """What a body says, and the same in bytes that are equal for equal values, whatever the order of names, the white space and the
    escapes that they were written with. Numbers are as they are written: `1.0` is not `1`."""

    value: Json
    canonical: bytes


def read_json(body: bytes) -> Document:
    """The value that a body writes (RFC 8259). Raises Unreadable, also where a name comes twice in one object: readers of such a body
    do not agree about what it says (RFC 8259, section 4)."""
    if body.count(b",") > MOST_VALUES:
        raise Unreadable("it has too many values")
    try:
        value = _DECODER.decode(body)
        if b"-0" in body and _MINUS_ZERO.search(body) is not None:
            value = json.loads(body, parse_float=msgspec.Raw, parse_int=_whole)
        if body.count(b"[") + body.count(b"{") > MOST_DEPTH:
            _check_depth(value)
        canonical = _ENCODER.encode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unreadable("it is not JSON, or too deep") from error
    if _has_twice(body, canonical):
        raise Unreadable("a name comes twice in one object")
    return Document(value, canonical)


def canonical_json(value: Json) -> bytes:
    """As Document.canonical, of a part of what was read."""
    return _ENCODER.encode(value)


def _whole(text: str) -> int | msgspec.Raw:
    """Only the standard library's reader shows whole numbers as they are written, and `-0` is none that a whole number can keep."""
    return msgspec.Raw(text) if text == "-0" else int(text)


def _has_twice(body: bytes, canonical: bytes) -> bool:
    """Whether some name was read twice, so that the value has fewer strings than the body. Without `\\u` both write a quotation mark in
    the same way."""
    if b"\\u" not in body:
        return body.count(b'"') != canonical.count(b'"')
    return _quotes(body) != _quotes(canonical)


def _quotes(text: bytes) -> int:
    """How many quotation marks begin or end a string."""
    return text.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"')


def _inside(values: list[Json]) -> list[Json]:
    """The members of all objects and arrays among these."""
    inner: list[Json] = []
    for each in values:
        if type(each) is dict:
            inner += each.values()
        elif type(each) is list:
            inner += each
    return inner


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        if not any(type(each) in (dict, list) for each in level):
            return
        level = _inside(level)
    raise ValueError("too deep")


# ---------------------------------------------------------------------------------------------------------------- JSON pointers

_ESCAPED: Final = {"~1": "/", "~0": "~"}
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def parse_pointer(text: str) -> tuple[str, ...]:
    """The tokens of a JSON pointer (RFC 6901, section 3). Raises ValueError."""
    if text and not text.startswith("/"):
        raise ValueError("a JSON pointer begins with /")
    if re.search(r"~(?![01])", text):
        raise ValueError("a ~ in a JSON pointer is written ~0")
    return tuple(re.sub("~[01]", lambda found: _ESCAPED[found[0]], each) for each in text.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Nothing:
    """A pointer leads nowhere."""


NOTHING: Final = Nothing()


def at(value: Json, pointer: tuple[str, ...]) -> Json | Nothing:
    """What the pointer leads to (RFC 6901, section 4)."""
    for token in pointer:
        if isinstance(value, dict):
            value = value.get(token, NOTHING)
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return NOTHING
        if value is NOTHING:
            return NOTHING
    return value


def without(value: Json, pointer: tuple[str, ...]) -> Json:
    """The value without what the pointer leads to, where it leads anywhere; the value itself stays as it is. An array's other members
    keep their places."""
    if not pointer:
        return None
    token, rest = pointer[0], pointer[1:]
    if isinstance(value, dict) and token in value:
        if not rest:
            return {name: each for name, each in value.items() if name != token}
        return {**value, token: without(value[token], rest)}
    if isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
        index = int(token)
        return [*value[:index], without(value[index], rest) if rest else None, *value[index + 1 :]]
    return value


# -------------------------------------------------------------------------------------------------------------- forms, multipart


def read_form(body: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs of an `application/x-www-form-urlencoded` body (WHATWG URL, section 5.1), in order. Raises Unreadable."""
    if body.count(b"&") >= MOST_PAIRS:
        raise Unreadable("it has too many pairs")
    pairs = [pair.partition(b"=") for pair in body.split(b"&") if pair]
    return [(plain(name), plain(value)) for name, _, value in pairs]


def plain(text: bytes) -> bytes:
    """A name or a value of a form or a query."""
    return unquote_to_bytes(text.replace(b"+", b" "))


def canonical_form(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Equal whatever the order of different names; several values of one name keep theirs."""
    return framed(*(framed(name, value) for name, value in sorted(pairs, key=lambda pair: pair[0])))


_BOUNDARY: Final = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)+)"|([^;, \t"]+))', re.IGNORECASE)


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a multipart media type names (RFC 2046, section 5.1.1)."""
    if not content_type.lower().startswith(b"multipart/"):
        return None
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    return found[2] if found[1] is None else re.sub(rb"\\(.)", rb"\1", found[1])


def without_boundary(content_type: bytes) -> bytes:
    """A media type, without the boundary of a multipart one."""
    if not content_type.lower().startswith(b"multipart/"):
        return content_type
    return _BOUNDARY.sub(b"", content_type, count=1)


def canonical_multipart(body: bytes, content_type: bytes) -> bytes:
    """Equal for equal parts in equal order, whatever the boundary. Raises Unreadable."""
    boundary = boundary_of(content_type)
    if boundary is None or len(boundary) > 70:
        raise Unreadable("its media type names no boundary")
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, MOST_PARTS + 2)
    if len(pieces) < 2 or len(pieces) > MOST_PARTS + 2:
        raise Unreadable("it has no parts, or too many")
    *parts, last = pieces[1:]
    if not last.startswith(b"--"):
        raise Unreadable("it has no end")
    return framed(*(_part(part) for part in parts))


def _part(part: bytes) -> bytes:
    padding, line_end, rest = part.partition(b"\r\n")
    if padding.strip(b" \t") or not line_end:
        raise Unreadable("a part does not begin behind its boundary")
    head, empty, content = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if not empty:
        raise Unreadable("a part has no end of its head")
    return framed(head, content)


# ---------------------------------------------------------------------------------------------------------- one request's body


class Content:
    """A request's body, read as JSON and as a form at most once, whoever asks."""

    __slots__ = ("_form", "_json", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._json: Document | Unreadable | None = None
        self._form: list[tuple[bytes, bytes]] | Unreadable | None = None

    def json(self) -> Document:
        """Raises Unreadable."""
        if self._json is None:
            try:
                self._json = read_json(self.body)
            except Unreadable as unreadable:
                self._json = unreadable
        if isinstance(self._json, Unreadable):
            raise self._json
        return self._json

    def form(self) -> list[tuple[bytes, bytes]]:
        """Raises Unreadable."""
        if self._form is None:
            try:
                self._form = read_form(self.body)
            except Unreadable as unreadable:
                self._form = unreadable
        if isinstance(self._form, Unreadable):
            raise self._form
        return self._form
