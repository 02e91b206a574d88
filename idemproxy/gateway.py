"""One request's way through the product: read this file to understand it.

A request that no rule names is passed on as it came. One that a rule names is identified (whose key is it, and what must be the
same in a retry), and then either wins the claim and is executed, once, or gets what the operation's record says: the recorded
answer, a place to wait, or a problem in words."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar, assert_never

import structlog
from msgspec import structs

from idemproxy.clocks import Clock
from idemproxy.errors import StoreError
from idemproxy.execution import Answered, Failed, Operation, Streaming
from idemproxy.forwarding import Forwarding
from idemproxy.given import (
    FENCED,
    Given,
    Recorded,
    not_authorized,
    reauthorize_unavailable,
    shutting_down,
    store_down,
    told,
    too_large,
    without_dropped,
)
from idemproxy.http1.connection import check_options
from idemproxy.http1.heads import BadHead
from idemproxy.idempotency.age import EXPIRED, Age
from idemproxy.idempotency.answering import answer_to
from idemproxy.idempotency.cors import exposed
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.matching import RouteTable
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.idempotency.operation import (
    REUSED,
    Decision,
    Probe,
    Refuse,
    Replay,
    Said,
    TakeOver,
    Wait,
    decide,
    in_flight,
    probed,
    still_in_flight,
)
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import Mode, Rule, own_fields
from idemproxy.identifying import Identified, Identifier, Unnamed, reused, same
from idemproxy.observe.metrics import Metrics, Passed, Probed
from idemproxy.observing import Observing
from idemproxy.outcomes import Fenced, Left, NotWon, Seen, StoreDown
from idemproxy.owner import Owner
from idemproxy.ownership import Ownership
from idemproxy.probing import Happened, Moved, Prober
from idemproxy.proxy.incoming import BadBody, BodyTooLarge, ClientGone, Incoming
from idemproxy.proxy.outcome import Upgrade
from idemproxy.reauthorizing import Allowed, Denied, Reauthorizer, Unanswered
from idemproxy.stores.base import Dead, Found, Locked, Missing
from idemproxy.tee import Broken
from idemproxy.waiters import Place, Places, Waiters

log = structlog.get_logger()

_PROBED = {Said.DID_NOT_HAPPEN: Probed.DID_NOT_HAPPEN, Said.NOTHING: Probed.NO_ANSWER}

TURNS = 4
"""How often a request looks again whatever time it took: a wait that is over, a free key, a take-over, and one that was lost."""
REPLAYED = b"Idempotent-Replayed: true\r\n"


T = TypeVar("T")
Fact = Found | Locked | Missing | Dead


class Gateway:
    """Every request of one process."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        identifier: Identifier,
        docs_url: str,
        forwarding: Forwarding,
        ownership: Ownership,
        waiters: Waiters,
        prober: Prober,
        reauthorizer: Reauthorizer,
        observing: Observing,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._routes = RouteTable(rules)
        self._guarded = {rule.name: own_fields(rule) for rule in rules if rule.mode is Mode.ENFORCE}
        self._identifier = identifier
        self._docs_url = docs_url
        self._forwarding = forwarding
        self._ownership = ownership
        self._waiters = waiters
        self._prober = prober
        self._reauthorizer = reauthorizer
        self._observing = observing
        self._clock = clock
        self._metrics = metrics
        for rule in rules:
            metrics.rule(rule.name)  # what never happened is told too, as 0
        self._places = Places()
        self._closing = asyncio.Event()

    def succeed(self, before: Gateway) -> None:
        """Take the place of a gateway whose configuration was reloaded: who waits there counts here, and both end their waits at once."""
        self._places, self._closing = before._places, before._closing

    def end_waits(self) -> None:
        """The drain time is over: whoever waits for an outcome is told so."""
        self._closing.set()

    async def serve(self, incoming: Incoming) -> None:
        """Answer one request. When its client goes away, this ends; an execution that it began does not."""
        task = asyncio.current_task()
        assert task is not None
        incoming.on_gone(task.cancel)
        try:
            await self._serve(incoming)
        except asyncio.CancelledError:
            if not incoming.gone:
                raise
        except ClientGone:
            pass

    async def _serve(self, incoming: Incoming) -> None:
        head = incoming.head
        rule = self._routes.find(head.method, head.target, head.fields)
        try:
            check_options(head.options, frozenset() if rule is None else self._guarded.get(rule.name, frozenset()))
        except BadHead as error:
            # Nothing more is read of a client that is refused for what it sent (FORWARDING.md, point 10).
            incoming.head = structs.replace(head, keep_alive=False)
            await incoming.answer(self.refusal(error.status, error.detail, incoming.head.fields, rule))
            return
        if rule is None:
            self._metrics.passed_on(Passed.NO_RULE)
            await self._forwarding.pass_on(incoming, Upgrade.ASKED)
            return
        if rule.mode is Mode.OBSERVE:
            await self._observing.pass_on(incoming, rule)
            return
        began = self._clock()
        try:
            asked = await self._identifier.identify(incoming, rule)
        except BodyTooLarge:
            asked = Refuse(too_large(rule))
        except BadBody as error:
            await incoming.answer(self.refusal(400, str(error), incoming.head.fields, rule))
            return
        except StoreError as error:
            log.warning("store gives no fact", rule=rule.name, error=str(error))
            asked = store_down(rule)
        match asked:
            case Identified(operation, _, age):
                await self._protect(incoming, operation, age, began)
            case Unnamed():
                self._metrics.passed_on(Passed.NO_KEY)
                await self._forwarding.pass_on(incoming, Upgrade.NEVER, rule=rule)
            case Refuse():
                self._decided(rule, asked, began)
                await self._deliver(incoming, rule, asked)
            case other:
                assert_never(other)

    # ---------------------------------------------------------------------------------------------------- a protected request

    async def _protect(self, incoming: Incoming, operation: Operation, age: Age, began: float) -> None:
        rule = operation.rule
        given: Given
        try:
            given = await self._outcome(operation, age)
        except StoreError as error:
            log.warning("store gives no fact", rule=rule.name, id=short_id(operation.record_id), error=str(error))
            given = store_down(rule)
        self._decided(rule, given, began, id=short_id(operation.record_id))
        await self._deliver(incoming, rule, given)

    async def _outcome(self, operation: Operation, age: Age) -> Given:
        """Execute the operation, or learn what became of it. Every turn of the loop begins from a fact just learnt. What may have been
        executed and forgotten is only looked for, never begun."""
        rule = operation.rule
        deadline = self._clock() + rule.wait_timeout / 1000
        seen: Seen | None = None
        turn: Given | TakeOver | None
        for turn_number in itertools.count(1):
            owner = self._ownership.executing(operation.record_id)
            if owner is None and seen is None and age is Age.OLD:
                turn = await self._of_the_past(operation, deadline)
            elif owner is None:
                outcome = await self._ownership.execute(operation, seen)
                match outcome:
                    case Answered() | Streaming() | Failed():
                        return outcome
                    case StoreDown():
                        return store_down(rule)
                    case Fenced():
                        return await self._of_another(operation, deadline)
                    case NotWon(fact):
                        turn = await self._by_record(operation, fact, deadline)
                    case other:
                        assert_never(other)
            else:
                turn = await self._follow(operation, owner, deadline)
            match turn:
                case TakeOver(token, version):
                    seen = (token, version)
                case None:
                    seen = None
                case _:
                    return turn
            if turn_number >= TURNS and self._clock() >= deadline:
                break
        return Refuse(still_in_flight(rule))

    async def _follow(self, operation: Operation, owner: Owner, deadline: float) -> Given | TakeOver | None:
        """The operation is executed in this process: no store is asked until that is over. None: look again."""
        rule = operation.rule
        if not same(operation, owner.operation.recipe, owner.operation.fingerprint):
            return reused(operation, owner.operation.recipe, owner.operation.fingerprint)
        turn = in_flight(rule, rule.lease)
        if isinstance(turn, Refuse):
            return turn
        with self._place(operation, deadline) as patience:
            if await self._before_close(_result(owner.ended), patience) is None:
                return self._waited_enough(rule)
        match owner.ended.result():
            case None:
                return None
            case StoreDown():
                return store_down(rule)
            case fact:
                return await self._by_record(operation, fact, deadline)

    async def _by_record(self, operation: Operation, fact: Fact, deadline: float) -> Given | TakeOver | None:
        """What the record says. None: there is none any more, so that the operation may be claimed."""
        rule = operation.rule
        while True:
            decision: Decision
            match fact:
                case Missing() | Dead():
                    return None
                case Locked(lease_left):
                    decision = in_flight(rule, lease_left)
                case Found(record, lease_left, now):
                    equal = same(operation, record.recipe, record.fingerprint)
                    decision = decide(record, lease_left, now, equal, rule)
                case other:
                    assert_never(other)
            match decision:
                case Replay(answer, began_by):
                    return await self._replay(operation, answer, began_by)
                case Refuse(problem) if problem is REUSED and isinstance(fact, Found):
                    return reused(operation, fact.record.recipe, fact.record.fingerprint)
                case Refuse() | TakeOver():
                    return decision
                case Probe():
                    patience = max(0.1, deadline - self._clock())
                    match await self._prober.learn(operation, decision, patience):
                        case Happened(answer):
                            self._metrics.rule(rule.name).probed(Probed.HAPPENED)
                            return await self._replay(operation, answer, "")
                        case Moved(moved):
                            self._metrics.rule(rule.name).probed(Probed.HAPPENED)
                            fact = moved
                        case (Said.DID_NOT_HAPPEN | Said.NOTHING) as said:
                            self._metrics.rule(rule.name).probed(_PROBED[said])
                            return probed(said, decision, rule)
                        case never:
                            assert_never(never)
                case Wait():
                    with self._place(operation, deadline) as patience:
                        outcome = self._waiters.outcome(operation.record_id, patience)
                        learnt = await self._before_close(outcome, patience)
                    if learnt is None:
                        return self._waited_enough(rule)
                    fact = learnt
                case undecided:
                    assert_never(undecided)

    async def _replay(self, operation: Operation, answer: Answer, began_by: str) -> Given:
        """The recorded answer; under a rule with `reauthorize`, to another credential than it was given to, once the upstream says so."""
        rule = operation.rule
        if rule.reauthorize is None or (operation.credential and operation.credential == began_by):
            return Recorded(answer)
        match await self._reauthorizer.ask(operation, rule.reauthorize):
            case Allowed():
                return Recorded(answer)
            case Denied(status):
                return Refuse(not_authorized(status))
            case Unanswered():
                return Refuse(reauthorize_unavailable(rule))
            case other:
                assert_never(other)

    async def _of_another(self, operation: Operation, deadline: float) -> Given:
        """The owner was fenced: its client gets what the record says, and this request never claims."""
        patience = max(0.1, deadline - self._clock())
        learnt = await self._before_close(self._waiters.outcome(operation.record_id, patience), patience)
        given = None if learnt is None else await self._by_record(operation, learnt, deadline)
        return Refuse(FENCED) if given is None or isinstance(given, TakeOver) else given

    async def _of_the_past(self, operation: Operation, deadline: float) -> Given | TakeOver:
        """The key is older than records are kept: without one, nobody knows whether the operation was executed."""
        fact = await self._ownership.store.get(operation.record_id)
        turn = await self._by_record(operation, fact, deadline)
        return Refuse(EXPIRED) if turn is None else turn

    async def _before_close(self, outcome: Coroutine[Any, Any, T], patience: float) -> T | None:
        """What `outcome` gives within `patience` seconds and before the drain time is over, else None."""
        waiting, closing = asyncio.ensure_future(outcome), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait([waiting, closing], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            closing.cancel()
            await asyncio.gather(waiting, closing, return_exceptions=True)

    def _waited_enough(self, rule: Rule) -> Refuse:
        return Refuse(shutting_down(rule) if self._closing.is_set() else still_in_flight(rule))

    def _place(self, operation: Operation, deadline: float) -> Place:
        """A place to wait, for the seconds given: none where too many wait for the operation, or the time is over."""
        rule = operation.rule
        patience = max(0.0, deadline - self._clock())
        return self._places.place(
            operation.record_id, rule.max_waiters, patience, self._metrics.rule(rule.name).waiters
        )

    # --------------------------------------------------------------------------------------------------------------- answers

    async def _deliver(self, incoming: Incoming, rule: Rule, given: Given) -> None:
        match given:
            case Answered(answer):
                await incoming.answer(answer)
            case Recorded(answer):
                await incoming.answer(
                    without_dropped(answer, rule), REPLAYED + exposed(rule.cors, incoming.head.fields)
                )
            case Streaming():
                await _stream(incoming, given)
            case Failed(problem) | Refuse(problem):
                await incoming.answer(answer_to(incoming.head.fields, problem, rule, self._docs_url))
            case other:
                assert_never(other)

    def _decided(self, rule: Rule, given: Given, began: float, **of: object) -> None:
        """One line in the log, and one more in the metrics."""
        seconds = self._clock() - began
        said = told(given, rule)
        if isinstance(given, Refuse) and given.differs:
            of["differs"] = list(given.differs)
        self._metrics.rule(rule.name).decided(said.decision, said.state, seconds)
        line = {"decision": said.decision.value, "state": said.state, "status": said.status}
        log.info("decision", rule=rule.name, **line, ms=round(seconds * 1000, 1), **of)

    def refusal(self, status: int, detail: str, fields: Fields = (), rule: Rule | None = None) -> Answer:
        """What a client gets that is refused below the rules; `rule` is the one that its head has met, if it was read."""
        return answer_to(fields, Problem(Slug.NOT_HTTP, detail, status=status), rule, self._docs_url)


async def _result(ended: asyncio.Future[Left]) -> bool:
    await asyncio.shield(ended)
    return True


async def _stream(incoming: Incoming, streaming: Streaming) -> None:
    tee = streaming.tee
    try:
        await incoming.begin(streaming.head, streaming.framing)
        while (piece := await tee.get()) is not None:
            await incoming.write(piece)
        await incoming.end(tee.trailers)
    except Broken:
        incoming.abort()
    finally:
        tee.leave()
