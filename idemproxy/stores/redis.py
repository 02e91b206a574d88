"""The Redis store: the production store, on Redis 6 or newer, or Valkey.

Each command is one Lua script, run by EVALSHA, on three keys in one hash slot: `<namespace>:{<record id>}:record` holds the record
and outlives `<namespace>:{<record id>}:lock`, the lease; `<namespace>:{<record id>}:dead`, mostly not there, holds the tokens that were
taken back. Times are the server's. Ends are published on `<namespace>:ends`. `<namespace>:{<marker id>}:newest` names the newest
operation that a retry marker can mean.

The least that its user needs (Redis 7; NAME and PASSWORD are yours, and `shop` is the namespace)::

    ACL SETUSER NAME on >PASSWORD resetkeys resetchannels nocommands ~shop:* &shop:ends +evalsha +eval +get +set +del +pttl +time
        +publish +subscribe +ping +scan +getrange

With `+select` where a database number is used, and `+info +config|get` so that the check at start can read how the server saves
and evicts. Without `+scan +getrange` everything works but the list of records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never, cast

import hiredis

from idemproxy.errors import RecordUnreadable, StoreAmbiguous, StoreUnavailable
from idemproxy.idempotency.record import Reason, State
from idemproxy.stores import redis_scripts as scripts
from idemproxy.stores.base import (
    Check,
    Claim,
    ClaimFact,
    Completion,
    EndFact,
    Found,
    LookFact,
    MarkUnknown,
    NameNewest,
    Newest,
    NextAttempt,
    NextFact,
    Page,
    Release,
    Renewal,
    RenewFact,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    TakeBack,
    TakeOver,
    TakeOverFact,
)
from idemproxy.stores.redis_address import Address
from idemproxy.stores.redis_advice import advise
from idemproxy.stores.redis_errors import meaning
from idemproxy.stores.redis_link import Link
from idemproxy.stores.redis_listener import listen
from idemproxy.stores.redis_scan import Scan
from idemproxy.stores.redis_scripts import MOST_BYTES, Abridged, Fact, Script, fact_of, number
from idemproxy.stores.redis_wire import bulk
from idemproxy.stores.semantics import state_of

_TURNS = 3
"""How often a command is asked whose record is gone each time when its answer is fetched."""

_HOWEVER_LARGE = number(2**40)
"""Bytes: no record is as large."""

_NOWHERE = "0" * 64
"""An id that no operation has: asked for at start, to see that scripts may be run."""


class RedisStore:
    """Records in a Redis server. `url` is `redis://[user:password@]host[:port][/database]`, `rediss://` (TLS) or
    `unix:///path?db=0`, with query parameters as redis-py has them (`ssl_ca_certs`, `ssl_cert_reqs`). A command has `timeout_ms` to
    connect, where there is no connection, and as long to be answered; a large answer has one second a MiB more, to be sent or to be
    fetched. Raises ConfigError for an address that cannot be used."""

    def __init__(self, url: str, *, namespace: str, timeout_ms: int) -> None:
        self._address = Address(url, timeout_ms / 1000)
        self._link = Link(self._address)
        self._large = Link(self._address)
        name = namespace.encode()
        self._channel = name + b":ends"
        self._prefix, self._suffix = name + b":{", b"}:record"
        example = _NOWHERE.encode()
        keys = bulk(*(self._prefix + example + suffix for suffix in (self._suffix, b"}:lock", b"}:dead")))
        self._keys = keys.replace(b"%", b"%%").replace(example, b"%b")
        self._marker = bulk(self._prefix + example + b"}:newest").replace(b"%", b"%%").replace(example, b"%b")

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        made = scripts.template(claim)
        asked = (claim.token, number(claim.lease), number(claim.ttl), made)
        return cast(ClaimFact, await self._whole(scripts.CLAIM, record_id, *asked))

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        asked = (
            take_over.token,
            take_over.seen_token,
            number(take_over.seen_version),
            number(take_over.lease),
            number(take_over.ttl),
        )
        return cast(TakeOverFact, await self._whole(scripts.TAKE_OVER, record_id, *asked))

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        asked = (renewal.token, number(renewal.lease), number(renewal.ttl))
        return cast(RenewFact, await self._brief(scripts.RENEW, record_id, *asked))

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact:
        arguments = (asked.token, number(asked.may_have_run), number(asked.lease), number(asked.ttl))
        return cast(NextFact, await self._brief(scripts.NEXT_ATTEMPT, record_id, *arguments))

    async def complete(self, record_id: str, completion: Completion) -> EndFact:
        asked = (
            completion.token,
            number(state_of(completion.answer)),
            number(Reason.NONE),
            number(completion.ttl),
            *scripts.answer_parts(completion.answer),
            scripts.anew(completion.anew),
        )
        return cast(EndFact, await self._end(scripts.FINISH, record_id, *asked))

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact:
        asked = (
            mark.token,
            number(State.UNKNOWN),
            number(mark.reason),
            number(mark.ttl),
            *scripts.NO_ANSWER,
            scripts.anew(mark.anew),
        )
        return cast(EndFact, await self._end(scripts.FINISH, record_id, *asked))

    async def release(self, record_id: str, release: Release) -> EndFact:
        return cast(EndFact, await self._end(scripts.RELEASE, record_id, release.token, number(release.ttl)))

    async def take_back(self, record_id: str, take_back: TakeBack) -> None:
        await self._end(scripts.TAKE_BACK, record_id, take_back.token, number(take_back.lease))

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        seen = (settlement.seen_token, number(settlement.seen_version))
        match settlement:
            case SettleRelease(ttl=ttl):
                asked = (b"release", *seen, number(ttl), b"", b"", b"")
            case SettleComplete(answer=answer, ttl=ttl):
                _, lengths, payload = scripts.answer_parts(answer)
                asked = (b"complete", *seen, number(ttl), number(state_of(answer)), lengths, payload)
            case SettleDelete():
                asked = (b"delete", *seen, b"0", b"", b"", b"")
            case other:
                assert_never(other)
        return cast(EndFact, await self._end(scripts.SETTLE, record_id, *asked))

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest:
        arguments = bulk(asked.expected or b"", asked.nonce, number(asked.window))
        rest = self._marker % marker_id.encode() + arguments
        return cast(Newest, await self._ask(self._link, scripts.NAME_NEWEST, rest, 0))

    async def get(self, record_id: str) -> LookFact:
        return cast(LookFact, await self._whole(scripts.LOOK, record_id, number(MOST_BYTES)))

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        await listen(self._address, self._channel, wake, listening)

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        return await Scan(self._link, self._prefix, self._suffix, self.get).page(state, rule, limit, cursor)

    async def check(self) -> Check:
        await self.get(_NOWHERE)
        return await advise(self._link, str(self._address))

    async def close(self) -> None:
        await asyncio.gather(self._link.close(), self._large.close())

    async def _end(self, script: Script, record_id: str, *arguments: bytes) -> Fact:
        return await self._brief(script, record_id, self._channel, record_id.encode(), *arguments)

    async def _brief(self, script: Script, record_id: str, *arguments: bytes) -> Fact:
        """For who has no use for the answer of what is found."""
        told = await self._run(script, record_id, *arguments)
        return told.found if isinstance(told, Abridged) else told

    async def _whole(self, script: Script, record_id: str, *arguments: bytes) -> Fact:
        """With the answer of what is found. A record that has changed when its answer comes says nothing of what was asked: then
        it is asked again."""
        for _ in range(_TURNS):
            told = await self._run(script, record_id, *arguments)
            if not isinstance(told, Abridged):
                return told
            seen = told.found.record
            try:
                fetched = await self._fetch(record_id, told.size)
            except (StoreAmbiguous, StoreUnavailable) as error:
                # There is a record: a rule that fails open must not take this for a store that knows nothing.
                raise RecordUnreadable(f"the answer of a large record could not be fetched: {error}") from error
            match fetched:
                case Found(record) as fact if (record.token, record.version) == (seen.token, seen.version):
                    return fact
        raise RecordUnreadable(f"{self._address} holds a record that changes each time while its answer is fetched")

    def _run(self, script: Script, record_id: str, *arguments: bytes) -> Awaitable[Fact | Abridged]:
        rest = self._rest(record_id, *arguments)
        if len(rest) < MOST_BYTES:
            return self._ask(self._link, script, rest, 0)
        return self._ask(self._large, script, rest, len(rest))

    def _fetch(self, record_id: str, size: int) -> Awaitable[Fact | Abridged]:
        return self._ask(self._large, scripts.LOOK, self._rest(record_id, _HOWEVER_LARGE), size)

    def _rest(self, record_id: str, *arguments: bytes) -> bytes:
        name = record_id.encode()
        return self._keys % (name, name, name) + bulk(*arguments)

    async def _ask(self, link: Link, script: Script, rest: bytes, size: int) -> Fact | Abridged:
        reply = await link.ask(script.by_digest + rest, size)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = await link.ask(script.by_text + rest, size)
        if isinstance(reply, hiredis.ReplyError):
            raise meaning(str(self._address), str(reply))
        return fact_of(reply)
