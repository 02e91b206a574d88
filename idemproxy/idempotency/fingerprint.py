"""What must be equal in a retry (DESIGN.md section 2). The recipe's name is stored with the record, so that a record is compared
by the recipe that made it."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.identity import framed
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import split_target
from idemproxy.idempotency.routes import BodyRecipe, Recipe

_VERSION = "1"
_QUERY = {"query": True, "-": False}


def fingerprint(recipe: Recipe, method: bytes, target: bytes, fields: Fields, body: bytes) -> bytes:
    """SHA-256 over method, raw path, and what the recipe names: 32 bytes. Absolute-form and origin-form of one path are equal, since
    the same goes to the upstream. `/a?` and `/a` differ, as do all raw spellings of a path: what goes to the upstream differs, and a
    retry is the same bytes again. A header that is absent differs from an empty one."""
    _, path, query = split_target(target)
    parts = [b"idemproxy fingerprint 1", method, path]
    parts.append(framed(query) if recipe.query and query is not None else b"")
    parts += [framed(name, *values(fields, name)) for name in recipe.headers]
    parts.append(hashlib.sha256(body).digest() if recipe.body is BodyRecipe.RAW else b"")
    return hashlib.sha256(framed(*parts)).digest()


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
        return Recipe(tuple(part.encode() for part in headers.split(",") if part), _QUERY[query], BodyRecipe(body))
    except (KeyError, ValueError) as error:
        raise RecordUnreadable("a record's fingerprint was made by a recipe that this version does not know") from error
