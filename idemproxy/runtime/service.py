"""Everything that a serving process runs, joined: its ports, its plan, its drain."""

from __future__ import annotations

import asyncio
import ssl
import time
import weakref
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, assert_never, cast

import structlog
from aiohttp import web

from idemproxy import certificates
from idemproxy.admin import health
from idemproxy.admin import metrics as metrics_page
from idemproxy.clocks import boottime
from idemproxy.config.settings import Address, Settings
from idemproxy.errors import StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.observe.counted import CountedStore
from idemproxy.observe.metrics import Metrics
from idemproxy.probing import Prober
from idemproxy.proxy.data_port import DataPort
from idemproxy.proxy.downstream import Limits
from idemproxy.proxy.incoming import Incoming
from idemproxy.reauthorizing import Reauthorizer
from idemproxy.runtime import listening, plan
from idemproxy.runtime.listening import BACKLOG, Bound, Sockets
from idemproxy.runtime.plan import Prepared
from idemproxy.stores.base import Store
from idemproxy.stores.circuit import Circuit, CircuitState, Closed, Open, Trying
from idemproxy.stores.opening import backend
from idemproxy.tokens import Tokens
from idemproxy.waiters import Waiters

log = structlog.get_logger()

CHECK_AGAIN: Final = 2.0
"""Seconds between two tries to reach a store that was not there at the start."""
LAST_ANSWERS: Final = 2.0
"""Seconds that the last answers have to leave, after everything else is over."""
GRACE: Final = 1.0
"""Seconds of a drain in which a connection that waits for a request still gets one."""
HANDSHAKE: Final = 0.05
"""Seconds of a drain in which who has begun to connect gets through."""
TURNS: Final = 0.01
"""Seconds in which the loop makes connections of what was accepted last."""
SHARE: Final = 0.25
"""Of the drain time, the most that either of the first two takes."""
NOWHERE: Final = "0" * 64
"""An id that no operation has: read to see whether the store answers."""


def store_of(settings: Settings, metrics: Metrics) -> Circuit:
    """The store, counted, in its circuit."""
    store = backend(settings.store, namespace=settings.namespace, timeout_ms=settings.store_timeout)

    def told(state: CircuitState) -> None:
        match state:
            case Closed():
                metrics.store_circuit_open.set(0)
                log.info("store answers again", doing="asking it for every request")
            case Open(failures, error) | Trying(failures, error):
                metrics.store_circuit_open.set(1)
                log.error(
                    "store does not answer",
                    failures=failures,
                    error=error,
                    doing="answering by each rule's on_store_failure, and trying once a second",
                )
            case other:
                assert_never(other)

    return Circuit(CountedStore(store, metrics, time.monotonic), boottime, told)


class Service:
    """A process that serves. `bound` is what it listens on, where somebody else has made it."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics, bound: Bound | None = None) -> None:
        """Raises StartError where a file that the settings name cannot be used."""
        self._store = store
        self._bound = bound
        self._draining = False
        self._checking: asyncio.Task[None] | None = None
        self._arriving: set[asyncio.Task[object]] = set()
        self._tls = None if settings.listen_tls is None else certificates.listener(settings.listen_tls)
        self._waiters = Waiters(store, _deaf)
        self._shared = plan.share(store, self._waiters, metrics)
        self._plan = plan.make(plan.prepare(settings), self._shared, None)
        # A plan that was replaced lives for as long as a request that began under it, and may still ask.
        self._asking: weakref.WeakSet[Prober | Reauthorizer | Tokens] = weakref.WeakSet()
        self._port = DataPort(self._serve, self._refusal, _failed, Limits())
        self._data = web.ServerRunner(cast("web.Server", self._port), shutdown_timeout=LAST_ANSWERS)
        admin = health.application(self._unready)
        metrics_page.add_to(admin, metrics)
        self._admin = web.AppRunner(admin, access_log=None, shutdown_timeout=LAST_ANSWERS)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._plan.settings

    @property
    def port(self) -> int | None:
        """The port that was bound, where `listen` left the choice to the system."""
        return None if self._bound is None else self._bound.port

    async def start(self) -> None:
        """Listen. Raises StartError where an address cannot be had."""
        settings = self.settings
        bound = self._bound = self._bound or listening.bind(settings)[0]
        if settings.admin is not None:
            await _listen(self._admin, bound.admin, settings.admin, "admin")
        await _listen(self._data, bound.data, settings.listen, "listen", self._tls)
        self._checking = asyncio.create_task(self._check())
        self._begin_asking()

    def take_over(self, prepared: Prepared) -> None:
        """From the next request on, this configuration is in force. Raises StartError, and changes nothing, where the listener's
        certificate cannot be used."""
        before = self._plan
        after = plan.make(prepared, self._shared, before)
        if self._tls is not None and prepared.settings.listen_tls is not None:
            certificates.reload(self._tls, prepared.settings.listen_tls)
        self._plan = after
        self._begin_asking()
        before.upstream.close()

    def _begin_asking(self) -> None:
        """What can be fetched beforehand is there when the first request needs it."""
        self._asking.add(self._plan.prober)
        self._asking.add(self._plan.reauthorizer)
        if self._plan.tokens is not None:
            self._asking.add(self._plan.tokens)
            self._plan.tokens.warm()

    # -------------------------------------------------------------------------------------------------------------- its drain

    async def drain(self, hurry: Awaitable[object]) -> None:
        """Finish what is in flight, within `drain_timeout` or until `hurry`; then say of the rest how far it came."""
        self._draining = True
        patience = self.settings.drain_timeout / 1000
        grace = min(GRACE, SHARE * patience)
        self._port.begin_drain(grace)
        quiet = asyncio.ensure_future(self._quiet(grace, min(HANDSHAKE, SHARE * patience)))
        hurried = asyncio.ensure_future(hurry)
        try:
            await asyncio.wait([quiet, hurried], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not quiet.done():
                self._port.begin_drain(0.0)
                self._plan.gateway.end_waits()
                self._plan.ownership.cut()
                await asyncio.wait([quiet], timeout=3 * self.settings.store_timeout / 1000 + 1.0)
        finally:
            quiet.cancel()
            hurried.cancel()
            await asyncio.gather(quiet, hurried, return_exceptions=True)

    async def _quiet(self, grace: float, handshake: float) -> None:
        """Return once nobody is connected, and nothing is executed."""
        await self._stop_listening(handshake)
        if self._tls is not None:
            # Who is in the middle of a TLS handshake is no connection yet.
            await asyncio.sleep(grace)
        await self._port.idle()
        await self._plan.ownership.idle()
        await self._shared.watch.idle()

    async def _stop_listening(self, handshake: float) -> None:
        """Whoever has connected by now is served."""
        if self._bound is None:
            return
        for file in self._bound.files:
            file.remove()
        kept = [each.dup() for each in self._bound.data]
        try:
            for each in kept:
                listening.refuse_new(each)
            # asyncio loses a connection that it has accepted in the very turn in which its server closes: nobody comes any more then.
            await asyncio.sleep(handshake)
            for site in list(self._data.sites):
                await site.stop()
            for each in kept:
                for connection in listening.waiting(each):
                    accepting = asyncio.get_running_loop().connect_accepted_socket(
                        self._port, connection, ssl=self._tls
                    )
                    task: asyncio.Task[object] = asyncio.ensure_future(accepting)
                    self._arriving.add(task)
                    task.add_done_callback(self._arrived)
        finally:
            listening.close(kept)
        await asyncio.sleep(TURNS)

    def _arrived(self, task: asyncio.Task[object]) -> None:
        self._arriving.discard(task)
        if not task.cancelled():
            task.exception()  # a client that goes away, or does not speak TLS

    async def close(self) -> None:
        """Give back everything that was opened, also after a start that failed half-way."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self._data.cleanup()
        await self._plan.ownership.abandon()
        await self._shared.watch.abandon()
        await self._waiters.close()
        for asking in list(self._asking):
            await asking.close()
        await self._admin.cleanup()
        for task in list(self._arriving):
            task.cancel()
        if self._bound is not None:
            for file in self._bound.files:
                file.remove()
            self._bound.close()
        self._plan.upstream.close()

    # ----------------------------------------------------------------------------------------------------------- its requests

    def _serve(self, incoming: Incoming) -> Coroutine[Any, Any, None]:
        return self._plan.gateway.serve(incoming)

    def _refusal(self, status: int, detail: str) -> Answer:
        return self._plan.gateway.refusal(status, detail)

    async def _check(self) -> None:
        """Tell the operator what the store says of itself, as soon as it says something."""
        while True:
            try:
                check = await self._store.check()
            except StoreError as error:
                log.warning(
                    "store not reached",
                    error=str(error),
                    doing="serving by each rule's on_store_failure until it comes",
                )
                await asyncio.sleep(CHECK_AGAIN)
            else:
                log.info("store ready", store=check.description)
                for warning in check.warnings:
                    log.warning("store", warning=warning)
                return

    async def _unready(self) -> str | None:
        if self._draining:
            return "draining"
        try:
            await self._store.get(NOWHERE)
        except StoreError as error:
            return f"store: {error}"
        return None


async def _listen(
    runner: web.BaseRunner, sockets: Sockets, address: Address, setting: str, tls: ssl.SSLContext | None = None
) -> None:
    await runner.setup()
    for each in sockets:
        try:
            await web.SockSite(runner, each, ssl_context=tls, backlog=BACKLOG).start()
        except OSError as error:
            raise listening.cannot_listen(address, setting, error) from error


def _deaf(error: StoreError) -> None:
    log.warning("store notices lost", error=str(error), doing="listening again; waiting requests poll meanwhile")


def _failed(error: BaseException) -> None:
    """A defect: its place is for the log, never for the client."""
    log.error("request failed", error=type(error).__name__, exc_info=error)
