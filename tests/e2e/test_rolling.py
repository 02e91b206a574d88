"""Rolling restarts under load: the next process listens on the same port, then the one before it drains. No request is lost, and
none is executed twice."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

from tests.e2e.processes import LISTENING, proxy, wait_for
from tests.e2e.rolling import counted, load
from tests.ports import free_port

GENERATIONS = (1, 1, 2, 2)
"""Their worker processes."""
BETWEEN = 60
"""Operations between two restarts."""


def test_rolling_restarts_lose_no_request(tmp_path: Path) -> None:
    port = free_port()
    with counted() as upstream:
        text = f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream.port}
store: sqlite:{tmp_path / "store.db"}
store_timeout: 20s
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    scope: []
workers: """
        generations = [proxy(tmp_path, f"{text}{count}\n", f"proxy{at}") for at, count in enumerate(GENERATIONS)]
        try:
            generations[0].start(LISTENING)
            with load(port) as (report, count):
                for before, after in itertools.pairwise(generations):
                    seen = count()
                    wait_for("operations", lambda: count() >= seen + BETWEEN or None)  # noqa: B023 - called before the loop goes on
                    after.start(LISTENING)
                    before.signal(signal.SIGTERM)
                    assert before.wait() == 0
                seen = count()
                wait_for("operations", lambda: count() >= seen + BETWEEN or None)
            assert generations[-1].terminate() == 0
        finally:
            for each in generations:
                each.kill()
    print(f"{len(report.answered)} operations, {report.closes_said} were told to close, raced: {report.raced}")
    assert report.failed == []
    assert [key for key, times in upstream.executed.items() if times != 1] == []
    assert set(report.answered) == set(upstream.executed)
    assert report.closes_said >= len(GENERATIONS) - 1, "who stays connected is told"
