"""Each store in turn, with its pair of proxies: started once, for all tests."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.faults.pair import Pair, serving
from tests.stores.redis_server import RedisServer

DESCRIPTORS = 4096
"""More than a thousand clients need, and the proxy that they ask."""


@pytest.fixture(scope="session", autouse=True)
def _descriptors() -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if least < DESCRIPTORS <= most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, most))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("faults-redis")) as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp(f"faults-{request.param}")
    if request.param == "sqlite":
        store = f"sqlite:{folder / 'store.db'}"
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        store = server.url
    with serving(folder, store) as both:
        yield both
