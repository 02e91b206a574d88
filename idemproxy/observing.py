"""Rules that only observe: a request is passed on as it came, and what enforcing the rule would have done is logged and counted.

Nothing here stands between a client and its answer. An exchange is overheard while it passes; who asks for what is told once the
request's body has passed, and the store is asked meanwhile. A store that is slow or away delays nothing and fails nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, assert_never

import structlog

from idemproxy.clocks import Clock
from idemproxy.errors import StoreAmbiguous, StoreError
from idemproxy.execution import Operation
from idemproxy.forwarding import Forwarding
from idemproxy.http1.connection import check_options
from idemproxy.http1.heads import BadHead
from idemproxy.idempotency import observation
from idemproxy.idempotency.age import Age
from idemproxy.idempotency.identity import BadKey, Key, NoKey, read_key, short_id
from idemproxy.idempotency.observation import Judgement, Recent, Suspected, Unjudged, Would
from idemproxy.idempotency.operation import Refuse
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.routes import Mode, OnStoreFailure, Rule, own_fields
from idemproxy.identifying import Identified, Identifier, Unnamed
from idemproxy.observe.metrics import Metrics
from idemproxy.overhearing import NotHeard, Overheard, Room
from idemproxy.proxy.incoming import BodyTooLarge, Incoming
from idemproxy.proxy.outcome import Upgrade
from idemproxy.shadows import Met, Owned, Shadow, Shadows

log = structlog.get_logger()

MOST: Final = 4_096
"""Requests that a process observes at once: those beyond pass unobserved, and are counted."""
MOST_KEPT: Final = 64 << 20
"""Bytes of their bodies that it holds at once, each until it is known what is asked for."""
NO_LIMIT: Final = 3_600_000
"""Milliseconds that a shadow counts as running where the upstream may take for ever."""


Scope = tuple[bytes | None, ...]


@dataclass(slots=True)
class _Told:
    """What is known of one request. `judgement` is None for an execution, which is judged by its end; `shadow` is what it may own."""

    judgement: Judgement | None = None
    shadow: Shadow | None = None
    suspected: Suspected | None = None
    fields: dict[str, object] = field(default_factory=dict)
    """Further ones of its line in the log."""


class Watch:
    """What a process observes, whichever configuration is in force."""

    def __init__(self, shadows: Shadows, clock: Clock, metrics: Metrics) -> None:
        self.shadows = shadows
        self.clock = clock
        self.metrics = metrics
        self.recent = Recent()
        self.room = Room(MOST_KEPT)
        self._observed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._first: dict[str, Overheard] = {}
        """By a shadow's id, who asked for it first of those that are observed."""
        self._store_fails = False

    def enter(self) -> bool:
        """Take a place among the observed. False: there is none."""
        if self._observed >= MOST:
            return False
        self._observed += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self._observed -= 1

    def begin(self, task: asyncio.Task[None]) -> None:
        """Keep an observation until it is over."""
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("observation failed", doing="the request passed all the same", exc_info=error)

    async def idle(self) -> None:
        """Return once nothing is observed any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> None:
        """Leave the shadows that have not ended to their leases."""
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------------------- its shadows

    async def meet(self, shadow: Shadow, heard: Overheard, operation: Operation, age: Age) -> Owned | Met:
        """What the shadow says. A retry that comes while this process still writes what became of the first finds that. Raises
        StoreError."""
        first = self._first.setdefault(shadow.record_id, heard)
        if first is heard:
            heard.shadow_id = shadow.record_id
        elif first.ended.is_set():
            await first.written.wait()
        met = await self.shadows.meet(shadow, operation, age)
        self._store_fails = False
        return met

    async def end(self, shadow: Shadow, heard: Overheard) -> None:
        """Its exchange is over."""
        try:
            await self.shadows.end(shadow, heard.transition())
        except StoreError as error:
            self.store_failed(shadow.rule, error)

    def written(self, heard: Overheard) -> None:
        """Nothing more will be."""
        heard.written.set()
        if heard.shadow_id is not None:
            del self._first[heard.shadow_id]

    def store_failed(self, rule: Rule, error: StoreError) -> None:
        """One warning until it answers again: the store's own metrics count each failure."""
        if not self._store_fails:
            self._store_fails = True
            log.warning(
                "store gives no fact",
                rule=rule.name,
                error=str(error),
                doing="observing on; requests pass as they come",
            )


class Observing:
    """Requests under the rules of one configuration that only observe."""

    def __init__(self, rules: tuple[Rule, ...], identifier: Identifier, forwarding: Forwarding, watch: Watch) -> None:
        """`identifier` is of a namespace of its own."""
        self._identifier = identifier
        self._forwarding = forwarding
        self._watch = watch
        self._limit = round(forwarding.patience.response * 1000) or NO_LIMIT
        for rule in rules:
            if rule.mode is Mode.OBSERVE:
                watch.metrics.observed(rule.name)  # what never happened is told too, as 0

    async def pass_on(self, incoming: Incoming, rule: Rule) -> None:
        """One request and its answer, as if no rule named it."""
        watch = self._watch
        if not watch.enter():
            self._line(rule, _not_judged(Unjudged.BUSY), {})
            await self._forwarding.pass_on(incoming, Upgrade.ASKED)
            return

        def told() -> None:
            watch.begin(asyncio.ensure_future(self._observe(heard, rule)))

        heard = Overheard(incoming, rule, watch.room, watch.clock, told)
        try:
            await self._forwarding.pass_on(incoming, Upgrade.ASKED, observer=heard)
        finally:
            heard.left()

    # --------------------------------------------------------------------------------------------------------- one observation

    async def _observe(self, heard: Overheard, rule: Rule) -> None:
        try:
            told = await self._judge(heard, rule)
            heard.forget()
            await heard.ended.wait()
            self._tell(told, heard, rule)
            if told.shadow is not None:
                await self._watch.end(told.shadow, heard)
        finally:
            heard.forget()
            self._watch.written(heard)

    def _tell(self, told: _Told, heard: Overheard, rule: Rule) -> None:
        judgement = told.judgement
        if judgement is None:
            gone = Judgement(Would.EXECUTE, "client_gone")
            judgement = gone if heard.client_gone else observation.ended(heard.transition())
        if told.suspected is not None:
            self._watch.metrics.observed(rule.name).suspected(told.suspected)
        status = {} if heard.status is None else {"status": heard.status}
        self._line(rule, judgement, {**status, "ms": round(heard.seconds * 1000, 1), **told.fields})

    def _line(self, rule: Rule, judgement: Judgement, fields: dict[str, object]) -> None:
        self._watch.metrics.observed(rule.name).judged(judgement)
        log.info("observed", rule=rule.name, decision=judgement.would.value, state=judgement.state, **fields)

    async def _judge(self, heard: Overheard, rule: Rule) -> _Told:
        """What enforcing would have done. Of an execution, that is told by its end."""
        scope = await self._identifier.scope(heard, rule)
        told = _Told(fields=_named(heard, rule, scope))
        try:
            check_options(heard.head.options, own_fields(rule))
            asked = await self._identifier.identify(heard, rule)
        except BadHead:
            told.judgement = _refused(Slug.NOT_HTTP)
        except BodyTooLarge:
            told.judgement = _refused(Slug.REQUEST_TOO_LARGE)
        except NotHeard as missing:
            told.judgement = _not_judged(missing.why)
        except StoreError as error:
            self._watch.store_failed(rule, error)
            told.judgement = _without_store(rule)
        else:
            match asked:
                case Identified(operation, _, age):
                    if told.fields.setdefault("key", "derived") == "sent":
                        self._suspect(told, heard, scope, operation)
                    await self._meet(told, heard, operation, age)
                case Unnamed():
                    told.judgement = Judgement(Would.PASS_ON, "no_key")
                    self._suspect(told, heard, scope, None)
                case Refuse(problem):
                    told.judgement = _refused(problem.slug)
                    if problem.slug is Slug.KEY_MISSING:
                        self._suspect(told, heard, scope, None)
                case other:
                    assert_never(other)
        told.fields.setdefault("key", "none")
        return told

    async def _meet(self, told: _Told, heard: Overheard, operation: Operation, age: Age) -> None:
        rule = operation.rule
        shadow = self._watch.shadows.of(operation, max(rule.lease, self._limit))
        told.fields["id"] = short_id(shadow.record_id)
        try:
            met = await self._watch.meet(shadow, heard, operation, age)
        except StoreError as error:
            self._watch.store_failed(rule, error)
            told.judgement = _without_store(rule)
            # A claim whose reply was lost may stand: it ends with the exchange, if it is there.
            told.shadow = shadow if isinstance(error, StoreAmbiguous) else None
            return
        match met:
            case Owned():
                told.shadow = shadow
            case Met(judgement, behind, differs):
                told.judgement = judgement
                if behind is not None:
                    told.fields["behind_ms"] = behind
                if differs:
                    told.fields["differs"] = list(differs)
            case other:
                assert_never(other)

    def _suspect(self, told: _Told, heard: Overheard, scope: Scope | None, operation: Operation | None) -> None:
        """Whether the request repeats another though no key says so. One whose body did not pass whole is not compared, nor is one of whom
        nobody knows who it is."""
        if not heard.whole or scope is None:
            return
        head = heard.head
        same = observation.same_bytes(heard.rule.name, scope, head.method, head.target, heard.digest)
        named = None if operation is None else operation.record_id
        told.suspected = self._watch.recent.suspected(same, named, self._watch.clock())
        if told.suspected is not None:
            told.fields["suspected"] = told.suspected.value


def _named(heard: Overheard, rule: Rule, scope: Scope | None) -> dict[str, object]:
    """What the log says of a request's client and key: neither of them itself."""
    fields = heard.head.fields
    named: dict[str, object] = {"client": "unverified" if scope is None else observation.client_of(scope)}
    if (agent := observation.agent_of(fields)) is not None:
        named["agent"] = agent
    match read_key(rule, fields):
        case Key() as key:
            named |= {"key": "sent", "key_form": observation.form_of(key)}
        case BadKey():
            named["key"] = "unusable"
        case NoKey():
            pass
        case other:
            assert_never(other)
    return named


def _refused(slug: Slug) -> Judgement:
    return Judgement(Would.REFUSE, slug.value)


def _not_judged(why: Unjudged) -> Judgement:
    return Judgement(Would.NOT_JUDGED, why.value)


def _without_store(rule: Rule) -> Judgement:
    match rule.on_store_failure:
        case OnStoreFailure.FAIL_CLOSED:
            return _refused(Slug.STORE_UNAVAILABLE)
        case OnStoreFailure.FAIL_OPEN:
            return Judgement(Would.EXECUTE, "unprotected")
        case other:
            assert_never(other)
