"""`workers`: a number of processes, or auto."""

from __future__ import annotations

import pytest

from idemproxy.config import load_text
from tests.unit.config.texts import UPSTREAM, settings, top_problem


@pytest.mark.parametrize(
    ("text", "meant"), [("", 1), ("workers: 1", 1), ("workers: 256", 256), ("workers: auto", None)]
)
def test_a_number_or_auto(text: str, meant: int | None) -> None:
    assert settings(f"{UPSTREAM}{text}\n").workers == meant


@pytest.mark.parametrize(("value", "meant"), [("3", 3), ("auto", None)])
def test_from_the_environment(value: str, meant: int | None) -> None:
    assert load_text(f"{UPSTREAM}workers: ${{W}}\n", "c.yaml", {"W": value}).workers == meant


@pytest.mark.parametrize("value", ["0", "257", "-1", "1.5", "Auto", "''", "[2]", "{}", "true"])
def test_nothing_else(value: str) -> None:
    said = top_problem(f"workers: {value}")
    assert "workers: found" in said
    assert "write a whole number from 1 to 256" in said


@pytest.mark.parametrize("store", ["'sqlite:'", "'sqlite::memory:'", "'sqlite://'"])
def test_a_store_in_memory_is_refused_since_no_other_process_could_share_it(store: str) -> None:
    assert "without the path of a file" in top_problem(f"store: {store}")
