"""From a request to the operation that it asks for: which key it bears, who signed it, whose it is, and what must be the same in a
retry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from idemproxy.clocks import Clock
from idemproxy.execution import Operation
from idemproxy.forwarding import answer_head
from idemproxy.given import UNSIGNED, credential_invalid, credential_undecided, key_missing
from idemproxy.http1.heads import AnswerHead, Length
from idemproxy.idempotency.age import Age, age_of
from idemproxy.idempotency.content import Content
from idemproxy.idempotency.credentials import credential_of
from idemproxy.idempotency.fingerprint import fingerprint, recipe_name, recipe_of
from idemproxy.idempotency.identity import BadKey, Key, NoKey, read_key, record_id, scope_values
from idemproxy.idempotency.jwt_claims import Doubted
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.natural import Ambiguous, Underivable, derive, needs_body
from idemproxy.idempotency.operation import Refuse
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import Rule, claims_of
from idemproxy.idempotency.signatures import Refused, verify
from idemproxy.idempotency.template import Asked
from idemproxy.proxy.incoming import BodyTooLarge, Incoming
from idemproxy.tokens import Tokens, Undecided

_NO_CLAIMS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identified:
    """The operation, and whether its key can be new."""

    operation: Operation
    age: Age


@dataclass(frozen=True, slots=True)
class Unnamed:
    """No key, and the rule asks for none. The request is as it came, its body too."""


class Identifier:
    """Tells the operations of one product apart."""

    def __init__(self, namespace: str, tokens: Tokens | None = None, wall: Clock = time.time) -> None:
        """`tokens` are verified for the rules that know callers by what those claim. `wall` is the time of day, in seconds since 1970:
        what signatures and the birth of a key are held against."""
        self._namespace = namespace
        self._tokens = tokens
        self._wall = wall

    async def identify(self, incoming: Incoming, rule: Rule) -> Identified | Unnamed | Refuse:
        """What the request asks for. Its body is read only where nothing in its head is against it. Raises BodyTooLarge, BadBody,
        ClientGone."""
        head = incoming.head
        match read_key(rule, head.fields):
            case Key() as key:
                return await self._asked(incoming, rule, key, None)
            case BadKey(detail):
                return Refuse(Problem(Slug.KEY_INVALID, detail))
            case NoKey() if rule.key.natural:
                return await self._derived(incoming, rule)
            case NoKey() if rule.key.required:
                return Refuse(key_missing(rule))
            case NoKey():
                return Unnamed()
            case other:
                assert_never(other)

    async def _derived(self, incoming: Incoming, rule: Rule) -> Identified | Unnamed | Refuse:
        """The key is what the request says."""
        head = incoming.head
        content = await _content(incoming, rule) if needs_body(rule) else None
        asked = Asked(rule.match.path, head.target, head.fields, incoming.peer, content or Content(b""))
        match derive(rule, asked):
            case Key() as key:
                return await self._asked(incoming, rule, key, content)
            case Underivable() if not rule.key.required:
                if content is not None:
                    incoming.unread(content.body)
                return Unnamed()
            case Underivable(detail) | Ambiguous(detail):
                return Refuse(Problem(Slug.KEY_UNDERIVABLE, detail))
            case other:
                assert_never(other)

    async def _asked(self, incoming: Incoming, rule: Rule, key: Key, content: Content | None) -> Identified | Refuse:
        """What a request with a key asks for. `content` is None where its body was not read yet."""
        fields = incoming.head.fields
        claims = _NO_CLAIMS if self._tokens is None else await _claims(self._tokens, rule, fields)
        if isinstance(claims, Refuse):
            return claims
        content = content or await _content(incoming, rule)
        if rule.verify is not None and isinstance(verify(rule.verify, fields, content.body, self._wall()), Refused):
            return Refuse(UNSIGNED)
        age = Age.YOUNG if rule.key.age is None else age_of(rule, fields, key, self._wall())
        if isinstance(age, Problem):
            return Refuse(age)
        return Identified(self._operation(incoming, rule, key, content, claims), age)

    def _operation(
        self, incoming: Incoming, rule: Rule, key: Key, content: Content, claims: Mapping[str, bytes]
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


async def _claims(tokens: Tokens, rule: Rule, fields: Fields) -> Mapping[str, bytes] | Refuse:
    """What the request's token says of its bearer, as far as the rule's scope asks."""
    names = claims_of(rule)
    if not names:
        return _NO_CLAIMS
    match await tokens.named(fields, names):
        case Doubted(reason):
            return Refuse(credential_invalid(reason))
        case Undecided():
            return Refuse(credential_undecided(rule))
        case claims:
            return claims


async def _content(incoming: Incoming, rule: Rule) -> Content:
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
    if recipe == operation.recipe:
        return found == operation.fingerprint
    head = operation.head
    return found == fingerprint(recipe_of(recipe), head.method, head.target, head.fields, Content(operation.body))
