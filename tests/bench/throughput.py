"""`make bench`: what a request costs in idemproxy, next to nginx's proxy_pass, on one core each.

The measured program has one core; the upstream (an nginx that answers at once), wrk and Redis share the other. Rounds of a few seconds
alternate between the cases, so that a noisy neighbour meets all of them; each case's figures are the medians of its rounds. CPU time is
the measured process's own, by the kernel's count (ticks of 10 ms); it says more than the rate, which the other core limits too. Every
answer is checked: one that is not the upstream's, or not marked as a replay where it is one, fails the run."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.e2e.processes import LISTENING, Process, running, wait_for
from tests.ports import free_port
from tests.stores.redis_server import RedisServer

HERE: Final = Path(__file__).parent
BODY: Final = '{"id":"ch_1"}'
TICK: Final = os.sysconf("SC_CLK_TCK")
CORES: Final = sorted(os.sched_getaffinity(0))
MEASURED, OTHERS = CORES[0], CORES[-1]

NGINX: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{rest}
}}
"""
UPSTREAM: Final = "  server {{ listen 127.0.0.1:{port}; location / {{ return 201 '{body}'; }} }}"
PEER: Final = """
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }}
  }}
"""
RULE: Final = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. `keys` as in load.lua; `marked`: answers are replays."""

    name: str
    port: int
    pid: int
    keys: str
    marked: int
    against: str | None = None
    """The case that the ratio is to."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured: requests a second, CPU microseconds a request, milliseconds, and bytes."""

    rate: float
    cpu: float
    p50: float
    p99: float
    memory: int


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.bench.throughput", description=__doc__)
    asked.add_argument("--rounds", type=int, default=5, help="of each case (default %(default)d)")
    asked.add_argument("--seconds", type=int, default=3, help="of a round (default %(default)d)")
    asked.add_argument("--connections", type=int, default=32, help="open at once (default %(default)d)")
    asked.add_argument("--only", default="", help="cases whose name begins with this")
    asked.add_argument("--before", type=Path, help="a folder with another version of idemproxy, to compare with")
    options = asked.parse_args()
    for program, package in (
        ("wrk", "wrk"),
        ("nginx", "nginx-light"),
        ("redis-server", "redis-server"),
        ("taskset", "util-linux"),
    ):
        if shutil.which(program) is None and not Path(f"/usr/sbin/{program}").exists():
            sys.stderr.write(f"{program} is not installed; on Debian: apt-get install {package}\n")
            return 2
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cases = [case for case in _cases(Path(folder), stack, options.before) if case.name.startswith(options.only)]
        bench = Bench(options.connections)
        rounds: dict[str, list[Round]] = {case.name: [] for case in cases}
        for case in cases:
            bench.run(case, 1)
        for _ in range(options.rounds):
            for case in cases:
                rounds[case.name].append(bench.run(case, options.seconds))
    _print(cases, rounds, options)
    return 0


# ------------------------------------------------------------------------------------------------------------ what is measured


def _cases(folder: Path, stack: contextlib.ExitStack, before: Path | None) -> list[Case]:
    upstream = free_port()
    behind = stack.enter_context(
        _nginx(folder / "upstream", OTHERS, UPSTREAM.format(port=upstream, body=BODY), upstream)
    )
    port = free_port()
    peer = stack.enter_context(_nginx(folder / "peer", MEASURED, PEER.format(port=port, upstream=upstream), port))
    cases = [
        Case("upstream itself", upstream, behind.pid, "new", 0),
        Case("forward GET, nginx", port, peer.pid, "get", 0),
        Case("forward, nginx", port, peer.pid, "new", 0),
    ]
    redis = stack.enter_context(RedisServer(folder))
    os.sched_setaffinity(int(redis.client().info("server")["process_id"]), {OTHERS})
    versions = [("", Path.cwd()), *([(", before", before)] if before is not None else [])]
    for name, where in versions:
        sqlite = f"sqlite:{folder}/none{len(cases)}.db"
        forward = stack.enter_context(_idemproxy(folder / f"forward{name[2:]}", where, upstream, sqlite, " []"))
        cases.append(Case(f"forward GET{name}", *forward, "get", 0, "forward GET, nginx"))
        cases.append(Case(f"forward{name}", *forward, "new", 0, "forward, nginx"))
        for store, url in (("sqlite", f"sqlite:{folder}/store{name[2:]}.db"), ("redis", redis.url)):
            more = f"namespace: bench{len(cases)}\n"
            rule = stack.enter_context(_idemproxy(folder / f"{store}{name[2:]}", where, upstream, url, RULE, more))
            cases.append(Case(f"first, {store}{name}", *rule, "new", 0, f"forward{name}"))
            cases.append(Case(f"replay, {store}{name}", *rule, "same", 1, f"forward{name}"))
    return cases


@contextlib.contextmanager
def _nginx(folder: Path, core: int, rest: str, port: int) -> Iterator[Process]:
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, rest=rest))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = Process([*_on(core), program, "-e", f"{folder}/error.log", "-c", str(file)], folder / "log")
    with running(process, ""):
        wait_for("nginx listens", lambda: _listens(port) or None)
        yield process


@contextlib.contextmanager
def _idemproxy(
    folder: Path, where: Path, upstream: int, store: str, rules: str, more: str = ""
) -> Iterator[tuple[int, int]]:
    """Its port and its process's id; the code is that in `where`."""
    folder.mkdir()
    port = free_port()
    file = folder / "idemproxy.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{upstream}\nstore: {store}\n{more}routes:{rules}"
    )
    run = [*_on(MEASURED), sys.executable, "-P", "-m", "idemproxy", "run", "--config", str(file)]
    with running(Process(run, folder / "log", environment={"PYTHONPATH": str(where.resolve())}), LISTENING) as process:
        yield port, process.pid


def _on(core: int) -> list[str]:
    return ["taskset", "--cpu-list", str(core)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---------------------------------------------------------------------------------------------------------------------- a round


class Bench:
    """Rounds of wrk."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._runs = 0

    def run(self, case: Case, seconds: int) -> Round:
        """One round. Raises AssertionError where an answer was not as it must be."""
        self._runs += 1
        key = "the-one-key" if case.keys == "same" else f"key-{self._runs}"
        if case.marked:
            _execute(case.port, key)
        before = _cpu(case.pid)
        wrk = ["wrk", "--threads", "1", "--connections", str(self._connections), "--duration", f"{seconds}s"]
        wrk += ["--script", str(HERE / "load.lua"), f"http://127.0.0.1:{case.port}/"]
        arguments = ["--", case.keys, key, "201", BODY, str(case.marked)]
        done = subprocess.run([*_on(OTHERS), *wrk, *arguments], capture_output=True, text=True, check=True)
        spent = _cpu(case.pid) - before
        found = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert found, done.stdout + done.stderr
        result: dict[str, int] = json.loads(found[0])
        assert result["good"] > 0, (case, result)
        assert result["bad"] == result["broken"] == 0, (case, result)
        good = result["good"]
        return Round(
            rate=good / (result["us"] / 1e6),
            cpu=spent * 1e6 / good,
            p50=result["p50"] / 1000,
            p99=result["p99"] / 1000,
            memory=_memory(case.pid),
        )


def _execute(port: int, key: str) -> None:
    """The operation that the replays are of: the same request as in load.lua."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    fields = {
        "Host": "api.test",
        "Authorization": "Bearer sk_test_1",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }
    try:
        connection.request("POST", "/v1/charges", b'{"amount":500}', fields)
        assert connection.getresponse().read() == BODY.encode()
    finally:
        connection.close()


def _cpu(pid: int) -> float:
    """Seconds of CPU that the process has spent, in user and kernel mode (proc(5): fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -------------------------------------------------------------------------------------------------------------------- the table


def _print(cases: list[Case], rounds: dict[str, list[Round]], options: argparse.Namespace) -> None:
    print(
        f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections, measured on core {MEASURED}, the rest on core "
        f"{OTHERS}, load {os.getloadavg()[0]:.1f}; medians of the rounds, and the spread of the CPU figure"
    )
    print(
        f"{'case':24} {'req/s':>8} {'CPU us/req':>11} {'(least-most)':>15} {'p50 ms':>8} {'p99 ms':>8} {'RSS MB':>7}  ratio of CPU"
    )
    cpu = {name: median(each.cpu for each in found) for name, found in rounds.items()}
    for case in cases:
        found = rounds[case.name]
        spread = f"({min(each.cpu for each in found):.0f}-{max(each.cpu for each in found):.0f})"
        ratio = f"{cpu[case.name] / cpu[case.against]:.2f} x {case.against}" if case.against in cpu else ""
        was = f"{case.name}, before"
        if was in cpu:
            ratio += f"; {cpu[case.name] / cpu[was]:.3f} x before"
        print(
            f"{case.name:24} {median(each.rate for each in found):8.0f} {cpu[case.name]:11.1f} {spread:>15} "
            f"{median(each.p50 for each in found):8.2f} {median(each.p99 for each in found):8.2f} "
            f"{found[-1].memory / 1e6:7.1f}  {ratio}"
        )


if __name__ == "__main__":
    sys.exit(main())
