"""`idemproxy run`: start, health, drain, and what an operator reads when it cannot start."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.api import Answer, Upstream, request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port


def config(upstream: Upstream, port: int, folder: Path, more: str = "") -> str:
    return f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream.port}
store: sqlite:{folder / "store.db"}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    lease: 2s
{more}"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serves_says_where_and_drains(upstream: Upstream, tmp_path: Path, stop: signal.Signals) -> None:
    port = free_port()
    with running(proxy(tmp_path, config(upstream, port, tmp_path)), LISTENING) as process:
        lines = [line for line in process.output().splitlines() if LISTENING in line]
        assert lines == [f"{LISTENING} http://127.0.0.1:{port}, upstream http://127.0.0.1:{upstream.port}"]
        first = request(port)
        again = request(port)
        assert first[0] == again[0] == 201
        assert first[2] == again[2] == b'{"number": 1}'
        assert "Idempotent-Replayed" not in first[1]
        assert again[1]["Idempotent-Replayed"] == "true"
        process.signal(stop)
        assert process.wait() == 0
    assert upstream.executed == 1
    assert "k1" not in process.output()
    assert "Traceback" not in process.output()


def test_without_a_file_every_unsafe_request_with_a_key_is_protected(upstream: Upstream, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["run", "--upstream", f"http://127.0.0.1:{upstream.port}", "--listen", f"127.0.0.1:{port}"]
    arguments += ["--store", f"sqlite:{tmp_path / 'store.db'}"]
    with running(Process([sys.executable, "-m", "idemproxy", *arguments], tmp_path / "log"), LISTENING):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            path = f"/any/{method}"
            assert request(port, method, path, key=method)[2] == request(port, method, path, key=method)[2]
        assert upstream.executed == 4
        assert request(port, "POST", "/any", key=None)[2] != request(port, "POST", "/any", key=None)[2]
        assert request(port, "GET", "/any", key="g")[2] != request(port, "GET", "/any", key="g")[2]


def test_drain_lets_a_running_operation_finish(upstream: Upstream, tmp_path: Path) -> None:
    port = free_port()
    with running(proxy(tmp_path, config(upstream, port, tmp_path)), LISTENING) as process:
        upstream.hold()
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(request(port)))
        client.start()
        assert upstream.arrived.acquire(timeout=60)
        process.signal(signal.SIGTERM)
        wait_for("draining", lambda: "draining" in process.output() or None)
        upstream.let_go()
        client.join(60)
        assert answers[0][0] == 201
        assert process.wait() == 0


def test_past_the_drain_time_the_outcome_is_unknown_and_said_so(upstream: Upstream, tmp_path: Path) -> None:
    port = free_port()
    with running(proxy(tmp_path, config(upstream, port, tmp_path, "drain_timeout: 200ms\n")), LISTENING) as process:
        upstream.hold()
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(request(port)))
        client.start()
        assert upstream.arrived.acquire(timeout=60)
        assert process.terminate() == 0
        client.join(60)
        status, fields, body = answers[0]
        assert status == 503
        assert fields["Content-Type"] == "application/problem+json"
        assert json.loads(body)["retry"] == "ask_operator"
        process.start(LISTENING)
        status, _, body = request(port)
        assert status == 409
        assert json.loads(body)["type"].endswith("outcome-unknown")
        upstream.let_go()
    assert upstream.executed == 1


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_killed_in_mid_operation_it_is_not_executed_again(
    upstream: Upstream, tmp_path: Path, store: str, redis_url: str
) -> None:
    port = free_port()
    text = config(upstream, port, tmp_path)
    if store == "redis":
        text = text.replace(f"sqlite:{tmp_path / 'store.db'}", redis_url)
    with running(proxy(tmp_path, text), LISTENING) as process:
        upstream.hold()
        client = threading.Thread(target=cut_off, args=(port,))
        client.start()
        assert upstream.arrived.acquire(timeout=60)
        process.kill()
        client.join(60)
        upstream.let_go()
        process.start(LISTENING)
        status, fields, body = request(port)
        assert status == 409
        assert json.loads(body)["type"].endswith("outcome-unknown")
        assert fields["Stripe-Should-Retry"] == "false"
    assert upstream.executed == 1


def test_health(upstream: Upstream, tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    with running(
        proxy(tmp_path, config(upstream, port, tmp_path, f"admin: 127.0.0.1:{admin}\n")), LISTENING
    ) as process:
        assert request(admin, "GET", "/healthz", None)[0] == 200
        assert request(admin, "GET", "/readyz", None)[0] == 200
        upstream.hold()
        client = threading.Thread(target=request, args=(port,))
        client.start()
        assert upstream.arrived.acquire(timeout=60)
        process.signal(signal.SIGTERM)
        wait_for("not ready", lambda: True if request(admin, "GET", "/readyz", None)[0] == 503 else None)
        assert request(admin, "GET", "/healthz", None)[0] == 200
        upstream.let_go()
        client.join(60)
        assert process.wait() == 0


def test_a_redis_that_comes_later(upstream: Upstream, tmp_path: Path) -> None:
    from tests.stores.redis_server import RedisServer

    server = RedisServer(tmp_path)
    with server:
        url = server.url
    port, admin = free_port(), free_port()
    text = config(upstream, port, tmp_path, f"admin: 127.0.0.1:{admin}\n").replace(
        f"sqlite:{tmp_path / 'store.db'}", url
    )
    with running(proxy(tmp_path, text), LISTENING):
        status, fields, body = request(port)
        assert status == 503
        assert json.loads(body)["type"].endswith("store-unavailable")
        assert int(fields["Retry-After"]) >= 1
        assert request(admin, "GET", "/readyz", None)[0] == 503
        assert request(port, "GET", "/other", None)[0] == 201, "what no rule names does not need the store"
        before = upstream.executed
        with server:
            wait_for("ready", lambda: True if request(admin, "GET", "/readyz", None)[0] == 200 else None)
            assert request(port)[0] == 201
            assert request(port)[1]["Idempotent-Replayed"] == "true"
        assert upstream.executed == before + 1


def cut_off(port: int) -> None:
    """A client whose proxy dies before it answers."""
    with pytest.raises((OSError, http.client.HTTPException)):
        request(port)


def run_once(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / "once.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "idemproxy", "run", "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_in_use(upstream: Upstream, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_once(tmp_path, config(upstream, port, tmp_path))
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_upstream_that_is_the_proxy_itself(upstream: Upstream, tmp_path: Path) -> None:
    port = free_port()
    text = config(upstream, port, tmp_path).replace(f"http://127.0.0.1:{upstream.port}", f"http://localhost:{port}")
    ended = run_once(tmp_path, text)
    assert ended.returncode == 2
    assert "the same address as `listen`" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("store: mongodb://x\nupstream: http://127.0.0.1:1\n", "store"),
        ("upstreem: http://127.0.0.1:1\n", "upstream"),
        (": : :\n\t- x", "once.yaml"),
    ],
)
def test_a_bad_config_is_exit_status_2(tmp_path: Path, text: str, said: str) -> None:
    ended = run_once(tmp_path, text)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "once.yaml:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_config_that_is_a_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "idemproxy", "run", "--config", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "director" in ended.stderr
    assert "Traceback" not in ended.stderr
