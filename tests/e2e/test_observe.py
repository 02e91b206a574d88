"""The roll-out of a rule with real processes: observe, report, enforce."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.api import Upstream, request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port


def config(folder: Path, port: int, upstream: Upstream, mode: str, admin: int) -> str:
    return f"""
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin}
upstream: http://127.0.0.1:{upstream.port}
store: sqlite:{folder / "store.db"}
store_timeout: 20s
workers: 2
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    mode: {mode}
"""


def lines(process: Process, event: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]


def wait_for_lines(process: Process, event: str, count: int) -> None:
    wait_for(f"{count} lines of {event}", lambda: True if len(lines(process, event)) >= count else None)


def claims(admin: int) -> int:
    """How many times the workers have heard what became of a claim."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.search(r'^idemproxy_store_seconds_count\{command="claim"\} ([0-9.]+)$', text, re.MULTILINE)
    assert found is not None, text
    return int(float(found[1]))


def wait_for_claims(admin: int, count: int) -> None:
    wait_for(f"{count} claims", lambda: True if claims(admin) >= count else None)


def idemproxy(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "idemproxy", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_rule_observes_its_log_is_reported_and_then_it_is_enforced(upstream: Upstream, tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    with running(proxy(tmp_path, config(tmp_path, port, upstream, "observe", admin)), LISTENING) as process:
        for number in (1, 2, 3):
            # each on a connection of its own, so by whichever worker gets it
            assert request(port, key="secret-key-1")[2] == b'{"number": %d}' % number
            wait_for_lines(process, "observed", number)
        request(port, key="secret-key-1", body=b"other")
        for _ in range(6):
            request(port, key=None)
        upstream.hold()
        while upstream.arrived.acquire(blocking=False):
            pass
        asking = [threading.Thread(target=request, args=(port,), kwargs={"key": "k2"}) for _ in range(2)]
        wait_for_lines(process, "observed", 10)
        before = claims(admin)
        for number, each in enumerate(asking, 1):
            each.start()
            assert upstream.arrived.acquire(timeout=60)
            wait_for_claims(admin, before + number)
        upstream.let_go()
        for each in asking:
            each.join()
        wait_for_lines(process, "observed", 12)
        executed = upstream.executed
        assert executed == 12

        listed = idemproxy("records", "list", "--store", f"sqlite:{tmp_path / 'store.db'}")
        assert listed.count("charges (observed)") == 2
        (record,) = {line["id"] for line in lines(process, "observed") if line["decision"] == "would_replay"}
        shown = idemproxy(
            "records", "show", record, "--store", f"sqlite:{tmp_path / 'store.db'}", "--json", "--show-body"
        )
        assert json.loads(shown)["answer"] == {"status": 201, "kept": True, "headers": [], "body_bytes": 0, "body": ""}

        (tmp_path / "proxy.yaml").write_text(config(tmp_path, port, upstream, "enforce", admin))
        process.signal(signal.SIGHUP)
        wait_for_lines(process, "configuration reloaded", 2)
        answers = [request(port, key="secret-key-1") for _ in range(2)]
        assert answers[0][2] == answers[1][2] == b'{"number": %d}' % (executed + 1)
        assert "Idempotent-Replayed" not in answers[0][1]
        assert answers[1][1]["Idempotent-Replayed"] == "true"
        assert process.terminate() == 0

    report = json.loads(idemproxy("report", str(process.log), "--json"))
    (rule,) = report["rules"]
    assert (rule["requests"], rule["with_key"], rule["would_execute"]) == (12, 6, 2)
    assert (rule["duplicates"], rule["conflicts"], rule["mismatches"]) == (2, 1, 1)
    assert rule["executions_prevented"] == rule["of_these_succeeded"] == 3
    # what one worker saw is not known to the other
    assert 4 <= rule["suspected_duplicates"]["no_key"] <= 5
    assert {(each["decision"], each["state"], each["requests"]) for each in rule["enforced"]} == {
        ("executed", "completed", 1),
        ("replayed", "completed", 1),
    }
    text = idemproxy("report", str(process.log))
    assert "executions prevented" in text
    assert "secret-key-1" not in process.output() + text


def test_what_streams_while_the_proxy_drains_is_told_too(upstream: Upstream, tmp_path: Path) -> None:
    port = free_port()
    upstream.hold()
    with running(proxy(tmp_path, config(tmp_path, port, upstream, "observe", free_port())), LISTENING) as process:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/charges", b"{}", {"Idempotency-Key": "k1"})
        assert upstream.arrived.acquire(timeout=60)
        process.signal(signal.SIGTERM)
        wait_for_lines(process, "draining", 1)
        upstream.let_go()
        assert connection.getresponse().read() == b'{"number": 1}'
        connection.close()
        assert process.wait() == 0
        assert [line["decision"] for line in lines(process, "observed")] == ["would_execute"]
        listed = idemproxy("records", "list", "--store", f"sqlite:{tmp_path / 'store.db'}", "--state", "completed")
        assert "charges (observed)" in listed
