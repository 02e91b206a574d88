"""One request's way, as far as it can be gone without executing anything: read beside gateway.py, whose order it keeps."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Final, assert_never

from idemproxy.clocks import Clock
from idemproxy.errors import StoreError
from idemproxy.execution import Operation
from idemproxy.given import store_down, too_large
from idemproxy.http1.connection import check_options
from idemproxy.http1.heads import BadHead, RequestHead
from idemproxy.idempotency.age import EXPIRED, Age
from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.matching import RouteTable, lacking
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.idempotency.operation import REUSED, Decision, Probe, Refuse, Replay, TakeOver, Wait, decide, in_flight
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.record import TOKEN_BYTES
from idemproxy.idempotency.routes import OnStoreFailure, Rule, own_fields
from idemproxy.identifying import Identified, Identifier, Unnamed, reused, same
from idemproxy.proxy.incoming import BodyTooLarge
from idemproxy.requests_given.written import Written
from idemproxy.stores.base import Found, Locked, LookFact, Missing, NameNewest, Newest, Store
from idemproxy.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Execute:
    """It would be executed: nothing is known of the operation."""


@dataclass(frozen=True, slots=True)
class Forward:
    """It would be forwarded as it came, unprotected. `why` is a sentence."""

    why: str


Verdict = Execute | Forward | Decision

UNRULED: Final = Forward("No rule is for it: it is forwarded untouched.")
UNNAMED: Final = Forward("It bears no key, and its rule does not require one: it is forwarded untouched.")
UNPROTECTED: Final = Forward(
    "The store cannot be reached, and the rule fails open: it is forwarded, and no retry is recognised."
)


@dataclass(frozen=True, slots=True)
class Passed:
    """A rule that is not the request's. `lacks` are the conditions that the request does not meet; nothing: it meets them all, and an
    earlier rule took it."""

    rule: str
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """The operation that a request asks for, and what the store holds of it: None where the store gave no fact."""

    operation: Operation
    key: Key
    age: Age
    certificate: bytes | None
    fact: LookFact | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a request. `named` is None where it asks for no operation that could be told; `trouble` is why the store gave no
    fact."""

    request: Written
    rule: Rule | None
    passed: tuple[Passed, ...]
    named: Named | None
    verdict: Verdict
    trouble: str | None = None


class OnlyLooks:
    """A store whose every command changes nothing. None: it is not there yet, and has nothing in it."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        """What is named; nothing is, instead of it: no nonce is the one that this expects. Raises StoreError."""
        if self._store is None:
            return Newest(None)
        return await self._store.name_newest(marker_id, replace(asked, expected=os.urandom(TOKEN_BYTES)))

    async def get(self, record_id: str) -> LookFact:
        """What is recorded. Raises StoreError."""
        return Missing() if self._store is None else await self._store.get(record_id)


class _Sheet:
    """A written request, as one that came in is read."""

    def __init__(self, head: RequestHead, request: Written, peer: str) -> None:
        self.head = head
        self.peer = peer
        self.certificate: bytes | None = None
        self.trailers: Fields = request.trailers
        self._body = request.body

    def accept(self) -> None:
        """Nobody waits for a 100."""

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge."""
        if len(self._body) > limit:
            raise BodyTooLarge(f"{len(self._body)} bytes were given, {limit} are allowed")
        return self._body

    def unread(self, body: bytes) -> None:
        """It can be read as often as anybody likes."""

    def interim(self, head: bytes) -> None:
        """Nobody waits for an answer."""


class Explainer:
    """Explains requests by one configuration's rules."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        namespace: str,
        store: OnlyLooks,
        callers: Tokens | None = None,
        wall: Clock = time.time,
    ) -> None:
        self._rules = rules
        self._routes = RouteTable(rules)
        self._store = store
        self._identifier = Identifier(namespace, store, lambda: os.urandom(TOKEN_BYTES), callers, wall)

    async def explain(self, request: Written, peer: str = "") -> Explanation:
        """What becomes of the request of a client with that IP address."""
        head = request.head
        if isinstance(head, BadHead):
            return Explanation(request, None, (), None, _refused(head))
        rule = self._routes.find(head.method, head.target, head.fields)
        passed = tuple(
            Passed(each.name, lacking(each.match, head.method, head.target, head.fields))
            for each in self._rules
            if each is not rule
        )
        so_far = Explanation(request, rule, passed, None, UNRULED)
        try:
            check_options(head.options, frozenset() if rule is None else own_fields(rule))
        except BadHead as error:
            return replace(so_far, verdict=_refused(error))
        if rule is None:
            return so_far
        return await self._by_rule(so_far, rule, _Sheet(head, request, peer))

    async def _by_rule(self, so_far: Explanation, rule: Rule, sheet: _Sheet) -> Explanation:
        try:
            asked = await self._identifier.identify(sheet, rule)
        except BodyTooLarge:
            return replace(so_far, verdict=Refuse(too_large(rule)))
        except StoreError as error:
            return replace(so_far, verdict=_without_store(rule), trouble=str(error))
        match asked:
            case Identified(operation, key, age):
                named = Named(operation, key, age, sheet.certificate, None)
                return await self._by_record(replace(so_far, named=named), named)
            case Unnamed():
                return replace(so_far, verdict=UNNAMED)
            case Refuse():
                return replace(so_far, verdict=asked)
            case other:
                assert_never(other)

    async def _by_record(self, so_far: Explanation, named: Named) -> Explanation:
        try:
            fact = await self._store.get(named.operation.record_id)
            verdict = _decided(named.operation, named.age, fact)
        except StoreError as error:
            return replace(so_far, verdict=_without_store(named.operation.rule), trouble=str(error))
        return replace(so_far, named=replace(named, fact=fact), verdict=verdict)


def _decided(operation: Operation, age: Age, fact: LookFact) -> Verdict:
    rule = operation.rule
    match fact:
        case Missing():
            return Execute() if age is Age.YOUNG else Refuse(EXPIRED)
        case Locked(lease_left):
            return in_flight(rule, lease_left)
        case Found(record, lease_left, now):
            equal = same(operation, record.recipe, record.fingerprint)
            match decide(record, lease_left, now, equal, rule):
                case Refuse(problem) if problem is REUSED:
                    return reused(operation, record.recipe, record.fingerprint)
                case Refuse() | Replay() | TakeOver() | Probe() | Wait() as decision:
                    return decision
                case undecided:
                    assert_never(undecided)
        case other:
            assert_never(other)


def _without_store(rule: Rule) -> Verdict:
    match rule.on_store_failure:
        case OnStoreFailure.FAIL_OPEN:
            return UNPROTECTED
        case OnStoreFailure.FAIL_CLOSED:
            return store_down(rule)
        case other:
            assert_never(other)


def _refused(error: BadHead) -> Refuse:
    return Refuse(Problem(Slug.NOT_HTTP, error.detail, status=error.status))


def word(verdict: Verdict) -> str:
    """The verdict as programs read it."""
    match verdict:
        case Execute() | TakeOver():
            return "execute"
        case Forward():
            return "forward"
        case Replay():
            return "replay"
        case Wait():
            return "wait"
        case Probe():
            return "probe"
        case Refuse(problem):
            return f"refuse:{problem.slug.value}"
        case other:
            assert_never(other)


def sentence(verdict: Verdict, rule: Rule | None) -> str:
    """The verdict as people read it."""
    match verdict:
        case Execute():
            return "Nothing is known of the operation: it is executed, and its answer is recorded."
        case TakeOver():
            return "Its outcome is unknown, and the rule has it executed again (on_unknown: retry)."
        case Forward(why):
            return why
        case Replay(Answer(status)):
            return f"It gets the recorded answer, of status {status}. Nothing is executed."
        case Wait():
            patience = "" if rule is None else f", {rule.wait_timeout / 1000:g} s at most, and a 409 then"
            return f"The operation is being executed: the request waits for its outcome{patience}."
        case Probe():
            return "Its outcome is unknown: the upstream is asked whether it happened (on_unknown: probe)."
        case Refuse(problem):
            return problem.detail
        case other:
            assert_never(other)
