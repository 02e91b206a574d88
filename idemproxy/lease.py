"""The lease of a won claim, as its owner sees it: its renewal, and the send guard (DESIGN.md section 4, *Send guard*)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

import structlog

from idemproxy.clocks import Clock
from idemproxy.errors import StoreError
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.routes import Rule
from idemproxy.observe.metrics import RuleMetrics
from idemproxy.stores.base import Claimed, Dead, Found, Locked, Missing, NextAttempt, Renewal, Renewed, RenewFact, Store

log = structlog.get_logger()

MARGIN: Final = 0.1
"""The part of a lease that the send guard leaves to the store's clock, at most one second."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two askings for a renewal that the store did not answer, at most."""


class Lease:
    """One claim's lease, from when it was won. `asked_at` is when the claim was asked, on the owner's clock: it is counted from there."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        record_id: str,
        rule: Rule,
        token: bytes,
        won: Claimed,
        asked_at: float,
        metrics: RuleMetrics,
    ) -> None:
        self.attempt = won.attempt
        """The number of the attempt that the claim allows."""
        self.version = won.version
        self._store = store
        self._clock = clock
        self._record_id = record_id
        self._rule = rule
        self._token = token
        self._metrics = metrics
        self.lost = False
        """Whether another was found to own the operation."""
        self._confirmed_at = asked_at
        self._good_until = self._end(asked_at)
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def holds(self) -> bool:
        """Whether nobody else can own the operation now, read freshly each time."""
        return not self.lost and self._clock() < self._good_until

    @property
    def unconfirmed(self) -> float:
        """Seconds since the store last acknowledged the claim or a renewal."""
        return self._clock() - self._confirmed_at

    def _end(self, asked_at: float) -> float:
        lease = self._rule.lease / 1000
        return asked_at + lease - min(1.0, lease * MARGIN)

    def _confirmed(self, asked_at: float, version: int) -> None:
        self._confirmed_at = asked_at
        self._good_until = self._end(asked_at)
        self.version = version

    def keep(self, replaced: Callable[[], None]) -> None:
        """Renew until `rest`. `replaced` is called when another is found to own the operation: at once no byte more is sent for it."""
        # Most executions are over before the first renewal: until then a timer does, and no task.
        pause = self._rule.lease / 3000
        self._timer = asyncio.get_running_loop().call_later(pause, self._begin, replaced)

    async def rest(self) -> None:
        """No renewal any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _begin(self, replaced: Callable[[], None]) -> None:
        self._renewing = asyncio.ensure_future(self._renew(replaced))

    async def _renew(self, replaced: Callable[[], None]) -> None:
        missed = False
        while True:
            pause = self._rule.lease / 3000
            asked_at = self._clock()
            fact: RenewFact | None = None
            try:
                asked = Renewal(self._token, self._rule.lease, self._rule.ttl)
                fact = await self._store.renew(self._record_id, asked)
            except StoreError as error:
                self._metrics.leases_not_renewed.add()
                log.warning("lease not renewed", **self._named, error=str(error))
                pause = min(self._rule.lease / 10_000, LONGEST_PAUSE)
            match fact:
                case None:
                    pass
                case Renewed(version):
                    self._confirmed(asked_at, version)
                case Missing() | Locked():
                    if not missed:
                        log.error("record lost by the store", **self._named, doing="going on: this process remembers")
                    missed = True
                case Found(record) if record.token == self._token:
                    return
                case Found() | Dead():
                    self._lose()
                    replaced()
                    return
                case other:
                    assert_never(other)
            await asyncio.sleep(pause)

    async def number(self, *, may_have_run: bool) -> bool:
        """Number the owner's own next attempt; False where the store gives no leave for one. `may_have_run`: one that was sent before may
        have had its effect."""
        asked_at = self._clock()
        try:
            asked = NextAttempt(self._token, may_have_run, self._rule.lease, self._rule.ttl)
            fact = await self._store.next_attempt(self._record_id, asked)
        except StoreError as error:
            log.warning("attempt not numbered", **self._named, error=str(error), doing="not sending again")
            return False
        match fact:
            case Claimed(attempt, version):
                self._confirmed(asked_at, version)
                self.attempt = attempt
                return True
            case Missing() | Locked():
                return False
            case Found() | Dead():
                self._lose()
                return False
            case other:
                assert_never(other)

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._metrics.lease_losses.add()
            log.error("operation taken over", **self._named, doing="nothing more is sent for it")

    @property
    def _named(self) -> dict[str, str]:
        return {"rule": self._rule.name, "id": short_id(self._record_id)}
