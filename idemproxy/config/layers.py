"""What a rule is made of: itself, its preset, `defaults:`, and the built-in defaults, in this order (DESIGN.md section 6, *Presets*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from idemproxy.config.faults import START, Faults
from idemproxy.config.kinds import INVALID
from idemproxy.config.model import RULE
from idemproxy.config.presets import set_by
from idemproxy.config.table import Found, Item
from idemproxy.config.tree import natural

_BY_GUARANTEE: Final = frozenset({"on_unknown", "on_store_failure", "release_statuses"})
"""What a guarantee sets where it is not written."""
_WHERE_THE_KEY_IS: Final = frozenset({"header", "from", "first_sent", "retry_marker"})

_PRESET: Final = RULE.shared()


def merged_rule(rule: Found, shared: Found) -> Found:
    """A rule with its preset and `defaults:`. Which of them a setting comes from shows in its path."""
    preset = _preset_of(rule)
    if preset is None:
        return RULE.merged(rule, shared)
    giving = _giving_way(preset, rule)
    return RULE.merged(rule, giving, _beneath(shared, giving))


def preset_alone(rule: Found) -> Found | None:
    """What the preset of a merged rule makes of requests like its own, without what the rule says; None without a preset."""
    preset = _preset_of(rule)
    if preset is None:
        return None
    own = Found({name: rule.items[name] for name in ("name", "match", "preset")})
    return RULE.merged(own, preset)


def _preset_of(rule: Found) -> Found | None:
    """The preset's settings, all of which stand where the rule names it, so that a fault that they make leads there."""
    item = rule.items.get("preset")
    if item is None or item.value is None:
        return None
    place, path = item.place or START, item.path
    if not isinstance(item.value, str):
        # Misspelt: nothing is to be concluded from what it would have set.
        scheme = Found({"scheme": Item(INVALID, place, f"{path}.verify.scheme")})
        return Found({"verify": Item(scheme, place, f"{path}.verify")})
    found = _PRESET.read(natural(dict(set_by(item.value)), place), path, Faults("preset"))
    assert isinstance(found, Found)
    return found


def _giving_way(preset: Found, rule: Found) -> Found:
    """The preset without what followed from a guarantee that the rule replaces, and without a meaning of statuses to which the rule gives
    another one."""
    items = dict(preset.items)
    written, own = rule.items.get("guarantee"), items.get("guarantee")
    if written and own and written.value is not own.value:
        items = _without(items, _BY_GUARANTEE | {"guarantee", "unknown_statuses"})
    for ours, theirs in (("release_statuses", "unknown_statuses"), ("unknown_statuses", "release_statuses")):
        taken = rule.get(theirs, tuple)
        if taken and ours in items:
            items[ours] = _less(items[ours], frozenset().union(*taken))
    return Found(items)


def _less(item: Item, taken: frozenset[int]) -> Item:
    assert isinstance(item.value, tuple)
    return Item(tuple(each - taken for each in item.value), item.place, item.path)


def _beneath(shared: Found, preset: Found) -> Found:
    """`defaults:` as they count beneath a preset: where a key is, and what follows from the guarantee, are the preset's alone."""
    items = dict(shared.items)
    if "guarantee" in preset.items:
        items = _without(items, _BY_GUARANTEE)
    key = items.get("key")
    if key is not None and isinstance(key.value, Found):
        items["key"] = Item(Found(_without(key.value.items, _WHERE_THE_KEY_IS)), key.place, key.path)
    return Found(items)


def _without(items: Mapping[str, Item], names: frozenset[str]) -> dict[str, Item]:
    return {name: item for name, item in items.items() if name not in names}
