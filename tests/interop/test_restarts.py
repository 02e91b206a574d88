"""An upstream that closes idle connections after a second and is restarted every two, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.processes import LISTENING, proxy, running
from tests.interop import restarting
from tests.interop.load import (
    BUSY,
    CALM,
    Operations,
    Reads,
    executed_twice,
    not_as_answered,
    operate,
    read_fresh,
    read_kept,
    settle,
)
from tests.interop.servers import ROOT
from tests.ports import free_port
from tests.proxy.wire import DEADLINE, eventually

RESTARTS = 2
BETWEEN = 2.0
"""Seconds between two restarts that drain."""
BETWEEN_KILLS = 1.0
SEED = 20_261_125

CONFIG = """
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream}
store: sqlite:{folder}/store.db
defaults: {{scope: [], key: {{required: true}}}}
routes:
  - name: pooled
    match: {{methods: [POST], path: /pooled}}
  - name: fresh
    match: {{methods: [POST], path: /fresh}}
    fresh_connection: true
"""


@dataclass
class Load:
    """Everything that happened."""

    direct: Reads = field(default_factory=Reads)
    through: Reads = field(default_factory=Reads)
    pooled: Operations = field(default_factory=Operations)
    fresh: Operations = field(default_factory=Operations)


@contextlib.asynccontextmanager
async def loaded(port: int, upstream: int) -> AsyncIterator[Load]:
    """The load, for as long as the block runs. Raises what a client met that no client of this kind expects."""
    load, over = Load(), asyncio.Event()
    chances = (random.Random(f"{SEED} {number}") for number in range(100))
    clients = [
        asyncio.ensure_future(read_kept(port, load.through, over, next(chances), pauses))
        for pauses in (BUSY, CALM)
        for _ in range(4)
    ]
    clients += [asyncio.ensure_future(read_fresh(upstream, load.direct, over, next(chances))) for _ in range(2)]
    for path, operations in (("pooled", load.pooled), ("fresh", load.fresh)):
        for number in range(4):
            name = f"{path}-{number}"
            clients.append(asyncio.ensure_future(operate(port, f"/{path}", name, operations, over, next(chances))))
    try:
        yield load
        over.set()
        async with asyncio.timeout(2 * DEADLINE):
            await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


class Generations:
    """The upstream's processes: one serves, its successor is started by the test."""

    def __init__(self, ledger: Path, kind: str, number: int) -> None:
        self._arguments = [sys.executable, "-m", "tests.interop.restarting", str(ledger), kind, str(number)]
        self._descriptors = (number,) if kind == "fd" else ()
        self._all: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """A further process, which serves from now on."""
        process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._descriptors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._all.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            assert restarting.READY.encode() in await process.stdout.readline()

    async def drain_before_last(self) -> None:
        """The process before the last one drains and ends by itself."""
        self._all[-2].terminate()
        async with asyncio.timeout(DEADLINE):
            assert await self._all[-2].wait() == 0

    async def kill_last(self) -> None:
        self._all[-1].kill()
        await self._all[-1].wait()

    async def end(self) -> None:
        for process in self._all:
            if process.returncode is None:
                process.kill()
                await process.wait()


def charged(ledger: Path) -> Counter[str]:
    return Counter(ledger.read_text().splitlines())


async def test_restarts_that_drain_are_not_noticed(tmp_path: Path) -> None:
    """The listening socket stays, each process hands it to the next: whoever connects anew for each request meets no error."""
    port, ledger = free_port(), tmp_path / "ledger"
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        upstream = listening.getsockname()[1]
        config = CONFIG.format(port=port, upstream=upstream, folder=tmp_path)
        generations = Generations(ledger, "fd", listening.fileno())
        try:
            await generations.start()
            with running(proxy(tmp_path, config), LISTENING):
                async with loaded(port, upstream) as load:
                    for _ in range(RESTARTS):
                        await asyncio.sleep(BETWEEN)
                        await generations.start()
                        await generations.drain_before_last()
                    await asyncio.sleep(BETWEEN / 4)
                wrong = await settle(port, "/pooled", load.pooled)
        finally:
            await generations.end()
    print(f"{load.through.good} reads; reused connections: {load.pooled.share()}; fresh: {load.fresh.share()}")
    assert load.direct.bad == [], "the upstream does not drain: the test shows nothing"
    assert load.through.bad == []
    assert load.through.good > 0
    assert (load.fresh.unknown, load.fresh.unsent, load.fresh.other) == ([], [], [])
    assert (load.pooled.other, wrong) == ([], [])
    assert executed_twice(charged(ledger)) == []
    assert not_as_answered(load.fresh, charged(ledger)) == []
    assert not_as_answered(load.pooled, charged(ledger)) == []


async def test_restarts_that_kill_execute_nothing_twice(tmp_path: Path) -> None:
    """Requests are cut off at every stage, and for a while nobody listens."""
    port, upstream, ledger = free_port(), free_port(), tmp_path / "ledger"
    config = CONFIG.format(port=port, upstream=upstream, folder=tmp_path)
    generations = Generations(ledger, "port", upstream)
    try:
        await generations.start()
        with running(proxy(tmp_path, config), LISTENING):
            async with loaded(port, upstream) as load:
                for _ in range(RESTARTS):
                    await asyncio.sleep(BETWEEN_KILLS)
                    await generations.kill_last()
                    seen = load.pooled.released, load.fresh.released
                    await eventually(lambda: load.pooled.released > seen[0] and load.fresh.released > seen[1])  # noqa: B023 - awaited here
                    await generations.start()
                await asyncio.sleep(BETWEEN_KILLS / 2)
            wrong = [*await settle(port, "/pooled", load.pooled), *await settle(port, "/fresh", load.fresh)]
    finally:
        await generations.end()
    print(f"{load.through.good} reads; reused connections: {load.pooled.share()}; fresh: {load.fresh.share()}")
    assert set(load.through.bad) <= {"502 upstream-unreachable", "502 upstream-failed"}
    assert load.through.good > 0
    assert (load.pooled.other, load.fresh.other, wrong) == ([], [], [])
    assert executed_twice(charged(ledger)) == []
    for operations in (load.pooled, load.fresh):
        assert operations.executed
        assert not_as_answered(operations, charged(ledger)) == []
