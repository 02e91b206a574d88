"""A circuit around a store, itself a store: while the store is dead, no request pays its time limit to learn so again.

It opens after a run of failures. Then what a request waits for first (`claim`, `take_over`, `get`) is refused at once, but for one
trial a pause; and it looks itself as often, so that a store that came back while nobody asked refuses nobody. What an owner asks
until it is acknowledged always goes through, and its result counts too: any success closes it.

Some failures say nothing of a dead store. What the store itself refuses came from a store that is there, and costs no time: other
commands may well succeed. And all that was under way on one connection fails together when that breaks, so a run is only believed
once a command has failed that was asked after its first failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, assert_never

from idemproxy.clocks import Clock
from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.record import State
from idemproxy.stores.base import (
    Check,
    Claim,
    ClaimFact,
    Completion,
    EndFact,
    LookFact,
    MarkUnknown,
    NameNewest,
    Newest,
    NextAttempt,
    NextFact,
    Page,
    Refused,
    Release,
    Renewal,
    RenewFact,
    Settlement,
    Store,
    TakeBack,
    TakeOver,
    TakeOverFact,
)

T = TypeVar("T")

RUN: Final = 5
"""Failures in a row that open the circuit."""
PAUSE: Final = 1.0
"""Seconds from the opening, or from a trial's beginning, to the next trial."""
NOWHERE: Final = "0" * 64
"""An id that no operation has: read to see whether the store answers."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Every command goes through. `failures` is of the run up to now: none, where the last command succeeded."""

    failures: int


@dataclass(frozen=True, slots=True)
class Open:
    """Requests are refused; from `trial_at` on, on the circuit's clock, the next one is a trial. `error` is of the last failure."""

    failures: int
    error: str
    trial_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Trying:
    """Requests are refused, while one that was let through at `since` is under way. Each trial is itself alone."""

    failures: int
    error: str
    since: float


CircuitState = Closed | Open | Trying

_CLOSED: Final = Closed(0)


class Circuit:
    """See `stores/base.py`. Asked commands raise what those of `store` raise, and StoreUnavailable where they are refused."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        told: Callable[[CircuitState], None] = lambda _: None,
        *,
        run: int = RUN,
        pause: float = PAUSE,
    ) -> None:
        """`told` is called each time that the circuit opens or closes."""
        self._store = store
        self._clock = clock
        self._told = told
        self._run = run
        self._pause = pause
        self._stands: CircuitState = _CLOSED
        self._looking: asyncio.Task[None] | None = None

    @property
    def state(self) -> CircuitState:
        """How it stands now. Without a command, time alone does not change it."""
        return self._state

    @property
    def _state(self) -> CircuitState:
        return self._stands

    @_state.setter
    def _state(self, state: CircuitState) -> None:
        before, self._stands = self._stands, state
        if isinstance(before, Closed) is isinstance(state, Closed):
            return
        if not isinstance(state, Closed) and (self._looking is None or self._looking.done()):
            self._looking = asyncio.ensure_future(self._look())
        self._told(state)

    async def _look(self) -> None:
        """One trial a pause, whether anybody asks or not, until the store answers."""
        while not isinstance(self._state, Closed):
            await asyncio.sleep(self._pause)
            with contextlib.suppress(StoreError):
                await self.get(NOWHERE)

    # ----------------------------------------------------------------------------------------- what a request waits for first

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        trial = self._admit()
        return await self._heard(self._store.claim(record_id, claim), trial)

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        trial = self._admit()
        return await self._heard(self._store.take_over(record_id, take_over), trial)

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        trial = self._admit()
        return await self._heard(self._store.name_newest(marker_id, asked), trial)

    async def get(self, record_id: str) -> LookFact:
        trial = self._admit()
        return await self._heard(self._store.get(record_id), trial)

    # --------------------------------------------------------------------------------------------------------- what always goes

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        return await self._heard(self._store.renew(record_id, renewal))

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact:
        return await self._heard(self._store.next_attempt(record_id, asked))

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        return await self._heard(self._store.complete(record_id, completion))

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        return await self._heard(self._store.mark_unknown(record_id, mark))

    async def release(self, record_id: str, release: Release) -> EndFact:
        return await self._heard(self._store.release(record_id, release))

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._heard(self._store.take_back(record_id, take_back))

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        return await self._heard(self._store.settle(record_id, settlement))

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        """That listening has begun is a success; it has no other."""

        def begun() -> None:
            self._state = _CLOSED
            listening()

        await self._heard(self._store.watch(wake, begun))

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        return await self._heard(self._store.scan(state=state, rule=rule, limit=limit, cursor=cursor))

    async def check(self) -> Check:
        return await self._heard(self._store.check())

    async def close(self) -> None:
        """How a store closes says nothing of whether it answers."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._store.close()

    # ------------------------------------------------------------------------------------------------------------ how it stands

    def _admit(self) -> Trying | None:
        """The trial that a request's command is, where it is one. Raises StoreUnavailable for one that is refused."""
        match self._state:
            case Closed():
                return None
            case Open(failures, error, trial_at) if self._clock() >= trial_at:
                trial = Trying(failures, error, self._clock())
                self._state = trial
                return trial
            case Open(failures, error) | Trying(failures, error):
                raise StoreUnavailable(
                    f"the store failed {failures} times in a row, and is not asked now: it is tried again every {self._pause:g} s; "
                    f"the last failure: {error}"
                )
            case other:
                assert_never(other)

    async def _heard(self, asking: Coroutine[Any, Any, T], trial: Trying | None = None) -> T:
        """What the store gives; its success or failure counts. A trial that ends in neither, cancelled, makes room for another."""
        began = self._state
        try:
            fact = await asking
        except Refused:
            self._state = _CLOSED
            raise
        except (StoreUnavailable, StoreAmbiguous) as error:
            self._failed(str(error), began, trial)
            raise
        except StoreError:
            self._state = _CLOSED
            raise
        except BaseException:
            if trial is not None and self._state is trial:
                self._state = Open(trial.failures, trial.error, trial.since)
            raise
        self._state = _CLOSED
        return fact

    def _failed(self, error: str, began: CircuitState, trial: Trying | None) -> None:
        """`began`: how the circuit stood when the command was asked."""
        match self._state:
            case Closed(failures):
                believed = failures + 1 >= self._run and began != _CLOSED
                trial_at = self._clock() + self._pause
                self._state = Open(failures + 1, error, trial_at) if believed else Closed(failures + 1)
            case Open(failures) as state:
                self._state = replace(state, failures=failures + 1, error=error)
            case Trying(failures, _, since) as state:
                if state is trial:
                    self._state = Open(failures + 1, error, since + self._pause)
            case other:
                assert_never(other)
