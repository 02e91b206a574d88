"""What the tests with real clients and servers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.servers import Pair
from tests.interop.servers import pairs as started


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """Each server with a proxy in front, by name."""
    with started(tmp_path_factory.mktemp("interop")) as found:
        yield found
