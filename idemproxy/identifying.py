"""From a request to the operation that it asks for: which key it bears, who signed it, whose it is, and what must be the same in a
retry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, assert_never

import msgspec

from idemproxy.clocks import Clock
from idemproxy.errors import StoreError
from idemproxy.execution import Operation
from idemproxy.forwarding import answer_head
from idemproxy.given import UNSIGNED, credential_invalid, credential_undecided, key_missing
from idemproxy.http1.heads import AnswerHead, Length, RequestHead
from idemproxy.idempotency.age import Age, age_of
from idemproxy.idempotency.content import Content
from idemproxy.idempotency.credentials import credential_of
from idemproxy.idempotency.fingerprint import differing, equal, fingerprint, recipe_name, recipe_of
from idemproxy.idempotency.identity import BadKey, Key, NoKey, read_key, record_id, scope_values
from idemproxy.idempotency.jwt_claims import Doubted
from idemproxy.idempotency.marker import Attempt, attempt_of, marked_key, marker_id
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.natural import Ambiguous, Underivable, derive, needs_body
from idemproxy.idempotency.operation import REUSED, Refuse
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import OnStoreFailure, Rule, claims_of
from idemproxy.idempotency.signatures import Refused, verify
from idemproxy.idempotency.template import Asked
from idemproxy.proxy.incoming import BodyTooLarge
from idemproxy.stores.base import NameNewest, Newest
from idemproxy.tokens import Tokens, Undecided

_NO_CLAIMS: Mapping[str, bytes] = MappingProxyType({})


class Unidentified(Protocol):
    """A request as far as it is read to be identified: what each means is said where it comes in (proxy/incoming.py)."""

    @property
    def head(self) -> RequestHead: ...

    @property
    def peer(self) -> str: ...

    @property
    def certificate(self) -> bytes | None: ...

    @property
    def trailers(self) -> Fields: ...

    def accept(self) -> None: ...

    async def body(self, limit: int) -> bytes: ...

    def unread(self, body: bytes) -> None: ...

    def interim(self, head: bytes) -> None: ...


class Names(Protocol):
    """Where the newest operations are named."""

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest: ...


class Identified(msgspec.Struct, frozen=True):
    """The operation, its key, and whether that can be new."""

    operation: Operation
    key: Key
    age: Age


@dataclass(frozen=True, slots=True)
class Unnamed:
    """No key, and the rule asks for none. The request is as it came, its body too."""


class Identifier:
    """Tells the operations of one product apart."""

    def __init__(
        self,
        namespace: str,
        store: Names,
        tokens: Callable[[], bytes],
        callers: Tokens | None = None,
        wall: Clock = time.time,
    ) -> None:
        """`store` is where the newest operation of a retry marker is named, by one of `tokens`. `callers` are known by what their own
        tokens claim, under a rule that says so. `wall` is the time of day, in seconds since 1970: what signatures and the birth of a key
        are held against."""
        self._namespace = namespace
        self._store = store
        self._callers = callers
        self._tokens = tokens
        self._wall = wall

    async def identify(self, incoming: Unidentified, rule: Rule) -> Identified | Unnamed | Refuse:
        """What the request asks for. Its body is read only where nothing in its head is against it. Raises BodyTooLarge, BadBody,
        ClientGone, StoreError."""
        head = incoming.head
        match read_key(rule, head.fields):
            case Key() as key:
                if self._callers is not None:
                    return await self._known(self._callers, incoming, rule, key, None)
                return self._asked(incoming, rule, key, await _content(incoming, rule))
            case BadKey(detail):
                return Refuse(Problem(Slug.KEY_INVALID, detail))
            case NoKey() if rule.key.natural:
                return await self._derived(incoming, rule)
            case NoKey():
                return await self._marked(incoming, rule, Refuse(key_missing(rule)))
            case other:
                assert_never(other)

    async def scope(self, incoming: Unidentified, rule: Rule) -> tuple[bytes | None, ...] | None:
        """Who calls, by the rule's scope. None: by a token, and that does not hold."""
        claims = _NO_CLAIMS if self._callers is None else await _claims(self._callers, incoming, rule)
        if isinstance(claims, Refuse):
            return None
        return scope_values(rule, incoming.head.fields, incoming.head.target, incoming.certificate, claims)

    async def _derived(self, incoming: Unidentified, rule: Rule) -> Identified | Unnamed | Refuse:
        """The key is what the request says."""
        head = incoming.head
        content = await _content(incoming, rule) if needs_body(rule) else None
        asked = Asked(rule.match.path, head.target, head.fields, incoming.peer, content or Content(b""))
        match derive(rule, asked):
            case Key() as key:
                if self._callers is not None:
                    return await self._known(self._callers, incoming, rule, key, content)
                return self._asked(incoming, rule, key, content or await _content(incoming, rule))
            case Underivable(detail):
                if content is not None:
                    incoming.unread(content.body)
                return await self._marked(incoming, rule, Refuse(Problem(Slug.KEY_UNDERIVABLE, detail)))
            case Ambiguous(detail):
                return Refuse(Problem(Slug.KEY_UNDERIVABLE, detail))
            case other:
                assert_never(other)

    async def _known(
        self, callers: Tokens, incoming: Unidentified, rule: Rule, key: Key, content: Content | None
    ) -> Identified | Refuse:
        """What a request with a key asks for, where its caller may have to be known by a token. `content` is None where its body was not
        read yet."""
        claims = await _claims(callers, incoming, rule)
        if isinstance(claims, Refuse):
            return claims
        return self._asked(incoming, rule, key, content or await _content(incoming, rule), claims)

    async def _marked(self, incoming: Unidentified, rule: Rule, missing: Refuse) -> Identified | Unnamed | Refuse:
        """The key is what the client says of its attempts. `missing`: what a request without any key gets, where the rule asks for one."""
        head = incoming.head
        marker = rule.key.marker
        attempt = NoKey() if marker is None else attempt_of(marker, head.fields)
        match attempt:
            case BadKey(detail):
                return Refuse(Problem(Slug.KEY_INVALID, detail))
            case NoKey():
                return missing if rule.key.required else Unnamed()
            case Attempt():
                claims = _NO_CLAIMS if self._callers is None else await _claims(self._callers, incoming, rule)
        assert marker is not None
        if isinstance(claims, Refuse):
            return claims
        content = await _content(incoming, rule)
        if not self._signed(incoming, rule, content):
            return Refuse(UNSIGNED)
        said = fingerprint(rule.fingerprint, head.method, head.target, head.fields, content)
        scope = scope_values(rule, head.fields, head.target, incoming.certificate, claims)
        place = marker_id(self._namespace, scope, rule, said)
        try:
            nonce = await self._newest(place, attempt, marker.window)
        except StoreError:
            if rule.on_store_failure is not OnStoreFailure.FAIL_OPEN:
                raise
            nonce = self._tokens()
        return self._asked(incoming, rule, marked_key(rule, said, nonce), content, claims)

    async def _newest(self, place: str, attempt: Attempt, window: int) -> bytes:
        """The nonce of the operation that an attempt belongs to. A first one names its own over the one that it found: if that fails,
        a newer one was named, which further attempts would belong to in any case."""
        nonce = self._tokens()
        named = (await self._store.name_newest(place, NameNewest(None, nonce, window))).nonce
        if attempt is Attempt.AGAIN:
            return named or nonce
        if named != nonce:
            named = (await self._store.name_newest(place, NameNewest(named, nonce, window))).nonce
        if named is None:  # what was found has expired since
            await self._store.name_newest(place, NameNewest(None, nonce, window))
        return nonce

    def _asked(
        self, incoming: Unidentified, rule: Rule, key: Key, content: Content, claims: Mapping[str, bytes] = _NO_CLAIMS
    ) -> Identified | Refuse:
        fields = incoming.head.fields
        if not self._signed(incoming, rule, content):
            return Refuse(UNSIGNED)
        age = Age.YOUNG if rule.key.age is None else age_of(rule, fields, key, self._wall())
        if isinstance(age, Problem):
            return Refuse(age)
        return Identified(self._operation(incoming, rule, key, content, claims), key, age)

    def _signed(self, incoming: Unidentified, rule: Rule, content: Content) -> bool:
        """Whether the request bears the signature that the rule asks for, if any."""
        return rule.verify is None or not isinstance(
            verify(rule.verify, incoming.head.fields, content.body, self._wall()), Refused
        )

    def _operation(
        self, incoming: Unidentified, rule: Rule, key: Key, content: Content, claims: Mapping[str, bytes]
    ) -> Operation:
        head = incoming.head

        def interim(between: AnswerHead) -> None:
            if between.status != 100:
                incoming.interim(answer_head(between))

        scope = scope_values(rule, head.fields, head.target, incoming.certificate, claims)
        name = record_id(self._namespace, scope, key.value)
        return Operation(
            record_id=name,
            fingerprint=fingerprint(rule.fingerprint, head.method, head.target, head.fields, content),
            recipe=recipe_name(rule.fingerprint),
            rule=rule,
            head=head,
            peer=incoming.peer,
            body=content.body,
            trailers=incoming.trailers,
            interim=interim,
            credential="" if rule.reauthorize is None else credential_of(rule, head.fields, name),
        )


async def _claims(callers: Tokens, incoming: Unidentified, rule: Rule) -> Mapping[str, bytes] | Refuse:
    """What the caller's token says of it, as far as the rule's scope asks."""
    names = claims_of(rule)
    if not names:
        return _NO_CLAIMS
    match await callers.named(incoming.head.fields, names):
        case Doubted(reason):
            return Refuse(credential_invalid(reason))
        case Undecided():
            return Refuse(credential_undecided(rule))
        case claims:
            return claims


async def _content(incoming: Unidentified, rule: Rule) -> Content:
    """The whole body. A client that waits for a 100 gets it once nothing in its head speaks against it."""
    match incoming.head.framing:
        case Length(octets) if octets > rule.max_request_body:
            raise BodyTooLarge(f"{octets} bytes were declared")
        case _:
            incoming.accept()
            return Content(await incoming.body(rule.max_request_body))


def same(operation: Operation, recipe: str, found: bytes) -> bool:
    """Whether a record with that fingerprint is this operation's. One made by another recipe (the rule changed since) is compared by its
    own: what had to be equal then."""
    return equal(found, fingerprint_by(recipe, operation))


def reused(operation: Operation, recipe: str, found: bytes) -> Refuse:
    """What an operation gets whose key another request bore before, with what differs between the two."""
    return Refuse(REUSED, differing(recipe_of(recipe), found, fingerprint_by(recipe, operation)))


def fingerprint_by(recipe: str, operation: Operation) -> bytes:
    """The operation's fingerprint by a recipe, which may be another than its own. Raises RecordUnreadable."""
    if recipe == operation.recipe:
        return operation.fingerprint
    head = operation.head
    return fingerprint(recipe_of(recipe), head.method, head.target, head.fields, Content(operation.body))
