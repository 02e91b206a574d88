"""Two proxies of one upstream on one store, that serve a whole session of tests: each test has keys of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from tests.e2e.processes import LISTENING, Process, proxy, wait_for
from tests.faults.asking import Answer, ask
from tests.faults.upstream import Upstream
from tests.ports import free_port

LEASE: Final = 2.5
"""Seconds, of the rules `long` and `brief`; rules whose owners are not slower than that have a lease that no slow machine ends."""
TTL: Final = 3.0
"""Seconds, of the rule `brief`."""

DAY: Final = 86_400
"""Seconds."""

CONFIG: Final = """
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin}
upstream: https://127.0.0.1:{upstream}
tls: {{upstream: {{ca: {ca}, server_name: api.test}}}}
store: {store}
store_timeout: 5s
upstream_timeouts: {{connect: 60s}}
defaults: {{wait_timeout: 60s, lease: 60s, match: {{methods: [POST]}}}}
routes:
  - {{name: plain, match: {{path: /plain}}}}
  - {{name: long, match: {{path: /long}}, lease: 2500ms}}
  - {{name: brief, match: {{path: /brief}}, lease: 2500ms, ttl: 3s}}
  - {{name: retry, match: {{path: /retry}}, lease: 2s, on_unknown: retry, attempt_header: X-Attempt, fresh_connection: true}}
  - {{name: few, match: {{path: /few}}, max_waiters: 2, wait_timeout: 1h}}
  - {{name: impatient, match: {{path: /impatient}}, wait_timeout: 300ms}}
  - {{name: crowd, match: {{path: /crowd}}, max_waiters: 1000}}
  - {{name: small, match: {{path: /small}}, max_response_body: 1KiB}}
  - {{name: otp, match: {{path: /otp}}, release_statuses: [400, 429]}}
  - {{name: settled, match: {{path: /settled}}}}
  - {{name: negotiated, match: {{path: /negotiated}}, fingerprint: {{headers: [Content-Type, Accept-Encoding]}}}}
"""

_SHIFTED: Final = """
import os, pathlib, time

_file = pathlib.Path(os.environ["FAULTS_WALL_CLOCK"])
_time, _time_ns = time.time, time.time_ns

def _ahead():
    return int(_file.read_text() or "0")

time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 1_000_000_000
"""
"""A sitecustomize.py for a process whose wall clock its test sets."""


@dataclass(frozen=True)
class Member:
    """One of the two."""

    process: Process
    port: int
    admin: int
    wall_clock: Path

    def ask(
        self, path: str, key: str | None, *, body: bytes = b"{}", fields: tuple[tuple[str, str], ...] = ()
    ) -> Answer:
        return ask(self.port, path, key, body=body, fields=fields)

    def ready(self) -> None:
        """Wait until it serves, after its first start."""
        wait_for(f"a line of {self.process.arguments}", lambda: LISTENING in self.process.output() or None)

    def set_wall_clock(self, ahead: int) -> None:
        """From now on the process is told a time that is so many seconds ahead."""
        there = self.wall_clock.with_suffix(".new")
        there.write_text(str(ahead))
        there.replace(self.wall_clock)

    def metric(self, name: str, rule: str) -> float:
        """The sum over what the metric counts of that rule."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        lines = re.findall(rf'^{name}\{{[^}}]*rule="{rule}"[^}}]*\}} (\S+)', text, re.MULTILINE)
        return sum(float(value) for value in lines)

    def waiting(self, rule: str) -> int:
        """How many requests wait for an outcome."""
        return int(self.metric("idemproxy_waiters", rule))

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, for as long as the block runs."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


@dataclass(frozen=True)
class Pair:
    one: Member
    other: Member
    upstream: Upstream
    store: str


def _member(folder: Path, name: str, upstream: Upstream, store: str) -> Member:
    port, admin = free_port(), free_port()
    text = CONFIG.format(port=port, admin=admin, upstream=upstream.port, ca=folder / "ca.pem", store=store)
    made = proxy(folder, text, name)
    wall_clock = folder / f"{name}.clock"
    wall_clock.write_text("0")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": path, "FAULTS_WALL_CLOCK": str(wall_clock)}
    return Member(Process(made.arguments, made.log, environment=environment), port, admin, wall_clock)


@contextlib.contextmanager
def serving(folder: Path, store: str) -> Iterator[Pair]:
    """The two, and their upstream, for as long as the block runs."""
    (folder / "sitecustomize.py").write_text(_SHIFTED)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.test").configure_cert(tls)
    upstream = Upstream(tls)
    one, other = (_member(folder, name, upstream, store) for name in ("one", "other"))
    try:
        for member in (one, other):
            member.process.start()
        for member in (one, other):
            member.ready()
        yield Pair(one, other, upstream, store)
    finally:
        for member in (one, other):
            member.process.kill()
        upstream.stop()
