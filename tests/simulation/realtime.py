"""The modelled store on a real event loop, for the suite that every store has to pass."""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Callable
from typing import Any, Final

from idemproxy.stores.semantics import Slot
from tests.simulation.loop import Clocks, Handle, ProcessLoop, World
from tests.simulation.process_store import SimStore
from tests.simulation.store import Command, Server, StoreFaults
from tests.simulation.telling import Trace

ADDRESS: Final = "simulated:store"
TIMEOUT: Final = 30.0


class RealTime:
    """Carries commands with real delays."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def after(self, seconds: float, callback: Callable[..., object], *args: object) -> Handle:
        handle = Handle(callback, args, contextvars.copy_context(), timer=False)
        asyncio.get_running_loop().call_later(seconds, _call, handle)
        return handle

    def deliver(self, seconds: float, loop: ProcessLoop, callback: Callable[..., object], *args: object) -> Handle:
        return self.after(seconds, callback, *args)


class RealLoop(ProcessLoop):
    """Stands for the process whose real loop runs."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()


class Unobserved:
    """Nobody looks."""

    def applied(self, command: Command, before: Slot, after: Slot, fact: object, now: int) -> None:
        """Not looked at."""

    def replied(self, command: Command, fact: object) -> None:
        """Not looked at."""

    def troubled(self, loop: ProcessLoop) -> None:
        """Not looked at."""


def server() -> Server:
    """A store that loses nothing."""
    network = RealTime()
    return Server(network, Trace(lambda: network.now), StoreFaults(timeout=TIMEOUT, large=1 << 20), Unobserved())


def opened(at: Server) -> SimStore:
    """The store as one more process has it."""
    trace = Trace(lambda: 0.0)
    return SimStore(at, RealLoop(World(0), "suite", Clocks(1.0, 0.0, 0.0), lambda _: None), trace)


def _call(handle: Handle) -> None:
    if handle.callback is not None:
        handle.callback(*handle.args)
