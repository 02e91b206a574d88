"""What several worker processes count is summed, at once, whichever of them is asked; and what outlives a worker that dies."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idemproxy.observe.cells import Board, Cells, Kind, own_cells
from idemproxy.observe.places import CHUNK_CELLS
from tests.unit.exposed import Exposed

ROOT = Path(__file__).parents[2]


PATIENCE = 60.0
"""Seconds after which a parent that does not answer never will."""


class Workers:
    """A parent and the workers that it forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        came, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        answer = self._process.stdout.readline() if came else ""
        assert answer, f"the workers' parent has ended, or does not answer to {line!r}"
        return answer.strip()

    def fork(self, index: int) -> str:
        """What the worker says first."""
        self.begin_fork(index)
        return str(self.receive(index))

    def begin_fork(self, index: int) -> None:
        self._tell(f"fork {index}")

    def kill(self, index: int) -> None:
        self._tell(f"kill {index}")

    def send(self, index: int, command: str) -> None:
        self._tell(f"send {index} {command}")

    def receive(self, index: int) -> Any:
        return json.loads(self._tell(f"receive {index}"))

    def ask(self, index: int, command: str) -> Any:
        self.send(index, command)
        return self.receive(index)

    def losses(self, index: int) -> dict[str, int]:
        """The sums of one counter, by rule."""
        found: dict[str, int] = self.ask(index, "losses")
        return found

    def read(self, index: int) -> Exposed:
        """What that worker tells Prometheus."""
        return Exposed(self.ask(index, "text"))


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Three of them, from 0 on."""
    command = [sys.executable, "-m", "tests.unit.counting_workers", "3"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        found = Workers(process)
        try:
            for index in range(3):
                assert found.fork(index) == "began"
            yield found
        finally:
            # Each worker ends when its parent does, which holds the other end of its line.
            process.kill()


LOSSES = "idemproxy_lease_losses_total"
WAITERS = "idemproxy_waiters"


def test_whichever_worker_is_asked_tells_the_sum_at_once(workers: Workers) -> None:
    for index, count in enumerate((3, 40, 500)):
        workers.ask(index, f"lose charges {count}")
        workers.ask(index, "wait charges")
    for index in range(3):
        assert workers.read(index).value(LOSSES, rule="charges") == 543
        assert workers.read(index).value(WAITERS, rule="charges") == 3
    workers.ask(1, "leave charges")
    workers.ask(1, "lose charges 1")
    assert workers.read(2).value(WAITERS, rule="charges") == 2
    assert workers.read(2).value(LOSSES, rule="charges") == 544


def test_a_rule_that_one_worker_alone_has_met_is_told_by_all(workers: Workers) -> None:
    workers.ask(0, "lose refunds 2")
    workers.ask(2, "lose charges 1")
    for index in range(3):
        assert workers.read(index).value(LOSSES, rule="refunds") == 2
        assert workers.read(index).value(LOSSES, rule="charges") == 1


def test_a_histogram_is_summed_bound_by_bound(workers: Workers) -> None:
    workers.ask(0, "upstream charges 0.002")
    workers.ask(1, "upstream charges 0.002")
    workers.ask(2, "upstream charges 3")
    found = workers.read(1)
    assert found.value("idemproxy_upstream_seconds_bucket", rule="charges", le="0.001") == 0
    assert found.value("idemproxy_upstream_seconds_bucket", rule="charges", le="0.0025") == 2
    assert found.value("idemproxy_upstream_seconds_bucket", rule="charges", le="2.5") == 2
    assert found.value("idemproxy_upstream_seconds_bucket", rule="charges", le="5.0") == 3
    assert found.value("idemproxy_upstream_seconds_count", rule="charges") == 3
    assert found.value("idemproxy_upstream_seconds_sum", rule="charges") == 3.004


def test_counters_outlive_a_crash_and_gauges_do_not(workers: Workers) -> None:
    for index in range(3):
        workers.ask(index, "lose charges 10")
        workers.ask(index, "wait charges")
    assert workers.read(0).value(WAITERS, rule="charges") == 3
    workers.kill(1)
    for index in (0, 2):  # before anybody has replaced it
        found = workers.read(index)
        assert found.value(LOSSES, rule="charges") == 30
        assert found.value(WAITERS, rule="charges") == 2
        assert found.value("idemproxy_workers") == 2
        assert found.value("idemproxy_workers_configured") == 3
        assert found.value("idemproxy_workers_replaced_total") == 0
    assert workers.fork(1) == "began"
    workers.ask(1, "lose charges 5")
    for index in range(3):
        found = workers.read(index)
        assert found.value(LOSSES, rule="charges") == 35
        assert found.value(WAITERS, rule="charges") == 2
        assert found.value("idemproxy_workers") == 3
        assert found.value("idemproxy_workers_replaced_total") == 1
    workers.ask(1, "wait charges")
    assert workers.read(0).value(WAITERS, rule="charges") == 3


def test_a_worker_that_was_killed_in_the_middle_of_a_line_is_replaced(workers: Workers) -> None:
    workers.ask(1, "lose charges 7")
    workers.ask(1, "tear")
    assert workers.read(0).value(LOSSES, rule="charges") == 7
    workers.kill(1)
    assert workers.read(0).value(LOSSES, rule="charges") == 7
    assert workers.fork(1) == "began"
    workers.ask(1, "lose refunds 2")
    workers.ask(1, "lose charges 1")
    for index in range(3):
        found = workers.read(index)
        assert found.value(LOSSES, rule="charges") == 8
        assert found.value(LOSSES, rule="refunds") == 2


def test_a_place_has_one_worker(workers: Workers) -> None:
    workers.ask(0, "lose charges 1")
    assert "in use by another" in workers.fork(0)
    assert workers.read(1).value(LOSSES, rule="charges") == 1
    assert workers.read(1).value("idemproxy_workers") == 3


def test_a_reader_that_looks_just_then_keeps_no_worker_from_beginning(workers: Workers) -> None:
    workers.kill(1)
    workers.ask(0, "look 1")
    workers.begin_fork(1)
    workers.ask(0, "away 1")
    assert workers.receive(1) == "began"
    assert workers.read(2).value("idemproxy_workers") == 3


def test_sums_that_are_read_while_others_count_never_fall_and_end_right(workers: Workers) -> None:
    workers.ask(2, "lose charges 0")
    for index in (0, 1):
        workers.send(index, "lose charges 100000")
    seen = [workers.read(2).value(LOSSES, rule="charges") for _ in range(8)]
    for index in (0, 1):
        assert workers.receive(index) == "done"
    seen.append(workers.read(2).value(LOSSES, rule="charges"))
    assert seen == sorted(seen)
    assert seen[-1] == 200_000


def test_names_that_come_while_they_are_read_are_read_right(workers: Workers) -> None:
    """By a reload's rules, past the cells that are mapped at once; by two workers in two orders."""
    workers.send(0, "rules 0 80")
    workers.ask(1, "rules 40 100")
    for _ in range(3):
        assert set(workers.losses(2).values()) <= {0, 1, 2}
    assert workers.receive(0) == "done"
    for index in range(3):
        assert workers.losses(index) == {f"rule-{number}": 2 if 40 <= number < 80 else 1 for number in range(100)}
    workers.kill(0)
    assert workers.fork(0) == "began"
    workers.ask(0, "rules 79 81")
    assert workers.losses(1)["rule-79"] == 3
    assert workers.losses(1)["rule-80"] == 2


# ------------------------------------------------------------------------------------------------------------- in one process


def cells_of(what: str) -> Cells:
    return own_cells() if what == "own" else Board(2).cells(0)


@pytest.mark.parametrize("what", ["own", "shared"])
def test_a_block_lies_in_one_piece_and_keeps_its_place(what: str) -> None:
    cells = cells_of(what)
    first = cells.block(Kind.COUNTER, ("first",), CHUNK_CELLS - 3)
    wide = cells.block(Kind.COUNTER, ("wide", "label"), 5)
    narrow = cells.block(Kind.GAUGE, ("narrow",))
    first.cells[first.at + first.width - 1] = 9
    for offset in range(5):
        wide.cells[wide.at + offset] = offset + 1
    narrow.cells[narrow.at] = -4
    sums = cells.sums()
    assert sums["first",] == [0] * (CHUNK_CELLS - 4) + [9]
    assert sums["wide", "label"] == [1, 2, 3, 4, 5]
    assert sums["narrow",] == [-4]
    assert cells.block(Kind.COUNTER, ("wide", "label"), 5) is wide


def test_a_label_may_be_any_text() -> None:
    board = Board(2)
    names = [("metric", label) for label in ("", "é\n\u2028", '"\\', "x" * 70_000)]
    mine = board.cells(0)
    for count, name in enumerate(names, start=1):
        block = mine.block(Kind.COUNTER, name)
        block.cells[block.at] = count
    assert board.cells(1).sums() == {name: [count] for count, name in enumerate(names, start=1)}
    board.close()


def test_where_the_system_has_no_files_in_memory_one_on_disk_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError("vm.memfd_noexec")

    monkeypatch.setattr("os.memfd_create", refused, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    board = Board(2)
    block = board.cells(0).block(Kind.COUNTER, ("metric",))
    block.cells[block.at] += 6
    assert board.cells(1).sums() == {("metric",): [6]}
    assert list(tmp_path.iterdir()) == []
    board.close()


@pytest.mark.parametrize("call", ["os.pwrite", "idemproxy.observe.places._reserve"])
def test_without_memory_for_new_names_the_old_ones_count_on(call: str) -> None:
    """A name that found no room can be asked for again later, and the list is right then."""
    board = Board(2)
    cells = board.cells(0)
    old = cells.block(Kind.COUNTER, ("old",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call, _full)
        with pytest.raises(OSError, match="no room"):
            cells.block(Kind.COUNTER, ("new",), CHUNK_CELLS)
    old.cells[old.at] += 1
    new = cells.block(Kind.COUNTER, ("new",), 2)
    new.cells[new.at + 1] += 2
    assert cells.sums() == board.cells(1).sums() == {("old",): [1], ("new",): [0, 2]}
    board.close()


def _full(*_: object) -> None:
    raise OSError(28, "no room")
