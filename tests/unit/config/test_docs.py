"""Configurations in the documentation load, and without a warning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from idemproxy.config.presets import PRESETS, set_by
from tests.unit.config.texts import UPSTREAM, settings

DOCS = Path(__file__).parents[3] / "docs"
PRESETS_TEXT = (DOCS / "presets.md").read_text(encoding="utf-8")


def _blocks(name: str) -> list[str]:
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


BLOCKS = [*_blocks("keys.md"), *_blocks("presets.md"), *_blocks("tokens.md"), *_blocks("clients.md")]


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 14


@pytest.mark.parametrize("text", BLOCKS)
def test_an_example_of_the_documentation_loads(text: str) -> None:
    assert settings(UPSTREAM + text).warnings == ()


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_in_the_table_with_its_source_and_its_times(name: str) -> None:
    (row,) = [line for line in PRESETS_TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    assert row.endswith(f"| {PRESETS[name].source} |")
    said = set_by(name)
    times = [str(said[each]) for each in ("wait_timeout", "ttl") if each in said]
    assert f"| {', '.join(times)} |" in row
