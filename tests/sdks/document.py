"""The tables in docs/clients.md, each between two comments that name it."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def tables() -> dict[str, str]:
    """What stands between the comments, by their names."""
    found = re.findall(r"<!-- ([a-z]+): python -m tests.sdks -->\n(.*?)<!-- end -->", _text(), re.DOTALL)
    return dict(found)


def write(name: str, lines: list[str]) -> None:
    """Replace a table."""
    begin = f"<!-- {name}: python -m tests.sdks -->\n"
    before, marked, rest = _text().partition(begin)
    if not marked:
        raise ValueError(f"{DOCUMENT} has no table {name}")
    _, _, after = rest.partition("<!-- end -->")
    DOCUMENT.write_text(before + begin + "".join(f"{line}\n" for line in lines) + "<!-- end -->" + after, "utf-8")


def _text() -> str:
    return DOCUMENT.read_text("utf-8")
