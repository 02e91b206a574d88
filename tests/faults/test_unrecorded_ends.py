"""Ends that the store does not take, or takes and does not say so: the client has its answer, and no retry executes again. More of
what a store can have is in tests/e2e/test_store_trouble.py."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Upstream
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.e2e.store_relay import StoreRelay
from tests.faults.asking import Answer, Asking, ask, insist
from tests.ports import free_port
from tests.stores.redis_server import RedisServer


class Proxy:
    """One proxy with a rule that fails closed and one that fails open, before an upstream that can be held."""

    def __init__(self, folder: Path, upstream: Upstream, store: str) -> None:
        self.port = free_port()
        self.process: Process = proxy(
            folder,
            f"""
listen: 127.0.0.1:{self.port}
upstream: http://127.0.0.1:{upstream.port}
store: {store}
routes:
  - {{name: charges, match: {{path: /charges}}, lease: 2s, wait_timeout: 60s}}
  - {{name: hooks, match: {{path: /hooks}}, on_store_failure: fail_open}}
""",
        )

    def ask(self, key: str, path: str = "/charges") -> Answer:
        return ask(self.port, path, key)

    def insist(self, key: str) -> Answer:
        """Its recorded answer, once there is one."""
        return insist(lambda: self.ask(key), lambda answer: answer.replayed, f"the record of {key}")


@contextlib.contextmanager
def serving(folder: Path, upstream: Upstream, store: str) -> Iterator[Proxy]:
    made = Proxy(folder, upstream, store)
    with running(made.process, LISTENING):
        yield made


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    api = Upstream()
    api.let_go()
    yield api
    api.stop()


@contextlib.contextmanager
def begun(made: Proxy, upstream: Upstream, key: str) -> Iterator[Asking]:
    """An operation that the upstream works on until the block is over."""
    while upstream.arrived.acquire(blocking=False):
        pass
    upstream.hold()
    try:
        asking = Asking(lambda: made.ask(key))
        assert upstream.arrived.acquire(timeout=60)
        yield asking
    finally:
        upstream.let_go()


@contextlib.contextmanager
def no_room(process: Process, file: Path) -> Iterator[None]:
    """A disk on which no file of the process becomes larger than that one is."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path: Path, upstream: Upstream) -> None:
    with serving(tmp_path, upstream, f"sqlite:{tmp_path / 'store.db'}") as made:
        done = [made.ask(f"before-{number}") for number in range(10)]
        with contextlib.ExitStack() as trouble:
            with begun(made, upstream, "begun") as first:
                trouble.enter_context(no_room(made.process, tmp_path / "store.db-wal"))
            assert first.answer().status == 201, "its client has the answer"
            refused = made.ask("new")
            assert (refused.status, refused.problem) == (503, "store-unavailable")
            assert made.ask("before-3").told == done[3].told, "a replay needs no room"
            assert upstream.executed == 11
            assert made.ask("hook", "/hooks").status == 201
            assert upstream.executed == 12
        assert made.insist("begun").told == first.answer().told
        assert made.insist("new").status == 201
        assert upstream.executed == 13
        assert "forwarded unprotected" in made.process.output()
        assert "end not recorded" in made.process.output()


def test_a_file_that_is_removed_in_mid_operation(tmp_path: Path, upstream: Upstream) -> None:
    with serving(tmp_path, upstream, f"sqlite:{tmp_path / 'store.db'}") as made:
        made.ask("before")
        with begun(made, upstream, "begun") as first:
            for file in tmp_path.glob("store.db*"):
                file.unlink()
            duplicate = Asking(lambda: made.ask("begun"))
            assert not upstream.arrived.acquire(timeout=1), "executed again"
        assert duplicate.answer().told == first.answer().told
        assert made.insist("begun").told == first.answer().told
        assert upstream.executed == 2


@contextlib.contextmanager
def relayed(server: RedisServer) -> Iterator[StoreRelay]:
    relay = StoreRelay(server.port)
    try:
        yield relay
    finally:
        relay.stop()


def test_an_end_whose_acknowledgement_is_lost(tmp_path: Path, upstream: Upstream) -> None:
    with (
        RedisServer(tmp_path) as server,
        relayed(server) as relay,
        serving(tmp_path, upstream, f"redis://127.0.0.1:{relay.port}/0") as made,
    ):
        made.ask("before")
        with begun(made, upstream, "begun") as first:
            relay.losing.set()
        assert first.answer().status == 201, "its client has the answer"
        wait_for("a lost acknowledgement", lambda: "end not recorded" in made.process.output() or None)
        relay.losing.clear()
        assert made.insist("begun").told == first.answer().told
        assert upstream.executed == 2
