"""SIGHUP: another configuration for what comes from then on, without a connection dropped; a faulty one changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.api import Upstream, request
from tests.e2e.families import workers
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port


@pytest.fixture
def other() -> Iterator[Upstream]:
    """An upstream beside the first."""
    api = Upstream()
    api.let_go()
    yield api
    api.stop()


class Proxy:
    """A proxy whose file is written anew."""

    def __init__(self, folder: Path, upstream: Upstream, more: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        self._more = more
        self.process: Process = proxy(folder, self.text(upstream))

    def text(self, upstream: Upstream, path: str = "/v1/charges") -> str:
        return f"""
listen: 127.0.0.1:{self.port}
upstream: http://127.0.0.1:{upstream.port}
store: sqlite:{self._folder / "store.db"}
store_timeout: 20s
{self._more}
routes:
  - name: charges
    match: {{methods: [POST], path: {path}}}
"""

    def write(self, text: str) -> None:
        (self._folder / "proxy.yaml").write_text(text)

    def reload(self, event: str, count: int = 1) -> list[dict[str, str]]:
        """SIGHUP, and the new lines of that event, once there are so many."""
        before = len(self.lines(event))
        self.process.signal(signal.SIGHUP)

        def look() -> list[dict[str, str]] | None:
            found = self.lines(event)[before:]
            return found if len(found) >= count else None

        return wait_for(event, look)

    def lines(self, event: str) -> list[dict[str, str]]:
        lines = [json.loads(line) for line in self.process.output().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


DONE, REFUSED = "configuration reloaded", "configuration not reloaded"


def test_what_comes_later_is_under_the_new_configuration_and_what_is_faulty_changes_nothing(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    proxied = Proxy(tmp_path, upstream)
    with running(proxied.process, LISTENING), contextlib.ExitStack() as closing:
        kept = http.client.HTTPConnection("127.0.0.1", proxied.port, timeout=60)
        closing.callback(kept.close)
        assert ask(kept, "k1") == (201, None)
        before = kept.sock

        proxied.write("upstream: nowhere\nrutes: []\nnamespace: [x]\n")
        faults = [line["fault"] for line in proxied.reload(REFUSED, 3)]
        assert [fault.split(":")[3].strip() for fault in sorted(faults)] == ["upstream", "rutes", "namespace"]

        proxied.write(proxied.text(other, "/other").replace("127.0.0.1:", "127.0.0.2:", 1) + "namespace: x\n")
        (line,) = proxied.reload(REFUSED)
        assert "only a restart can change listen; namespace" in line["fault"]
        (tmp_path / "proxy.yaml").unlink()
        (line,) = proxied.reload(REFUSED)
        assert "there is no such file" in line["fault"]
        assert ask(kept, "k1") == (201, "true"), "what cannot be used is not used in part"
        assert ask(kept, "k2") == (201, None)
        assert (upstream.executed, other.executed) == (2, 0)

        proxied.write(proxied.text(other))
        assert proxied.reload(DONE)
        assert ask(kept, "k1") == (201, "true")
        assert ask(kept, "k3") == (201, None)
        assert kept.sock is before, "the connection was kept throughout"
        assert (upstream.executed, other.executed) == (2, 1)
        assert proxied.process.terminate() == 0


def ask(connection: http.client.HTTPConnection, key: str) -> tuple[int, str | None]:
    """The status, and whether it was a replay."""
    connection.request("POST", "/v1/charges", b"{}", {"Idempotency-Key": key})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Idempotent-Replayed")


def test_every_worker_reloads_and_so_do_those_that_come_later(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    proxied = Proxy(tmp_path, upstream, "workers: 2")
    with running(proxied.process, LISTENING):
        proxied.write(proxied.text(other))
        assert {int(line["worker"]) for line in proxied.reload(DONE, 2)} == {1, 2}
        for number in range(20):
            assert request(proxied.port, key=f"a{number}")[0] == 201
        proxied.write("nothing: good\n")
        proxied.reload(REFUSED)
        pids = workers(proxied.process, 2)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for("others", lambda: True if not set(workers(proxied.process, 2)) & set(pids) else None)
        for number in range(20):
            assert request(proxied.port, key=f"b{number}")[0] == 201
        assert (upstream.executed, other.executed) == (0, 40)
        assert all("worker" not in line for line in proxied.lines(REFUSED)), "no worker hears of it"
        assert proxied.process.terminate() == 0


def test_certificates_are_read_again_and_bad_ones_leave_everything_as_it_was(
    tmp_path: Path, upstream: Upstream, other: Upstream
) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"

    def issue(name: str) -> None:
        issued = authority.issue_cert(name)
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)

    def served(name: str) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", proxied.port), timeout=60) as raw,
                trusting.wrap_socket(raw, server_hostname=name) as made,
            ):
                made.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return made.recv(12) == b"HTTP/1.1 201"
        except ssl.SSLCertVerificationError:
            return False

    issue("one.test")
    proxied = Proxy(tmp_path, upstream, f"tls: {{listen: {{certificate: {certificate}, key: {key}}}}}")
    with running(proxied.process, LISTENING):
        assert served("one.test")
        issue("two.test")
        proxied.reload(DONE)
        assert served("two.test")
        assert not served("one.test")
        certificate.write_text("no certificate")
        proxied.write(proxied.text(other))
        (line,) = proxied.reload(REFUSED)
        assert "c.pem" in line["fault"]
        assert served("two.test")
        assert other.executed == 0
        assert proxied.process.terminate() == 0


def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path, upstream: Upstream) -> None:
    proxied = Proxy(tmp_path, upstream)
    arguments = ["run", "--upstream", f"http://127.0.0.1:{upstream.port}", "--listen", f"127.0.0.1:{proxied.port}"]
    arguments += ["--store", f"sqlite:{tmp_path / 'store.db'}"]
    proxied.process.arguments[3:] = arguments
    with running(proxied.process, LISTENING):
        (line,) = proxied.reload(REFUSED)
        assert line["fault"] == "this run has no file"
        assert request(proxied.port)[0] == 201
        assert proxied.process.terminate() == 0
