"""What an OpenAPI description says of its operations: paths, parameters, answers, who may call. Only what is asked for is followed, so
that schemas that contain themselves do no harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from idemproxy.documents.reading import read
from idemproxy.documents.tree import Branch, Document, Node, Row, Scalar, items
from idemproxy.errors import DescriptionError

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_MOST_STEPS: Final = 64
"""Steps from one $ref to the next."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the description. `node` is it, `item` the path item that it stands in. `method` is in upper case."""

    path: str
    method: str
    node: Branch
    item: Branch


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server, as far as it says one. `origin` is scheme and authority, "" where the address is relative; `base` is the
    path before every path ("" or one that begins with / and does not end with one)."""

    origin: str
    base: str


class Description:
    """A description of OpenAPI 3.0 or 3.1. `untold` are references into other files, which are not followed: place and what they name."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root = document.root
        self.untold: dict[str, str] = {}
        _check(document)

    @classmethod
    def of_file(cls, path: Path) -> Description:
        """Raises DescriptionError."""
        return cls(read(path))

    def operations(self) -> Iterator[Operation]:
        """All operations in the order of the file. Raises DescriptionError."""
        paths = self.root.get("paths")
        if paths is None or (isinstance(paths, Scalar) and paths.plain and paths.text in ("", "null", "~")):
            return
        for path, node in self._members(paths, "paths"):
            if not path.startswith("/"):
                if path.startswith("x-"):
                    continue
                raise self.wrong(node, f"paths has `{_short(path)}`, which does not begin with /")
            item = self.resolve(node)
            if item is None:
                continue
            for name, member in self._members(item, "a path"):
                if name in METHODS:
                    found = self.resolve(member)
                    if found is not None:
                        operation = self._mapping(found, "an operation")
                        yield Operation(path, name.upper(), operation, self._mapping(item, "a path"))

    def parameters(self, operation: Operation) -> Iterator[Branch]:
        """The operation's own parameters, then those of its path."""
        for holder in (operation.node, operation.item):
            for each in items(holder.get("parameters")):
                found = self.resolve(each)
                if isinstance(found, Branch):
                    yield found

    def servers(self, operation: Operation | None = None) -> list[Server]:
        """The servers that count for an operation, or for the whole."""
        holders = (self.root,) if operation is None else (operation.node, operation.item, self.root)
        for holder in holders:
            listed = [each for each in items(holder.get("servers")) if isinstance(each, Branch)]
            if listed:
                return [_server(each) for each in listed]
        return []

    def resolve(self, node: Node) -> Node | None:
        """What a node stands for, `$ref`s within the file followed; None where one leads into another file. Raises DescriptionError."""
        for _ in range(_MOST_STEPS):
            if not isinstance(node, Branch):
                return node
            reference = node.text("$ref")
            if reference is None:
                return node
            if not reference.startswith("#"):
                self.untold[self.document.place(node.start)] = _short(reference)
                return None
            node = self._pointed(reference, node)
        raise self.wrong(node, "found a $ref that leads to itself; let it lead to something")

    def wrong(self, node: Node, words: str) -> DescriptionError:
        """The error for something that stands there."""
        return DescriptionError(f"{self.document.place(node.start)}: {words}")

    def _pointed(self, reference: str, at: Branch) -> Node:
        node: Node = self.root
        pointer = unquote(reference[1:])
        if pointer and not pointer.startswith("/"):
            raise self.wrong(at, f"the $ref `{_short(reference)}` names no place as #/a/b does; write it so")
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            inner: Node | None = None
            if isinstance(node, Branch):
                inner = node.members.get(name)
            elif isinstance(node, Row) and re.fullmatch("[0-9]{1,7}", name) and int(name) < len(node.items):
                inner = node.items[int(name)]
            if inner is None:
                raise self.wrong(at, f"the $ref `{_short(reference)}` leads to nothing; correct it")
            node = inner
        return node

    def _mapping(self, node: Node, what: str) -> Branch:
        if not isinstance(node, Branch):
            raise self.wrong(node, f"{what} is no mapping; OpenAPI wants one")
        return node

    def _members(self, node: Node, what: str) -> Iterator[tuple[str, Node]]:
        yield from self._mapping(node, what).members.items()


def _short(text: str) -> str:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _check(document: Document) -> None:
    root = document.root
    if root.get("swagger") is not None:
        raise DescriptionError(
            f"{document.place(0)}: is Swagger 2.0; convert it to OpenAPI 3 first (as swagger2openapi does)"
        )
    version = root.get("openapi")
    if version is None:
        raise DescriptionError(f"{document.place(0)}: is no OpenAPI description: `openapi: 3.x` is missing")
    if not isinstance(version, Scalar) or not re.fullmatch(r"3\.[01](\.[0-9A-Za-z.-]{1,40})?", version.text):
        raise DescriptionError(f"{document.place(version.start)}: is of another version of OpenAPI than 3.0 and 3.1")


def _server(node: Branch) -> Server:
    """Variables stand for their defaults."""
    url = node.text("url") or ""
    url = re.sub(
        r"\{([^{}]{1,100})\}", lambda found: node.text("variables", found[1], "default") or found[0], url[:2000]
    )
    found = re.match(r"(?:([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#]*))?([^?#]*)", url)
    assert found is not None, "every part may be missing"
    origin = f"{found[1] or ''}//{found[2]}" if found[2] is not None else ""
    base = found[3].rstrip("/")
    return Server(origin, base if base.startswith("/") or not base else f"/{base}")
