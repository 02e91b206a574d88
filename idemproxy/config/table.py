"""Tables of settings: the shape that the model is written in, how one is read, merged and described."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from idemproxy.config.faults import Faults, Place, nearest, one_of
from idemproxy.config.kinds import INVALID, Kind, Schema, Words, WrongError, told
from idemproxy.config.later import NOT_YET, SETTINGS, Later
from idemproxy.config.tree import Branch, Broken, Entry, Leaf, Node, Row, natural

T = TypeVar("T")


class Absent:
    """The default of a setting that has none."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. `default` is as one would write it in YAML. `own`: it makes no sense in `defaults:`."""

    name: str
    kind: Kind
    doc: str
    default: object = ABSENT
    required: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A value that was read, and where. `place` is None for a built-in default."""

    value: object
    place: Place | None
    path: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a table was given: valid values only, unless `items` is asked for."""

    items: Mapping[str, Item]

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value, or None where there is none or only a faulty one."""
        item = self.items.get(name)
        return item.value if item is not None and isinstance(item.value, kind) else None

    def need(self, name: str, kind: type[T]) -> T:
        """The value of a setting that is required or has a default, in a configuration without faults."""
        value = self.items[name].value
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}")
        return value

    def inner(self, name: str) -> Found:
        """The table in a table."""
        return self.get(name, Found) or Found({})

    def written(self, name: str) -> Item | None:
        """A valid item that stands in the file, not a built-in default."""
        item = self.items.get(name)
        return item if item is not None and item.place is not None and item.value is not INVALID else None


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with known names. `ident` names it in later.SETTINGS; `elsewhere`: names that a rule has and `defaults:` has not."""

    ident: str
    fields: tuple[Field, ...]
    elsewhere: frozenset[str] = frozenset()

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Branch):
            told(
                node,
                path,
                faults,
                WrongError("", f"write a mapping with {one_of([*self.names(), *SETTINGS.get(self.ident, {})])}"),
            )
            return Found({})
        known = {field.name: field for field in self.fields}
        later = SETTINGS.get(self.ident, {})
        items: dict[str, Item] = {}
        for entry in node.entries:
            at = _join(path, entry.name)
            if field := known.get(entry.name):
                items[entry.name] = Item(field.kind.read(entry.node, at, faults), entry.node.place, at)
            elif unbuilt := later.get(entry.name):
                _refuse(entry, at, unbuilt, faults)
            else:
                self._unknown(entry, at, [*known, *later], faults)
        for name in self.fields_required():
            if name not in items:
                faults.add(node.place, _join(path, name), "is missing", f"write `{name}:`")
        return Found(items)

    def fields_required(self) -> list[str]:
        """The names that must be there."""
        return [field.name for field in self.fields if field.required]

    def _unknown(self, entry: Entry, path: str, known: list[str], faults: Faults) -> None:
        if entry.name in self.elsewhere:
            faults.add(entry.place, path, "is each rule's own", "write it in the rule")
            return
        inside = [f"{field.name}.{entry.name}" for field, table in self.tables() if entry.name in table.names()]
        close = inside[0] if inside else nearest(entry.name, known)
        right = f"did you mean {close}?" if close else f"the names here are {', '.join(known)}"
        faults.add(entry.place, path, "is no known setting", right)

    def names(self) -> list[str]:
        """The names of its own settings."""
        return [field.name for field in self.fields]

    def tables(self) -> Iterator[tuple[Field, Table]]:
        """The tables in it."""
        return ((field, field.kind) for field in self.fields if isinstance(field.kind, Table))

    def schema(self) -> Schema:
        properties: Schema = {}
        for field in self.fields:
            default = {} if isinstance(field.default, Absent) else {"default": field.default}
            properties[field.name] = {"description": field.doc, **field.kind.schema(), **default}
        for name, unbuilt in SETTINGS.get(self.ident, {}).items():
            if unbuilt.works:
                properties[name] = {"description": f"{unbuilt.doc} Not built yet.", "enum": list(unbuilt.works)}
        required = self.fields_required()
        schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
        return {**schema, "required": required} if required else schema

    def shared(self) -> Table:
        """The table as `defaults:` has it: without what is a rule's own, and nothing required."""
        kept = [field for field in self.fields if not field.own]
        return Table(
            self.ident,
            tuple(
                dataclasses.replace(
                    field, kind=field.kind.shared() if isinstance(field.kind, Table) else field.kind, required=False
                )
                for field in kept
            ),
            frozenset(field.name for field in self.fields if field.own),
        )

    def merged(self, *layers: Found) -> Found:
        """The first layer's value of each setting, else its default; tables member by member. A setting whose first value is
        faulty stays faulty, so that nothing is concluded from another one."""
        items: dict[str, Item] = {}
        for field in self.fields:
            given = [layer.items[field.name] for layer in layers if field.name in layer.items]
            if isinstance(field.kind, Table):
                inner = [item.value for item in given if isinstance(item.value, Found)]
                place = given[0].place if given else None
                items[field.name] = Item(field.kind.merged(*inner), place, field.name)
            elif given:
                items[field.name] = given[0]
            elif not isinstance(field.default, Absent):
                value = field.kind.read(natural(field.default), field.name, Faults("default"))
                items[field.name] = Item(value, None, field.name)
        return Found(items)


@dataclass(frozen=True, slots=True)
class Either:
    """A text, or a mapping that `finish` makes the same kind of value of. `later` holds names of mappings that are not built."""

    words: Words
    table: Table
    finish: Callable[[Found], object]
    later: frozenset[str] = frozenset()

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Branch):
            return self.words.read(node, path, faults)
        names = [entry.name for entry in node.entries]
        for name in self.later.intersection(names):
            faults.add(node.place, path, f"{name} is {NOT_YET}", self.words.right)
            return INVALID
        if not self.table.fields:
            return told(node, path, faults, WrongError("", self.words.right))
        found = self.table.read(node, path, faults)
        assert isinstance(found, Found)
        faulty = any(item.value is INVALID for item in found.items.values())
        if faulty or set(names) != set(found.items) or not set(self.table.fields_required()).issubset(names):
            return INVALID
        return self.finish(found)

    def schema(self) -> Schema:
        return {"anyOf": [self.words.schema(), self.table.schema()]} if self.table.fields else self.words.schema()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse(entry: Entry, path: str, unbuilt: Later, faults: Faults) -> None:
    if isinstance(entry.node, Broken) or any(_same(entry.node, value) for value in unbuilt.works):
        return
    right = f"leave it out, or write `{entry.name}: {_flow(unbuilt.works[0])}`" if unbuilt.works else "leave it out"
    faults.add(entry.place, path, f"is {NOT_YET}", right)


def _flow(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value).lower()


def _same(node: Node, value: object) -> bool:
    match node, value:
        case Leaf(foreign=True), _:
            return node.text == _flow(value)
        case Leaf(), bool() | int() | str():
            written = natural(value)
            return isinstance(written, Leaf) and (node.shape, node.text.lower()) == (written.shape, written.text)
        case Row(), list():
            return [each.text for each in node.items if isinstance(each, Leaf)] == value
        case _:
            return False
