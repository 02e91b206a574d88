"""Leases and waiting, between two processes: an owner that works keeps its operation, however long that takes and however busy its
process is; and whoever waits for it elsewhere costs the store nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import redis

from tests.e2e.processes import wait_for
from tests.faults.asking import Answer, Asking
from tests.faults.pair import DAY, LEASE, TTL, Member, Pair
from tests.faults.upstream import Hold
from tests.faults.wires import Raw, Traffic, crowd, post

LONG = LEASE + TTL + LEASE + 0.5
"""Seconds: longer than a record of the rule `brief` would live, and then the last lease of an owner that renews nothing but that."""


# ------------------------------------------------------------------------------------------------------------ long operations


@dataclass(frozen=True)
class Run:
    """A long operation, and its duplicates."""

    first: Answer
    duplicates: list[Answer]
    executed: int

    def check(self) -> None:
        """Executed once, and everybody has its answer."""
        assert self.executed == 1
        assert (self.first.status, self.first.replayed) == (201, False)
        assert {(each.told, each.replayed) for each in self.duplicates} == {(self.first.told, True)}


class Long:
    """An operation that its first process executes for as long as its test says."""

    def __init__(self, pair: Pair, rule: str, key: str) -> None:
        self._pair = pair
        self._rule = rule
        self._key = key
        self._hold = pair.upstream.behave[key] = Hold()
        self._first = self._ask(pair.one)
        self._duplicates: list[Asking] = []
        pair.upstream.wait_for(key)

    def _ask(self, member: Member) -> Asking:
        return Asking(lambda: member.ask(f"/{self._rule}", self._key))

    def duplicate(self, member: Member) -> None:
        self._duplicates.append(self._ask(member))

    def end(self) -> Run:
        self._hold.let_go()
        duplicates = [each.answer() for each in self._duplicates]
        return Run(self._first.answer(), duplicates, self._pair.upstream.executed(self._key))


@pytest.fixture(scope="module")
def long_runs(pair: Pair) -> dict[str, Run]:
    """Three operations that take several leases, in a process that is kept busy, while the wall clocks of both are set."""
    one, other = pair.one, pair.other
    one.ask("/plain", "busy")
    began = time.monotonic()
    slow, brief, jumped = Long(pair, "long", "slow"), Long(pair, "brief", "brief"), Long(pair, "long", "jumped")
    with Traffic(one.port, post("/plain", "busy")) as traffic:
        for each in (slow, brief):
            each.duplicate(other)
            each.duplicate(one)
        wait_for("the duplicates to wait", lambda: (other.waiting("long"), other.waiting("brief")) == (1, 1) or None)
        one.set_wall_clock(-DAY)
        other.set_wall_clock(DAY)
        try:
            jumped.duplicate(other)
            time.sleep(max(0.0, began + LONG - time.monotonic()))
            for each in (slow, brief, jumped):
                each.duplicate(other)
            wait_for("these too", lambda: (other.waiting("long"), other.waiting("brief")) == (4, 2) or None)
        finally:
            runs = {"slow": slow.end(), "brief": brief.end(), "jumped": jumped.end()}
            one.set_wall_clock(0)
            other.set_wall_clock(0)
    assert traffic.answers > 1000, "the owner's process had nothing else to do"
    return runs


def test_a_lock_shorter_than_the_request_lets_no_second_one_execute(long_runs: dict[str, Run]) -> None:
    long_runs["slow"].check()


def test_a_record_does_not_expire_in_the_middle_of_its_operation(long_runs: dict[str, Run]) -> None:
    long_runs["brief"].check()


def test_a_living_owner_is_not_taken_over_because_a_wall_clock_jumped(long_runs: dict[str, Run]) -> None:
    long_runs["jumped"].check()


# --------------------------------------------------------------------------------------------------------------------- waiting


def asked_of_redis(pair: Pair) -> int | None:
    """How many commands the store was asked; None where nobody counts them."""
    if not pair.store.startswith("redis:"):
        return None
    with redis.Redis.from_url(pair.store) as client:
        stats: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


def test_a_thousand_waiters_elsewhere_cost_the_store_nothing(pair: Pair) -> None:
    hold = pair.upstream.behave["crowd"] = Hold()
    first = Asking(lambda: pair.one.ask("/crowd", "crowd"))
    try:
        pair.upstream.wait_for("crowd")
        with crowd(pair.other.port, post("/crowd", "crowd"), 1000) as clients:
            wait_for("all of them to wait", lambda: pair.other.waiting("crowd") == 1000 or None)
            before, began = asked_of_redis(pair), time.monotonic()
            time.sleep(2.5)
            hold.let_go()
            answers = {client.whole() for client in clients}
            after, took = asked_of_redis(pair), time.monotonic() - began
    finally:
        hold.let_go()
    assert len(answers) == 1, "not everybody got the same bytes"
    (bytes_,) = answers
    assert bytes_.endswith(b"\r\nIdempotent-Replayed: true\r\n\r\n" + first.answer().body)
    assert pair.upstream.executed("crowd") == 1
    if before is not None and after is not None:
        assert after - before < 20 + took, "a few polls, the end and one look at it: not a command a waiter"


def test_past_its_patience_a_waiter_is_told_that_the_operation_still_runs(pair: Pair) -> None:
    hold = pair.upstream.behave["impatient"] = Hold()
    first = Asking(lambda: pair.one.ask("/impatient", "impatient"))
    pair.upstream.wait_for("impatient")
    try:
        for member in (pair.one, pair.other):
            told = member.ask("/impatient", "impatient")
            assert (told.status, told.problem, told.values("Retry-After")) == (409, "key-in-flight", ["1"])
    finally:
        hold.let_go()
    assert first.answer().status == 201
    assert pair.other.ask("/impatient", "impatient").told == first.answer().told
    assert pair.upstream.executed("impatient") == 1


@pytest.mark.parametrize("where", ["one", "other"])
def test_the_places_are_counted_and_who_leaves_gives_its_place_back(pair: Pair, where: str) -> None:
    member = pair.one if where == "one" else pair.other
    key = f"places-{where}"
    hold = pair.upstream.behave[key] = Hold()
    first = Asking(lambda: pair.one.ask("/few", key))
    try:
        pair.upstream.wait_for(key)
        waiting = [Raw(member.port, post("/few", key)) for _ in range(2)]
        wait_for("both places to be taken", lambda: member.waiting("few") == 2 or None)
        assert member.ask("/few", key).problem == "key-in-flight", (
            "at once: the rule's patience is longer than this test"
        )
        waiting.pop().reset()
        wait_for("a place to be free", lambda: member.waiting("few") == 1 or None)
        waiting.append(Raw(member.port, post("/few", key)))
        wait_for("it to be taken again", lambda: member.waiting("few") == 2 or None)
    finally:
        hold.let_go()
    assert {each.whole().rpartition(b"\r\n\r\n")[2] for each in waiting} == {first.answer().body}
    for each in waiting:
        each.close()
    assert pair.upstream.executed(key) == 1
