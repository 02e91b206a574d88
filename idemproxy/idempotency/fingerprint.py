"""What must be equal in a retry (DESIGN.md section 2). The recipe's name is stored with the record, so that a record is compared
by the recipe that made it."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.identity import framed
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.routes import BodyRecipe, Recipe

_VERSION = "1"


def fingerprint(recipe: Recipe, method: bytes, target: bytes, fields: Fields, body: bytes) -> bytes:
    """SHA-256 over method, path, and what the recipe names. A target with an empty query (`/a?`) differs from one without: what
    goes to the upstream differs. Absolute-form and origin-form of one path are equal."""
    path, question, query = origin(target).partition(b"?")
    parts = [b"idemproxy fingerprint 1", method, path]
    parts.append(framed(question, query) if recipe.query else b"")
    parts += [framed(name, *values(fields, name)) for name in recipe.headers]
    parts.append(hashlib.sha256(body).digest() if recipe.body is BodyRecipe.RAW else b"")
    return hashlib.sha256(framed(*parts)).digest()


def origin(target: bytes) -> bytes:
    """The target without scheme and authority."""
    if target[:1] in (b"/", b"*"):
        return target
    rest = target.partition(b"://")[2]
    at = min((found for found in (rest.find(b"/"), rest.find(b"?")) if found >= 0), default=len(rest))
    return rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:]


@lru_cache
def recipe_name(recipe: Recipe) -> str:
    """A short text that `recipe_of` reads."""
    headers = ",".join(name.decode("ascii") for name in recipe.headers)
    return f"{_VERSION}:{'query' if recipe.query else '-'}:{recipe.body.value}:{headers}"


@lru_cache
def recipe_of(name: str) -> Recipe:
    """The recipe of that name. Raises RecordUnreadable."""
    try:
        version, query, body, headers = name.split(":")
        if version != _VERSION:
            raise ValueError(version)
        return Recipe(tuple(part.encode() for part in headers.split(",") if part), query == "query", BodyRecipe(body))
    except ValueError as error:
        raise RecordUnreadable("a record's fingerprint was made by a recipe that this version does not know") from error
