"""`idemproxy records`, as an operator runs it: real commands on a real SQLite store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.identity import record_id
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, Reason
from idemproxy.stores.base import Claim, Claimed, Completion, Done, Found, MarkUnknown, Store
from idemproxy.stores.opening import open_store

DEADLINE = 60
TOKEN = b"0123456789abcdef"
TTL = 3_600_000
RUNNING, FINISHED, UNKNOWN = "1" * 64, "2" * 64, "3" * 64
CONFIG = """\
upstream: http://127.0.0.1:9
store: sqlite:{store}
namespace: shop
routes:
  - name: charges
    match: {{path: /v1/charges}}
    scope: ["header:Authorization", "header:Stripe-Account"]
"""


@dataclass
class Operator:
    """Somebody at a shell."""

    place: list[str]

    def run(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> str:
        """What a command prints: standard output when it ends with 0, else standard error, of one or two lines."""
        command = [sys.executable, "-m", "idemproxy", "records", arguments[0], *self.place, *arguments[1:]]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=DEADLINE, check=False, env=environment)
        said = done.stderr.decode()
        assert done.returncode == status, said
        assert "Traceback" not in said
        if status:
            assert len(said.splitlines()) in (1, 2), said
            return said
        return done.stdout.decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def operator(tmp_path: Path, file: Path) -> Operator:
    config = tmp_path / "idemproxy.yaml"
    config.write_text(CONFIG.format(store=file))
    return Operator(["--config", str(config)])


async def begin(store: Store, name: str, rule: str = "charges", lease: int = 3_600_000) -> None:
    assert isinstance(
        await store.claim(name, Claim(TOKEN, bytes(32), "raw", rule, OnUnknown.BLOCK, lease, TTL)), Claimed
    )


@pytest.fixture(autouse=True)
async def _filled(file: Path) -> None:
    store = await open_store(f"sqlite:{file}", namespace="shop", timeout_ms=DEADLINE * 1000)
    try:
        await begin(store, RUNNING)
        await begin(store, FINISHED, "refunds")
        head = b"201 Created\r\nContent-Type: text/plain\r\nSet-Cookie: sid=1\r\n"
        done = await store.complete(FINISHED, Completion(TOKEN, Answer(201, head, b"private\x1b[2J"), TTL, None))
        assert isinstance(done, Done)
        await begin(store, UNKNOWN)
        assert isinstance(await store.mark_unknown(UNKNOWN, MarkUnknown(TOKEN, Reason.RESET, TTL, None)), Done)
    finally:
        await store.close()


async def look(file: Path, name: str, namespace: str = "shop") -> Found | None:
    store = await open_store(f"sqlite:{file}", namespace=namespace, timeout_ms=DEADLINE * 1000)
    try:
        found = await store.get(name)
        return found if isinstance(found, Found) else None
    finally:
        await store.close()


def test_records_are_listed(operator: Operator) -> None:
    rows = [line.split() for line in operator.run("list").splitlines()]
    assert rows[0][:3] == ["ID", "STATE", "RULE"]
    assert sorted(row[:3] for row in rows[1:]) == [
        ["1" * 12, "processing", "charges"],
        ["2" * 12, "completed", "refunds"],
        ["3" * 12, "unknown", "charges"],
    ]
    assert next(row for row in rows if row[1] == "unknown")[-1] == "reset"


def test_records_are_listed_by_state_rule_and_number(operator: Operator) -> None:
    one = [json.loads(line) for line in operator.run("list", "--state", "unknown", "--json").splitlines()]
    assert [(record["id"], record["reason"]) for record in one] == [(UNKNOWN, "reset")]
    assert "2" * 12 in operator.run("list", "--rule", "refunds")
    assert operator.run("list", "--rule", "none") == ""
    assert len(operator.run("list", "--limit", "1").splitlines()) == 2


def test_a_store_is_named_without_a_configuration(file: Path) -> None:
    named = Operator(["--store", f"sqlite:{file}", "--namespace", "shop"])
    assert "unknown" in named.run("list")
    assert Operator(["--store", f"sqlite:{file}"]).run("list") == ""


def test_a_record_is_shown_without_its_body(operator: Operator) -> None:
    shown = operator.run("show", "2" * 8)
    assert FINISHED in shown
    assert "11 bytes (hidden" in shown
    assert "private" not in shown
    assert "sid=1" not in shown
    assert json.loads(operator.run("show", FINISHED, "--json"))["answer"]["body_bytes"] == 11


def test_a_body_is_shown_when_asked_for_and_cannot_steer_the_terminal(operator: Operator) -> None:
    shown = operator.run("show", FINISHED, "--show-body")
    assert "private\\x1b[2J" in shown
    assert "sid=1" in shown


async def test_a_record_is_found_by_what_the_client_sent(operator: Operator, file: Path) -> None:
    store = await open_store(f"sqlite:{file}", namespace="shop", timeout_ms=DEADLINE * 1000)
    mine = record_id("shop", (framed(b"whole", b"Bearer sk_1"), None), b"order-7")
    try:
        await begin(store, mine)
    finally:
        await store.close()
    shown = operator.run("show", "--key", '"order-7"', "--scope", "Bearer sk_1")
    assert mine in shown
    assert "no record of that key" in operator.run("show", "--key", "order-7", "--scope", "Bearer sk_2", status=1)
    assert "empty" in operator.run("show", "--key", "", "--scope", "Bearer sk_1", status=1)


async def test_an_unknown_outcome_is_released(operator: Operator, file: Path) -> None:
    assert "released" in operator.run("resolve", "3" * 12, "--release")
    assert await look(file, UNKNOWN) is None
    assert operator.run("list", "--state", "unknown") == ""


async def test_an_unknown_outcome_is_given_its_answer(operator: Operator, file: Path) -> None:
    said = operator.run("resolve", UNKNOWN, "--complete", "201", "--header", "X-Note: by hand", "--body", '{"id": 7}')
    assert "completed with 201" in said
    found = await look(file, UNKNOWN)
    assert found is not None
    head = b"201 Created\r\nX-Note: by hand\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    assert found.record.answer == Answer(201, head, b'{"id": 7}')


@pytest.mark.parametrize("given", ["file", "-"])
async def test_an_answers_body_comes_from_a_file(operator: Operator, file: Path, tmp_path: Path, given: str) -> None:
    body = b"\x00\xff binary"
    source = tmp_path / "body.bin"
    source.write_bytes(body)
    operator.run(
        "resolve", UNKNOWN, "--complete", "200", "--body-file", str(source) if given == "file" else "-", stdin=body
    )
    found = await look(file, UNKNOWN)
    assert found is not None
    assert isinstance(found.record.answer, Answer)
    assert found.record.answer.body == body


async def test_a_record_is_forgotten(operator: Operator, file: Path) -> None:
    assert "deleted" in operator.run("delete", FINISHED)
    assert await look(file, FINISHED) is None
    assert "no record" in operator.run("delete", FINISHED, status=1)


@pytest.mark.parametrize("act", [["resolve", "--release"], ["resolve", "--complete", "200"], ["delete"]])
async def test_nothing_is_done_to_a_running_operation(operator: Operator, file: Path, act: list[str]) -> None:
    said = operator.run(act[0], RUNNING, *act[1:], status=1)
    assert "owner is alive" in said
    found = await look(file, RUNNING)
    assert found is not None
    assert found.lease_left > 0


async def test_nothing_is_done_to_a_record_that_is_not_as_it_was_seen(operator: Operator, file: Path) -> None:
    version = json.loads(operator.run("show", UNKNOWN, "--json"))["version"]
    said = operator.run("resolve", UNKNOWN, "--release", "--seen", str(version - 1), status=1)
    assert "changed since it was read" in said
    assert await look(file, UNKNOWN) is not None
    operator.run("resolve", UNKNOWN, "--release", "--seen", str(version))
    assert await look(file, UNKNOWN) is None


def test_what_cannot_be_is_told_in_a_line(operator: Operator, tmp_path: Path) -> None:
    assert "no record's id begins with" in operator.run("show", "deadbeef", status=1)
    assert "8 to 64" in operator.run("show", "dead", status=1)
    assert "is completed" in operator.run("resolve", FINISHED, "--complete", "200", status=1)
    assert "200 to 599" in operator.run("resolve", UNKNOWN, "--complete", "42", status=1)
    assert "only with --complete" in operator.run("resolve", UNKNOWN, "--release", "--body", "x", status=2)
    assert "No such file" in operator.run("resolve", UNKNOWN, "--complete", "200", "--body-file", "/nowhere", status=1)
    text = tmp_path / "text.db"
    text.write_text("this is no database, but long enough to be read as one\n" * 40)
    Operator(["--store", f"sqlite:{text}"]).run("list", status=1)
