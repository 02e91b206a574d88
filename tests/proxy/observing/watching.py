"""The product under a rule that only observes, and the lines that it writes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from structlog.testing import capture_logs

from idemproxy.clocks import boottime
from idemproxy.config import load_text
from idemproxy.observe.cells import own_cells
from idemproxy.observe.exposition import exposition
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import Service, store_of
from idemproxy.stores.base import Store
from tests.proxy.product import CREATED, Api, Exchange, Product
from tests.proxy.wire import eventually
from tests.stores.memory import MemoryStore
from tests.unit.exposed import Exposed

OBSERVE = """
  - name: charges
    match: {methods: [], path: /v1/charges}
    mode: observe
"""

Line = MutableMapping[str, Any]


class Watching:
    """What was logged."""

    def __init__(self, written: list[Line], product: Product) -> None:
        self._written = written
        self.product = product

    async def lines(self, count: int) -> list[Line]:
        """The lines of that many observed requests, and of no more."""
        await eventually(lambda: len(self.now()) >= count, f"{count} lines")
        assert len(self.now()) == count
        return self.now()

    def now(self) -> list[Line]:
        return [line for line in self._written if line["event"] == "observed"]

    def warnings(self) -> list[Line]:
        return [line for line in self._written if line["log_level"] != "info"]

    def everything(self) -> str:
        return repr(self._written)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of one metric that are above zero, by the values of their labels but the rule, in the order of their names."""
        text = Exposed(exposition(self.product.metrics, "")[0].decode())
        found = text.positive().get(name, [])
        return {
            tuple(labels[label] for label in sorted(labels) if label != "rule"): text.value(name, **labels)
            for labels in found
        }


def told(line: Line) -> tuple[str, str]:
    return line["decision"], line["state"]


@contextlib.asynccontextmanager
async def watching(
    store: Store, api: Api | None = None, *, rules: str = OBSERVE, port: int | None = None, more: str = ""
) -> AsyncIterator[Watching]:
    """The product on that store, before `api`, or before whatever listens on `port`."""
    behind = api or Api()
    started = api is None and port is None
    if started:
        await behind.start()
    text = f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{port or behind.port}\n{more}routes:{rules}"
    metrics = Metrics(own_cells())
    service = Service(load_text(text, "test.yaml", {}), store, metrics)
    with capture_logs() as written:
        try:
            await service.start()
            assert service.port is not None
            yield Watching(written, Product(service.port, behind, store, service, metrics))
        finally:
            await service.close()
            if started:
                await behind.stop()


def memory() -> MemoryStore:
    """An empty store that a test can break."""
    return MemoryStore(boottime)


@contextlib.asynccontextmanager
async def stored(url: str) -> AsyncIterator[Store]:
    """A store as it is deployed."""
    settings = load_text(f"upstream: http://127.0.0.1:1\nstore: {url}\nroutes: []\n", "test.yaml", {})
    store = store_of(settings, Metrics(own_cells()))
    try:
        yield store
    finally:
        await store.close()


class Held:
    """An upstream that answers when it is let go."""

    def __init__(self, answer: bytes = CREATED) -> None:
        self.go = asyncio.Event()
        self.api = Api()
        self.api.respond = self._respond
        self._answer = answer

    async def _respond(self, exchange: Exchange) -> None:
        await self.go.wait()
        await exchange.send(self._answer)
