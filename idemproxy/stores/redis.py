"""The Redis store: the production store, on Redis 6 or newer, or Valkey.

Each command is one Lua script, run by EVALSHA, on two keys in one hash slot: `<namespace>:{<record id>}:record` holds the record
and outlives `<namespace>:{<record id>}:lock`, the lease. Times are the server's. Ends are published on `<namespace>:ends`.

The least that its user needs (Redis 7; NAME and PASSWORD are yours, and `shop` is the namespace)::

    ACL SETUSER NAME on >PASSWORD resetkeys resetchannels nocommands ~shop:* &shop:ends +evalsha +eval +get +set +del +pttl +time
        +publish +subscribe +ping +scan +getrange

With `+select` where a database number is used, and `+info +config|get` so that the check at start can read how the server saves
and evicts. Without `+scan +getrange` everything works but the list of records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never, cast

import hiredis

from idemproxy.idempotency.record import Reason, State
from idemproxy.stores import redis_scripts as scripts
from idemproxy.stores.base import (
    Check,
    Claim,
    ClaimFact,
    Completion,
    EndFact,
    LookFact,
    MarkUnknown,
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
from idemproxy.stores.redis_scripts import Fact, Script, fact_of, number
from idemproxy.stores.redis_wire import bulk
from idemproxy.stores.semantics import state_of

_LARGE = 64 * 2**10
"""Bytes: a command past them goes over a connection of its own, so that small ones do not wait behind it."""

_NOWHERE = "0" * 64
"""An id that no operation has: asked for at start, to see that scripts may be run."""


class RedisStore:
    """Records in a Redis server. `url` is `redis://[user:password@]host[:port][/database]`, `rediss://` (TLS) or
    `unix:///path?db=0`, with query parameters as redis-py has them (`ssl_ca_certs`, `ssl_cert_reqs`). No command takes longer than
    `timeout_ms`. Raises ConfigError for an address that cannot be used."""

    def __init__(self, url: str, *, namespace: str, timeout_ms: int) -> None:
        self._address = Address(url, timeout_ms / 1000)
        self._link = Link(self._address)
        self._large = Link(self._address)
        name = namespace.encode()
        self._channel = name + b":ends"
        self._prefix, self._suffix = name + b":{", b"}:record"
        example = _NOWHERE.encode()
        keys = bulk(self._prefix + example + self._suffix, self._prefix + example + b"}:lock")
        self._keys = keys.replace(b"%", b"%%").replace(example, b"%b")

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact:
        made = scripts.template(claim)
        asked = (claim.token, number(claim.lease), number(claim.ttl), made)
        return cast(ClaimFact, await self._run(scripts.CLAIM, record_id, *asked))

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact:
        asked = (
            take_over.token,
            take_over.seen_token,
            number(take_over.seen_version),
            number(take_over.lease),
            number(take_over.ttl),
        )
        return cast(TakeOverFact, await self._run(scripts.TAKE_OVER, record_id, *asked))

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact:
        asked = (renewal.token, number(renewal.lease), number(renewal.ttl))
        return cast(RenewFact, await self._run(scripts.RENEW, record_id, *asked))

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
        asked = (take_back.token, number(take_back.lease), scripts.dead(take_back.token))
        await self._end(scripts.TAKE_BACK, record_id, *asked)

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact:
        seen = number(settlement.seen_version)
        match settlement:
            case SettleRelease(ttl=ttl):
                asked = (b"release", seen, number(ttl), b"", b"", b"")
            case SettleComplete(answer=answer, ttl=ttl):
                _, lengths, payload = scripts.answer_parts(answer)
                asked = (b"complete", seen, number(ttl), number(state_of(answer)), lengths, payload)
            case SettleDelete():
                asked = (b"delete", seen, b"0", b"", b"", b"")
            case other:
                assert_never(other)
        return cast(EndFact, await self._end(scripts.SETTLE, record_id, *asked))

    async def get(self, record_id: str) -> LookFact:
        return cast(LookFact, await self._run(scripts.LOOK, record_id))

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
        return await self._run(script, record_id, self._channel, record_id.encode(), *arguments)

    async def _run(self, script: Script, record_id: str, *arguments: bytes) -> Fact:
        name = record_id.encode()
        rest = self._keys % (name, name) + bulk(*arguments)
        link = self._link if len(rest) < _LARGE else self._large
        reply = await link.ask(script.by_digest + rest)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = await link.ask(script.by_text + rest)
        if isinstance(reply, hiredis.ReplyError):
            raise meaning(str(self._address), str(reply))
        return fact_of(reply)
