"""The simulation in the gate: some thousands of schedules of fixed seeds, in which every invariant holds; the same schedule twice; and
mutants of the product, each of which it must find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.campaign import first_found, report, tally
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import VARIANTS, Act, Focus
from tests.simulation.schedule import prepared, run

ROOT = Path(__file__).parents[2]
PIECE = 300
PIECES = 10
SAME = 60
"""Schedules whose traces are compared."""


@pytest.mark.parametrize("first", range(0, PIECE * PIECES, PIECE))
def test_every_invariant_holds(first: int) -> None:
    counted = tally(range(first, first + PIECE))
    assert not counted.failures, report(counted.failures[0])
    assert counted.schedules == PIECE


def digest(seeds: range) -> str:
    """Of every word of the traces of these schedules."""
    told = sha256()
    with prepared():
        for seed in seeds:
            for line in run(seed).trace.words():
                told.update(line.encode())
    return told.hexdigest()


def test_a_schedule_is_the_same_twice() -> None:
    assert digest(range(SAME)) == digest(range(SAME))
    assert digest(range(SAME)) != digest(range(SAME, 2 * SAME))


def test_a_schedule_does_not_depend_on_hashes() -> None:
    """Nor on where things lie in memory: each is a process of its own."""
    program = f"from tests.simulation.test_simulation import digest; print(digest(range({SAME})))"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {digest(range(SAME)) + "\n"}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    with mutant.applied():
        found = first_found(range(mutant.within), mutant.focus)
    assert found is not None, f"not found within {mutant.within} schedules: the simulation has become blind to it"


def test_a_failing_schedule_tells_its_trace_and_how_to_run_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "30", "--mutant", "release on every error", "--variant", "block"]) == 1
    told = capsys.readouterr().out
    again = re.search(r"again: python -m tests\.simulation --seed (\d+) --variant 'block'", told)
    assert again is not None, told
    for line in ("never twice", "SENDS", "EFFECT", f"FAILED: seed {again[1]}"):
        assert line in told
    assert main(["--seed", again[1], "--variant", "block", "--mutant", "release on every error"]) == 1
    assert "never twice" in capsys.readouterr().out


def test_a_command_runs_schedules_in_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "300", "--jobs", "2", "--from", "17"]) == 0
    assert "300 of 300 schedules" in capsys.readouterr().out


HAPPENINGS = {
    "an operation is taken over": r"store +take_over of .*Claimed",
    "an owner learns that it was replaced": r"log error: operation taken over",
    "an end is refused": r"log error: end refused",
    "a claim is taken back": r"store +take_back of",
    "a claim is asked again": r"log warning: claim unconfirmed",
    "an end is asked again": r"log warning: end not recorded",
    "a lease is not renewed": r"log warning: lease not renewed",
    "a request is forwarded unprotected": r"log warning: forwarded unprotected",
    "the proxy itself sends again": r"log info: sending again",
    "an attempt is numbered": r"store +next_attempt of .*Claimed",
    "a probe learns that it happened": r"store +settle of .*Done",
    "a probe learns that it did not": r"probe of \S+ +404",
    "an answer is streamed": r"state=streaming",
    "an answer is too large to keep": r"answer-not-kept",
    "an answer is replayed": r"gets 20\d replayed",
    "another request has the key": r"key-reused",
    "a waiter gives up": r"key-in-flight",
    "a drain cuts an operation short": r"shutting-down",
    "ends are left behind at the exit": r"log error: ends not recorded at exit",
    "a process crashes": r"CRASHES",
    "a process is stopped": r"STOPPED",
    "a process exits": r"EXITS",
    "the store is wiped": r"store +wiped",
    "the store loses a record": r"log error: record lost by the store",
    "the store is silent": r"trouble +silent",
    "the store freezes": r"trouble +frozen",
    "the circuit is open": r"is not asked now",
    "notices are lost": r"notices lost",
    "nothing was sent, for want of a lease": r"gets 502 +upstream-unreachable",
    "a client goes away": r"goes away",
}
"""What must happen somewhere in the schedules of the gate: else they prove little."""


def test_the_schedules_are_not_calm() -> None:
    missing = {name: re.compile(pattern) for name, pattern in HAPPENINGS.items()}
    plans: Counter[str] = Counter()
    with prepared():
        for seed in range(PIECE * PIECES):
            result = run(seed)
            plans[result.plan] += 1
            told = "\n".join(result.trace.words())
            missing = {name: pattern for name, pattern in missing.items() if not pattern.search(told)}
            if not missing and len(plans) == len(VARIANTS):
                break
    assert not missing
    assert set(plans) == set(VARIANTS)


@pytest.mark.parametrize("act", Act)
def test_a_focus_has_its_fault_in_every_schedule(act: Act) -> None:
    told = {
        Act.CRASH: "CRASHES",
        Act.STOP: "STOPPED",
        Act.DRAIN: "drains",
        Act.BREAK: "break",
        Act.LEAVE: "goes away",
        Act.RELOAD: "reloads",
    }
    with prepared():
        results = [run(seed, Focus("retry", act)) for seed in range(20)]
    assert {result.plan for result in results} == {"retry"}
    assert any(told[act] in what for result in results for _, _, what, _ in result.trace.lines)
