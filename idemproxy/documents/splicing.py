"""Adds to a description's text, and leaves every other character as it came: comments, order, quotation marks, numbers."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from idemproxy.documents.emitting import Value, block, flow, says
from idemproxy.documents.reading import parse
from idemproxy.documents.tree import Branch, Document, Node, Row, Scalar
from idemproxy.errors import DescriptionError


@dataclass(frozen=True, slots=True, order=True)
class _Splice:
    """Characters to be replaced. Of several at one place, what is further inside stands first. `rank`: 1 or 2, whole lines; 0, others."""

    start: int
    end: int
    column: int
    rank: int
    text: str


class Edits:
    """What is to be added to a document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._added: dict[int, tuple[Branch, dict[str, Value]]] = {}
        self._appended: dict[int, tuple[Row, list[Value]]] = {}
        self._replaced: dict[int, tuple[Node, Value]] = {}
        self._spans = _disjoint(document.shared)
        text = document.text
        self._spaced = not document.json or re.search(r'": ', text[:10_000]) is not None
        self._newline = "\r\n" if "\r\n" in text[:10_000] else "\n"
        found = re.match(r"\s*\{\s*\n([ \t]+)", text)
        self._unit = found[1] if found is not None else "  "

    def __bool__(self) -> bool:
        return bool(self._added or self._appended or self._replaced)

    def add(self, branch: Branch, name: str, value: Value) -> None:
        """A new member of a mapping."""
        self._own(branch)
        self._added.setdefault(id(branch), (branch, {}))[1][name] = value

    def append(self, row: Row, value: Value) -> None:
        """A new item of a list."""
        self._own(row)
        self._appended.setdefault(id(row), (row, []))[1].append(value)

    def replace(self, node: Node, value: Value) -> None:
        """Another value instead of one."""
        self._own(node)
        self._replaced[id(node)] = (node, value)

    def _own(self, node: Node) -> None:
        at = bisect_right(self._spans, (node.start, len(self._document.text))) - 1
        if at >= 0 and node.start < self._spans[at][1]:
            raise DescriptionError(
                f"{self._document.place(node.start)}: stands in several places, by an anchor (`&name`), and cannot be added to in one of "
                "them; write it out in each"
            )

    def result(self) -> bytes:
        """The document with all of it. Raises DescriptionError where it cannot be written so that it says what it should."""
        splices = [self._into_branch(branch, list(added.items())) for branch, added in self._added.values()]
        splices += [self._into_row(row, values) for row, values in self._appended.values()]
        splices += [self._instead(node, value) for node, value in self._replaced.values()]
        text, at = self._document.text, 0
        pieces: list[str] = []
        for splice in sorted(splices):
            if splice.start > at:
                pieces.append(text[at : splice.start])
            if splice.rank and pieces and not pieces[-1].endswith("\n"):
                pieces.append(self._newline)
            pieces.append(splice.text)
            at = splice.end
        raw = ("".join(pieces) + text[at:]).encode()
        self._check(raw)
        return (b"\xef\xbb\xbf" if self._document.mark else b"") + raw

    # --------------------------------------------------------------------------------------------------------------- texts

    def _into_branch(self, branch: Branch, added: list[tuple[str, Value]]) -> _Splice:
        if branch.flow:
            first = branch.entries[0].start if branch.entries else None
            lead = self._lead(branch.start, first)
            colon = ": " if self._spaced else ":"
            parts = [f"{flow(name)}{colon}{flow(value, self._spaced, lead, self._unit)}" for name, value in added]
            return self._in_brackets(branch.start, branch.last, first, parts)
        return self._in_lines(branch.last, self._column(branch.entries[0].start), list(block(dict(added))), 2)

    def _into_row(self, row: Row, values: list[Value]) -> _Splice:
        if row.flow:
            first = row.items[0].start if row.items else None
            lead = self._lead(row.start, first)
            return self._in_brackets(
                row.start, row.last, first, [flow(each, self._spaced, lead, self._unit) for each in values]
            )
        return self._in_lines(row.last, self._column(row.start), list(block(values)), 1)

    def _instead(self, node: Node, value: Value) -> _Splice:
        text = self._document.text
        if isinstance(node, Branch) and not node.flow:
            margin = " " * self._column(node.entries[0].start)
            lines = f"{self._newline}{margin}".join(block(value))
            after = self._newline if text[node.last - 1 : node.last] == "\n" else ""
            return _Splice(node.start, node.last, 0, 0, lines + after)
        before = "" if node.start < node.end or text[node.start - 1 : node.start] in " \n" else " "
        return _Splice(node.start, node.end, 0, 0, before + flow(value, self._spaced))

    def _lead(self, start: int, first: int | None) -> str | None:
        """What the lines of a list or mapping in brackets begin with; None: it stands on one line, or has nothing in it."""
        text = self._document.text
        if first is None or "\n" not in text[start:first]:
            return None
        before = text[text.rindex("\n", 0, first) + 1 : first]
        return before if not before.strip(" \t") else None

    def _in_brackets(self, start: int, last: int, first: int | None, parts: list[str]) -> _Splice:
        lead = self._lead(start, first)
        comma = f",\n{lead}" if lead is not None else ", " if self._spaced else ","
        text = comma.join(parts) if first is None else "".join(comma + part for part in parts)
        return _Splice(last, last, 0, 0, text.replace("\n", self._newline))

    def _in_lines(self, last: int, column: int, lines: list[str], rank: int) -> _Splice:
        """Behind the line that the last value ends on, and behind its comment."""
        text, at = self._document.text, last
        if text[last - 1 : last] != "\n":
            end = text.find("\n", last)
            at = len(text) if end < 0 else end + 1
        shown = "".join(f"{' ' * column}{line}{self._newline}" for line in lines)
        return _Splice(at, at, -column, rank, shown)

    def _column(self, at: int) -> int:
        return at - (self._document.text.rfind("\n", 0, at) + 1)

    # --------------------------------------------------------------------------------------------------------------- check

    def _check(self, raw: bytes) -> None:
        document = self._document
        try:
            new = parse(raw, document.name)
            good = self._same(document.root, new.root, set())
        except DescriptionError:
            good = False
        if not good:
            raise DescriptionError(
                f"{document.name}: is written in a way that cannot be added to; write it anew in plain YAML or JSON, then try again"
            )

    def _same(self, old: Node, new: Node, seen: set[tuple[int, int]]) -> bool:
        """Whether what is new is what was added, and nothing else is."""
        if (id(old), id(new)) in seen:
            return True
        seen.add((id(old), id(new)))
        if id(old) in self._replaced:
            return says(new, self._replaced[id(old)][1])
        match old, new:
            case Scalar(), Scalar():
                return (old.text, old.plain) == (new.text, new.plain)
            case Row(), Row():
                _, values = self._appended.get(id(old), (old, []))
                kept = len(old.items)
                return (
                    len(new.items) == kept + len(values)
                    and all(self._same(*pair, seen) for pair in zip(old.items, new.items[:kept], strict=True))
                    and all(says(*pair) for pair in zip(new.items[kept:], values, strict=True))
                )
            case Branch(), Branch():
                _, added = self._added.get(id(old), (old, {}))
                return (
                    set(new.members) == {*old.members, *added}
                    and all(self._same(node, new.members[name], seen) for name, node in old.members.items())
                    and all(says(new.members[name], value) for name, value in added.items())
                )
            case _:
                return False


def _disjoint(spans: frozenset[tuple[int, int]]) -> list[tuple[int, int]]:
    """The outermost ones, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not found or start >= found[-1][1]:
            found.append((start, end))
    return found
