"""A store whose commands are timed, and whose errors are counted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from idemproxy.clocks import Clock
from idemproxy.errors import StoreError
from idemproxy.idempotency.record import State
from idemproxy.observe.metrics import CommandMetrics, Metrics
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

COMMANDS: Final = (
    *("claim", "take_over", "renew", "next_attempt", "complete", "mark_unknown", "release", "take_back"),
    *("settle", "name_newest", "get", "scan", "check"),
)
"""The commands that are timed: those that give a fact and end."""


class CountedStore:
    """Another store, counted. Whatever refuses a command without asking the store (a circuit) goes around this, not inside it."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock) -> None:
        """`clock` only times commands: the cheapest will do, whatever leases are counted on."""
        self._store = store
        self._clock = clock
        (
            self._claim,
            self._take_over,
            self._renew,
            self._next_attempt,
            self._complete,
            self._mark_unknown,
            self._release,
            self._take_back,
            self._settle,
            self._name_newest,
            self._get,
            self._scan,
            self._check,
        ) = [metrics.command(command) for command in COMMANDS]
        self._watch = metrics.command_errors("watch")

    def claim(self, record_id: str, claim: Claim) -> Coroutine[Any, Any, ClaimFact]:
        return self._timed(self._claim, self._store.claim(record_id, claim))

    def take_over(self, record_id: str, take_over: TakeOver) -> Coroutine[Any, Any, TakeOverFact]:
        return self._timed(self._take_over, self._store.take_over(record_id, take_over))

    def renew(self, record_id: str, renewal: Renewal) -> Coroutine[Any, Any, RenewFact]:
        return self._timed(self._renew, self._store.renew(record_id, renewal))

    def next_attempt(self, record_id: str, asked: NextAttempt) -> Coroutine[Any, Any, NextFact]:
        return self._timed(self._next_attempt, self._store.next_attempt(record_id, asked))

    def complete(self, record_id: str, completion: Completion) -> Coroutine[Any, Any, EndFact]:
        return self._timed(self._complete, self._store.complete(record_id, completion))

    def mark_unknown(self, record_id: str, mark: MarkUnknown) -> Coroutine[Any, Any, EndFact]:
        return self._timed(self._mark_unknown, self._store.mark_unknown(record_id, mark))

    def release(self, record_id: str, release: Release) -> Coroutine[Any, Any, EndFact]:
        return self._timed(self._release, self._store.release(record_id, release))

    def take_back(self, record_id: str, take_back: TakeBack) -> Coroutine[Any, Any, None]:
        return self._timed(self._take_back, self._store.take_back(record_id, take_back))

    def settle(self, record_id: str, settlement: Settlement) -> Coroutine[Any, Any, EndFact]:
        return self._timed(self._settle, self._store.settle(record_id, settlement))

    def name_newest(self, marker_id: str, asked: NameNewest) -> Coroutine[Any, Any, Newest]:
        return self._timed(self._name_newest, self._store.name_newest(marker_id, asked))

    def get(self, record_id: str) -> Coroutine[Any, Any, LookFact]:
        return self._timed(self._get, self._store.get(record_id))

    def scan(
        self, *, state: State | None, rule: str | None, limit: int, cursor: str | None
    ) -> Coroutine[Any, Any, Page]:
        return self._timed(self._scan, self._store.scan(state=state, rule=rule, limit=limit, cursor=cursor))

    def check(self) -> Coroutine[Any, Any, Check]:
        return self._timed(self._check, self._store.check())

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        try:
            await self._store.watch(wake, listening)
        except StoreError as error:
            self._watch.add(error)
            raise

    async def close(self) -> None:
        await self._store.close()

    async def _timed(self, command: CommandMetrics, asked: Coroutine[Any, Any, T]) -> T:
        """A command that was cancelled took as long as its asker was patient: that says nothing of the store."""
        began = self._clock()
        try:
            fact = await asked
        except StoreError as error:
            command.errors.add(error)
            command.seconds.observe(self._clock() - began)
            raise
        command.seconds.observe(self._clock() - began)
        return fact
