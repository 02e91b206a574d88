"""From a request to the operation that it asks for: whose it is, and what must be the same in a retry."""

from __future__ import annotations

from idemproxy.execution import Operation
from idemproxy.forwarding import answer_head
from idemproxy.http1.heads import AnswerHead
from idemproxy.idempotency.content import Content
from idemproxy.idempotency.fingerprint import fingerprint, recipe_name, recipe_of
from idemproxy.idempotency.identity import record_id, scope_values
from idemproxy.idempotency.routes import Rule
from idemproxy.proxy.incoming import Incoming


def identify(incoming: Incoming, rule: Rule, namespace: str, key: bytes, content: Content) -> Operation:
    """The operation that a request with that key asks for; its body is whole."""
    head = incoming.head

    def interim(between: AnswerHead) -> None:
        if between.status != 100:
            incoming.interim(answer_head(between))

    return Operation(
        record_id=record_id(namespace, scope_values(rule, head.fields, head.target, incoming.certificate), key),
        fingerprint=fingerprint(rule.fingerprint, head.method, head.target, head.fields, content),
        recipe=recipe_name(rule.fingerprint),
        rule=rule,
        head=head,
        peer=incoming.peer,
        body=content.body,
        trailers=incoming.trailers,
        interim=interim,
    )


def same(operation: Operation, recipe: str, found: bytes) -> bool:
    """Whether a record with that fingerprint is this operation's. One made by another recipe (the rule changed since) is compared by its
    own: what had to be equal then."""
    if recipe == operation.recipe:
        return found == operation.fingerprint
    head = operation.head
    return found == fingerprint(recipe_of(recipe), head.method, head.target, head.fields, Content(operation.body))
