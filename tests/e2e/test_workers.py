"""Several worker processes and their parent, as an operator and a client see them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.api import Answer, Upstream, request
from tests.e2e.families import children, gone, server_of, stopped, workers
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port

LEASE = 2


def config(upstream: Upstream, folder: Path, count: int | str = 2, listen: str = "127.0.0.1:0", more: str = "") -> str:
    return f"""
listen: {listen}
upstream: http://127.0.0.1:{upstream.port}
store: sqlite:{folder / "store.db"}
store_timeout: 20s
workers: {count}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    lease: {LEASE}s
    wait_timeout: 50s
{more}"""


@contextlib.contextmanager
def serving(folder: Path, text: str) -> Iterator[tuple[Process, int]]:
    """The parent and its port. Its workers are ended, whatever became of it."""
    with running(proxy(folder, text), LISTENING) as process:
        found = re.search(rf"{LISTENING} http://127\.0\.0\.1:([0-9]+),", process.output())
        assert found is not None
        known = children(process.pid)
        try:
            yield process, int(found[1])
        finally:
            for pid in {*known, *children(process.pid)}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Client:
    """A connection, and one request on it in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._answers: list[Answer | Exception] = []
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        number: int = self._connection.sock.getsockname()[1]
        return number

    def ask(self, key: str) -> None:
        self._thread = threading.Thread(target=self._ask, args=(key,))
        self._thread.start()

    def _ask(self, key: str) -> None:
        try:
            self._connection.request("POST", "/v1/charges", b"{}", {"Idempotency-Key": key})
            answer = self._connection.getresponse()
            self._answers.append((answer.status, dict(answer.getheaders()), answer.read()))
        except (OSError, http.client.HTTPException) as error:
            self._answers.append(error)
        finally:
            self._connection.close()

    def outcome(self) -> Answer | Exception:
        if self._thread is not None:
            self._thread.join(60)
        self._connection.close()
        return self._answers[0]

    def answer(self) -> Answer:
        found = self.outcome()
        assert not isinstance(found, Exception), found
        return found


def drains(process: Process, count: int) -> bool | None:
    """For wait_for: so many processes said that they drain."""
    return True if process.output().count('"event":"draining"') == count else None


def metric(admin: int, name: str) -> float:
    text = request(admin, "GET", "/metrics", None)[2].decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


# -------------------------------------------------------------------------------------------------------------- how they serve


def test_all_serve_one_port_and_say_so_once(upstream: Upstream, tmp_path: Path) -> None:
    admin = free_port()
    with serving(tmp_path, config(upstream, tmp_path, 3, more=f"admin: 127.0.0.1:{admin}\n")) as (process, port):
        pids = workers(process, 3)
        made = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(60)]
        assert {server_of(each.getsockname()[1], port, pids) for each in made} == set(pids)
        for each in made:
            each.close()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: request(port, key="same"), range(60)))
        assert {(status, body) for status, _, body in answers} == {(201, b'{"number": 1}')}
        assert metric(admin, "idemproxy_workers") == 3
        assert sum(LISTENING in line for line in process.output().splitlines()) == 1
        assert process.terminate() == 0
    assert upstream.executed == 1
    assert "Traceback" not in process.output()


def test_auto_and_a_unix_socket(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    text = config(upstream, tmp_path, "auto", f"unix:{path}", f"admin: unix:{tmp_path}/admin.sock\n")
    with running(proxy(tmp_path, text), LISTENING) as process:
        cpus = len(os.sched_getaffinity(0))
        assert len(children(process.pid)) == (cpus if cpus > 1 else 0)
        for name, target in (("proxy", "/v1/other"), ("admin", "/readyz")):
            for _ in range(10):
                with socket.socket(socket.AF_UNIX) as made:
                    made.settimeout(60)
                    made.connect(str(tmp_path / f"{name}.sock"))
                    made.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                    assert made.recv(12) == (b"HTTP/1.1 201" if name == "proxy" else b"HTTP/1.1 200")
        assert process.terminate() == 0
    assert not path.exists()


# ---------------------------------------------------------------------------------------------------------- when a worker dies


def test_a_worker_that_is_killed_is_replaced_and_its_operation_follows_its_lease(
    upstream: Upstream, tmp_path: Path
) -> None:
    admin = free_port()
    with serving(tmp_path, config(upstream, tmp_path, more=f"admin: 127.0.0.1:{admin}\n")) as (process, port):
        pids = workers(process, 2)
        upstream.hold()
        client = Client(port)
        client.ask("k1")
        assert upstream.arrived.acquire(timeout=60)
        dead = server_of(client.port, port, pids)
        os.kill(dead, signal.SIGKILL)
        assert isinstance(client.outcome(), Exception)
        upstream.let_go()
        status, _, body = request(port, key="k1")
        assert (status, json.loads(body)["type"].rpartition(":")[2]) == (409, "outcome-unknown")
        assert upstream.executed == 1
        assert {request(port, key=f"other-{number}")[0] for number in range(20)} == {201}
        wait_for("another worker", lambda: True if metric(admin, "idemproxy_workers") == 2 else None)
        assert dead not in workers(process, 2)
        line = next(line for line in process.output().splitlines() if '"worker died"' in line)
        assert json.loads(line)["why"] == "killed by SIGKILL"
        assert json.loads(line)["pid"] == dead
        assert process.terminate() == 0


def test_who_waits_in_the_queue_of_a_worker_that_dies_is_served_by_the_next_one(
    upstream: Upstream, tmp_path: Path
) -> None:
    with serving(tmp_path, config(upstream, tmp_path)) as (process, port):
        pids = workers(process, 2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            wait_for("its stop", lambda: stopped(pid))  # noqa: B023 - called before the loop goes on
        clients = [Client(port) for _ in range(30)]
        for number, client in enumerate(clients):
            client.ask(f"k{number}")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert {client.answer()[0] for client in clients} == {201}
        assert process.terminate() == 0
    assert upstream.executed == 30


def test_a_worker_that_dies_again_and_again_is_replaced_after_longer_and_longer_pauses(
    upstream: Upstream, tmp_path: Path
) -> None:
    with running(failing(tmp_path, upstream, "after it served"), LISTENING) as process:
        wait_for("three deaths", lambda: True if process.output().count('"worker died"') >= 3 else None)
        lines = [json.loads(line) for line in process.output().splitlines() if '"worker died"' in line]
        assert [line["pause_s"] for line in lines[:3]] == [0.0, 0.5, 1.0]
        assert lines[0]["why"] == "ended with status 4"
        assert process.terminate() in (0, 1)


# ---------------------------------------------------------------------------------------------------- start and end of them all


def failing(folder: Path, upstream: Upstream, way: str) -> Process:
    file = folder / "failing.yaml"
    file.write_text(config(upstream, folder))
    return Process([sys.executable, "-m", "tests.e2e.failing_worker", way, str(file)], folder / f"{way}.log")


def test_a_worker_that_cannot_start_ends_the_run(upstream: Upstream, tmp_path: Path) -> None:
    said = {
        "silently": "idemproxy: worker 2 ended with status 3 before it could serve",
        "saying why": "idemproxy: there is no luck today",
    }
    runs = {way: failing(tmp_path, upstream, way).start() for way in said}
    for way, process in runs.items():
        try:
            assert process.wait() == 1
        finally:
            process.kill()
        assert said[way] in process.output().splitlines()
        assert LISTENING not in process.output()
        assert "Traceback" not in process.output()


def test_a_drain_lets_operations_in_every_worker_finish(upstream: Upstream, tmp_path: Path) -> None:
    with serving(tmp_path, config(upstream, tmp_path)) as (process, port):
        pids = workers(process, 2)
        upstream.hold()
        clients = [Client(port) for _ in range(12)]
        for number, client in enumerate(clients):
            client.ask(f"k{number}")
        for _ in clients:
            assert upstream.arrived.acquire(timeout=60)
        process.signal(signal.SIGTERM)
        wait_for("every worker's drain", lambda: drains(process, 3))
        upstream.let_go()
        assert {client.answer()[0] for client in clients} == {201}
        assert process.wait() == 0
        assert gone(pids)


def test_signals_to_the_workers_themselves_are_not_for_them_and_a_second_one_to_the_parent_hurries(
    upstream: Upstream, tmp_path: Path
) -> None:
    """A terminal, and some supervisors, send a signal to each process of a group: the parent's word counts, and counts once."""
    with serving(tmp_path, config(upstream, tmp_path, more="drain_timeout: 1h\n")) as (process, port):
        pids = workers(process, 2)
        upstream.hold()
        client, patient = Client(port), Client(port)
        client.ask("k1")
        assert upstream.arrived.acquire(timeout=60)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for pid in pids:
                os.kill(pid, number)
        process.signal(signal.SIGINT)
        wait_for("every worker's drain", lambda: drains(process, 3))
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        upstream.let_go()
        assert client.answer()[0] == 201
        upstream.hold()
        patient.ask("k2")
        assert upstream.arrived.acquire(timeout=60)
        process.signal(signal.SIGTERM)
        status, _, body = patient.answer()
        assert (status, json.loads(body)["retry"]) == (503, "ask_operator")
        assert process.wait() == 0
        upstream.let_go()
    assert '"worker died"' not in process.output()


def test_workers_whose_parent_was_killed_drain_and_end(upstream: Upstream, tmp_path: Path) -> None:
    """Each by itself: none waits for another one's end."""
    with serving(tmp_path, config(upstream, tmp_path)) as (process, port):
        pids = workers(process, 2)
        upstream.hold()
        clients = [Client(port) for _ in range(20)]
        assert {server_of(client.port, port, pids) for client in clients} == set(pids)
        for number, client in enumerate(clients):
            client.ask(f"k{number}")
        for _ in clients:
            assert upstream.arrived.acquire(timeout=60)
        process.kill()
        wait_for("every worker's drain", lambda: drains(process, 2))
        upstream.let_go()
        assert {client.answer()[0] for client in clients} == {201}
        wait_for("the workers' end", lambda: gone(pids))
        assert process.output().count("parent process gone") == 2
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=60)
