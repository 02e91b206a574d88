"""One serving process: what it is told, by signals or by its parent, and what it does then."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvloop
from structlog.typing import FilteringBoundLogger

from idemproxy.config.settings import Settings
from idemproxy.errors import StartError
from idemproxy.observe.cells import Cells, own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import listening
from idemproxy.runtime.listening import Bound
from idemproxy.runtime.reload import NotReloaded, Reread, named_otherwise, read_again
from idemproxy.runtime.service import Service, store_of

log: FilteringBoundLogger = structlog.get_logger()

DRAIN: Final = b"d"
HURRY: Final = b"h"
RELOAD: Final = b"r"
"""What a parent tells its workers."""
READY: Final = b"+"
FAILED: Final = b"-"
"""What a worker tells its parent: it serves; or it cannot, with the reason behind the sign."""


class Told:
    """What this process was told. To be made in its running event loop."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()

    def listen_to_signals(self) -> None:
        """SIGTERM or SIGINT: drain; once more: hurry. SIGHUP: reload."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def listen_to_parent(self, channel: socket.socket) -> None:
        """Its orders. A parent that is gone means: drain."""
        asyncio.get_running_loop().add_reader(channel, self._hear, channel)

    def _stop(self) -> None:
        (self.hurry if self.drain.is_set() else self.drain).set()

    def _hear(self, channel: socket.socket) -> None:
        try:
            said = channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            asyncio.get_running_loop().remove_reader(channel)
            if not self.drain.is_set():
                log.error("parent process gone", doing="draining")
            self.drain.set()
        for order, event in ((DRAIN, self.drain), (HURRY, self.hurry), (RELOAD, self.reload)):
            if order in said:
                event.set()


@dataclass(frozen=True, slots=True)
class Role:
    """What a process is among others: who tells it, whom it tells, and how its lines are marked."""

    told: Told
    serving: Callable[[Service], None]
    reloaded: Callable[[Settings, Settings], None]
    log: FilteringBoundLogger


def run_alone(settings: Settings, reread: Reread | None) -> None:
    """Serve in this process until a signal stops it. Raises StartError."""

    async def serve() -> None:
        told = Told()
        told.listen_to_signals()
        role = Role(told, lambda service: say_where(service.settings, service.port), say_reloaded, log)
        await _serve(settings, reread, own_cells(), None, role)

    _run(serve())


def run_as_worker(
    settings: Settings, reread: Reread | None, cells: Cells, bound: Bound, channel: socket.socket, number: int
) -> None:
    """Serve until the parent says to stop, or is gone. Raises StartError."""

    def serving(_: Service) -> None:
        with contextlib.suppress(OSError):
            channel.send(READY)

    async def serve() -> None:
        told = Told()
        told.listen_to_parent(channel)
        await _serve(settings, reread, cells, bound, Role(told, serving, lambda _, __: None, log.bind(worker=number)))

    _run(serve())


def say_where(settings: Settings, port: int | None) -> None:
    """The one line that a run prints."""
    where = listening.shown(settings.listen, port, "http" if settings.listen_tls is None else "https")
    sys.stdout.write(f"idemproxy listening on {where}, upstream {settings.upstream.url}\n")
    sys.stdout.flush()


def say_warnings(settings: Settings) -> None:
    """What is allowed and surprising."""
    for warning in settings.warnings:
        log.warning("configuration", warning=warning)


def say_reloaded(before: Settings, after: Settings) -> None:
    """What is surprising about the configuration, and about the change to it."""
    say_warnings(after)
    for rule in named_otherwise(before, after):
        log.warning(
            "operations named otherwise",
            rule=rule,
            meaning="its scope or key.from changed: a retry of an operation that began before is executed as a new one",
        )


def say_refused(to: FilteringBoundLogger, error: Exception) -> None:
    """Why a configuration was not reloaded: every fault in a line of its own."""
    match error:
        case NotReloaded(faults=faults):
            pass
        case StartError():
            faults = (str(error),)
        case _:
            to.error("configuration not reloaded", doing="going on with the one in use", exc_info=error)
            return
    for fault in faults:
        to.error("configuration not reloaded", fault=fault, doing="going on with the one in use")


def say_no_file(to: FilteringBoundLogger) -> None:
    """There is nothing to reload."""
    to.warning("configuration not reloaded", fault="this run has no file", doing="going on with the one in use")


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _serve(settings: Settings, reread: Reread | None, cells: Cells, bound: Bound | None, role: Role) -> None:
    metrics = Metrics(cells)
    async with contextlib.AsyncExitStack() as opened:
        store = store_of(settings, metrics)
        opened.push_async_callback(store.close)
        service = Service(settings, store, metrics, bound)
        opened.push_async_callback(service.close)
        await service.start()
        # What is here by now stays: the collector need not look at it again and again while requests come.
        gc.collect()
        gc.freeze()
        role.serving(service)
        reloading = asyncio.create_task(_keep_reloading(service, reread, role))
        try:
            await role.told.drain.wait()
        finally:
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)
        role.log.info("draining", patience_s=service.settings.drain_timeout / 1000)
        await service.drain(role.told.hurry.wait())
    role.log.info("stopped")


async def _keep_reloading(service: Service, reread: Reread | None, role: Role) -> None:
    asked = role.told.reload
    while True:
        await asked.wait()
        asked.clear()
        if reread is None:
            say_no_file(role.log)
            continue
        try:
            # In a thread: names are resolved on the way, and requests go on meanwhile.
            before = service.settings
            service.take_over(await asyncio.to_thread(read_again, before, reread))
        except Exception as error:  # whatever it is, the process goes on as it was
            say_refused(role.log, error)
        else:
            role.reloaded(before, service.settings)
            role.log.info("configuration reloaded", rules=len(service.settings.rules))
