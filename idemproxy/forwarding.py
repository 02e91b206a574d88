"""The bytes of a forward: what goes to the upstream for a request, what goes to the client for an answer, and traffic that no rule
names (FORWARDING.md)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from idemproxy.http1.connection import forwardable, forwardable_trailers
from idemproxy.http1.heads import MAX_LENGTH, AnswerHead, Chunked, Length, NoBody, RequestHead
from idemproxy.http1.writing import chunk, field_lines, last_chunk
from idemproxy.idempotency.answering import answer_to
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import Rule
from idemproxy.proxy.answering import Answering
from idemproxy.proxy.incoming import ClientGone, Incoming
from idemproxy.proxy.outcome import (
    AnswerBroken,
    Lost,
    NotSent,
    Outgoing,
    Patience,
    Pieces,
    Reuse,
    SentNoAnswer,
    Unsent,
    Upgrade,
)
from idemproxy.proxy.tunnel import Switched, carry
from idemproxy.proxy.upstream import Upstream

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Methods whose bodiless requests may be sent once more when a reused connection died (RFC 9110, section 9.2.2). PUT and DELETE
are idempotent too by that section, but not free of effects that a second sending would show."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What the proxy is between a client and the upstream. `base` goes in front of each target, `authority` is the upstream's own
    `Host`, `scheme` what clients speak. The rest says what the proxy adds (FORWARDING.md, point 5): by default nothing."""

    base: bytes
    authority: bytes
    scheme: bytes = b"http"
    forwarded_headers: bool = False
    via: bool = False
    upstream_host: bool = False


def wanted_upgrade(head: RequestHead) -> bytes | None:
    """The protocols that a request asks to switch to, as they go on. `h2c` does not: inside it, requests would pass the rules by
    (FORWARDING.md, point 19). Nor does a request that has a body switch."""
    if head.minor == 0 or not isinstance(head.framing, NoBody) or b"upgrade" not in head.options:
        return None
    asked = [name.strip(b" \t") for value in values(head.fields, b"upgrade") for name in value.split(b",")]
    kept = [name for name in asked if name and name.lower() != b"h2c"]
    return b", ".join(kept) or None


def request_head(
    head: RequestHead, peer: str, hop: Hop, *, drop: frozenset[bytes] = frozenset(), add: Fields = ()
) -> bytes:
    """The head that goes to the upstream: as it came, but for what one hop ends (FORWARDING.md, points 1 to 5). Fields named in
    `drop` (lower case) are left out, those of `add` put behind. `peer` is the client's address, or ""."""
    target, authority = origin_form(head.method, head.target)
    fields = forwardable(head.fields)
    if drop:
        fields = tuple([field for field in fields if field[0].lower() not in drop])
    named = values(fields, b"host")
    asked = authority if authority is not None else next(iter(named), hop.authority)
    if hop.forwarded_headers:
        fields = _forwarded(fields, peer, hop.scheme, asked)
    host = hop.authority if hop.upstream_host else asked
    if named != [host]:
        fields = _with_host(fields, host)
    if hop.via:
        fields = (*fields, (b"Via", b"1.%d idemproxy" % head.minor))
    if isinstance(head.framing, Chunked):
        fields = (*fields, (b"Transfer-Encoding", b"chunked"))
    if target != b"*":
        target = hop.base + target
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, target, field_lines(fields + add))


def _with_host(fields: Fields, host: bytes) -> Fields:
    """The Host field in its place, or in front where there is none (HTTP/1.0)."""
    if any(name.lower() == b"host" for name, _ in fields):
        return tuple((name, host if name.lower() == b"host" else value) for name, value in fields)
    return ((b"Host", host), *fields)


def _forwarded(fields: Fields, peer: str, scheme: bytes, host: bytes) -> Fields:
    """The client appended to X-Forwarded-For, the others where absent."""
    through = [*values(fields, b"x-forwarded-for"), *([peer.encode("ascii")] if peer else [])]
    kept = tuple(field for field in fields if field[0].lower() != b"x-forwarded-for")
    if through:
        kept = (*kept, (b"X-Forwarded-For", b", ".join(through)))
    for name, value in ((b"X-Forwarded-Proto", scheme), (b"X-Forwarded-Host", host)):
        if not values(fields, name.lower()):
            kept = (*kept, (name, value))
    return kept


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """A target in origin-form, and the authority that an absolute-form names (RFC 9112, sections 3.2.2 and 3.2.4)."""
    if target[:1] in b"/*":
        return target, None
    rest = target.partition(b"://")[2]
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    path, authority = rest[end:], rest[:end]
    if method == b"OPTIONS" and not path:
        return b"*", authority
    return (path if path.startswith(b"/") else b"/" + path), authority


def answer_head(head: AnswerHead) -> bytes:
    """The status line's rest and the end-to-end field lines, as they came."""
    return head.status_line + b"\r\n" + field_lines(forwardable(head.fields))


def switched_head(head: AnswerHead) -> bytes:
    """A 101 as it goes to the client."""
    upgrade = tuple(field for field in head.fields if field[0].lower() == b"upgrade")
    return answer_head(head) + field_lines((*upgrade, (b"Connection", b"Upgrade")))


def unreachable(retry_after: int, reason: Unsent = Unsent.UNREACHABLE) -> Problem:
    """Not one byte was sent."""
    if reason is Unsent.BUSY:
        detail = "Every connection to the upstream is in use. The request was not sent: send it again."
        return Problem(Slug.UPSTREAM_UNREACHABLE, detail, retry_after, status=503)
    detail = "The upstream cannot be reached. The request was not sent: send it again."
    return Problem(Slug.UPSTREAM_UNREACHABLE, detail, retry_after)


def failed(lost: Lost) -> Problem:
    """A request that no rule names was sent, and not answered."""
    if lost is Lost.TIMEOUT:
        return Problem(
            Slug.UPSTREAM_TIMEOUT, "The upstream did not answer in time. The request may have been executed."
        )
    return Problem(Slug.UPSTREAM_FAILED, "The upstream gave no readable answer. The request may have been executed.")


class Observer(Protocol):
    """Sees one exchange pass. It changes nothing of it, and never raises."""

    def request_piece(self, piece: bytes) -> None:
        """A piece of the request's body."""

    def request_whole(self) -> None:
        """The request's body has passed whole."""

    def answer_head(self, status: int) -> None:
        """The answer's head came."""

    def answer_piece(self, piece: bytes) -> None:
        """A piece of the answer's body."""

    def over(self, how: NotSent | SentNoAnswer | AnswerBroken | None) -> None:
        """The upstream's part is over: how it failed, or None where its answer is whole. Not called where the client goes away first."""


class Forwarding:
    """Traffic that no rule names: as it came, streamed both ways."""

    def __init__(self, upstream: Upstream, hop: Hop, patience: Patience, docs_url: str) -> None:
        self.upstream = upstream
        self.hop = hop
        self.patience = patience
        self._docs_url = docs_url

    async def pass_on(
        self, incoming: Incoming, upgrade: Upgrade, rule: Rule | None = None, observer: Observer | None = None
    ) -> None:
        """One request and its answer. `rule` is the one whose words our own answers are in. A client that goes away takes the exchange
        with it (FORWARDING.md, point 20)."""
        answering = await self._exchange(incoming, upgrade, rule, observer)
        if answering is None:
            return
        if observer is not None:
            observer.answer_head(answering.head.status)
        if isinstance(answering, Switched):
            if observer is not None:
                observer.over(None)
            await self._switch(incoming, answering)
            return
        try:
            await incoming.begin(answer_head(answering.head), answering.framing)
            piece = answering.take() or await answering.piece()
            while piece is not None:
                if observer is not None:
                    observer.answer_piece(piece)
                await incoming.write(piece)
                piece = await answering.piece()
            if observer is not None:
                observer.over(None)
            await incoming.end(trailer_lines(answering.trailers))
        except (AnswerBroken, ClientGone) as error:
            if observer is not None and isinstance(error, AnswerBroken):
                observer.over(error)
            incoming.abort()
        finally:
            answering.close()

    async def _switch(self, incoming: Incoming, switched: Switched) -> None:
        try:
            await incoming.switch(switched_head(switched.head))
        except ClientGone:
            switched.close()
            return
        await carry(incoming, switched, self.patience.idle)

    async def _exchange(
        self, incoming: Incoming, upgrade: Upgrade, rule: Rule | None, observer: Observer | None
    ) -> Answering | Switched | None:
        head = incoming.head
        protocols = wanted_upgrade(head) if upgrade is Upgrade.ASKED else None
        switch: Fields = () if protocols is None else ((b"Connection", b"Upgrade"), (b"Upgrade", protocols))
        bodiless = isinstance(head.framing, NoBody)
        again = (bodiless or head.framing == Length(0)) and head.method in _IDEMPOTENT
        reuse = Reuse.POOLED
        while True:
            outgoing = Outgoing(
                head=request_head(head, incoming.peer, self.hop, add=switch),
                method=head.method,
                body=await _sendable(incoming, observer),
                patience=self.patience,
                guard=None,
                reuse=reuse,
                interim=lambda interim: _interim(incoming, interim),
                upgrade=Upgrade.NEVER if protocols is None else Upgrade.ASKED,
            )
            match await self.upstream.exchange(outgoing):
                case (Answering() | Switched()) as outcome:
                    return outcome
                case NotSent(reason=reason) as not_sent:
                    if observer is not None:
                        observer.over(not_sent)
                    await self._refuse(incoming, unreachable(1_000, reason), rule)
                    return None
                case SentNoAnswer(reason=reason, answer_began=began) as lost:
                    if again and not began and reason in (Lost.RESET, Lost.CLOSED):
                        again, reuse = False, Reuse.FRESH
                        continue
                    if observer is not None:
                        observer.over(lost)
                    await self._refuse(incoming, failed(reason), rule)
                    return None
                case other:
                    assert_never(other)

    async def _refuse(self, incoming: Incoming, problem: Problem, rule: Rule | None) -> None:
        with contextlib.suppress(ClientGone):
            await incoming.answer(answer_to(incoming.head.fields, problem, rule, self._docs_url))


def _interim(incoming: Incoming, head: AnswerHead) -> None:
    if head.status == 100 and not incoming.expecting:
        return
    incoming.interim(answer_head(head))


async def _sendable(incoming: Incoming, observer: Observer | None) -> bytes | Pieces | None:
    """The request's body. One that is here already leaves with its head."""
    if incoming.body_came:
        body = await incoming.body(MAX_LENGTH)
        if observer is not None:
            observer.request_piece(body)
            observer.request_whole()
        return whole_body(incoming.head, body, trailer_lines(incoming.trailers))
    return _Framed(incoming, incoming.piece if observer is None else _overheard(incoming, observer)).piece


def _overheard(incoming: Incoming, observer: Observer) -> Pieces:
    async def piece() -> bytes | None:
        taken = await incoming.piece()
        if taken is None:
            observer.request_whole()
        else:
            observer.request_piece(taken)
        return taken

    return piece


class _Framed:
    """The request's body, framed as it came, piece by piece."""

    def __init__(self, incoming: Incoming, take: Pieces) -> None:
        self._incoming = incoming
        self._take = take
        self._over = False

    async def piece(self) -> bytes | None:
        if self._over:
            return None
        piece = await self._take()
        self._over = piece is None
        if not isinstance(self._incoming.head.framing, Chunked):
            return piece
        return last_chunk(trailer_lines(self._incoming.trailers)) if piece is None else chunk(piece)


def trailer_lines(trailers: Fields, guarded: frozenset[bytes] = frozenset()) -> bytes:
    """Trailer fields as lines, without those that no trailer may carry, and `guarded` (FORWARDING.md, point 6)."""
    return field_lines(forwardable_trailers(trailers, guarded)) if trailers else b""


def whole_body(head: RequestHead, body: bytes, trailers: bytes) -> bytes | None:
    """A body that was read whole, framed as it came; `trailers` are lines."""
    match head.framing:
        case NoBody():
            return None
        case Length():
            return body
        case Chunked():
            return (chunk(body) if body else b"") + last_chunk(trailers)
        case other:
            assert_never(other)
