"""Owners that stall (SIGSTOP) past their lease and wake again (SIGCONT): two real proxies on one store."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.api import Answer, Upstream, request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port

LEASE = 1.0


@dataclass(frozen=True)
class Pair:
    """Two proxies of one upstream, and their ports."""

    one: Process
    other: Process
    one_port: int
    other_port: int


@contextlib.contextmanager
def pair(folder: Path, upstream: Upstream, store: str, more: str = "") -> Iterator[Pair]:
    ports = free_port(), free_port()
    texts = [
        f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream.port}
store: {store}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    lease: {LEASE:.0f}s
    wait_timeout: 30s
{more}"""
        for port in ports
    ]
    with (
        running(proxy(folder, texts[0], "one"), LISTENING) as one,
        running(proxy(folder, texts[1], "other"), LISTENING) as other,
    ):
        yield Pair(one, other, *ports)


class Client:
    """One request in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._answers: list[Answer | Exception] = []
        self._thread = threading.Thread(target=self._ask, args=(port,))
        self._thread.start()

    def _ask(self, port: int) -> None:
        try:
            self._answers.append(request(port))
        except (OSError, http.client.HTTPException) as error:
            self._answers.append(error)

    def answer(self) -> Answer:
        self._thread.join(60)
        found = self._answers[0]
        assert not isinstance(found, Exception), found
        return found

    def lost(self) -> None:
        """It got no answer."""
        self._thread.join(60)
        assert isinstance(self._answers[0], Exception)


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("redis_url")
    return url


def problem(answer: Answer) -> str:
    return str(json.loads(answer[2])["type"]).rpartition(":")[2]


def stalled(process: Process, seconds: float) -> None:
    """Stop it for longer than its lease."""
    process.signal(signal.SIGSTOP)
    time.sleep(seconds)


def test_a_long_operation_stays_owned(tmp_path: Path, upstream: Upstream, store: str) -> None:
    with pair(tmp_path, upstream, store) as both:
        upstream.hold()
        first = Client(both.one_port)
        assert upstream.arrived.acquire(timeout=60)
        waiting = Client(both.other_port)
        time.sleep(3.5 * LEASE)
        upstream.let_go()
        assert first.answer()[0] == waiting.answer()[0] == 201
        assert waiting.answer()[1]["Idempotent-Replayed"] == "true"
    assert upstream.executed == 1


def test_a_stalled_owner_that_nobody_replaced_still_records_the_truth(
    tmp_path: Path, upstream: Upstream, store: str
) -> None:
    with pair(tmp_path, upstream, store) as both:
        upstream.hold()
        first = Client(both.one_port)
        assert upstream.arrived.acquire(timeout=60)
        stalled(both.one, 2 * LEASE)
        assert problem(request(both.other_port)) == "outcome-unknown"
        both.one.signal(signal.SIGCONT)
        upstream.let_go()
        assert first.answer()[0] == 201
        again = request(both.other_port)
        assert (again[0], again[2]) == (201, first.answer()[2])
    assert upstream.executed == 1


def test_a_stalled_owner_that_was_replaced_records_nothing_and_answers_with_the_record(
    tmp_path: Path, upstream: Upstream, store: str
) -> None:
    with pair(tmp_path, upstream, store, "    on_unknown: retry\n    attempt_header: X-Attempt\n") as both:
        upstream.hold()
        first = Client(both.one_port)
        assert upstream.arrived.acquire(timeout=60)
        stalled(both.one, 2 * LEASE)
        second = Client(both.other_port)
        assert upstream.arrived.acquire(timeout=60)
        upstream.let_go()
        assert second.answer()[0] == 201
        both.one.signal(signal.SIGCONT)
        assert first.answer()[2] == second.answer()[2], "two answers to one operation"
        wait_for("the fence", lambda: True if "end refused" in both.one.output() else None)
        assert request(both.one_port)[2] == second.answer()[2]
    assert upstream.executed == 2, "on_unknown: retry executes again, by choice"


def test_a_waiter_whose_owner_dies_learns_of_it_at_the_leases_end(
    tmp_path: Path, upstream: Upstream, store: str
) -> None:
    """Long before its own patience of 30 s ends."""
    with pair(tmp_path, upstream, store) as both:
        upstream.hold()
        first = Client(both.one_port)
        assert upstream.arrived.acquire(timeout=60)
        waiting = Client(both.other_port)
        time.sleep(LEASE / 2)
        both.one.kill()
        first.lost()
        began = time.monotonic()
        assert problem(waiting.answer()) == "outcome-unknown"
        assert time.monotonic() - began < 25
        upstream.let_go()
    assert upstream.executed == 1
