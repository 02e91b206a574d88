"""Results of the bench that are kept by commit, and what counts as a loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.kept import TOLERANCE, Result, Unreadable, add, last, losses

BEFORE = Result("abc", {"first 32": 4.0, "replay 32": 6.0}, {"first 32": 700.0, "replay 32": 400.0})


def test_the_newest_result_is_the_last_that_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert last(file) is None
    add(Result("old", {"first 1": 1.0}, {"first 1": 2.0}), file)
    add(BEFORE, file)
    assert last(file) == BEFORE


def test_a_loss_is_told_with_both_figures_and_the_commit() -> None:
    (said,) = losses(BEFORE, Result("def", {"first 32": 4.0 * (1 + TOLERANCE) + 0.01, "replay 32": 3.0}, {}))
    assert said == "first 32: 4.61 times the peer's CPU time, 4.00 at abc"


def test_what_lies_within_the_tolerance_is_no_loss() -> None:
    assert not [*losses(BEFORE, Result("def", {"first 32": 4.0 * (1 + TOLERANCE) - 0.01, "replay 32": 6.0}, {}))]


def test_a_line_that_was_not_measured_before_is_not_compared() -> None:
    assert not [*losses(BEFORE, Result("def", {"first 32": 4.0, "forward 1": 99.0}, {}))]


def test_runs_that_share_no_line_cannot_be_compared() -> None:
    with pytest.raises(Unreadable, match="nothing that was measured now was measured at abc"):
        [*losses(BEFORE, Result("def", {"forward 1": 1.0}, {}))]


@pytest.mark.parametrize("line", ["", "{", "[]", '{"commit":"a"}', '{"commit":"a","ratios":{"x":"y"},"micros":{}}'])
def test_a_line_that_is_no_result_is_told(tmp_path: Path, line: str) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(f"{line}\n", "utf-8")
    with pytest.raises(Unreadable, match=r"results\.jsonl is no result"):
        last(file)
