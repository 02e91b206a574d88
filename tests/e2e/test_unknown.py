"""Every way in which an outcome becomes unknown, under every policy, with real processes on both stores: what is executed, under
which number, and what the retry gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Answer, request
from tests.e2e.ledger import Ledger, ledger
from tests.e2e.processes import LISTENING, Process, proxy, running
from tests.ports import free_port

LOST = ("reset", "silence", "cut", "garbage")
PROBE = "{probe: {url: '/by-key/{header:Idempotency-Key}', settle: 1ms}}"


@pytest.fixture
def upstream() -> Iterator[Ledger]:
    with ledger() as kept:
        yield kept


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("redis_url")
    return url


class Proxy:
    """One proxy with one rule, that can be killed and started again."""

    def __init__(self, folder: Path, upstream: Ledger, store: str, policy: str) -> None:
        self.port = free_port()
        self.upstream = upstream
        self.process: Process = proxy(
            folder,
            f"""
listen: 127.0.0.1:{self.port}
upstream: http://127.0.0.1:{upstream.port}
store: {store}
upstream_timeouts: {{response: 1s}}
drain_timeout: 300ms
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    lease: 1s
    wait_timeout: 50s
    attempt_header: X-Attempt
    unknown_statuses: [502]
    on_unknown: {policy}
""",
        )

    def ask(self, key: str) -> Answer:
        return request(self.port, key=key)

    def lose(self, key: str) -> None:
        """An operation whose outcome is unknown when this returns."""
        answer = self.ask(key)
        if key.startswith("status"):
            assert (answer[0], answer[2]) == (502, b"a gateway's")
        else:
            assert problem(answer) in (("upstream-failed", 502), ("upstream-timeout", 504)), key

    def die(self, key: str) -> None:
        """Killed with SIGKILL in mid-operation, and started again."""
        asking = threading.Thread(target=self._ask_in_vain, args=(key,))
        asking.start()
        self.upstream.wait_for(key)
        self.process.kill()
        asking.join(60)
        self.process.start(LISTENING)

    def drain(self, key: str) -> None:
        """Ended with SIGTERM in mid-operation, past its drain time, and started again."""
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(self.ask(key)))
        asking.start()
        self.upstream.wait_for(key)
        assert self.process.terminate() == 0
        asking.join(60)
        assert problem(answers[0]) == ("shutting-down", 503)
        self.process.start(LISTENING)

    def _ask_in_vain(self, key: str) -> None:
        with pytest.raises(OSError):  # whichever the killed proxy's kernel makes of it
            self.ask(key)


def problem(answer: Answer) -> tuple[str, int]:
    return str(json.loads(answer[2])["type"]).rpartition(":")[2], answer[0]


def lose_each(proxy: Proxy, suffix: str = "") -> list[str]:
    """An operation lost in each way: their keys."""
    keys = [f"{fault}{suffix}" for fault in (*LOST, "status")]
    for key in keys:
        proxy.lose(key)
    proxy.die(f"held-killed{suffix}")
    proxy.drain(f"held-drained{suffix}")
    return [*keys, f"held-killed{suffix}", f"held-drained{suffix}"]


def test_block(tmp_path: Path, upstream: Ledger, store: str) -> None:
    proxy = Proxy(tmp_path, upstream, store, "block")
    with running(proxy.process, LISTENING):
        for key in lose_each(proxy):
            for _ in range(2):
                refused = proxy.ask(key)
                assert problem(refused) == ("outcome-unknown", 409), key
                assert json.loads(refused[2])["retry"] == "ask_operator"
            assert upstream.attempts[key] == ["1"], key
    assert upstream.probes == []


def test_retry(tmp_path: Path, upstream: Ledger, store: str) -> None:
    proxy = Proxy(tmp_path, upstream, store, "retry")
    with running(proxy.process, LISTENING):
        for key in lose_each(proxy):
            first, second = proxy.ask(key), proxy.ask(key)
            assert (first[0], first[2]) == (201, b'{"executed":true}'), key
            assert (second[1]["Idempotent-Replayed"], second[2]) == ("true", first[2]), key
            assert upstream.attempts[key] == ["1", "2"], key
    assert upstream.probes == []


def test_probe(tmp_path: Path, upstream: Ledger, store: str) -> None:
    proxy = Proxy(tmp_path, upstream, store, PROBE)
    with running(proxy.process, LISTENING):
        for key in lose_each(proxy, "-known"):
            replayed = [proxy.ask(key) for _ in range(2)]
            assert {(each[0], each[2], each[1]["Idempotent-Replayed"]) for each in replayed} == {
                (200, b'{"found":true}', "true")
            }, key
            assert upstream.attempts[key] == ["1"], key
            assert upstream.probes.count(key) == 1, key
        for key in ("reset-absent", "held-absent"):
            proxy.die(key) if key.startswith("held") else proxy.lose(key)
            answer = proxy.ask(key)
            while answer[0] == 409:  # it has not settled yet
                assert problem(answer)[0] == "outcome-unknown"
                answer = proxy.ask(key)
            assert answer[0] == 201, key
            assert proxy.ask(key)[1]["Idempotent-Replayed"] == "true"
            assert upstream.attempts[key] == ["1", "2"], key
