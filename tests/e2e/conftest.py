"""What the tests with real processes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.api import Upstream
from tests.stores.redis_server import RedisServer


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The address of a real Redis server of the test's own."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server.url


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    api = Upstream()
    api.let_go()
    yield api
    api.stop()
