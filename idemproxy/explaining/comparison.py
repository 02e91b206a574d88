"""Two requests beside each other: are they one operation, and if not, what makes them two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from idemproxy.explaining.explainer import Explanation
from idemproxy.explaining.shown import key_shown, parts_shown, scope_shown
from idemproxy.idempotency.content import Content, Unreadable
from idemproxy.idempotency.fingerprint import differing, equal
from idemproxy.idempotency.routes import BodyRecipe
from idemproxy.identifying import fingerprint_by

MOST_CHARACTERS: Final = 400
"""Of a body that are shown."""
MOST_PLACES: Final = 20
"""In two JSON bodies at which they differ, that are told."""


class Relation(Enum):
    """What the second request is to an operation that the first one began."""

    RETRY = "retry"
    REUSE = "reuse"
    OTHER = "other operation"
    NONE = "no operation"


@dataclass(frozen=True, slots=True)
class Side:
    """One thing in both requests."""

    name: str
    equal: bool
    this: str | None
    other: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`places` are the JSON pointers at which two JSON bodies differ, most of them at least."""

    relation: Relation
    sides: tuple[Side, ...]
    places: tuple[str, ...]


def compare(this: Explanation, other: Explanation) -> Comparison:
    """What makes them one operation, or two; `other` is the one that came first, by whose recipe they are compared."""
    rules = Side("rule", this.rule is other.rule, _rule(this), _rule(other))
    mine, its = this.named, other.named
    if mine is None or its is None:
        return Comparison(Relation.NONE, (rules,), ())
    sides = [rules, Side("key", mine.key.value == its.key.value, key_shown(mine)[0], key_shown(its)[0])]
    if this.rule is other.rule:
        scopes = zip(scope_shown(mine), scope_shown(its), strict=True)
        sides += [
            Side(f"scope {name}", value == its_value, value, its_value) for (name, value), (_, its_value) in scopes
        ]
    recipe = its.operation.rule.fingerprint
    one, two = its.operation.fingerprint, fingerprint_by(its.operation.recipe, mine.operation)
    different = differing(recipe, one, two)
    shown = zip(parts_shown(mine, recipe, MOST_CHARACTERS), parts_shown(its, recipe, MOST_CHARACTERS), strict=True)
    sides += [Side(name, name not in different, value, its_value) for (name, value), (_, its_value) in shown]
    places: tuple[str, ...] = ()
    if "body" in different and recipe.body in (BodyRecipe.JSON, BodyRecipe.RAW):
        places = tuple(_places(mine.operation.body, its.operation.body))
    same_id = mine.operation.record_id == its.operation.record_id
    return Comparison(_relation(same_id, equal(one, two)), tuple(sides), places)


def _relation(same_id: bool, same_fingerprint: bool) -> Relation:
    if not same_id:
        return Relation.OTHER
    return Relation.RETRY if same_fingerprint else Relation.REUSE


def _rule(explanation: Explanation) -> str | None:
    return None if explanation.rule is None else explanation.rule.name


def _places(one: bytes, other: bytes) -> list[str]:
    try:
        values = Content(one).json().value, Content(other).json().value
    except Unreadable:
        return []
    found: list[str] = []
    for place in _differ(*values, ""):
        found.append(place)
        if len(found) == MOST_PLACES:
            break
    return found


def _differ(one: Any, other: Any, at: str) -> Iterator[str]:
    """Pointers (RFC 6901) to what one has and the other has not, or otherwise."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*one, *other]):
            place = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in one and name in other:
                yield from _differ(one[name], other[name], place)
            else:
                yield place
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (mine, its) in enumerate(zip(one, other, strict=True)):
            yield from _differ(mine, its, f"{at}/{index}")
    elif type(one) is not type(other) or one != other:
        yield at or "(the whole)"
