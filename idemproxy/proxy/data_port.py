"""The data port as aiohttp's runner sees it: a server object that hands out our protocol instead of aiohttp's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from idemproxy.proxy.downstream import Connections, Downstream, Limits, Refuse, Serve


class DataPort:
    """In the place of `aiohttp.web.Server`: called for each connection, told of the shutdown by the runner."""

    def __init__(self, serve: Serve, refuse: Refuse, failed: Callable[[BaseException], None], limits: Limits) -> None:
        self._serve = serve
        self._refuse = refuse
        self._failed = failed
        self._limits = limits
        self.connections = Connections()

    def __call__(self) -> Downstream:
        return Downstream(self._serve, self._refuse, self._failed, self._limits, self.connections)

    def begin_drain(self, grace: float) -> None:
        """From now on answers say that their connection closes. One that waits for a request, or that comes yet, is closed when it had
        none for `grace` seconds."""
        self.connections.grace = grace
        for connection in list(self.connections.open):
            connection.begin_drain()

    def pre_shutdown(self) -> None:
        """Idle connections close, busy ones after their present answer."""
        self.begin_drain(0.0)

    async def idle(self) -> None:
        """Return once no connection is left."""
        while self.connections.open:  # noqa: ASYNC110 - a set has no event, and nothing hurries here
            await asyncio.sleep(0.02)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Give the last answers `timeout` seconds to leave, then cut the connections."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.idle()
        for connection in list(self.connections.open):
            connection.abort()
