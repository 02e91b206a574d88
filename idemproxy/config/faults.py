"""What is wrong with a configuration: every fault of a file is collected, and all of them are told at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from idemproxy.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file; line and column count from 1. Line 0 is the command line."""

    line: int
    column: int


COMMAND_LINE = Place(0, 0)
START = Place(1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: `path` is the field's (`routes[0].key.header`), `words` what was found and what would be right."""

    place: Place
    path: str
    words: str


class Faults:
    """Collects the faults of the file `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: set[Fault] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Place, path: str, found: str, right: str = "") -> None:
        """`found` and `right` go into the message as they are: a value in them has been through `shown`."""
        self._found.add(Fault(place, path, f"{found}; {right}" if right else found))

    def error(self) -> ConfigError:
        """The faults in the order of the file, one a line: `file:line:column: path: what was found; what would be right`."""
        return ConfigError("\n".join(self._line(fault) for fault in sorted(self._found)))

    def _line(self, fault: Fault) -> str:
        if fault.place == COMMAND_LINE:
            return f"--{fault.path}: {fault.words}"
        path = f"{fault.path}: " if fault.path else ""
        return f"{self.name}:{fault.place.line}:{fault.place.column}: {path}{fault.words}"


_MOST_NAMES = 8
_SHOWN = 60
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?(//)?.*@", re.DOTALL)
_QUERY = re.compile(r"^([^?]*://[^?]*\?).+", re.DOTALL)


def shown(text: str) -> str:
    """A value as an error message may show it: short, on one line, without what stands before an `@` or in a URL's query,
    where credentials are."""
    if "@" in text:
        text = _USERINFO.sub(lambda found: f"{found[1] or ''}{found[2] or ''}***@", text)
    text = _QUERY.sub(r"\1***", text)
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return f"`{text.encode('unicode_escape').decode('ascii') if not text.isprintable() else text}`"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` may be a misspelling of, or ""."""
    spelled = {each.lower().replace("-", "_"): each for each in known}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), spelled, n=1, cutoff=0.6)
    return spelled[found[0]] if found else ""


def one_of(names: Iterable[str]) -> str:
    """`a, b or c`; of many names only the first."""
    *first, last = names
    if len(first) >= _MOST_NAMES:
        return f"{', '.join(first[:3])} and so on"
    return f"{', '.join(first)} or {last}" if first else last
