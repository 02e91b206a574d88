"""One execution of an operation in this process: an owner claims, forwards and records. The claim is asked in the task of the request
that began it; what was won is executed in a task of its own, so that a client that goes away changes nothing. Here live the proxy's own
further attempts, and asking for an end until it is acknowledged.

The rules that an owner keeps are named in DESIGN.md section 4: *Send guard*, *One process, one execution*, *Taken back*,
*Stop, then say*, *Ambiguous store errors*."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, assert_never

import structlog

from idemproxy.clocks import Clock
from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.execution import Delivery, End, Failed, Forward, Operation, Streaming, asked_pause
from idemproxy.forwarding import unreachable
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.operation import Complete, Free, LeaveUnknown, Transition, cause_of, pause_before
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.record import Reason
from idemproxy.idempotency.routes import OnStoreFailure
from idemproxy.lease import Lease
from idemproxy.observe.metrics import Metrics
from idemproxy.outcomes import Fenced, Left, NotWon, Outcome, Seen, StoreDown, after_end, smaller, state_left
from idemproxy.stores.base import (
    Anew,
    Claim,
    Claimed,
    ClaimFact,
    Completion,
    Dead,
    Done,
    EndFact,
    Found,
    Locked,
    MarkUnknown,
    Missing,
    Release,
    Store,
    TakeBack,
    TakeOver,
    TakeOverFact,
)
from idemproxy.tee import Tee

log = structlog.get_logger()

ASKS: Final = 3
"""How often a claim is asked whose replies are lost, before it is taken back."""
QUICK: Final = 0.5
"""Seconds within which an asking that is worth another one failed: a store that kept it waiting for longer does not answer."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two askings for the same end."""


class Registry(Protocol):
    """What an owner needs of the process that it runs in."""

    store: Store
    clock: Clock
    tokens: Callable[[], bytes]
    forward: Callable[[Forward], Coroutine[Any, Any, End]]
    metrics: Metrics

    def left(self, owner: Owner) -> None:
        """The owner does not execute any more."""

    def take_back(self, record_id: str, asked: TakeBack, until: float) -> None:
        """Ask for it until it is acknowledged, or `until` on this process's clock. Holds nothing of the request."""


class Owner:
    """One execution of an operation in this process, from before its claim is asked until its end is acknowledged."""

    def __init__(self, ownership: Registry, operation: Operation, seen: Seen | None) -> None:
        loop = asyncio.get_running_loop()
        self.operation = operation
        self.first: asyncio.Future[Outcome] = loop.create_future()
        """What the request that began this execution gets."""
        self.ended: asyncio.Future[Left] = loop.create_future()
        """Done when this process does not execute the operation any more."""
        self._ownership = ownership
        self._store = ownership.store
        self._clock = ownership.clock
        self._metrics = ownership.metrics.rule(operation.rule.name)
        self._seen = seen
        self._token = ownership.tokens()
        self._asked_at = self._clock()
        self._lease: Lease | None = None
        self._doubtful = False
        self._unreadable = False
        self._unprotected = False
        self._alone = False
        self._hurry = asyncio.Event()
        self._tee: Tee | None = None
        self._sending: asyncio.Task[Any] | None = None
        self._tries = 0
        self._sent = False
        self._ever_sent = False
        self.draining = False

    # ------------------------------------------------------------------------------------------------------------- the way

    async def run(self) -> None:
        """Claim, forward, record. Never raises but for a defect, and then leaves no follower waiting."""
        if await self.claim() is None:
            await self.execute()

    async def claim(self) -> NotWon | StoreDown | None:
        """None: the operation is this owner's to execute. Cancelled, it may own it all the same: whoever cancels it lets it `run`."""
        try:
            fact = await self._acquire()
        except asyncio.CancelledError:
            self._doubtful = True
            raise
        except BaseException:
            self.end_badly()
            raise
        match fact:
            case Claimed():
                self._lease = self._won(fact)
                if self._seen is not None:
                    self._metrics.take_overs.add()
                return None
            case None if self._fails_open:
                self._unprotected = True
                self._metrics.unprotected.add()
                log.warning("forwarded unprotected", **self._named, why="store gives no fact")
                return None
            case None:
                return self._give_up(StoreDown(), StoreDown())
            case _:
                return self._give_up(NotWon(fact), fact)

    async def execute(self) -> None:
        """Forward and record what was claimed. Never raises but for a defect, and then leaves no follower waiting."""
        try:
            await self._execute(self._lease)
        finally:
            self.end_badly()

    def _give_up(self, outcome: NotWon | StoreDown, left: Left) -> NotWon | StoreDown:
        self._give(outcome)
        self._leave(left)
        self._take_back()
        return outcome

    def end_badly(self) -> None:
        """Nobody is left waiting, however this came here. Nothing happens to what has ended well."""
        if self._tee is not None:
            self._tee.cut()
        self._give(Failed.lost(Reason.NONE, self.operation.rule) if self._ever_sent else StoreDown())
        self._leave(None)

    async def _acquire(self) -> ClaimFact | TakeOverFact | None:
        """None: the store gave no fact. A claim whose reply was lost is asked again with the same token."""
        for _ in range(ASKS):
            began = self._clock()
            try:
                fact = await self._ask()
            except StoreAmbiguous as error:
                self._doubtful = True
                log.warning("claim unconfirmed", **self._named, error=str(error))
                if self._clock() - began > QUICK:
                    return None
            except StoreUnavailable as error:
                log.warning("claim failed", **self._named, error=str(error))
                if not self._doubtful:
                    return None
                await asyncio.sleep(FIRST_PAUSE)
            except StoreError as error:
                # There is a record, and it cannot be read: that is never "nothing", whatever the rule says of a store that is away.
                log.warning("record unreadable", **self._named, error=str(error))
                self._unreadable = True
                return None
            else:
                return fact
        return None

    async def _ask(self) -> ClaimFact | TakeOverFact:
        rule = self.operation.rule
        if self._seen is None:
            return await self._store.claim(self.operation.record_id, self._claim)
        taking = TakeOver(self._token, *self._seen, rule.lease, rule.ttl)
        return await self._store.take_over(self.operation.record_id, taking)

    def _won(self, fact: Claimed) -> Lease:
        operation = self.operation
        return Lease(
            self._store,
            self._clock,
            operation.record_id,
            operation.rule,
            self._token,
            fact,
            self._asked_at,
            self._metrics,
        )

    async def _execute(self, lease: Lease | None) -> None:
        if lease is not None:
            lease.keep(self._replaced)
        self._metrics.executions.up()
        try:
            end = self._drained() if self.draining else await self._forward()
            while await self._may_send_again(end):
                end = await self._forward()
            await self._settle(end.transition, end.delivery)
        finally:
            self._metrics.executions.down()
            if lease is not None:
                await lease.rest()

    async def _forward(self) -> End:
        attempt = 1 if self._lease is None else self._lease.attempt
        self._tries += 1
        began = self._clock()
        self._sending = sending = asyncio.current_task()
        try:
            return await self._ownership.forward(Forward(self.operation, attempt, self.guard, self._stream))
        except asyncio.CancelledError:
            if not self.draining or sending is None:
                raise
            if sending.uncancel():  # by more than the drain: the process does not wait for ends any more
                raise
            return self._drained()
        except Exception as error:
            log.exception("forward failed", **self._named, exc_info=error)
            return self._defect()
        finally:
            self._sending = None
            self._metrics.upstream_seconds.observe(self._clock() - began)

    async def _may_send_again(self, end: End) -> bool:
        """Whether the proxy itself sends once more, as the rule's `retry` has it; the pause before is over then. The client must still be
        there, and have seen nothing. A number under which nothing was sent is still to be used."""
        rule = self.operation.rule
        cause = cause_of(end.transition, end.status, rule)
        if cause is None or self._tries >= rule.retry.attempts or not self._wanted():
            return False
        chance = self._ownership.tokens()[0] / 255
        pause = pause_before(self._tries + 1, chance, asked_pause(end.delivery), rule.retry)
        if pause is None:
            return False
        log.info("sending again", **self._named, cause=cause.value, pause_ms=pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause / 1000):
                await self._hurry.wait()
        if not self._wanted():
            return False
        if self._sent:
            may_have_run = not isinstance(end.transition, Free)
            if self._lease is None or not await self._lease.number(may_have_run=may_have_run):
                return False
            self._sent = False
        if not self._wanted():
            return False
        self._metrics.sends_again(cause)
        return True

    def _wanted(self) -> bool:
        lost = self._lease is not None and self._lease.lost
        return not (self.first.done() or self.draining or self._alone or lost)

    def _replaced(self) -> None:
        """An owner that finds itself replaced is at once no owner for this process."""
        self._hurry.set()
        self._leave(None)

    def _drained(self) -> End:
        rule = self.operation.rule
        if self._sent:
            return End(LeaveUnknown(Reason.DRAINED), Failed.lost(Reason.DRAINED, rule))
        detail = "The proxy is shutting down; the request was not sent. Send it again with the same key."
        return End(Free(), Failed(Problem(Slug.SHUTTING_DOWN, detail, rule.retry_after), "released"))

    def _defect(self) -> End:
        rule = self.operation.rule
        if self._sent:
            return End(LeaveUnknown(Reason.NONE), Failed.lost(Reason.NONE, rule))
        return End(Free(), Failed(unreachable(rule.retry_after), "released"))

    def guard(self) -> bool:
        """May a byte go to the upstream now? Asked right before each one is written (DESIGN.md section 4, *Send guard*)."""
        if self.draining or not (self._unprotected or (self._lease is not None and self._lease.holds)):
            return False
        self._sent = self._ever_sent = True
        return True

    # ------------------------------------------------------------------------------------------------------------- the end

    async def _settle(self, transition: Transition, delivery: Delivery) -> None:
        """Ask for the end until it is acknowledged. The client waits for the first asking only."""
        self._ownership.metrics.ends_pending.up()
        try:
            await self._ask_for_end(transition, delivery)
        finally:
            self._ownership.metrics.ends_pending.down()
        if isinstance(transition, Free) and not self._unprotected:
            # Others may claim and release before an earlier asking of this claim arrives: the remnant names only the last of them.
            self._take_back()

    async def _ask_for_end(self, transition: Transition, delivery: Delivery) -> None:
        pause, asked = FIRST_PAUSE, 0
        while True:
            try:
                fact = await self._end(transition)
            except StoreError as error:
                asked += 1
                log.warning("end not recorded", **self._named, error=str(error), doing="asking again")
                # Who knows that another has taken its place gives what that one records.
                replaced = self._lease is not None and self._lease.lost
                self._let_go(Fenced() if replaced else delivery)
                passing = isinstance(error, StoreUnavailable | StoreAmbiguous)
                if not passing or not self._worth_asking(transition):
                    if self._lease is not None:
                        self._metrics.ends_given_up.add()
                    return
                transition = smaller(transition, asked)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if self._acknowledged(transition, fact):
                if self._lease is not None or isinstance(fact, Done):
                    self._metrics.ended(*state_left(transition, fact))
                self._let_go(after_end(fact, transition, delivery, self.operation.rule))
            else:
                self._metrics.fenced.add()
                self._let_go(Fenced())
            return

    def _acknowledged(self, transition: Transition, fact: EndFact | None) -> bool:
        """A release of what is not there any more is as good as done; an outcome that could not be written is not."""
        match fact:
            case None | Done():
                return True
            case Missing() | Dead() | Locked():
                if isinstance(transition, Free) or self._unprotected:
                    return True
            case Found():
                if self._unprotected:
                    return True
            case other:
                assert_never(other)
        log.error("end refused", **self._named, why="the operation was taken over or settled")
        return False

    async def _end(self, transition: Transition) -> EndFact | None:
        record_id, ttl = self.operation.record_id, self.operation.rule.ttl
        match transition:
            case Complete(answer):
                return await self._store.complete(record_id, Completion(self._token, answer, ttl, self._anew()))
            case LeaveUnknown(reason):
                return await self._store.mark_unknown(record_id, MarkUnknown(self._token, reason, ttl, self._anew()))
            case Free() if self._unprotected:
                await self._store.take_back(record_id, TakeBack(self._token, self.operation.rule.lease))
                return None
            case Free():
                return await self._store.release(record_id, Release(self._token, ttl))
            case other:
                assert_never(other)

    def _anew(self) -> Anew | None:
        """DESIGN.md section 4, *Writing anew*: only within `ttl` of the last acknowledged claim or renewal."""
        if self._unconfirmed >= self.operation.rule.ttl / 1000:
            return None
        lease = self._lease
        return Anew(self._claim, 1, 1) if lease is None else Anew(self._claim, lease.attempt, lease.version)

    def _worth_asking(self, transition: Transition) -> bool:
        if self._unprotected and isinstance(transition, Free):
            return self._doubtful
        return self._unconfirmed < (self.operation.rule.lease + self.operation.rule.ttl) / 1000

    @property
    def _unconfirmed(self) -> float:
        """Seconds since the store last acknowledged that this owner owns."""
        return self._clock() - self._asked_at if self._lease is None else self._lease.unconfirmed

    def _take_back(self) -> None:
        """A claim that may still be applied must not wedge its key (DESIGN.md section 4, *Taken back*)."""
        if self._doubtful:
            rule = self.operation.rule
            until = self._asked_at + (rule.lease + rule.ttl) / 1000
            self._ownership.take_back(self.operation.record_id, TakeBack(self._token, rule.lease), until)

    @property
    def _fails_open(self) -> bool:
        allowed = self.operation.rule.on_store_failure is OnStoreFailure.FAIL_OPEN
        return allowed and not self._unreadable and not self.draining

    # ----------------------------------------------------------------------------------------------------------- its drain

    def cut(self) -> None:
        """The drain time is over: stop forwarding, and say how far it came."""
        cut_before, self.draining = self.draining, True
        self._hurry.set()
        if self._sending is not None and not cut_before:
            self._sending.cancel()

    # ------------------------------------------------------------------------------------------------------------- private

    def _give(self, outcome: Outcome) -> None:
        if not self.first.done():
            self.first.set_result(outcome)

    def nobody(self) -> None:
        """The client of this execution is gone: nobody reads what is given to it."""
        self._alone = True
        self._hurry.set()
        if self._tee is not None:
            self._tee.leave()

    def _stream(self, streaming: Streaming) -> None:
        self._tee = streaming.tee
        if self._alone:
            streaming.tee.leave()
        self._give(streaming)

    def _let_go(self, outcome: Outcome) -> None:
        """The client gets the end of what it began to get, or all of it."""
        self._give(outcome)
        if self._tee is not None:
            self._tee.let_go()
            self._tee = None

    def _leave(self, left: Left) -> None:
        if not self.ended.done():
            self._ownership.left(self)
            self.ended.set_result(left)

    @property
    def _claim(self) -> Claim:
        operation, rule = self.operation, self.operation.rule
        of_rule = (rule.name, rule.on_unknown, rule.lease, rule.ttl)
        return Claim(self._token, operation.fingerprint, operation.recipe, *of_rule, operation.credential)

    @property
    def _named(self) -> dict[str, str]:
        return {"rule": self.operation.rule.name, "id": short_id(self.operation.record_id)}
