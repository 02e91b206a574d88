"""The send guard, with real processes: an owner that stalls between its claim and its sending, is replaced, and wakes up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Answer, Upstream, request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.e2e.store_relay import StoreRelay
from tests.ports import free_port
from tests.stores.redis_server import RedisServer

LEASE = 2.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as started:
        yield started


def configured(folder: Path, name: str, port: int, upstream: Upstream, store: str) -> Process:
    text = f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream.port}
store: {store}
store_timeout: 60s
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    lease: {LEASE:.0f}s
    on_unknown: retry
    wait_timeout: 60s
"""
    return proxy(folder, text, name)


def test_an_owner_that_was_replaced_before_it_sent_never_sends(
    tmp_path: Path, upstream: Upstream, server: RedisServer
) -> None:
    relay = StoreRelay(server.port)
    ports = free_port(), free_port()
    stalling = configured(tmp_path, "stalling", ports[0], upstream, f"redis://127.0.0.1:{relay.port}/0")
    other = configured(tmp_path, "other", ports[1], upstream, server.url)
    try:
        with running(stalling, LISTENING), running(other, LISTENING):
            assert request(ports[0], key="warm")[0] == 201
            relay.flowing.clear()
            answers: list[Answer] = []
            asking = threading.Thread(target=lambda: answers.append(request(ports[0], key="k1")))
            asking.start()
            client = server.client()
            wait_for("the claim", lambda: True if len(client.keys("*:lock")) == 1 else None)
            stalling.signal(signal.SIGSTOP)
            wait_for("the lease's end", lambda: True if not client.keys("*:lock") else None)
            second = request(ports[1], key="k1")
            assert second[0] == 201
            assert upstream.executed == 2
            relay.flowing.set()
            time.sleep(0.2)  # the reply that says `claimed` is in the stopped process's socket
            stalling.signal(signal.SIGCONT)
            asking.join(60)
            assert (answers[0][0], answers[0][2]) == (201, second[2]), "the recorded answer"
            assert upstream.executed == 2, "the guard let nothing out"
    finally:
        relay.stop()
