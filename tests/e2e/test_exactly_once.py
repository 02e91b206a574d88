"""docs/exactly-once.md, as it stands: connections break after the commit, proxies are killed, and each operation takes effect once."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.api import request
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
OPERATIONS = 60


def rules() -> str:
    """The routes that the document shows."""
    shown = re.search(r"```yaml\n(.*?)```", (DOCS / "exactly-once.md").read_text(), re.DOTALL)
    assert shown is not None
    return shown[1]


def take(port: int, number: int) -> bytes:
    """Ask until an answer comes, as a persistent client does."""

    def once() -> bytes | None:
        body = json.dumps({"item": "apple", "amount": 1}).encode()
        try:
            status, _, answer = request(port, path="/take", key=f"order-{number}", body=body)
        except OSError:
            return None
        return answer if status == 200 else None

    return wait_for(f"an answer to order {number}", once)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_each_operation_takes_effect_once(tmp_path: Path, store: str, redis_url: str) -> None:
    port, api_port = free_port(), free_port()
    address = f"sqlite:{tmp_path / 'store.db'}" if store == "sqlite" else redis_url
    text = (
        f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{api_port}\nstore: {address}\n{rules()}    lease: 1s\n"
    )
    database = tmp_path / "orders.db"
    example = [sys.executable, str(DOCS / "examples/exactly_once_api.py"), "--port", str(api_port)]
    api = Process([*example, "--database", str(database), "--careless", "3"], tmp_path / "api.log")
    with (
        running(api, "Running on"),
        running(proxy(tmp_path, text), LISTENING) as process,
        ThreadPoolExecutor(8) as pool,
    ):
        first = [pool.submit(take, port, number) for number in range(OPERATIONS)]
        wait_for("some answers", lambda: True if sum(each.done() for each in first) > OPERATIONS // 3 else None)
        process.kill()
        process.start(LISTENING)
        answers = [each.result() for each in first]
        assert [take(port, number) for number in range(OPERATIONS)] == answers
    with sqlite3.connect(database) as orders:
        (left,) = orders.execute("SELECT amount FROM stock WHERE item = 'apple'").fetchone()
    orders.close()
    assert left == -OPERATIONS
    executed = process.output().count('"decision":"executed"')
    assert executed > OPERATIONS, "no attempt was ever repeated: the test shows nothing"
