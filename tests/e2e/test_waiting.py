"""A thousand clients that wait for one operation of another process: what each gets, and what their waiting costs the store."""

from __future__ import annotations

import asyncio
import resource
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Upstream, request
from tests.e2e.processes import LISTENING, proxy, running
from tests.e2e.test_stalls import Client
from tests.ports import free_port
from tests.stores.redis_server import RedisServer
from tests.unit.exposed import Exposed

WAITERS = 1_000
ASKED = (
    b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as started:
        yield started


def commands(server: RedisServer) -> int:
    """Scripts and reads that the server has run, without those of the tests."""
    stats = server.client().info("commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)


def waiters(admin: int) -> float:
    """How many requests wait, as the proxy counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
        return Exposed(answer.read().decode()).value("idemproxy_waiters", rule="charges")


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(ASKED)
        return await reader.read()
    finally:
        writer.close()


def test_a_thousand_waiters_cost_the_store_nothing_and_get_the_same_bytes(
    tmp_path: Path, upstream: Upstream, server: RedisServer
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4 * WAITERS:
        pytest.skip(f"this machine allows a process {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * WAITERS), hard))
    ports, admin = (free_port(), free_port()), free_port()
    texts = [
        f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream.port}
store: {server.url}
store_timeout: 30s
admin: 127.0.0.1:{admin if port == ports[1] else free_port()}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    wait_timeout: 5m
    max_waiters: {WAITERS}
"""
        for port in ports
    ]
    with (
        running(proxy(tmp_path, texts[0], "owner"), LISTENING),
        running(proxy(tmp_path, texts[1], "waiting"), LISTENING),
    ):
        upstream.hold()
        owner = Client(ports[0])
        assert upstream.arrived.acquire(timeout=60)
        answers = asyncio.run(waited(ports[1], admin, upstream, server))
        assert owner.answer()[0] == 201
        heads = {answer.partition(b"\r\n\r\n")[0] for answer in answers}
        bodies = {answer.partition(b"\r\n\r\n")[2] for answer in answers}
        assert len(heads) == 1
        assert b"Idempotent-Replayed: true" in heads.pop()
        assert bodies == {owner.answer()[2]}
        assert upstream.executed == 1
        assert request(ports[1])[2] == owner.answer()[2]


async def waited(port: int, admin: int, upstream: Upstream, server: RedisServer) -> list[bytes]:
    """Every waiter's whole answer; the upstream answers once all of them have waited for some time."""
    asking = [asyncio.ensure_future(ask(port)) for _ in range(WAITERS)]
    async with asyncio.timeout(60):
        while await asyncio.to_thread(waiters, admin) < WAITERS:
            await asyncio.sleep(0.1)
    before, began = commands(server), time.monotonic()
    await asyncio.sleep(3)
    asked, seconds = commands(server) - before, time.monotonic() - began
    assert asked <= 20 + 5 * seconds, f"{asked} commands in {seconds:.1f} s"
    assert not any(each.done() for each in asking)
    upstream.let_go()
    async with asyncio.timeout(60):
        return await asyncio.gather(*asking)
