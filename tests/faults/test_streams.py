"""Streamed answers, between two processes: recorded while they are read by their client, or by nobody any more."""

from __future__ import annotations

import threading

import pytest

from tests.e2e.processes import wait_for
from tests.faults.asking import Asking
from tests.faults.pair import Member, Pair
from tests.faults.upstream import DEADLINE, Behave, Exchange
from tests.faults.wires import Raw, post

KINDS = {
    "events": "Content-Type: text/event-stream",
    "ndjson": "Content-Type: application/x-ndjson",
    "slow": "Content-Type: application/json",
}
"""The last one is streamed because it is not whole soon after its head."""
PIECE = b'{"piece": 1}\n\n'


class Stream:
    """An answer in `count` chunks, of which all but the first wait until they are let go."""

    def __init__(self, kind: str, count: int) -> None:
        self.whole = PIECE * count
        self._kind = kind
        self._count = count
        self._go = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 200 OK\r\n{KINDS[self._kind]}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
        exchange.send(chunk)
        assert self._go.wait(DEADLINE)
        exchange.send(chunk * (self._count - 1) + b"0\r\n\r\n")

    def let_go(self) -> None:
        self._go.set()


def begin(pair: Pair, path: str, key: str, stream: Stream) -> Raw:
    """A client that has the first piece of it."""
    behave: Behave = stream
    pair.upstream.behave[key] = behave
    client = Raw(pair.one.port, post(path, key))
    assert client.until(PIECE).startswith(b"HTTP/1.1 200 OK\r\n")
    return client


def in_flight(member: Member, rule: str) -> float:
    return member.metric("idemproxy_executions_in_flight", rule)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_recorded_whole_when_its_client_leaves_in_the_middle(pair: Pair, kind: str) -> None:
    key = f"stream-{kind}"
    stream = Stream(kind, 50)
    client = begin(pair, "/plain", key, stream)
    try:
        client.reset()
        retry = Asking(lambda: pair.other.ask("/plain", key))
        wait_for("the retry to wait", lambda: pair.other.waiting("plain") == 1 or None)
        assert in_flight(pair.one, "plain") == 1, "it goes on without its client"
    finally:
        stream.let_go()
    assert retry.answer().told == (200, stream.whole)
    assert retry.answer().replayed
    assert pair.one.ask("/plain", key).told == (200, stream.whole)
    assert pair.upstream.executed(key) == 1


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
@pytest.mark.parametrize("kind", KINDS)
def test_past_what_is_kept_it_is_given_once_and_never_executed_again(pair: Pair, kind: str, leaves: bool) -> None:
    key = f"large-{kind}-{leaves}"
    stream = Stream(kind, 100)
    client = begin(pair, "/small", key, stream)
    if leaves:
        client.reset()
        stream.let_go()
    else:
        stream.let_go()
        assert client.until(b"\r\n0\r\n\r\n").count(PIECE) == 100
        client.close()
    for member in (pair.other, pair.one, pair.other):
        told = member.ask("/small", key)
        assert (told.status, told.problem, told.replayed) == (409, "answer-not-kept", False)
    assert pair.upstream.executed(key) == 1
