"""A description as a tree in which every value knows its characters in the text, so that it can be added to and else stays as it came.
JSON and YAML are one tree. No scalar is taken for anything but its text: what `on`, `012` or a date mean is nobody's business here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A text, a number, a boolean or null, from character `start` to `end`. `plain`: it stands there without quotation marks."""

    start: int
    end: int
    text: str
    plain: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A list. `flow`: it stands in brackets. `last` is behind the last item, `end` behind the bracket, if there is one."""

    start: int
    end: int
    last: int
    flow: bool
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a mapping, which stands at `start`, and its value."""

    start: int
    name: str
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A mapping. `entries` are those that are written in it; `members` are also those that YAML's merge keys bring in. `start`, `end`,
    `last`, `flow` are as a list's."""

    start: int
    end: int
    last: int
    flow: bool
    entries: tuple[Entry, ...]
    members: Mapping[str, Node] = field(default_factory=dict)

    def get(self, *names: str) -> Node | None:
        """What is found by following the names from mapping to mapping."""
        node: Node | None = self
        for name in names:
            node = node.members.get(name) if isinstance(node, Branch) else None
        return node

    def branch(self, *names: str) -> Branch | None:
        """The mapping that is found so, if it is one."""
        node = self.get(*names)
        return node if isinstance(node, Branch) else None

    def text(self, *names: str) -> str | None:
        """The scalar's text that is found so, if it is one."""
        node = self.get(*names)
        return node.text if isinstance(node, Scalar) else None

    def true(self, name: str) -> bool:
        """Whether the member is `true`."""
        node = self.get(name)
        return isinstance(node, Scalar) and node.plain and node.text in ("true", "True", "TRUE")


Node = Scalar | Row | Branch


@dataclass(frozen=True, slots=True)
class Document:
    """A file: what it is called, its text without a byte order mark, and its tree. `shared` are the spans of values that stand in
    several places, by a YAML anchor. `json`: it is JSON. `mark`: a byte order mark stood before it."""

    name: str
    text: str
    root: Branch
    json: bool
    shared: frozenset[tuple[int, int]] = frozenset()
    mark: bool = False

    def place(self, at: int) -> str:
        """Where a character is, as an error says it: `file:line:column`."""
        before = self.text.rfind("\n", 0, at)
        return f"{self.name}:{self.text.count(chr(10), 0, at) + 1}:{at - before}"


def items(node: Node | None) -> Iterable[Node]:
    """The items of a list; nothing of anything else."""
    return node.items if isinstance(node, Row) else ()
