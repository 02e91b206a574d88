"""The idemproxy that the streams go through: a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.processes import LISTENING, proxy, running
from tests.ports import free_port

ROOM: Final = 20_000_000
"""Bytes by which the memory of a worker may grow, whatever goes through it."""

RULE: Final = """
  - name: exports
    match: {methods: [POST], path: "/rule/**"}
    max_response_body: 1MiB
"""

PLAIN: Final = b"GET /events HTTP/1.1\r\nHost: api.test\r\n\r\n"
"""Asks for a stream of events that no rule names."""


def keyed(target: bytes, key: bytes) -> bytes:
    """A request that the rule protects."""
    return b"POST %b HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: %b\r\nContent-Length: 2\r\n\r\n{}" % (target, key)


@dataclass(frozen=True, slots=True)
class Front:
    """Where the process listens, and its id."""

    port: int
    pid: int


@contextlib.contextmanager
def proxied(folder: Path, upstream: int, rules: str) -> Iterator[Front]:
    """An idemproxy in front of the upstream on that port; `rules` is YAML: the entries of `routes:`."""
    port = free_port()
    config = (
        f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{upstream}\nstore: sqlite:{folder / 'store.db'}\n"
        f"pool: {{max: 2000}}\nroutes:{rules}\n"
    )
    with running(proxy(folder, config), LISTENING) as process:
        yield Front(port, process.pid)
