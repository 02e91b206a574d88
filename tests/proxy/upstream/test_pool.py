"""The pool's decisions, without a socket."""

from __future__ import annotations

import pytest

from idemproxy.proxy.pool import Limits, Pool


class Kept:
    """A pool of names, its clock, and the names that it dropped."""

    def __init__(self, limits: Limits) -> None:
        self.now = 100.0
        self.dropped: list[str] = []
        self.pool: Pool[str] = Pool(limits, self.dropped.append, lambda: self.now)


def test_the_last_used_first() -> None:
    kept = Kept(Limits())
    for name in "abc":
        kept.pool.keep(name, None)
    assert [kept.pool.take() for _ in range(4)] == ["c", "b", "a", None]
    assert kept.dropped == []


def test_those_past_their_time_are_dropped() -> None:
    kept = Kept(Limits(idle=60))
    kept.pool.keep("old", None)
    kept.now += 30
    kept.pool.keep("young", None)
    kept.now += 30
    assert kept.pool.take() == "young"
    assert kept.pool.take() is None
    assert kept.dropped == ["old"]


def test_the_upstreams_own_limit_less_a_second() -> None:
    kept = Kept(Limits(idle=60))
    kept.pool.keep("a", 5)
    kept.now += 3.9
    assert kept.pool.take() == "a"
    kept.pool.keep("a", 5)
    kept.now += 4
    assert kept.pool.take() is None
    assert kept.dropped == ["a"]


def test_one_that_its_upstream_is_about_to_close_is_not_kept() -> None:
    kept = Kept(Limits())
    kept.pool.keep("a", 1)
    kept.pool.keep("b", 0)
    assert kept.dropped == ["a", "b"]
    assert kept.pool.take() is None


def test_room_is_made_by_dropping_the_longest_unused() -> None:
    kept = Kept(Limits(connections=3))
    for name in "abc":
        kept.pool.keep(name, None)
    kept.pool.used = 1
    kept.pool.make_room()
    assert kept.dropped == ["a"]
    kept.pool.used = 3
    kept.pool.make_room()
    assert kept.dropped == ["a", "b", "c"]


@pytest.mark.parametrize(("used", "full"), [(0, False), (2, False), (3, True)])
def test_a_pool_is_full_by_those_in_use_not_by_those_kept(used: int, full: bool) -> None:
    kept = Kept(Limits(connections=3))
    for name in "abc":
        kept.pool.keep(name, None)
    kept.pool.used = used
    assert kept.pool.full is full


def test_a_sweep_drops_what_is_too_old_and_says_when_to_look_again() -> None:
    kept = Kept(Limits(idle=60))
    assert kept.pool.sweep() is None
    kept.pool.keep("long", None)
    kept.pool.keep("short", 11)
    assert kept.pool.sweep() == 10
    kept.now += 10
    assert kept.pool.sweep() == 50
    assert kept.dropped == ["short"]
    kept.now += 50
    assert kept.pool.sweep() is None
    assert kept.dropped == ["short", "long"]


def test_a_closed_pool_keeps_nothing() -> None:
    kept = Kept(Limits())
    kept.pool.keep("a", None)
    kept.pool.close()
    kept.pool.keep("b", None)
    assert kept.dropped == ["a", "b"]
    assert kept.pool.take() is None
