"""Values as text that can stand in a YAML or JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from idemproxy.documents.tree import Branch, Node, Row, Scalar


@dataclass(frozen=True, slots=True)
class Plain:
    """A scalar that stands without quotation marks, as it was written."""

    text: str


Value: TypeAlias = str | int | Plain | Sequence["Value"] | Mapping[str, "Value"]


class TooLarge(ValueError):
    """A copy of more values than are worth copying: aliases of aliases."""


_MOST_COPIED: Final = 20_000


def value_of(node: Node) -> Value:
    """A copy of a value. Raises TooLarge."""
    left = [_MOST_COPIED]

    def copy(each: Node) -> Value:
        left[0] -= 1
        if left[0] < 0:
            raise TooLarge
        match each:
            case Scalar(text=text, plain=plain):
                return Plain(text) if plain and _PLAIN.fullmatch(text) else text
            case Row(items=items):
                return [copy(item) for item in items]
            case Branch(members=members):
                return {name: copy(member) for name, member in members.items()}

    return copy(node)


_PLAIN: Final = re.compile(r"[-+.~0-9A-Za-z_]*")
"""What may be something else than text, and can stand in a list or mapping in brackets as it is."""
_NAME: Final = re.compile(r"\$?[A-Za-z][A-Za-z0-9_+./-]*")
_TEXT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_NOT_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def flow(value: Value, spaced: bool = True, lead: str | None = None, unit: str = "  ") -> str:
    """As JSON, on one line; with `lead`, which its further lines begin with, on several."""
    match value:
        case Plain(text):
            return text or "null"
        case str() | bool() | int():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            colon = ": " if spaced else ":"
            inner = None if lead is None else lead + unit
            parts = [
                f"{json.dumps(name, ensure_ascii=False)}{colon}{flow(each, spaced, inner, unit)}"
                for name, each in value.items()
            ]
            return _bracketed("{", parts, "}", spaced, lead, unit)
        case _:
            inner = None if lead is None else lead + unit
            return _bracketed("[", [flow(each, spaced, inner, unit) for each in value], "]", spaced, lead, unit)


def _bracketed(first: str, parts: list[str], last: str, spaced: bool, lead: str | None, unit: str) -> str:
    if lead is None or not parts:
        return f"{first}{(', ' if spaced else ',').join(parts)}{last}"
    return f"{first}\n{lead}{unit}" + f",\n{lead}{unit}".join(parts) + f"\n{lead}{last}"


def block(value: Value) -> Iterator[str]:
    """As lines of YAML, from the first column on."""
    match value:
        case Mapping() if value:
            for name, each in value.items():
                shown = name if _is_plain(name, _NAME) else json.dumps(name, ensure_ascii=False)
                lines = list(block(each))
                if (isinstance(each, Mapping) and each) or (
                    isinstance(each, Sequence) and not isinstance(each, str) and each
                ):
                    yield f"{shown}:"
                    yield from (f"  {line}" for line in lines)
                else:
                    yield f"{shown}: {lines[0]}"
        case str() if _is_plain(value, _TEXT):
            yield value
        case Sequence() if not isinstance(value, str) and value:
            for each in value:
                first, *rest = block(each)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
        case _:
            yield flow(value)


def _is_plain(text: str, kind: re.Pattern[str]) -> bool:
    return kind.fullmatch(text) is not None and text.lower() not in _NOT_TEXT


def says(node: Node | None, value: Value) -> bool:
    """Whether a value of a file is that one."""
    match node, value:
        case Scalar(text=text, plain=plain), Plain(said):
            return plain and text == (said or "null")
        case Scalar(text=text), str():
            return text == value
        case Scalar(text=text, plain=plain), bool() | int():
            return plain and text == json.dumps(value)
        case Branch(members=members), Mapping():
            return list(members) == list(value) and all(says(members[name], each) for name, each in value.items())
        case Row(items=items), Sequence() if not isinstance(value, str):
            return len(items) == len(value) and all(says(item, each) for item, each in zip(items, value, strict=True))
        case _:
            return False
