"""A store in trouble, with real processes: what requests get meanwhile, and what is recorded once it is over."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.api import Answer, Upstream, request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.e2e.store_relay import StoreRelay
from tests.ports import free_port
from tests.stores.redis_server import RedisServer

CLOSED, OPEN = "/v1/charges", "/hooks/orders"


class Trouble(Protocol):
    """Something that a store can have."""

    url: str

    def begin(self) -> None: ...

    def mend(self) -> None: ...


class RedisTrouble:
    """What can be wrong with a Redis server."""

    def __init__(self, server: RedisServer, kind: str) -> None:
        self.url = server.url
        self._server = server
        self._kind = kind

    def begin(self) -> None:
        client = self._server.client()
        match self._kind:
            case "stopped":
                self._server.stop()
            case "restarted empty":
                self._server.kill()
                self._server.start()
            case "frozen":
                self._server.pause()
            case "read-only":
                client.replicaof("127.0.0.1", "1")
            case "out of memory":
                client.config_set("maxmemory", "1")

    def mend(self) -> None:
        client = self._server.client()
        match self._kind:
            case "stopped":
                self._server.start()
            case "frozen":
                self._server.resume()
            case "read-only":
                client.replicaof("NO", "ONE")
            case "out of memory":
                client.config_set("maxmemory", "0")


class Locked:
    """A SQLite file that another program does not let go."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:{path}"
        self._path = path
        self._holder: sqlite3.Connection | None = None

    def begin(self) -> None:
        self._holder = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        self._holder.execute("BEGIN IMMEDIATE")

    def mend(self) -> None:
        assert self._holder is not None
        self._holder.execute("ROLLBACK")
        self._holder.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as running:
        yield running


DOWN = ("stopped", "frozen", "out of memory", "locked")
LOST = ("read-only", "out of memory", "locked", "restarted empty")


@pytest.fixture
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Trouble:
    kind: str = request.param
    if kind == "locked":
        return Locked(tmp_path / "store.db")
    return RedisTrouble(request.getfixturevalue("server"), kind)


class Proxy:
    """A proxy with a rule that fails closed and one that fails open."""

    def __init__(self, folder: Path, upstream: Upstream, store: str) -> None:
        self.port = free_port()
        self.process: Process = proxy(
            folder,
            f"""
listen: 127.0.0.1:{self.port}
upstream: http://127.0.0.1:{upstream.port}
store: {store}
store_timeout: 500ms
routes:
  - name: charges
    match: {{methods: [POST], path: {CLOSED}}}
    lease: 2s
  - name: orders
    match: {{methods: [POST], path: {OPEN}}}
    on_store_failure: fail_open
    lease: 2s
""",
        )

    def ask(self, key: str, path: str = CLOSED) -> Answer:
        return request(self.port, key=key, path=path)

    def until(self, status: int, key: str) -> Answer:
        """Ask until that is the answer; until then the store is still away for it."""

        def look() -> Answer | None:
            answer = self.ask(key)
            if answer[0] == status:
                return answer
            assert slug(answer) in ("store-unavailable", "key-in-flight"), answer
            return None

        return wait_for(f"a {status} for {key}", look)


def slug(answer: Answer) -> str:
    return str(json.loads(answer[2])["type"]).rpartition(":")[2]


@contextlib.contextmanager
def serving(folder: Path, upstream: Upstream, store: str) -> Iterator[Proxy]:
    started = Proxy(folder, upstream, store)
    with running(started.process, LISTENING):
        assert started.ask("warm")[0] == 201
        yield started


class Asking:
    """One request in a thread of its own."""

    def __init__(self, proxy: Proxy, key: str) -> None:
        self._answers: list[Answer] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(proxy.ask(key)))
        self._thread.start()

    def answer(self) -> Answer:
        self._thread.join(60)
        return self._answers[0]


@pytest.mark.parametrize("trouble", DOWN, indirect=True)
def test_while_it_is_away(tmp_path: Path, upstream: Upstream, trouble: Trouble) -> None:
    with serving(tmp_path, upstream, trouble.url) as proxy:
        trouble.begin()
        try:
            for number in range(4):
                refused = proxy.ask(f"closed-{number}")
                assert (refused[0], slug(refused)) == (503, "store-unavailable")
                assert json.loads(refused[2])["retry"] == "same_key"
                assert refused[1]["Retry-After"] == "1"
            assert upstream.executed == 1, "fail_closed: nothing was executed"
            assert proxy.ask("open-1", OPEN)[0] == 201
            assert upstream.executed == 2
            assert "forwarded unprotected" in proxy.process.output()
        finally:
            trouble.mend()
        for number in range(4):
            first = proxy.until(201, f"closed-{number}")
            again = proxy.ask(f"closed-{number}")
            assert (again[1].get("Idempotent-Replayed"), again[2]) == ("true", first[2])
        assert upstream.executed == 6, "each was executed once, after the store came back"


@pytest.mark.parametrize("trouble", LOST, indirect=True)
def test_lost_between_claim_and_completion(tmp_path: Path, upstream: Upstream, trouble: Trouble) -> None:
    with serving(tmp_path, upstream, trouble.url) as proxy:
        upstream.arrived.acquire()
        upstream.hold()
        asking = Asking(proxy, "k1")
        assert upstream.arrived.acquire(timeout=60)
        trouble.begin()
        try:
            upstream.let_go()
            answer = asking.answer()
            assert answer[0] == 201, "the client gets its answer"
        finally:
            trouble.mend()
        again = proxy.until(201, "k1")
        assert (again[1].get("Idempotent-Replayed"), again[2]) == ("true", answer[2])
        assert upstream.executed == 2


def test_a_store_that_was_wiped_does_not_make_this_process_execute_again(
    tmp_path: Path, upstream: Upstream, server: RedisServer
) -> None:
    with serving(tmp_path, upstream, server.url) as proxy:
        upstream.arrived.acquire()
        upstream.hold()
        first = Asking(proxy, "k1")
        assert upstream.arrived.acquire(timeout=60)
        server.client().flushall()
        retry = Asking(proxy, "k1")
        assert not upstream.arrived.acquire(timeout=1), "executed again"
        upstream.let_go()
        assert first.answer()[0] == retry.answer()[0] == 201
        assert first.answer()[2] == retry.answer()[2]
        assert upstream.executed == 2


def test_a_claim_whose_reply_was_lost_is_owned_all_the_same(
    tmp_path: Path, upstream: Upstream, server: RedisServer
) -> None:
    relay = StoreRelay(server.port)
    try:
        with serving(tmp_path, upstream, f"redis://127.0.0.1:{relay.port}/0") as proxy:
            relay.losing.set()
            asking = Asking(proxy, "k1")
            wait_for("a lost reply", lambda: relay.lost or None)
            relay.losing.clear()
            answer = asking.answer()
            assert answer[0] in (201, 503)
            if answer[0] == 503:
                assert slug(answer) == "store-unavailable"
                answer = proxy.until(201, "k1")
            assert proxy.ask("k1")[1]["Idempotent-Replayed"] == "true"
            assert upstream.executed == 2
    finally:
        relay.stop()


def test_a_claim_that_stays_unconfirmed_does_not_wedge_its_key(
    tmp_path: Path, upstream: Upstream, server: RedisServer
) -> None:
    """Every command is applied, and no reply comes back: the claim stands in the store, and its owner does not know."""
    relay = StoreRelay(server.port)
    try:
        with serving(tmp_path, upstream, f"redis://127.0.0.1:{relay.port}/0") as proxy:
            relay.losing.set()
            assert slug(proxy.ask("k1")) == "store-unavailable"
            assert upstream.executed == 1
            relay.losing.clear()
            assert proxy.until(201, "k1")[1].get("Idempotent-Replayed") is None
            assert upstream.executed == 2
    finally:
        relay.stop()


@pytest.mark.parametrize("kind", ["frozen"])
def test_a_dead_store_costs_only_the_first_requests_their_patience(
    tmp_path: Path, upstream: Upstream, server: RedisServer, kind: str
) -> None:
    trouble = RedisTrouble(server, kind)
    with serving(tmp_path, upstream, trouble.url) as proxy:
        trouble.begin()
        try:

            def opened() -> bool | None:
                assert slug(proxy.ask("k1")) == "store-unavailable"
                return True if "store does not answer" in proxy.process.output() else None

            wait_for("the circuit to open", opened)
        finally:
            trouble.mend()
        proxy.until(201, "k1")
        wait_for("the circuit to close", lambda: "store answers again" in proxy.process.output() or None)
        assert upstream.executed == 2
