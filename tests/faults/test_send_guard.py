"""The send guard, between two processes: an owner that was stopped between its claim and its send, and taken over meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.processes import wait_for
from tests.faults.asking import Asking
from tests.faults.pair import DAY, Pair
from tests.stores.redis_server import RedisServer


def test_an_owner_that_was_taken_over_before_it_sent_never_sends(pair: Pair) -> None:
    """It is stopped while it waits for its connection to the upstream, and gets it while it is stopped. When it wakes, its wall clock
    says that no time has passed."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "guarded"
    unheard = upstream.unheard
    with upstream.reserved():
        first = Asking(lambda: one.ask("/retry", key))
        wait_for("the owner to connect", lambda: upstream.knocking or None)
        one.process.signal(signal.SIGSTOP)
    try:
        second = other.ask("/retry", key)
        assert (second.status, second.replayed, upstream.executed(key)) == (201, False, 1)
        assert not first.over
        one.set_wall_clock(-DAY)
    finally:
        one.process.signal(signal.SIGCONT)
    assert first.answer().told == second.told
    one.set_wall_clock(0)
    wait_for(
        "the connection to be given up, or used",
        lambda: upstream.unheard > unheard or upstream.executed(key) > 1 or None,
    )
    assert upstream.executed(key) == 1


A_PING = 100
"""Bytes: more than what a listener asks now and then, and less than a claim."""


@pytest.mark.parametrize("pair", ["redis"], indirect=True)
def test_a_lease_counts_from_before_its_claim_was_asked(pair: Pair, redis_server: RedisServer) -> None:
    """The owner is stopped between asking for its claim and hearing that it has it: the reply waits for it, and is old."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "heard-late"
    one.ask("/retry", "loads the script")
    redis_server.pause()
    try:
        first = Asking(lambda: one.ask("/retry", key))
        wait_for("the claim to reach the server", lambda: True if unread(redis_server.port) > A_PING else None)
        one.process.signal(signal.SIGSTOP)
    finally:
        redis_server.resume()
    try:
        second = other.ask("/retry", key)
        assert (second.status, second.replayed, upstream.executed(key)) == (201, False, 1)
        assert [each.values("X-Attempt") for each in upstream.exchanges[key]] == [["2"]], "the first claim was applied"
    finally:
        one.process.signal(signal.SIGCONT)
    assert first.answer().told == second.told
    assert upstream.executed(key) == 1


def unread(port: int) -> int:
    """Bytes that a server on that port has received and not read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if int(row[1].partition(":")[2], 16) == port and row[3] == "01"]
    return sum(int(row[4].partition(":")[2], 16) for row in established)
