"""Asking the upstream whether a caller may still see what it would be replayed (DESIGN.md section 6, `reauthorize`). A replay does not
pass the upstream: where the scope alone does not show who is calling, the upstream is asked by a request that has no effect."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final, assert_never

from msgspec import structs

from idemproxy.clocks import Clock
from idemproxy.execution import Operation
from idemproxy.forwarding import Forwarding, request_head
from idemproxy.http1.heads import AnswerHead, NoBody
from idemproxy.idempotency.credentials import credential_fields
from idemproxy.idempotency.routes import Reauthorize
from idemproxy.idempotency.template import target_of
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.outcome import AnswerBroken, NotSent, Outgoing, Reuse, SentNoAnswer
from idemproxy.proxy.tunnel import Switched

LONGEST: Final = 10.0
"""Seconds for an answer's head; less where the upstream's own time limit is less."""
MOST: Final = 10_000
"""Questions whose yes is remembered."""
AT_ONCE: Final = 256
"""Questions that are asked at once: a client that shows another credential each time must not take the upstream's connections."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The upstream lets the caller in."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The upstream does not: by 401 or 403."""

    status: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The upstream did not say."""


Verdict = Allowed | Denied | Unanswered


class Reauthorizer:
    """Every such question of one configuration: the same one is asked once at a time. `clock` counts seconds.

    A yes is remembered by the whole of the question, which is all that the upstream decides by: the target, the host and the caller's
    credentials. So it holds for any operation that the same question is asked about."""

    def __init__(self, forwarding: Forwarding, clock: Clock, most: int = MOST) -> None:
        self._forwarding = forwarding
        self._clock = clock
        self._most = most
        self._allowed: dict[bytes, float] = {}
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}

    async def ask(self, operation: Operation, by: Reauthorize) -> Verdict:
        """Whether the caller may see the operation's recorded answer."""
        head = self._question(operation, by)
        if head is None:
            return Unanswered()
        name = hashlib.sha256(head).digest()
        since = self._allowed.get(name)
        if since is not None and self._clock() - since < by.cache / 1_000:
            return Allowed()
        task = self._asking.get(name)
        if task is None and len(self._asking) >= AT_ONCE:
            return Unanswered()
        if task is None:
            task = self._asking[name] = asyncio.ensure_future(self._ask(name, head))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        await asyncio.wait([task])
        return Unanswered() if task.cancelled() else task.result()

    async def close(self) -> None:
        """Give up every question."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _question(self, operation: Operation, by: Reauthorize) -> bytes | None:
        """The head of the request; None where its target cannot be filled in."""
        rule, head = operation.rule, operation.head
        target = target_of(by.target, rule.match.path, head.target, head.fields)
        if target is None:
            return None
        host = tuple([field for field in head.fields if field[0].lower() == b"host"])
        fields = host + tuple([field for field in credential_fields(rule, head.fields) if field not in host])
        asking = structs.replace(head, method=b"GET", target=target, fields=fields, framing=NoBody())
        return request_head(asking, operation.peer, self._forwarding.hop)

    async def _ask(self, name: bytes, head: bytes) -> Verdict:
        began = self._clock()
        verdict = await self._answer(head)
        self._allowed.pop(name, None)
        if isinstance(verdict, Allowed):
            if len(self._allowed) >= self._most:
                del self._allowed[next(iter(self._allowed))]
            self._allowed[name] = began
        return verdict

    async def _answer(self, head: bytes) -> Verdict:
        patience = self._forwarding.patience
        outgoing = Outgoing(
            head=head, method=b"GET", body=None, patience=patience, guard=None, reuse=Reuse.FRESH, interim=_ignored
        )
        try:
            async with asyncio.timeout(min(patience.response or LONGEST, LONGEST)):
                match await self._forwarding.upstream.exchange(outgoing):
                    case Answering() as answering:
                        answering.close()
                        return _verdict(answering.head.status)
                    case Switched() as switched:
                        switched.close()
                        return Unanswered()
                    case NotSent() | SentNoAnswer():
                        return Unanswered()
                    case other:
                        assert_never(other)
        except (TimeoutError, AnswerBroken):
            return Unanswered()


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Allowed()
    return Denied(status) if status in (401, 403) else Unanswered()


def _ignored(head: AnswerHead) -> None:
    """An interim answer says nothing."""
