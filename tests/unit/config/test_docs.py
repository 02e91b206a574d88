"""Configurations in the documentation load, and without a warning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.config.texts import UPSTREAM, settings

KEYS = Path(__file__).parents[3] / "docs" / "keys.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", KEYS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 8


@pytest.mark.parametrize("text", BLOCKS)
def test_an_example_of_the_documentation_loads(text: str) -> None:
    assert settings(UPSTREAM + text).warnings == ()
