"""Regular expressions of a configuration, over what clients send. They are matched in time that grows with the text alone, whatever the
expression (RE2: no look-around, no back references): a client must not be able to keep a process busy with one header field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped] # the package has no types

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.encoding = re2.Options.Encoding.LATIN1


class BadPattern(ValueError):
    """The text is no regular expression; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression, by its text. Raises BadPattern."""

    text: bytes

    def __post_init__(self) -> None:
        _compiled(self.text)

    @property
    def groups(self) -> int:
        """How many groups it has."""
        count: int = _compiled(self.text).groups
        return count

    def whole(self, value: bytes) -> bool:
        """Whether it matches the whole value."""
        return _compiled(self.text).fullmatch(value) is not None

    def found(self, value: bytes) -> bytes | None:
        """What its first group holds where it first matches in the value, or all that it matched there if it has no group. None: it
        matches nowhere, or the group is not in the match."""
        compiled = _compiled(self.text)
        match = compiled.search(value)
        if match is None:
            return None
        group: bytes | None = match[1] if compiled.groups else match[0]
        return group


@dataclass(frozen=True, slots=True)
class OwnPattern:
    """One of the product's own, which is known to be quick."""

    compiled: re.Pattern[bytes]

    def whole(self, value: bytes) -> bool:
        """Whether it matches the whole value."""
        return self.compiled.fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _compiled(text: bytes) -> Any:
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise BadPattern(said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)) from None
