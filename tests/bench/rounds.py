"""A round of load on one program, and what it cost."""

from __future__ import annotations

import http.client
import json
import os
import resource
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.servers import BODY, HERE, OTHERS, pinned

SENT: Final = '{"amount":500}'
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """What is sent, and what a good answer is. `begin` makes the operation that the requests are retries of."""

    name: str
    method: str = "POST"
    path: str = "/v1/charges"
    body: str = SENT
    key: str = "each"
    status: int = 201
    answer: str = BODY
    marks: int = 0


FORWARD: Final = Work("forward", "GET", body="")
FIRST: Final = Work("first")
REPLAY: Final = Work("replay", key="one", marks=1)
REUSED: Final = Work("reused (422)", body='{"amount":501}', key="one", status=422, answer="")
HELD: Final = Work("in flight (409)", path="/v1/held", key="one", status=409, answer="")


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that is measured: what it is called, its port and its process."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """Requests a second, CPU microseconds a request, milliseconds, bytes, and the part of a core that the load generator took."""

    rate: float
    cpu: float
    p50: float
    p99: float
    memory: int
    load: float


class WrongAnswer(Exception):
    """The message says which."""


def run(subject: Subject, work: Work, connections: int, seconds: int, key: str) -> Round:
    """One round. Raises WrongAnswer."""
    with _begun(subject, work, key):
        before, generator = _cpu(subject.pid), _children()
        wrk = [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{seconds:g}s",
            "--timeout",
            "10s",
        ]
        wrk += ["--script", str(HERE / "load.lua"), f"http://127.0.0.1:{subject.port}/", "--"]
        said = [work.method, work.path, work.body, work.key, key, str(work.status), work.answer, str(work.marks)]
        done = subprocess.run([*pinned(OTHERS), *wrk, *said], capture_output=True, text=True, check=True)
        spent, loaded = _cpu(subject.pid) - before, _children() - generator
    found = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise WrongAnswer(f"{subject.name}, {work.name}: wrk said nothing: {done.stdout}{done.stderr}")
    result: dict[str, int] = json.loads(found[0])
    if not result["good"] or result["bad"] or result["broken"]:
        raise WrongAnswer(f"{subject.name}, {work.name}, {connections} connections: {result}")
    took = result["us"] / 1e6
    return Round(
        rate=result["good"] / took,
        cpu=spent * 1e6 / result["good"],
        p50=result["p50"] / 1000,
        p99=result["p99"] / 1000,
        memory=_memory(subject.pid),
        load=loaded / took,
    )


@contextmanager
def _begun(subject: Subject, work: Work, key: str) -> Iterator[None]:
    """The operation that the round's requests are retries of, if they are: it is over, or runs for as long as the block does."""
    if work.key == "each":
        yield
        return
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=30)
    fields = {
        "Host": "api.test",
        "Authorization": "Bearer sk_test_1",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }
    try:
        connection.request("POST", work.path, SENT, fields)
        if work is HELD:
            _until_held(subject, key, fields)
        else:
            answer = connection.getresponse()
            if (answer.status, answer.read()) != (201, BODY.encode()):
                raise WrongAnswer(f"{subject.name}: the first request was answered with {answer.status}")
        yield
    finally:
        connection.close()


def _until_held(subject: Subject, key: str, fields: dict[str, str]) -> None:
    """The operation runs once another request is told so."""
    pause = threading.Event()
    for _ in range(500):
        other = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=1)
        try:
            other.request("POST", HELD.path, SENT, fields)
            if other.getresponse().status == HELD.status:
                return
        except TimeoutError:
            pass  # it was the first itself: then it is the one that runs
        finally:
            other.close()
        pause.wait(0.02)
    raise WrongAnswer(f"{subject.name}: the operation {key} never ran")


def _children() -> float:
    """Seconds of CPU of the children that have ended: the load generator's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu(pid: int) -> float:
    """Seconds of CPU that the process has spent, in user and kernel mode (proc(5): fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
