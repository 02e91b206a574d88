"""One process: what is built from the settings, its signals, its start and its drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, assert_never, cast

import structlog
import uvloop
from aiohttp import web

from idemproxy import certificates
from idemproxy.admin import health
from idemproxy.admin import metrics as metrics_page
from idemproxy.clocks import boottime
from idemproxy.config.settings import Address, Settings, TcpAddress, UnixAddress
from idemproxy.errors import StartError, StoreError
from idemproxy.execution import Execution
from idemproxy.forwarding import Forwarding, Hop
from idemproxy.gateway import Gateway
from idemproxy.idempotency.record import TOKEN_BYTES
from idemproxy.observe import logs
from idemproxy.observe.cells import own_cells
from idemproxy.observe.counted import CountedStore
from idemproxy.observe.metrics import Metrics
from idemproxy.ownership import Ownership
from idemproxy.probing import Prober
from idemproxy.proxy.data_port import DataPort
from idemproxy.proxy.downstream import Limits
from idemproxy.proxy.outcome import Origin, Patience
from idemproxy.proxy.pool import Limits as PoolLimits
from idemproxy.proxy.upstream import Upstream
from idemproxy.startup import refuse_loop
from idemproxy.stores.base import Store
from idemproxy.stores.circuit import Circuit, CircuitState, Closed, Open, Trying
from idemproxy.stores.opening import backend
from idemproxy.waiters import Waiters

log = structlog.get_logger()

BACKLOG: Final = 1024
CHECK_AGAIN: Final = 2.0
"""Seconds between two tries to reach a store that was not there at the start."""
LAST_ANSWERS: Final = 2.0
"""Seconds that the last answers have to leave, after everything else is over."""
NOWHERE: Final = "0" * 64
"""An id that no operation has: read to see whether the store answers."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Gives the exit status."""
    logs.set_up(sys.stderr)
    for warning in settings.warnings:
        log.warning("configuration", warning=warning)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(settings))
    except StartError as error:
        sys.stderr.write(f"idemproxy: {error}\n")
        return 1
    return 0


async def _main(settings: Settings) -> None:
    refuse_loop(settings)
    stop, hurry = _signals()
    metrics = Metrics(own_cells())
    store = store_of(settings, metrics)
    service = Service(settings, store, metrics)
    try:
        await service.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload)
        where = _shown(settings.listen, service.port, "http" if settings.listen_tls is None else "https")
        sys.stdout.write(f"idemproxy listening on {where}, upstream {settings.upstream.url}\n")
        sys.stdout.flush()
        await stop.wait()
        log.info("draining", patience_s=settings.drain_timeout / 1000)
        await service.drain(hurry.wait())
    finally:
        await service.close()
        await store.close()
    log.info("stopped")


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

    return Circuit(CountedStore(store, metrics, boottime), boottime, told)


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """The first signal asks to stop, a second one to hurry."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told)
    return stop, hurry


class Service:
    """Everything that a process runs, joined."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._settings = settings
        self._store = store
        self._draining = False
        self._checking: asyncio.Task[None] | None = None
        timeouts = settings.upstream_timeouts
        pool = PoolLimits(settings.pool.max, settings.pool.queue, settings.pool.idle / 1000)
        patience = Patience(timeouts.connect / 1000, timeouts.response / 1000, timeouts.idle / 1000)
        self._tls = None if settings.listen_tls is None else certificates.listener(settings.listen_tls)
        self._upstream = Upstream(_origin(settings), pool)
        forwarding = Forwarding(self._upstream, _hop(settings), patience, settings.docs_url)
        self._ownership = Ownership(
            store, Execution(forwarding).carry_out, boottime, lambda: os.urandom(TOKEN_BYTES), metrics
        )
        self._waiters = Waiters(store, _deaf)
        self._prober = Prober(forwarding, store)
        self._gateway = gateway = Gateway(
            settings.rules,
            settings.namespace,
            settings.docs_url,
            forwarding,
            self._ownership,
            self._waiters,
            self._prober,
            boottime,
            metrics,
        )
        self._port = DataPort(gateway.serve, gateway.refusal, _failed, Limits())
        self._data = web.ServerRunner(cast("web.Server", self._port), shutdown_timeout=LAST_ANSWERS)
        admin = health.application(self._unready)
        metrics_page.add_to(admin, metrics)
        self._admin = web.AppRunner(admin, access_log=None, shutdown_timeout=LAST_ANSWERS)

    @property
    def port(self) -> int | None:
        """The port that was bound, where `listen` left the choice to the system."""
        addresses = self._data.addresses
        return addresses[0][1] if addresses and isinstance(addresses[0], tuple) else None

    async def start(self) -> None:
        """Listen. Raises StartError where an address cannot be had."""
        if self._settings.admin is not None:
            await _listen(self._admin, self._settings.admin, "admin")
        await _listen(self._data, self._settings.listen, "listen", self._tls)
        self._checking = asyncio.create_task(self._check())

    def reload(self) -> None:
        """Read the listener's certificate again; connections that are open keep theirs."""
        files = self._settings.listen_tls
        if self._tls is None or files is None:
            return
        try:
            certificates.reload(self._tls, files)
        except StartError as error:
            log.warning("certificate not reloaded", error=str(error), doing="going on with the one in use")
        else:
            log.info("certificate reloaded", certificate=files.certificate)

    async def drain(self, hurry: Awaitable[object]) -> None:
        """Finish what is in flight, within `drain_timeout` or until `hurry`; then say of the rest how far it came."""
        self._draining = True
        for site in list(self._data.sites):
            await site.stop()
        self._port.pre_shutdown()
        quiet = asyncio.ensure_future(self._quiet())
        hurried = asyncio.ensure_future(hurry)
        await asyncio.wait(
            [quiet, hurried], timeout=self._settings.drain_timeout / 1000, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not quiet.done():
            self._gateway.end_waits()
            self._ownership.cut()
            await asyncio.wait([quiet], timeout=3 * self._settings.store_timeout / 1000 + 1.0)
        quiet.cancel()
        await asyncio.gather(quiet, hurried, return_exceptions=True)

    async def close(self) -> None:
        """Give back everything that was opened, also after a start that failed half-way."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self._data.cleanup()
        await self._ownership.abandon()
        await self._waiters.close()
        await self._prober.close()
        await self._admin.cleanup()
        self._upstream.close()

    async def _quiet(self) -> None:
        await self._ownership.idle()
        await self._port.idle()

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


async def _listen(runner: web.BaseRunner, address: Address, setting: str, tls: ssl.SSLContext | None = None) -> None:
    await runner.setup()
    site: web.BaseSite
    match address:
        case TcpAddress(host, port):
            site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=BACKLOG)
        case UnixAddress(path):
            _remove_stale(path)
            site = web.UnixSite(runner, path, ssl_context=tls, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        what = error.strerror or str(error)
        raise StartError(
            f"cannot listen on {_shown(address, None)} (setting `{setting}`): {what}; choose another address, or end what uses it"
        ) from error


def _remove_stale(path: str) -> None:
    """A socket file that nobody listens on is what a killed process left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                Path(path).unlink()
        except OSError:
            pass


def _hop(settings: Settings) -> Hop:
    added = settings.hop
    return Hop(
        base=settings.upstream.base,
        authority=settings.upstream.authority,
        scheme=b"http" if settings.listen_tls is None else b"https",
        forwarded_headers=added.forwarded_headers,
        via=added.via,
        upstream_host=added.upstream_host,
    )


def _origin(settings: Settings) -> Origin:
    match settings.upstream.address:
        case UnixAddress(path):
            return Origin(host="", port=0, path=path, tls=None, server_name=None)
        case TcpAddress(host, port):
            if not settings.upstream.tls:
                return Origin(host=host, port=port, path=None, tls=None, server_name=None)
            files = settings.upstream_tls
            tls = certificates.upstream(files)
            return Origin(host=host, port=port, path=None, tls=tls, server_name=files.server_name or host)


def _shown(address: Address, bound: int | None, scheme: str = "http") -> str:
    match address:
        case TcpAddress(host, port):
            return f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound or port}"
        case UnixAddress(path):
            return f"unix:{path}"


def _deaf(error: StoreError) -> None:
    log.warning("store notices lost", error=str(error), doing="listening again; waiting requests poll meanwhile")


def _failed(error: BaseException) -> None:
    """A defect: its place is for the log, never for the client."""
    log.error("request failed", error=type(error).__name__, exc_info=error)
