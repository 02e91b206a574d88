"""The kinds of values that a setting can have. Each one reads a node of the tree and describes itself as JSON Schema, so that the
two cannot come to differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from idemproxy.config.faults import Faults, nearest, one_of, shown
from idemproxy.config.tree import Branch, Broken, Leaf, Node, Row, Shape, describe

Schema = dict[str, Any]


class Invalid:
    """The value of a setting whose fault has been told."""


INVALID = Invalid()


class WrongError(Exception):
    """A text that is not what the setting needs. `reason` and `right` never hold a piece of the text, which may be a secret;
    `hint` may, and is told only where the text stands in the file."""

    def __init__(self, reason: str, right: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.right = right
        self.hint = hint


class Kind(Protocol):
    """What a setting's value is."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        """The value, or INVALID with the fault told."""

    def schema(self) -> Schema:
        """JSON Schema of the value as written."""


SUBSTITUTED: Schema = {"type": "string", "pattern": r"\$\{[^}]+\}"}


def substitutable(schema: Schema) -> Schema:
    """A scalar, or the `${...}` that it is read from."""
    return {"anyOf": [schema, {"$ref": "#/$defs/substituted"}]}


def told(node: Node, path: str, faults: Faults, wrong: WrongError) -> Invalid:
    """Tells that a node is not what it should be."""
    if isinstance(node, Broken):
        return INVALID
    hint = f"; {wrong.hint}" if wrong.hint and not (isinstance(node, Leaf) and node.foreign) else ""
    reason = f", {wrong.reason}" if wrong.reason else ""
    faults.add(node.place, path, f"found {describe(node)}{reason}", f"{wrong.right}{hint}")
    return INVALID


@dataclass(frozen=True, slots=True)
class Words:
    """Text that `parse` makes a value of, or raises WrongError. `right` says what to write, `json` is its schema beside the type."""

    parse: Callable[[str], object]
    right: str
    json: Mapping[str, Any]

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Leaf) or (node.shape is Shape.NULL and not node.foreign):
            return told(node, path, faults, WrongError("", self.right))
        try:
            value = self.parse(node.text)
        except WrongError as wrong:
            return told(node, path, faults, wrong)
        if node.foreign or node.shape is Shape.TEXT:
            return value
        return told(
            node, path, faults, WrongError(f"which YAML reads as {node.shape.value}", f'quote it: "{node.text}"')
        )

    def schema(self) -> Schema:
        return substitutable({"type": "string", **self.json})


def matching(pattern: str, right: str, longest: int = 255) -> Words:
    """Text that a pattern (valid for Python and for JSON Schema) matches as a whole."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if len(text) > longest:
            raise WrongError(f"longer than {longest} characters", right)
        if not compiled.fullmatch(text):
            raise WrongError("", right)
        return text

    return Words(parse, right, {"pattern": f"^(?:{pattern})$", "maxLength": longest})


def choice(values: Mapping[str, object]) -> Words:
    """One of several names."""
    right = f"write {one_of(values)}"

    def parse(text: str) -> object:
        if text in values:
            return values[text]
        close = nearest(text, values)
        raise WrongError("", right, f"did you mean {close}?" if close else "")

    return Words(parse, right, {"enum": list(values)})


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if (
            isinstance(node, Leaf)
            and (node.foreign or node.shape is Shape.FLAG)
            and node.text.lower() in ("true", "false")
        ):
            return node.text.lower() == "true"
        return told(node, path, faults, WrongError("", "write true or false, without quotes"))

    def schema(self) -> Schema:
        return substitutable({"type": "boolean"})


_DECIMAL = re.compile(r"0|[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both inclusive."""

    low: int
    high: int

    def read(self, node: Node, path: str, faults: Faults) -> object:
        right = f"write a whole number from {self.low} to {self.high}"
        if not isinstance(node, Leaf):
            return told(node, path, faults, WrongError("", right))
        if trap := number_trap(node):
            return told(node, path, faults, WrongError(trap, right))
        if not (node.foreign or node.shape is Shape.WHOLE):
            reason = "text in quotes" if node.quoted and _DECIMAL.fullmatch(node.text) else ""
            return told(node, path, faults, WrongError(reason, right))
        if not _DECIMAL.fullmatch(node.text) or len(node.text) > 18 or not self.low <= int(node.text) <= self.high:
            return told(node, path, faults, WrongError("", right))
        return int(node.text)

    def schema(self) -> Schema:
        return substitutable({"type": "integer", "minimum": self.low, "maximum": self.high})


def number_trap(leaf: Leaf) -> str:
    """What is misleading about a number as it is written, or ""."""
    if leaf.foreign or leaf.quoted:
        return ""
    if re.fullmatch(r"[-+]?[0-9][0-9_]*(:[0-9]+)+", leaf.text):
        return "which YAML reads as a number in base 60, not as a time"
    if re.fullmatch(r"[-+]?0o?[0-9_]+", leaf.text):
        return "which YAML may read as an octal number"
    if leaf.shape is Shape.WHOLE and not _DECIMAL.fullmatch(leaf.text):
        return "not plain decimal digits"
    return ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit, as a count of the smallest one. `zero`: 0 is allowed, and means "off"; `bare`: a number without a
    unit counts the smallest one."""

    noun: str
    units: Mapping[str, int]
    low: str
    high: str
    example: str
    zero: bool = False
    bare: bool = False

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Leaf) or (node.shape is Shape.NULL and not node.foreign):
            return told(node, path, faults, WrongError("", self._right()))
        if trap := number_trap(node):
            return told(node, path, faults, WrongError(trap, self._right()))
        try:
            return self._count(node.text)
        except WrongError as wrong:
            return told(node, path, faults, wrong)

    def _right(self) -> str:
        zero = ", or 0 to turn it off" if self.zero else ""
        return f"write {self.noun} such as {self.example}, from {self.low} to {self.high}{zero}"

    def _count(self, text: str) -> int:
        if text == "0" and self.zero:
            return 0
        found = re.fullmatch(r"([0-9]{1,18})([A-Za-z]*)", text)
        if found is None:
            compound = re.fullmatch(r"([0-9]+[a-z]+){2,}|[0-9]+\.[0-9]+[A-Za-z]+", text)
            raise WrongError("not one whole number and one unit" if compound else "", self._right())
        number, unit = int(found[1]), found[2]
        if unit not in self.units and not (self.bare and not unit):
            reason = f"not one of the units {one_of(self.units)}" if unit else "a number without a unit"
            raise WrongError(reason, self._right())
        count = number * self.units.get(unit, 1)
        if not self._bound(self.low) <= count <= self._bound(self.high):
            raise WrongError("out of bounds", self._right())
        return count

    def _bound(self, text: str) -> int:
        number = text.rstrip("".join(self.units))
        return int(number) * self.units.get(text.removeprefix(number), 1)

    def schema(self) -> Schema:
        zero = "0|" if self.zero else ""
        text = {"type": "string", "pattern": f"^(?:{zero}[0-9]+(?:{'|'.join(self.units)}){'?' if self.bare else ''})$"}
        number = [{"type": "integer", "minimum": 1}] if self.bare else [{"const": 0}] if self.zero else []
        return {"anyOf": [text, *number, {"$ref": "#/$defs/substituted"}]}


def duration(low: str, high: str, example: str) -> Quantity:
    """A time, in milliseconds."""
    return Quantity("a time", {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}, low, high, example)


def timeout(high: str, example: str) -> Quantity:
    """A time limit, in milliseconds; 0 turns it off."""
    kind = duration("1ms", high, example)
    return Quantity(kind.noun, kind.units, kind.low, kind.high, kind.example, zero=True)


def size(high: str, example: str) -> Quantity:
    """A number of bytes."""
    units = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    return Quantity("a size", units, "1B", high, example, bare=True)


@dataclass(frozen=True, slots=True)
class OrNull:
    """A value, or null for none."""

    kind: Kind

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if isinstance(node, Leaf) and (not node.text if node.foreign else node.shape is Shape.NULL):
            return None
        return self.kind.read(node, path, faults)

    def schema(self) -> Schema:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, as a tuple. `alone`: its items are single values, so that one without a list stands for a list of one, and none
    comes twice."""

    kind: Kind
    noun: str
    least: int = 0
    alone: bool = True

    def read(self, node: Node, path: str, faults: Faults) -> object:
        nothing = isinstance(node, Leaf) and node.shape is Shape.NULL and not node.foreign
        if nothing or not (self.alone or isinstance(node, Row)):
            return told(node, path, faults, WrongError("", f"write a list of {self.noun}"))
        items: Sequence[Node] = node.items if isinstance(node, Row) else [node]
        if len(items) < self.least:
            return told(node, path, faults, WrongError("an empty one", f"write at least one of {self.noun}"))
        where = [f"{path}[{index}]" if isinstance(node, Row) else path for index in range(len(items))]
        values = [self.kind.read(item, at, faults) for item, at in zip(items, where, strict=True)]
        seen: list[object] = []
        for item, at, value in zip(items, where, values, strict=True):
            if self.alone and value is not INVALID and value in seen:
                faults.add(item.place, at, f"found {describe(item)} a second time", "write it once")
            seen.append(value)
        return INVALID if INVALID in values else tuple(values)

    def schema(self) -> Schema:
        items = self.kind.schema()
        rows = {"type": "array", "items": items, "minItems": self.least, "uniqueItems": self.alone}
        return {"anyOf": [rows, items]} if self.alone else rows


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping with free names, as a tuple of pairs."""

    name: Words
    value: Kind
    noun: str

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Branch):
            return told(node, path, faults, WrongError("", f"write a mapping of {self.noun}"))
        pairs: dict[object, object] = {}
        faulty = False
        for entry in node.entries:
            at = f"{path}.{entry.name}"
            name = self.name.read(Leaf(entry.place, entry.name, entry.name), at, faults)
            value = self.value.read(entry.node, at, faults)
            if name in pairs and name is not INVALID:
                faults.add(entry.place, at, f"found {shown(entry.name)} a second time", "write it once")
            faulty = faulty or INVALID in (name, value) or name in pairs
            pairs[name] = value
        return INVALID if faulty else tuple(pairs.items())

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": dict(self.name.json),
            "additionalProperties": self.value.schema(),
        }
