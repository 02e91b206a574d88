"""Reads a description: JSON or YAML, by its first character. Whatever the file is, it is read in bounded time and memory."""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import yaml

from idemproxy.config.files import contents
from idemproxy.documents.tree import Branch, Document, Entry, Node, Row, Scalar
from idemproxy.errors import DescriptionError

LARGEST: Final = 32 << 20
"""Bytes."""
_DEEPEST: Final = 200
_MOST_VALUES: Final = 4_000_000
_MERGE: Final = "<<"


def read(path: Path) -> Document:
    """The tree of a file. Raises DescriptionError, which names the file and the place."""
    raw = contents(path, LARGEST, "an OpenAPI description", DescriptionError)
    return parse(raw, str(path))


def parse(raw: bytes, name: str) -> Document:
    """The tree of a file's bytes; `name` is what errors call it. Raises DescriptionError."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DescriptionError(f"{name}:{line}: found a byte that is not UTF-8; save the file as UTF-8") from None
    mark = text.startswith("\ufeff")
    text = text.removeprefix("\ufeff")
    as_json = text.lstrip(" \t\r\n").startswith(("{", "["))
    builder = _Builder(name, text)
    with _uncollected():
        if as_json:
            _feed_json(builder)
        else:
            _feed_yaml(builder)
    if builder.root is None:
        raise DescriptionError(f"{name}: the file is empty; an OpenAPI description is a mapping")
    if not isinstance(builder.root, Branch):
        raise builder.wrong(builder.root.start, "found no mapping; an OpenAPI description is one")
    return Document(name, text, builder.root, as_json, frozenset(builder.shared), mark)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """A tree of millions of values, none of them garbage, is not looked through for garbage while it grows."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Open:
    """A list or mapping of which the end has not come. `names` are where its names stand, by name."""

    __slots__ = ("anchor", "entries", "flow", "items", "last", "name", "names", "start")

    def __init__(self, start: int, flow: bool, mapping: bool, anchor: str | None) -> None:
        self.start, self.flow, self.anchor = start, flow, anchor
        self.last = start + 1 if flow else start
        self.items: list[Node] = []
        self.entries: list[Entry] = []
        self.names: dict[str, Node] | None = {} if mapping else None
        self.name: Scalar | None = None


class _Builder:
    """Makes a tree of what a parser tells one after the other, without recursion."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.root: Node | None = None
        self.shared: set[tuple[int, int]] = set()
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._left = _MOST_VALUES

    def wrong(self, at: int, words: str) -> DescriptionError:
        line = self.text.count("\n", 0, at) + 1
        return DescriptionError(f"{self.name}:{line}:{at - self.text.rfind(chr(10), 0, at)}: {words}")

    def begin(self, start: int, flow: bool, mapping: bool, anchor: str | None = None) -> None:
        if len(self._open) >= _DEEPEST:
            raise self.wrong(start, f"found values nested more than {_DEEPEST} deep; a description is flatter")
        if anchor is not None:
            self._anchors[anchor] = None
        self._open.append(_Open(start, flow, mapping, anchor))

    def end(self, end: int) -> None:
        """`end` counts for what stands in brackets only."""
        done = self._open.pop()
        end = end if done.flow else done.last
        node: Node
        if done.names is None:
            node = Row(done.start, end, done.last, done.flow, tuple(done.items))
        else:
            node = Branch(done.start, end, done.last, done.flow, tuple(done.entries), done.names)
            if _MERGE in done.names:
                self._merge(node, done.names)
        self.add(node, done.anchor)

    def add(self, node: Node, anchor: str | None = None) -> None:
        """A value that is whole."""
        self._left -= 1
        if self._left < 0:
            raise self.wrong(node.start, f"found more than {_MOST_VALUES} values; a description has fewer")
        if anchor is not None:
            self._anchors[anchor] = node
        self._take(node, node.start, node.end)

    def alias(self, start: int, anchor: str, end: int) -> None:
        if anchor not in self._anchors:
            raise self.wrong(start, "found an alias (`*name`) without its anchor; a text that begins with * is quoted")
        node = self._anchors[anchor]
        if node is None:
            raise self.wrong(start, "found an anchor that contains itself; use $ref for what contains itself")
        self.shared.add((node.start, node.end))
        self._take(node, start, end)

    def _take(self, node: Node, start: int, end: int) -> None:
        """`start`, `end`: where it stands, or its alias."""
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        top.last = max(top.last, end)
        if top.names is None:
            top.items.append(node)
        elif top.name is None:
            if not isinstance(node, Scalar) or (node.plain and node.text in ("", "~", "null")):
                raise self.wrong(start, "found a name that is no text; a name is plain text")
            if node.text in top.names:
                first = next(each.start for each in top.entries if each.name == node.text)
                line = self.text.count("\n", 0, first) + 1
                raise self.wrong(start, f"the name was given before, on line {line}; keep one of the two")
            top.name = node
        else:
            top.names[top.name.text] = node
            top.entries.append(Entry(top.name.start, top.name.text, node))
            top.name = None

    def _merge(self, node: Branch, members: dict[str, Node]) -> None:
        """What `<<` brings in goes behind what is written (YAML's merge keys, of which OpenAPI knows nothing, but people do)."""
        merged = members.pop(_MERGE)
        for each in merged.items if isinstance(merged, Row) else (merged,):
            if not isinstance(each, Branch):
                raise self.wrong(node.start, "found `<<` before something that is no mapping; write the values out")
            self._left -= len(each.members)
            if self._left < 0:
                raise self.wrong(
                    node.start, f"found more than {_MOST_VALUES} values (what `<<` brings in counts each time)"
                )
            for name, value in each.members.items():
                members.setdefault(name, value)


# ----------------------------------------------------------------------------------------------------------------------- JSON

_TOKEN: Final = re.compile(r'[{}\[\]:,]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\]:,"]+')


def _feed_json(builder: _Builder) -> None:
    try:
        json.loads(builder.text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise builder.wrong(error.pos, f"not JSON: {error.msg}") from None
    except RecursionError:
        raise DescriptionError(f"{builder.name}: values are nested too deeply; a description is flatter") from None
    except ValueError as error:
        raise DescriptionError(f"{builder.name}: not JSON: {error}") from None
    for token in _TOKEN.finditer(builder.text):
        text = token[0]
        match text[0]:
            case "{" | "[":
                builder.begin(token.start(), flow=True, mapping=text == "{")
            case "}" | "]":
                builder.end(token.end())
            case ":" | ",":
                continue
            case '"':
                value = json.loads(text) if "\\" in text else text[1:-1]
                builder.add(Scalar(token.start(), token.end(), value))
            case _:
                builder.add(Scalar(token.start(), token.end(), text, plain=True))


def _no_constant(name: str) -> object:
    raise ValueError(f"found {name}, which JSON has not")


# ----------------------------------------------------------------------------------------------------------------------- YAML


class _Mark(Protocol):
    index: int


_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its parser is used: it tells what it finds one after the other, and constructs nothing."""


def _feed_yaml(builder: _Builder) -> None:
    documents = 0
    try:
        for event in yaml.parse(builder.text, Loader=_Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise builder.wrong(_at(event.start_mark), "found a second YAML document (`---`); keep one of them")
            _feed_event(builder, event)
    except yaml.reader.ReaderError as error:
        at = error.position if isinstance(error.position, int) else 0
        raise builder.wrong(at, "found a control character; YAML is printable text") from None
    except yaml.MarkedYAMLError as error:
        raise builder.wrong(
            _at(error.problem_mark or error.context_mark), f"not YAML: {error.problem or 'not readable'}"
        ) from None
    except yaml.YAMLError:
        raise DescriptionError(f"{builder.name}: not YAML") from None


def _feed_event(builder: _Builder, event: yaml.Event) -> None:
    start, end = _at(event.start_mark), _at(event.end_mark)
    match event:
        case yaml.ScalarEvent():
            builder.add(Scalar(start, end, event.value, plain=not event.style), event.anchor)
        case yaml.MappingStartEvent():
            builder.begin(start, bool(event.flow_style), mapping=True, anchor=event.anchor)
        case yaml.SequenceStartEvent():
            builder.begin(start, bool(event.flow_style), mapping=False, anchor=event.anchor)
        case yaml.CollectionEndEvent():
            builder.end(end)
        case yaml.AliasEvent():
            builder.alias(start, event.anchor or "", end)
        case _:
            return


def _at(mark: _Mark | None) -> int:
    return mark.index if mark is not None else 0
