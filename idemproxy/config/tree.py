"""A YAML text as a small tree in which every value knows its line and column. Nothing is constructed from it: what a plain `on`
or `1:30` means is decided by who reads it, since YAML's own answer (true, 90) is rarely what was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import yaml

from idemproxy.config.faults import COMMAND_LINE, START, Faults, Place, shown
from idemproxy.config.substitution import fill

_DEEPEST = 32
_MOST_VALUES = 20_000


class Shape(Enum):
    """What YAML 1.1 takes a scalar for."""

    TEXT = "text"
    NULL = "nothing (null)"
    FLAG = "a boolean"
    WHOLE = "a number"
    REAL = "a decimal number"
    TIME = "a date"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar. `source` is what an error may show of it. `foreign`: it was substituted, so its shape says nothing and its text
    is a secret."""

    place: Place
    text: str
    source: str
    shape: Shape = Shape.TEXT
    foreign: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping, and its value. Keys are text, whatever YAML takes them for."""

    place: Place
    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Branch:
    """A mapping. Its keys are distinct."""

    place: Place
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A value whose fault has been told already."""

    place: Place


Node = Leaf | Row | Branch | Broken

_TAG = "tag:yaml.org,2002:"
_SHAPES: Mapping[str, Shape] = {
    f"{_TAG}str": Shape.TEXT,
    f"{_TAG}value": Shape.TEXT,
    f"{_TAG}merge": Shape.TEXT,
    f"{_TAG}null": Shape.NULL,
    f"{_TAG}bool": Shape.FLAG,
    f"{_TAG}int": Shape.WHOLE,
    f"{_TAG}float": Shape.REAL,
    f"{_TAG}timestamp": Shape.TIME,
}


class _Composer(yaml.SafeLoader):
    """Stops before Python's own recursion limit does."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def grow(text: str, environ: Mapping[str, str], faults: Faults) -> Branch | None:
    """The tree of a YAML text, with `${...}` substituted; None, with its fault told, where there is no mapping in it."""
    try:
        root = yaml.compose(text, Loader=_Composer)
    except yaml.reader.ReaderError as error:
        faults.add(_place_of(text, error.position), "", "found a control character; YAML is printable text")
        return None
    except yaml.MarkedYAMLError as error:
        _tell(error, text, faults)
        return None
    if root is None:
        faults.add(START, "", "the file is empty", "write at least `upstream: http://host:port` and `routes:`")
        return None
    tree = _Grower(environ, faults).node(root, "")
    if not isinstance(tree, Branch | Broken):
        faults.add(tree.place, "", f"found {describe(tree)}", "a configuration is a mapping: `name: value` lines")
    return tree if isinstance(tree, Branch) else None


def describe(node: Node) -> str:
    """What was found, as an error may say it."""
    match node:
        case Row():
            return "a list"
        case Branch():
            return "a mapping"
        case Leaf(shape=Shape.NULL, foreign=False):
            return Shape.NULL.value
        case Leaf(source=""):
            return "an empty text"
        case Leaf():
            return shown(node.source)
        case Broken():
            return "a faulty value"


def natural(value: object, place: Place = COMMAND_LINE) -> Node:
    """A value of Python (text, number, boolean, None, list or dict of them) as a tree that stands in no file. `place` is what led to it."""
    match value:
        case dict():
            return Branch(place, tuple(Entry(place, str(name), natural(each, place)) for name, each in value.items()))
        case list():
            return Row(place, tuple(natural(each, place) for each in value))
        case None:
            return Leaf(place, "", "", Shape.NULL)
        case bool():
            return Leaf(place, str(value).lower(), str(value).lower(), Shape.FLAG)
        case int():
            return Leaf(place, str(value), str(value), Shape.WHOLE)
        case _:
            return Leaf(place, str(value), str(value))


def typed(text: str, environ: Mapping[str, str], path: str, faults: Faults) -> Node:
    """A value of the command line, with `${...}` substituted."""
    return _filled(Leaf(COMMAND_LINE, text, text), environ, path, faults)


class _Grower:
    """Copies PyYAML's nodes. An alias is copied each time it is named, up to a bound on the whole."""

    def __init__(self, environ: Mapping[str, str], faults: Faults) -> None:
        self._environ = environ
        self._faults = faults
        self._left = _MOST_VALUES
        self._inside: set[int] = set()

    def node(self, node: yaml.Node, path: str) -> Node:
        place = Place(node.start_mark.line + 1, node.start_mark.column + 1)
        self._left -= 1
        if self._left <= 0:
            if self._left == 0:
                self._faults.add(
                    place, path, f"found more than {_MOST_VALUES} values (aliases count each time)", "write less"
                )
            return Broken(place)
        if id(node) in self._inside:
            self._faults.add(place, path, "found an anchor that contains itself", "write the value out")
            return Broken(place)
        self._inside.add(id(node))
        try:
            return self._copy(node, place, path)
        finally:
            self._inside.discard(id(node))

    def _copy(self, node: yaml.Node, place: Place, path: str) -> Node:
        match node:
            case yaml.ScalarNode(tag=tag) if tag in _SHAPES:
                leaf = Leaf(place, node.value, node.value, _SHAPES[tag], quoted=bool(node.style))
                return _filled(leaf, self._environ, path, self._faults)
            case yaml.SequenceNode(tag=tag) if tag == f"{_TAG}seq":
                return Row(place, tuple(self.node(each, f"{path}[{index}]") for index, each in enumerate(node.value)))
            case yaml.MappingNode(tag=tag) if tag == f"{_TAG}map":
                return Branch(place, self._entries(node, path))
            case _:
                self._faults.add(
                    place, path, "found a tag (`!...`)", "write the plain value; a text that begins with ! is quoted"
                )
                return Broken(place)

    def _entries(self, node: yaml.MappingNode, path: str) -> tuple[Entry, ...]:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            place = Place(key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self._faults.add(place, path, "found a list or a mapping as a name", "a name is plain text")
                continue
            name = key.value
            inner = f"{path}.{name}" if path else name
            if key.tag == f"{_TAG}merge":
                self._faults.add(
                    place, inner, "YAML's merge keys (`<<`) are not read", "put what rules share in `defaults:`"
                )
            elif name in entries:
                first = entries[name].place.line
                self._faults.add(place, inner, f"the name was given before, on line {first}", "keep one of the two")
            else:
                entries[name] = Entry(place, name, self.node(value, inner))
        return tuple(entries.values())


def _filled(leaf: Leaf, environ: Mapping[str, str], path: str, faults: Faults) -> Leaf | Broken:
    filled = fill(leaf.text, environ)
    for words in filled.wrong:
        faults.add(leaf.place, path, words)
    if filled.wrong:
        return Broken(leaf.place)
    try:
        filled.text.encode()
    except UnicodeEncodeError:
        faults.add(leaf.place, path, "found a value that is not Unicode text", "write text in UTF-8")
        return Broken(leaf.place)
    return Leaf(leaf.place, filled.text, filled.source, leaf.shape, filled.foreign, leaf.quoted)


_SYNTAX: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(problem), found, right)
    for problem, found, right in (
        ("another document", "found a second YAML document (`---`)", "a configuration is one document"),
        ("undefined alias", "found an alias (`*name`) without its anchor", "a text that begins with * is quoted"),
        ("duplicate anchor", "found an anchor (`&name`) that was given before", "name each anchor once"),
        ("tag|%TAG|directive", "found a tag or directive that is not read", "a text that begins with ! or % is quoted"),
        ("that cannot start any token", "found a character that cannot begin a value", "put the text in quotes"),
        (
            "mapping values are not allowed",
            "found a `: ` where no name can stand",
            "indent evenly, or put the text in quotes",
        ),
        ("could not find expected ':'", "found a line without `: `", "write `name: value`"),
        ("nested too deeply", f"found values nested more than {_DEEPEST} deep", "write less deeply"),
    )
)


def _tell(error: yaml.MarkedYAMLError, text: str, faults: Faults) -> None:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else START
    line = (text.split("\n")[place.line - 1 : place.line] or [""])[0]
    problem = error.problem or "not readable"
    if "\t" in line[: place.column]:
        faults.add(place, "", "found a tab character where YAML wants spaces", "indent with spaces")
        return
    for pattern, found, right in _SYNTAX:
        if pattern.search(problem):
            faults.add(place, "", f"not YAML: {found}", right)
            return
    hint = (
        "put a ${...} inside [ ] or { } in quotes"
        if "${" in line
        else "check brackets, quotes and indentation near here"
    )
    faults.add(place, "", f"not YAML: {problem}", hint)


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return Place(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
