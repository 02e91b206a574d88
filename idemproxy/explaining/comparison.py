"""Two requests beside each other: are they one operation, and if not, what makes them two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from idemproxy.explaining.explainer import Explanation
from idemproxy.explaining.shown import key_shown, parts_shown, scope_shown
from idemproxy.idempotency.content import Content, Unreadable
from idemproxy.idempotency.fingerprint import differing
from idemproxy.idempotency.routes import BodyRecipe

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
    one: str | None
    other: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`places` are the JSON pointers at which two JSON bodies differ, most of them at least."""

    relation: Relation
    sides: tuple[Side, ...]
    places: tuple[str, ...]


def compare(one: Explanation, other: Explanation) -> Comparison:
    """What makes them one operation, or two."""
    rules = Side("rule", one.rule is other.rule, _rule(one), _rule(other))
    mine, its = one.named, other.named
    if mine is None or its is None:
        return Comparison(Relation.NONE, (rules,), ())
    key, others = mine.key.value, its.key.value
    sides = [rules, Side("key", key == others, key_shown(mine)[0], key_shown(its)[0])]
    if one.rule is not other.rule or one.rule is None:
        return Comparison(_relation(mine.operation.record_id == its.operation.record_id, False), tuple(sides), ())
    for (name, value), (_, its_value) in zip(scope_shown(mine), scope_shown(its), strict=True):
        sides.append(Side(f"scope {name}", value == its_value, value, its_value))
    recipe = one.rule.fingerprint
    different = differing(recipe, mine.operation.fingerprint, its.operation.fingerprint)
    shown = zip(parts_shown(mine, MOST_CHARACTERS), parts_shown(its, MOST_CHARACTERS), strict=True)
    sides += [Side(name, name not in different, value, its_value) for (name, value), (_, its_value) in shown]
    places: tuple[str, ...] = ()
    if "body" in different and recipe.body in (BodyRecipe.JSON, BodyRecipe.RAW):
        places = tuple(_places(mine.operation.body, its.operation.body))
    return Comparison(
        _relation(mine.operation.record_id == its.operation.record_id, not different), tuple(sides), places
    )


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
