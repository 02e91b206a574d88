"""What must be equal in a retry (DESIGN.md section 2). The recipe's name is stored with the record, so that a record is compared
by the recipe that made it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import assert_never
from urllib.parse import quote, unquote
from zlib import crc32

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.content import (
    Content,
    Unreadable,
    canonical_form,
    canonical_json,
    canonical_multipart,
    parse_pointer,
    plain,
    without,
    without_boundary,
)
from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import split_target
from idemproxy.idempotency.routes import BodyRecipe, Ignored, Recipe, Within

_VERSION = "1"
_DIGEST_BYTES = 32
_MARK_BYTES = 4
_QUERY = {"query": True, "-": False}


def fingerprint(recipe: Recipe, method: bytes, target: bytes, fields: Fields, content: Content) -> bytes:
    """SHA-256 over method, raw path, and what the recipe names; behind its 32 bytes four more for each part, which count for nothing: they
    tell which part differs. Absolute-form and origin-form of one path are equal, since
    the same goes to the upstream. `/a?` and `/a` differ, as do all raw spellings of a path: what goes to the upstream differs, and a
    retry is the same bytes again. A header that is absent differs from an empty one. A body that cannot be read as what the recipe
    says is compared byte for byte."""
    _, path, query = split_target(target)
    said = None if recipe.body in (BodyRecipe.RAW, BodyRecipe.NONE) else _said(recipe, fields, content)
    parts = [b"idemproxy fingerprint 1", method, path]
    asked = framed(_kept(recipe, query)) if recipe.query and query is not None else b""
    parts.append(asked)
    marks = [crc32(method), crc32(path), crc32(asked)]
    for name in recipe.headers:
        found = values(fields, name)
        if said is not None and recipe.body is BodyRecipe.MULTIPART and name == b"content-type":
            found = [without_boundary(value) for value in found]
        header = framed(name, *found)
        parts.append(header)
        marks.append(crc32(header))
    if said is not None:
        parts.append(hashlib.sha256(framed(recipe.body.value.encode(), said)).digest())
    else:
        parts.append(b"" if recipe.body is BodyRecipe.NONE else hashlib.sha256(content.body).digest())
    return _packed(len(marks))(hashlib.sha256(framed(*parts)).digest(), *marks, parts[-1])


@lru_cache
def _packed(marks: int) -> Callable[..., bytes]:
    """Puts a digest, so many marks, and the first bytes of the body's digest behind each other."""
    return struct.Struct(f">{_DIGEST_BYTES}s{marks}I{_MARK_BYTES}s").pack


def equal(one: bytes, other: bytes) -> bool:
    """Whether two fingerprints by one recipe are of the same request. One from before parts were told apart has none."""
    return one[:_DIGEST_BYTES] == other[:_DIGEST_BYTES]


def part_names(recipe: Recipe) -> tuple[str, ...]:
    """The parts of a fingerprint, in order, as people call them."""
    headers = (f"header:{name.decode('ascii')}" for name in recipe.headers)
    return ("method", "path", "query", *headers, "body")


def differing(recipe: Recipe, one: bytes, other: bytes) -> tuple[str, ...]:
    """The names of the parts in which two fingerprints by that recipe differ: none where one of them has no parts."""
    marks = zip(_marks(one), _marks(other), strict=False)
    return tuple(name for name, (mine, its) in zip(part_names(recipe), marks, strict=False) if mine != its)


def _marks(whole: bytes) -> list[bytes]:
    return [whole[at : at + _MARK_BYTES] for at in range(_DIGEST_BYTES, len(whole), _MARK_BYTES)]


def _kept(recipe: Recipe, query: bytes) -> bytes:
    ignored = _ignored(recipe.ignore, Within.QUERY)
    if not ignored:
        return query
    return b"&".join(
        [pair for pair in query.split(b"&") if plain(pair.partition(b"=")[0]).decode("latin-1") not in ignored]
    )


def _said(recipe: Recipe, fields: Fields, content: Content) -> bytes | None:
    """What the body says, in bytes that are equal for equal bodies. None: it cannot be read."""
    try:
        match recipe.body:
            case BodyRecipe.JSON:
                document = content.json()
                pointers = _pointers(recipe.ignore)
                value = document.value
                for pointer in pointers:
                    value = without(value, pointer)
                return canonical_json(value) if pointers else document.canonical
            case BodyRecipe.FORM:
                ignored = _ignored(recipe.ignore, Within.FORM)
                pairs = content.form()
                return canonical_form([pair for pair in pairs if pair[0].decode("latin-1") not in ignored])
            case BodyRecipe.MULTIPART:
                kinds = values(fields, b"content-type")
                return canonical_multipart(content.body, kinds[0] if len(kinds) == 1 else b"")
            case BodyRecipe.RAW | BodyRecipe.NONE:
                return None
            case other:
                assert_never(other)
    except Unreadable:
        return None


@lru_cache
def _ignored(ignore: tuple[Ignored, ...], within: Within) -> frozenset[str]:
    """Names, one character for each of their bytes."""
    return frozenset(each.name.encode().decode("latin-1") for each in ignore if each.within is within)


@lru_cache
def _pointers(ignore: tuple[Ignored, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(parse_pointer(each.name) for each in ignore if each.within is Within.JSON)


@lru_cache
def recipe_name(recipe: Recipe) -> str:
    """A short text that `recipe_of` reads."""
    headers = ",".join(name.decode("ascii") for name in recipe.headers)
    plainly = f"{_VERSION}:{'query' if recipe.query else '-'}:{recipe.body.value}:{headers}"
    if not recipe.ignore:
        return plainly
    ignored = ",".join(f"{each.within.value}={quote(each.name, safe='')}" for each in recipe.ignore)
    return f"{plainly}:{ignored}"


@lru_cache
def recipe_of(name: str) -> Recipe:
    """The recipe of that name. Raises RecordUnreadable."""
    try:
        version, query, body, headers, *ignore = name.split(":")
        if version != _VERSION or len(ignore) > 1:
            raise ValueError(version)
        ignored = tuple(_ignored_of(each) for each in ignore[0].split(",")) if ignore else ()
        listed = tuple(part.encode() for part in headers.split(",") if part)
        return Recipe(listed, _QUERY[query], BodyRecipe(body), ignored)
    except (KeyError, ValueError) as error:
        raise RecordUnreadable("a record's fingerprint was made by a recipe that this version does not know") from error


def _ignored_of(text: str) -> Ignored:
    within, _, name = text.partition("=")
    plainly = unquote(name, errors="strict")
    if within == Within.JSON.value:
        parse_pointer(plainly)
    return Ignored(Within(within), plainly)
