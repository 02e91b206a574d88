"""Every backend, for the suite that holds all of them to the same meaning."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from idemproxy.stores.base import Store
from idemproxy.stores.opening import open_store
from tests.simulation import realtime
from tests.stores.redis_server import RedisServer

TIMEOUT_MS = 30_000
"""Only guards against hanging: the machine may be slow."""

Opener = Callable[[], Awaitable[Store]]


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("session-redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis", "simulated"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, or of one in which nothing is in the test's namespace."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    if request.param == "simulated":
        return realtime.ADDRESS
    server = request.getfixturevalue("session_redis")
    assert isinstance(server, RedisServer)
    return server.url


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def another(url: str, namespace: str) -> AsyncIterator[Opener]:
    """Opens one more store at the same place, as another process would."""
    opened: list[Store] = []
    simulated = realtime.server()

    async def open_one() -> Store:
        if url == realtime.ADDRESS:
            opened.append(realtime.opened(simulated))
            return opened[-1]
        opened.append(await open_store(url, namespace=namespace, timeout_ms=TIMEOUT_MS))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(another: Opener) -> Store:
    return await another()
