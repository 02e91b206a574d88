"""One schedule: a plan, carried out on virtual time to its end, with every invariant looked at on the way."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog

import idemproxy.gateway
import idemproxy.outcomes
import idemproxy.tee
from idemproxy.idempotency.matching import RouteTable
from idemproxy.idempotency.routes import Rule
from idemproxy.proxy.outcome import Patience
from tests.simulation.clients import Client, Habits
from tests.simulation.invariants import Invariants
from tests.simulation.loop import Pace, ProcessLoop, TooLong, World
from tests.simulation.operations import Op
from tests.simulation.plan import ANY, Act, Asking, Fault, Focus, Plan, draw_plan
from tests.simulation.process import Process, named
from tests.simulation.store import Server
from tests.simulation.telling import Finding, Trace, TracedLog
from tests.simulation.upstream import Service

LOG: Final = TracedLog()
TERMINAL: Final = frozenset({"outcome-unknown", "answer-not-kept", "key-reused"})
"""Problems after which nothing more will come."""
SLACK: Final = 0.2
LOOK: Final = 1.4
"""Seconds after which an open circuit has looked, and found the store well."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a schedule came to."""

    seed: int
    plan: str
    findings: tuple[Finding, ...]
    trace: Trace
    steps: int
    effects: int
    ended_at: float


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """The product, with its logs led into the traces and a few of its sizes made small enough to matter. For any number of schedules."""
    stack = contextlib.ExitStack()
    with stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("idemproxy.") and isinstance(getattr(module, "log", None), _LOGGER):
                stack.enter_context(_instead(module, "log", LOG))
        stack.enter_context(_instead(idemproxy.gateway, "RouteTable", _table))
        stack.enter_context(_instead(idemproxy.tee, "BUFFERED", 40))
        stack.enter_context(_instead(idemproxy.outcomes, "LARGE", 100))
        collecting = gc.isenabled()
        gc.disable()
        if collecting:
            stack.callback(gc.enable)
        yield


def run(seed: int, focus: Focus = ANY) -> Result:
    """The schedule of that seed. To be called within `prepared`."""
    world = World(seed)
    plan = draw_plan(world.chance, focus)
    schedule = Schedule(seed, world, plan)
    return schedule.run()


_TABLES: Final[dict[tuple[int, ...], RouteTable]] = {}


def _table(rules: tuple[Rule, ...]) -> RouteTable:
    """The real table, made once for each variant: the variants live as long as this module."""
    name = tuple(map(id, rules))
    return _TABLES.get(name) or _TABLES.setdefault(name, RouteTable(rules))


_LOGGER: Final = type(structlog.get_logger())


@contextlib.contextmanager
def _instead(of: object, name: str, value: object) -> Iterator[None]:
    before: Any = getattr(of, name)
    setattr(of, name, value)
    try:
        yield
    finally:
        setattr(of, name, before)


class Schedule:
    """A plan that is carried out."""

    def __init__(self, seed: int, world: World, plan: Plan) -> None:
        self._seed = seed
        self._world = world
        self._plan = plan
        self.trace = Trace(lambda: world.now)
        variant = plan.variant
        self._invariants = Invariants(world, self.trace, variant.rule, at_most_once=variant.at_most_once)
        self._server = Server(world, self.trace, plan.store, self._invariants, plan.quiet_at)
        self._server.timers = any(fault.act is Act.STOP for fault in plan.faults)
        self._invariants.server = self._server
        self._ops = {name: Op(*name) for name in plan.ops}
        self._service = Service(world, self.trace, plan.upstream, self._ops, self._invariants, plan.quiet_at)
        self._patience = Patience(connect=1.0, response=plan.response, idle=plan.response)
        self._generations = [0] * plan.processes
        self._ever: list[Process] = []
        self._processes = [self._start(number) for number in range(plan.processes)]
        self._clients: list[Client] = []
        self._last: list[Client] = []

    def run(self) -> Result:
        plan, world = self._plan, self._world
        self.trace.say("plan", plan.name, f"{plan.processes} processes, quiet at {plan.quiet_at:.2f}")
        for number, asking in enumerate(plan.askings):
            self._client(f"c{number}", asking)
        for fault in plan.faults:
            world.after(fault.at, self._begin_fault, fault)
        for outage in plan.outages:
            world.after(outage.at, self._server.begin_trouble, outage.trouble)
            world.after(outage.at + outage.lasts, self._server.end_trouble)
        for at in plan.wipes:
            world.after(at, self._wipe)
        world.after(plan.quiet_at, self._quiet)
        with LOG.to(self._logged):
            try:
                world.run()
            except TooLong as error:
                self.trace.find("a schedule comes to rest", str(error))
            self._judge()
            self.trace.closed = True
            self._bury()
        effects = sum(len(op.effects) for op in self._ops.values())
        return Result(self._seed, plan.name, tuple(self.trace.findings), self.trace, world.steps, effects, world.now)

    # ------------------------------------------------------------------------------------------------------------- its processes

    def _start(self, number: int) -> Process:
        self._generations[number] += 1
        name = f"p{number}.{self._generations[number]}"
        variant = self._plan.variant
        rule = variant.other if variant.other is not None and number % 2 else variant.rule
        process = Process(
            self._world,
            self.trace,
            self._server,
            self._service,
            name,
            rule,
            self._patience,
            self._plan.circuit,
            self._failed,
        )
        self._ever.append(process)
        return process

    def _restart(self, number: int) -> None:
        if not self._processes[number].alive:
            self._processes[number] = self._start(number)
            self.trace.say(self._processes[number].name, "starts")

    def _open(self) -> Process | None:
        doors = [process for process in self._processes if process.alive and not process.draining]
        return self._world.chance.choice(doors) if doors else None

    def _failed(self, what: str) -> None:
        self.trace.find("nothing fails unhandled", what)

    def _logged(self, level: str, event: str, fields: dict[str, object]) -> None:
        current = self._world.current
        name = "-" if current is None else current.name
        self.trace.say(name, f"log {level}: {event}", fields)
        self._invariants.logged(name, level, event, fields)

    # --------------------------------------------------------------------------------------------------------------- its faults

    def _begin_fault(self, fault: Fault) -> None:
        process = self._processes[fault.process]
        if fault.moment is not None:
            process.loop.moments[fault.moment] = lambda: self._at_step(fault, process)
        elif fault.steps:
            self._at_step(fault, process)
        else:
            self._do(fault, process)

    def _at_step(self, fault: Fault, process: Process) -> None:
        process.loop.steps_left = fault.steps
        process.loop.at_step = lambda: self._do(fault, process)

    def _do(self, fault: Fault, process: Process) -> None:
        if self._world.now >= self._plan.quiet_at or not process.alive:
            return
        world = self._world
        lasts = min(fault.lasts, self._plan.quiet_at - world.now)
        self._invariants.troubled(process.loop)
        match fault.act:
            case Act.CRASH:
                process.crash()
                world.after(lasts, self._restart, fault.process)
            case Act.STOP:
                process.stop()
                world.after(lasts, self._go_on, process)
            case Act.DRAIN:
                process.drain(lasts / 2, self._plan.store.timeout)
                world.after(lasts, self._restart_drained, fault.process, process)
            case Act.RELOAD:
                process.reload()
            case Act.BREAK:
                process.wire.break_connections()
            case Act.LEAVE:
                if process.incomings:
                    world.chance.choice(list(process.incomings)).client.leave()

    def _go_on(self, process: Process) -> None:
        if process.loop.pace is not Pace.STOPPED:
            return
        self._invariants.troubled(process.loop)
        process.go_on()

    def _restart_drained(self, number: int, drained: Process) -> None:
        """A new process listens while the old one still drains."""
        if self._processes[number] is drained:
            self._processes[number] = self._start(number)

    def _wipe(self) -> None:
        self._server.wipe()
        self._invariants.wiped()

    # -------------------------------------------------------------------------------------------------------------- its clients

    def _client(self, name: str, asking: Asking) -> None:
        op = self._ops[self._plan.ops[asking.op]]

        def door() -> Process | None:
            if asking.process is not None and (process := self._processes[asking.process]).alive:
                return process
            return self._open()

        client = Client(
            self._world,
            self.trace,
            self._invariants,
            name,
            op,
            asking.body,
            asking.habits,
            door,
            self._plan.quiet_at,
        )
        self._clients.append(client)
        self._world.after(asking.at, client.send)

    def _quiet(self) -> None:
        """Every fault is over. Two leases later each operation must come to its end."""
        self.trace.say("plan", "every fault is over")
        self._server.quiet()
        for process in self._ever:
            process.loop.steps_left = process.loop.at_step = None
            process.loop.moments.clear()
            if process.loop.pace is Pace.STOPPED:
                self._go_on(process)
        for number in range(len(self._processes)):
            self._restart(number)
        rule = self._plan.variant.rule
        settle = 0.0 if rule.probe is None else rule.probe.settle / 1000
        self._world.after(max(rule.lease / 1000 * 2, LOOK) + settle + SLACK, self._ask_last)

    def _ask_last(self) -> None:
        for op in self._ops.values():
            client = Client(
                self._world,
                self.trace,
                self._invariants,
                f"last {op}",
                op,
                op.bodies[0],
                Habits(tries=1),
                self._open,
                0.0,
            )
            self._last.append(client)
            client.send()

    # ------------------------------------------------------------------------------------------------------------------ its end

    def _judge(self) -> None:
        for client in self._last:
            reply = client.reply
            if reply is None or (reply.problem is not None and reply.problem not in TERMINAL):
                what = "nothing" if reply is None else f"{reply.status} {reply.problem}"
                self.trace.find("no key is stuck", f"{client.op} got {what} two leases after the last fault")
        for process in self._ever:
            if process.alive:
                self._at_rest(process)
        self._invariants.settled(list(self._ops.values()), _dead)

    def _at_rest(self, process: Process) -> None:
        for task in process.loop.tasks:
            if not task.done():
                self.trace.find("no task leaks", f"{process.name}: {named(task)}")
            elif task._log_traceback:
                self.trace.find("nothing fails unhandled", f"{process.name}: {named(task)}")
        for op in self._ops.values():
            if op.record_id and process.ownership.executing(op.record_id) is not None:
                self.trace.find("no task leaks", f"{process.name} still has {op} in its registry")

    def _bury(self) -> None:
        for process in self._ever:
            left = process.loop.bury()
            assert not left, f"seed {self._seed}: tasks that cannot be unwound: {left}"


def _dead(loop: ProcessLoop) -> bool:
    return loop.pace.name in ("DEAD", "BURIED")
