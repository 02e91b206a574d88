"""Configurations in the documentation load, and without a warning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.config.texts import UPSTREAM, settings

DOCS = Path(__file__).parents[3] / "docs"
BLOCKS = {
    f"{page}, {number}": text
    for page in ("keys", "tokens")
    for number, text in enumerate(
        re.findall(
            r"^```yaml\n(.*?)^```$", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ),
        1,
    )
}


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 9


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS)
def test_an_example_of_the_documentation_loads(text: str) -> None:
    assert settings(UPSTREAM + text).warnings == ()
