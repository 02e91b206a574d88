"""One simulated process: the product's real gateway, ownership, owners, waiters and executions on a loop of virtual time."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import cache
from typing import Any, Final, cast

from idemproxy.execution import Execution
from idemproxy.forwarding import Forwarding, Hop
from idemproxy.gateway import Gateway
from idemproxy.idempotency.routes import Rule
from idemproxy.identifying import Identifier
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.observing import Observing, Watch
from idemproxy.ownership import Ownership
from idemproxy.probing import Prober
from idemproxy.proxy.incoming import Incoming
from idemproxy.proxy.outcome import Patience
from idemproxy.proxy.upstream import Upstream
from idemproxy.reauthorizing import Reauthorizer
from idemproxy.shadows import Shadows
from idemproxy.stores.base import Store
from idemproxy.stores.circuit import Circuit
from idemproxy.waiters import Waiters
from tests.simulation.clients import SimIncoming
from tests.simulation.loop import Clocks, Pace, ProcessLoop, World
from tests.simulation.operations import CURRENT
from tests.simulation.process_store import SimStore
from tests.simulation.store import Server
from tests.simulation.telling import Trace
from tests.simulation.upstream import Service, SimUpstream

HOP: Final = Hop(base=b"", authority=b"api")
DRIFT: Final = 0.01
"""How much faster or slower than the store's a process's clock may run."""


@cache
def _metrics() -> Metrics:
    """One for all processes: nothing that is decided depends on a count."""
    return Metrics(own_cells())


class Process:
    """A proxy, from its start to its crash or its exit."""

    def __init__(
        self,
        world: World,
        trace: Trace,
        server: Server,
        service: Service,
        name: str,
        rule: Rule,
        patience: Patience,
        circuit: bool,
        failed: Callable[[str], None],
    ) -> None:
        chance = world.chance
        clocks = Clocks(1 + (chance.random() - 0.5) * 2 * DRIFT, chance.random() * 1e4, chance.random() * 1e6)
        self.name = name
        self.draining = False
        self.loop = ProcessLoop(world, name, clocks, failed)
        self.wire = SimStore(server, self.loop, trace)
        store: Store = Circuit(self.wire, self.loop.clock) if circuit else self.wire
        self.incomings: dict[SimIncoming, None] = {}
        self._emptied: asyncio.Future[None] | None = None
        self._world = world
        self._trace = trace
        self._failed = failed
        self._service = service
        self._rule = rule
        self._patience = patience
        self._store = store
        self._waiters = Waiters(store, lambda error: trace.say(name, "notices lost", error))
        forwarding = self._forwarding()
        self.ownership = Ownership(
            store, Execution(forwarding).carry_out, self.loop.clock, lambda: chance.randbytes(16), _metrics()
        )
        self._probers = [Prober(forwarding, store)]
        self._gateway = self._gateway_of(forwarding)

    def _forwarding(self) -> Forwarding:
        upstream = SimUpstream(self._service, self.loop, self._patience.response)
        return Forwarding(cast("Upstream", upstream), HOP, self._patience, "")

    def _gateway_of(self, forwarding: Forwarding) -> Gateway:
        rules, metrics, tokens = (self._rule,), _metrics(), self.ownership.tokens
        identifier = Identifier("shop", self._store, tokens)
        watch = Watch(Shadows(self._store, tokens), self.loop.clock, metrics)
        return Gateway(
            rules,
            identifier,
            "",
            forwarding,
            self.ownership,
            self._waiters,
            self._probers[-1],
            Reauthorizer(forwarding, self.loop.clock),
            Observing(rules, identifier, forwarding, watch),
            self.loop.clock,
            metrics,
        )

    @property
    def alive(self) -> bool:
        return self.loop.pace in (Pace.RUNNING, Pace.STOPPED)

    def accept(self, incoming: SimIncoming) -> bool:
        if not self.alive or self.draining:
            return False
        self.incomings[incoming] = None
        self._world.deliver(self._world.chance.random() * 0.001, self.loop, self._serve, incoming)
        return True

    def closed(self, incoming: SimIncoming) -> None:
        self.incomings.pop(incoming, None)
        if self._emptied is not None and not self.incomings and not self._emptied.done():
            self._emptied.set_result(None)

    def crash(self) -> None:
        """As by SIGKILL: nothing of it runs again, what it sent is on its way."""
        if self.alive:
            self._trace.say(self.name, "CRASHES")
            self._end()

    def stop(self) -> None:
        self._trace.say(self.name, "STOPPED")
        self.loop.stop()

    def go_on(self) -> None:
        self._trace.say(self.name, "goes on")
        self.loop.go_on()

    def reload(self) -> None:
        """As by SIGHUP, with a file that says the same: what is under way goes on under the old plan."""
        self._trace.say(self.name, "reloads")
        self._world.deliver(0.0, self.loop, self._begin_plan)

    def drain(self, patience: float, store_timeout: float) -> None:
        """As by SIGTERM."""
        if self.alive and not self.draining:
            self.draining = True
            self._trace.say(self.name, "drains")
            self._world.deliver(0.0, self.loop, self._begin_drain, patience, store_timeout)

    def _serve(self, incoming: SimIncoming) -> None:
        if incoming.gone:
            return
        context = contextvars.copy_context()
        context.run(CURRENT.set, incoming.client.op)
        serving = self._gateway.serve(cast("Incoming", incoming))
        self.loop.create_task(serving, context=context).add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(f"request failed: {error!r}")

    def _begin_plan(self) -> None:
        """The steps that `runtime.plan.make` takes."""
        before, forwarding = self._gateway, self._forwarding()
        self.ownership = self.ownership.forwarding_by(Execution(forwarding).carry_out)
        self._probers.append(Prober(forwarding, self._store))
        self._gateway = self._gateway_of(forwarding)
        self._gateway.succeed(before)

    def _begin_drain(self, patience: float, store_timeout: float) -> None:
        self.loop.create_task(self._drain(patience, store_timeout)).add_done_callback(self._served)

    async def _drain(self, patience: float, store_timeout: float) -> None:
        """The steps that `runtime.service.Service` takes."""
        quiet = asyncio.ensure_future(self._quiet())
        await asyncio.wait([quiet], timeout=patience)
        if not quiet.done():
            self._gateway.end_waits()
            self.ownership.cut()
            await asyncio.wait([quiet], timeout=3 * store_timeout + 1.0)
        quiet.cancel()
        await asyncio.gather(quiet, return_exceptions=True)
        for incoming in list(self.incomings):
            incoming.lost()
        await asyncio.sleep(0.1)
        await self.ownership.abandon()
        await self._waiters.close()
        for prober in self._probers:
            await prober.close()
        await self._store.close()
        await asyncio.sleep(0.1)
        self._world.after(0.0, self._exit)

    async def _quiet(self) -> None:
        await self.ownership.idle()
        if self.incomings:
            self._emptied = self.loop.create_future()
            await self._emptied

    def _exit(self) -> None:
        if self.alive:
            self._trace.say(self.name, "EXITS")
            for task in self.loop.tasks:
                if not task.done():
                    self._failed(f"a task outlives the drain: {named(task)}")
            self._end()

    def _end(self) -> None:
        self.loop.kill()
        for incoming in self.incomings:
            self._world.after(0.001, incoming.client.broken, incoming)
        self.incomings.clear()


def named(task: asyncio.Task[Any]) -> str:
    """What a task runs."""
    return str(getattr(task.get_coro(), "__qualname__", "?"))
