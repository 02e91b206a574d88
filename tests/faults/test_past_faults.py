"""Faults that other implementations had in production, where it takes two processes, a kill or a stop to show them. Those that one
process can show are in tests/proxy/test_past_faults.py, and those of time in test_leases.py."""

from __future__ import annotations

import threading
from functools import partial

from tests.e2e.processes import LISTENING, wait_for
from tests.faults.asking import Answer, Asking
from tests.faults.pair import Member, Pair
from tests.faults.upstream import DEADLINE, Exchange, Hold, answer, created


def refused(exchange: Exchange) -> None:
    """An answer after which the key is free."""
    exchange.send(answer("429 Too Many Requests", b"later"))


def test_a_crash_does_not_mean_409_for_a_day(pair: Pair) -> None:
    """An in-progress record that lives as long as the answer: here it is evidence once its lease is over, and the rule decides."""
    one, other, upstream = pair.one, pair.other, pair.upstream
    held = {key: Hold() for key in ("crash-block", "crash-retry")}
    upstream.behave |= held
    lost = [Asking(lambda: one.ask("/long", "crash-block")), Asking(lambda: one.ask("/retry", "crash-retry"))]
    for key in held:
        upstream.wait_for(key)
        upstream.behave[key] = created
    one.process.kill()
    try:
        for each in lost:
            each.lost()
        again = other.ask("/retry", "crash-retry")
        assert (again.status, again.replayed) == (201, False)
        blocked = other.ask("/long", "crash-block")
        assert (blocked.status, blocked.problem) == (409, "outcome-unknown")
    finally:
        one.process.start(LISTENING)
        for hold in held.values():
            hold.let_go()
    assert one.ask("/retry", "crash-retry").told == again.told
    assert one.ask("/long", "crash-block").problem == "outcome-unknown"
    numbers = [each.values("X-Attempt") for each in upstream.exchanges["crash-retry"]]
    assert numbers == [["1"], ["2"]], "the upstream can tell the dead owner's attempt from the new one's"
    assert upstream.executed("crash-block") == 1


def test_a_release_by_somebody_who_is_not_the_owner_any_more_frees_nothing(pair: Pair) -> None:
    """The first owner is stopped past its lease and taken over; then it learns that its own attempt was refused (429)."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "released-by-another"
    late, current = Hold(refused), Hold()
    upstream.behave[key] = late
    first = Asking(lambda: one.ask("/retry", key))
    try:
        upstream.wait_for(key)
        upstream.behave[key] = current
        with one.stopped():
            second = Asking(lambda: other.ask("/retry", key))
            upstream.wait_for(key, 2)
            late.let_go()
        wait_for("the fence", lambda: "end refused" in one.process.output() or None)
        third = Asking(lambda: one.ask("/retry", key))
        wait_for("the third one to wait", lambda: one.waiting("retry") == 1 or None)
    finally:
        late.let_go()
        current.let_go()
    assert {each.answer().told for each in (first, second, third)} == {(201, second.answer().body)}
    assert upstream.executed(key) == 2


def test_who_loses_the_claim_and_then_finds_nothing_claims_again(pair: Pair) -> None:
    """The record that beat it is gone when it is read: refused attempts free the key again and again, and whoever waited asks anew.
    Nobody is let through without a claim."""
    upstream, key = pair.upstream, "found-empty"

    def respond(exchange: Exchange) -> None:
        if exchange.number <= 5:
            refused(exchange)
        else:
            created(exchange)

    upstream.behave[key] = respond
    start = threading.Barrier(24)

    def at_once(member: Member) -> Answer:
        start.wait(DEADLINE)
        return member.ask("/plain", key)

    asking = [Asking(partial(at_once, member)) for member in (pair.one, pair.other) for _ in range(12)]
    answers = [each.answer() for each in asking]
    assert upstream.most_at_once[key] == 1
    assert upstream.executed(key) == 6
    assert sorted(each.status for each in answers) == [201] * 19 + [429] * 5
    assert len({each.body for each in answers if each.status == 201}) == 1
