"""What the smuggling tests share: each server is started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.smuggling.upstreams import COMMANDS, Upstream, running


@pytest.fixture(scope="session", params=list(COMMANDS))
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """Each server in turn."""
    with running(request.param, tmp_path_factory.mktemp("upstream")) as server:
        yield server
