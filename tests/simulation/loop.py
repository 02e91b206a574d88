"""Event loops on virtual time. Each simulated process has one of its own; one world runs them all, and time jumps from one event to
the next. What runs when depends on the world's random numbers and on nothing else: no thread, socket, real clock or hash."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from heapq import heappop, heappush
from typing import Any, TypeVar, cast

T = TypeVar("T")
Callback = Callable[..., object]


class TooLong(AssertionError):
    """A schedule that does not come to rest."""


class Pace(Enum):
    """How a process runs."""

    RUNNING = auto()
    STOPPED = auto()
    """None of its instructions run; what comes for it waits, as after SIGSTOP."""
    DEAD = auto()
    BURIED = auto()
    """Dead, and its coroutines are being unwound so that Python can forget them: nothing that they do counts."""


class Moment(Enum):
    """Where in an execution a process is, for faults that are to hit just there."""

    CLAIMED = auto()
    """The claim's reply has come, and nobody has seen it yet."""
    CONNECTED = auto()
    """Not a byte is sent."""
    SENT = auto()
    ANSWERED = auto()
    """The upstream's answer, or the news that there is none, has come, and nobody has seen it yet."""
    ENDED = auto()
    """The reply to an end has come."""


class Handle:
    """A callback that is due, or will be: cancelled by taking the callback away."""

    __slots__ = ("args", "callback", "context", "timer")

    def __init__(self, callback: Callback, args: tuple[Any, ...], context: contextvars.Context, *, timer: bool) -> None:
        self.callback: Callback | None = callback
        self.args = args
        self.context = context
        self.timer = timer

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None


class SimTask(asyncio.Task[Any]):
    """A task whose hash does not depend on where it lies in memory, so that sets of tasks have the same order in each run."""

    serial = 0

    def __hash__(self) -> int:
        return self.serial


@dataclass(frozen=True, slots=True)
class Clocks:
    """A process's clocks: none begins at 0, none begins where another does, and they run a little fast or slow."""

    rate: float
    loop_base: float
    boot_base: float


class World:
    """Virtual time, everything that will happen, and the processes that are ready to run."""

    def __init__(self, seed: int, most_steps: int = 200_000) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self.current: ProcessLoop | None = None
        """The process whose code ran last."""
        self._most_steps = most_steps
        self._events: list[tuple[float, float, int, ProcessLoop | None, Handle]] = []
        self._runnable: deque[ProcessLoop] = deque()
        self._numbers = seed << 32
        """The hashes of tasks: those of other schedules, which Python may still remember, do not collide with them."""
        self._context = contextvars.copy_context()

    def after(self, seconds: float, callback: Callback, *args: object) -> Handle:
        """Something of the world's own: a command reaches the store, a fault begins."""
        handle = Handle(callback, args, self._context, timer=False)
        self.push(self.now + seconds, None, handle)
        return handle

    def deliver(self, seconds: float, loop: ProcessLoop, callback: Callback, *args: object) -> Handle:
        """Something that reaches a process from outside: it waits while the process is stopped, and is lost when it is dead."""
        handle = Handle(callback, args, self._context, timer=False)
        self.push(self.now + seconds, loop, handle)
        return handle

    def push(self, when: float, loop: ProcessLoop | None, handle: Handle) -> None:
        self._numbers += 1
        heappush(self._events, (max(self.now, when), self.chance.random(), self._numbers, loop, handle))

    def wake(self, loop: ProcessLoop) -> None:
        """The loop has something ready."""
        self._runnable.append(loop)

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def run(self) -> None:
        """Until nothing is left to happen. Raises TooLong."""
        try:
            self._run()
        finally:
            self.current = None
            asyncio._set_running_loop(None)

    def _run(self) -> None:
        events, runnable = self._events, self._runnable
        while True:
            while runnable:
                runnable.popleft().turn()
            if not events:
                return
            when, _, _, loop, handle = heappop(events)
            if handle.callback is None or (loop is not None and loop.gone):
                continue
            self.now = when
            self.steps += 1
            if self.steps > self._most_steps:
                raise TooLong(f"{self.steps} events, and still more to come")
            if loop is None:
                handle.callback(*handle.args)
            else:
                loop.due(handle)


class ProcessLoop:
    """The event loop of one process: as much of asyncio's interface as asyncio's own tasks, futures and time-outs need."""

    def __init__(self, world: World, name: str, clocks: Clocks, failed: Callable[[str], None]) -> None:
        """`failed` is told of what nobody handled."""
        self.name = name
        self.pace = Pace.RUNNING
        self.gone = False
        """Dead or buried: asked at each event, so kept beside `pace`."""
        self.tasks: list[SimTask] = []
        self.steps_left: int | None = None
        """How many callbacks run until `at_step` is called; None: it is not."""
        self.at_step: Callable[[], None] | None = None
        self.moments: dict[Moment, Callable[[], None]] = {}
        """What happens when the process is there next."""
        self._world = world
        self._clocks = clocks
        self._failed = failed
        self._ready: deque[Handle] = deque()
        self._held: list[Handle] = []
        self._turn_began = 0.0
        self._queued = False
        self._itself = cast("asyncio.AbstractEventLoop", self)

    # ------------------------------------------------------------------------------------------------ what asyncio asks of a loop

    def time(self) -> float:
        """As of the turn's begin, as uvloop has it: a process that was stopped in mid-turn reads an old time."""
        return self._turn_began

    def call_soon(self, callback: Callback, *args: object, context: contextvars.Context | None = None) -> Handle:
        handle = Handle(callback, args, context or contextvars.copy_context(), timer=False)
        self._ready.append(handle)
        if not self._queued:
            self._queued = True
            self._world.wake(self)
        return handle

    def call_later(
        self, delay: float, callback: Callback, *args: object, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self._turn_began + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callback, *args: object, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context or contextvars.copy_context(), timer=True)
        self._world.push((when - self._clocks.loop_base) / self._clocks.rate, self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._itself)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        task = SimTask.__new__(SimTask)
        task.serial = self._world.number()
        SimTask.__init__(task, coro, loop=self._itself, context=context)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.gone:
            error = context.get("exception")
            self._failed(f"{context.get('message')}: {error!r}")

    # ------------------------------------------------------------------------------------------------------ what the world does

    def clock(self) -> float:
        """The process's clock for leases, read freshly."""
        return self._clocks.boot_base + self._world.now * self._clocks.rate

    def reached(self, moment: Moment) -> None:
        """The process is there."""
        if self.moments and (act := self.moments.pop(moment, None)) is not None:
            act()

    def due(self, handle: Handle) -> None:
        """An event of this process has come."""
        if self.pace is Pace.STOPPED:
            self._held.append(handle)
            return
        self._ready.append(handle)
        if not self._queued:
            self._queued = True
            self._world.wake(self)

    def turn(self) -> None:
        """One iteration: whatever was ready when it began."""
        if self.pace is Pace.RUNNING:
            self._turn_began = self._clocks.loop_base + self._world.now * self._clocks.rate
            self._run(len(self._ready))

    def stop(self) -> None:
        """Freeze."""
        if self.pace is Pace.RUNNING:
            self.pace = Pace.STOPPED

    def go_on(self) -> None:
        """Thaw: what was ready runs on in its turn, with the time that it read before; then comes what waited, either in the order in
        which it came, or the timers first (as libuv does), or last (as asyncio does)."""
        if self.pace is not Pace.STOPPED:
            return
        self.pace = Pace.RUNNING
        self._queued = False
        rest = len(self._ready)
        held, self._held = self._held, []
        match self._world.chance.randrange(3):
            case 0:
                held.sort(key=lambda handle: not handle.timer)
            case 1:
                held.sort(key=lambda handle: handle.timer)
            case _:
                pass
        if rest:
            self._run(rest)
        self._ready.extend(held)
        if self._ready and not self._queued and self.pace is Pace.RUNNING:
            self._queued = True
            self._world.wake(self)

    def kill(self) -> None:
        """Crash: nothing of it runs again."""
        self.pace = Pace.DEAD
        self.gone = True

    def bury(self) -> list[asyncio.Task[Any]]:
        """Unwind what the dead process left, which otherwise Python would complain of. Gives the tasks that would not end."""
        self.pace = Pace.BURIED
        self.gone = True
        self._ready.extend(self._held)
        asyncio._set_running_loop(self._itself)
        try:
            for _ in range(20):
                left = [task for task in self.tasks if not task.done()]
                if not left:
                    break
                for task in left:
                    task.cancel()
                while self._ready:
                    handle = self._ready.popleft()
                    if handle.callback is not None:
                        with contextlib.suppress(Exception):
                            handle.context.run(handle.callback, *handle.args)
        finally:
            asyncio._set_running_loop(None)
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        return [task for task in self.tasks if not task.done()]

    def _run(self, count: int) -> None:
        world, ready = self._world, self._ready
        if world.current is not self:
            world.current = self
            asyncio._set_running_loop(self._itself)
        world.steps += count
        for _ in range(count):
            handle = ready.popleft()
            callback = handle.callback
            if callback is None:
                continue
            try:
                handle.context.run(callback, *handle.args)
            except Exception as error:
                self._failed(f"a callback raised {error!r}")
            if self.steps_left is not None:
                self._step()
                if self.pace is not Pace.RUNNING:
                    return
        self._queued = bool(ready)
        if ready:
            world.wake(self)

    def _step(self) -> None:
        assert self.steps_left is not None
        self.steps_left -= 1
        if self.steps_left <= 0 and self.at_step is not None:
            self.steps_left, act, self.at_step = None, self.at_step, None
            act()
