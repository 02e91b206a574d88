"""The index of forwarding points names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (\d+) \|.*\| (`.*`) \|$", (ROOT / "docs/forwarding-tests.md").read_text(), re.MULTILINE)


def test_every_point_has_its_row() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 24))


@pytest.mark.parametrize(("number", "files"), ROWS)
def test_a_points_tests_are_where_the_index_says(number: str, files: str) -> None:
    for file in re.findall(r"`([^`]+)`", files):
        text = (ROOT / "tests/proxy" / file).read_text()
        named = re.findall(rf"def test_point_{number}_", text)
        about = re.search(rf"^\"\"\".*[Pp]oints? {number}\b", text) or file in ("test_gateway.py", "test_ends.py")
        assert named or about, f"{file} has no test of point {number}"
