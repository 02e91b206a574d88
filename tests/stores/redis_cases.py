"""What the tests of the Redis store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self, TypeVar

from idemproxy.errors import StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown
from idemproxy.stores.base import Claim, Completion
from idemproxy.stores.redis import RedisStore
from tests.ports import free_port

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that only guard against hanging."""

HOUR = 3_600_000
TOKEN = b"t" * 16


def record_id(number: int) -> str:
    return f"{number:064x}"


def claim(token: bytes = TOKEN, rule: str = "charges") -> Claim:
    return Claim(token, b"f" * 32, "recipe", rule, OnUnknown.BLOCK, HOUR, HOUR)


def completion(body: bytes, token: bytes = TOKEN, status: int = 200) -> Completion:
    return Completion(token, Answer(status, b"200 OK\r\n", body), HOUR, None)


@asynccontextmanager
async def store_at(url: str, *, namespace: str = "shop", timeout_ms: int = 30_000) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, namespace=namespace, timeout_ms=timeout_ms)
    try:
        yield store
    finally:
        await store.close()


class Line:
    """A line to a server. While it is held, a connection that has carried more than `most` bytes in one direction carries no more in
    that one."""

    def __init__(self, server_port: int, most: int) -> None:
        self.port = free_port()
        self.waiting = 0
        """Directions of connections that stand still."""
        self._server_port = server_port
        self._most = most
        self._open = asyncio.Event()
        self._ways: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def let_go(self) -> None:
        self._open.set()

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Self]:
        listening = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            listening.close()
            for way in list(self._ways):
                way.cancel()
            await asyncio.gather(*self._ways, return_exceptions=True)
            for end in self._ends:
                end.transport.abort()
            await asyncio.gather(*(end.wait_closed() for end in self._ends), return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._ends += (writer, there_writer)
        for way in (self._carry(reader, there_writer), self._carry(there_reader, writer)):
            task = asyncio.ensure_future(way)
            self._ways.add(task)
            task.add_done_callback(self._ways.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        with suppress(ConnectionError):
            try:
                while data := await reader.read(2**18):
                    carried += len(data)
                    if carried > self._most and not self._open.is_set():
                        self.waiting += 1
                        await self._open.wait()
                        self.waiting -= 1
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()


async def eventually(ask: Callable[[], Awaitable[T]]) -> T:
    """The first fact that the store gives."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await ask()
            except StoreError:
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)
