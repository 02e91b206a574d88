"""One operation in a Redis server and in stores/semantics.py, and the steps that are taken in both."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import redis
from hypothesis import strategies as st
from msgspec import structs

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, OnUnknown, Reason, Record, State, Tombstone, decode, encode
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Anew,
    Claim,
    Completion,
    Found,
    Locked,
    MarkUnknown,
    NextAttempt,
    Release,
    Renewal,
    SettleComplete,
    SettleDelete,
    SettleRelease,
    TakeBack,
    TakeOver,
)
from idemproxy.stores.redis import RedisStore
from idemproxy.stores.semantics import Lock, Slot

UNIT = 1_000_000
"""Milliseconds: every time in these tests is a multiple of it from the example's start, which takes far less."""

TOKENS = [bytes([letter]) * 16 for letter in b"abc"]

DEAD = struct.Struct(">16sQ")
"""One of the dead tokens, and until when."""


@dataclass(frozen=True, slots=True)
class Lapse:
    """The lease runs out."""


@dataclass(frozen=True, slots=True)
class Evict:
    """The server drops the record, and keeps the lock."""


@dataclass(frozen=True, slots=True)
class Outlive:
    """The time of the token that has been dead for longest is over, and the server still has it."""


Settle = SettleRelease | SettleComplete | SettleDelete
Step = (
    Claim
    | TakeOver
    | Renewal
    | NextAttempt
    | Completion
    | MarkUnknown
    | Release
    | TakeBack
    | Settle
    | Lapse
    | Evict
    | Outlive
)

AS_IT_IS = -1
"""For a version: the one that stands there when the step is taken, and its token."""
ITS_VERSION = -2
"""The one that stands there, and a token that need not."""

tokens = st.sampled_from(TOKENS)
times = st.sampled_from([UNIT, 2 * UNIT, 5 * UNIT])
versions = st.integers(0, 5)
seen_tokens = st.sampled_from([*TOKENS, NO_TOKEN])
seen_versions = st.one_of(st.just(AS_IT_IS), st.just(AS_IT_IS), st.just(ITS_VERSION), versions)
credentials = st.sampled_from(["", "0123abcd" * 4])
claims = st.builds(
    Claim,
    token=tokens,
    fingerprint=st.sampled_from([b"f" * 32, b"g" * 32 + b"\0\xffmark"]),
    recipe=st.sampled_from(["", "recipe", "r\u00e9"]),
    rule=st.sampled_from(["charges", "r"]),
    on_unknown=st.sampled_from(OnUnknown),
    lease=times,
    ttl=times,
    credential=credentials,
)
answers = st.builds(
    Answer,
    status=st.sampled_from([200, 299, 399, 400, 503]),
    head=st.sampled_from([b"", b"200 OK\r\nA: b\r\n"]),
    body=st.binary(max_size=20),
    trailers=st.sampled_from([b"", b"T: x\r\n"]),
)
outcomes = st.one_of(answers, st.builds(Tombstone, status=st.sampled_from([200, 500])))
reasons = st.sampled_from([reason for reason in Reason if reason is not Reason.NONE])


@st.composite
def made_anew(draw: st.DrawFn, token: bytes) -> Anew | None:
    if draw(st.booleans()):
        return None
    return Anew(structs.replace(draw(claims), token=token), draw(st.integers(1, 4)), draw(st.integers(1, 5)))


@st.composite
def ends(draw: st.DrawFn) -> Completion | MarkUnknown:
    token = draw(tokens)
    anew = draw(made_anew(token))
    if draw(st.booleans()):
        return Completion(token, draw(outcomes), draw(times), anew)
    return MarkUnknown(token, draw(reasons), draw(times), anew)


steps: st.SearchStrategy[Step] = st.one_of(
    claims,
    st.builds(TakeOver, tokens, seen_tokens, seen_versions, times, times),
    st.builds(Renewal, tokens, times, times),
    st.builds(NextAttempt, tokens, st.booleans(), times, times),
    ends(),
    st.builds(Release, tokens, times),
    st.builds(TakeBack, tokens, times),
    st.builds(TakeBack, tokens, times),
    st.builds(SettleRelease, seen_tokens, seen_versions, times),
    st.builds(SettleComplete, seen_tokens, seen_versions, answers, times),
    st.builds(SettleDelete, seen_tokens, seen_versions),
    st.just(Lapse()),
    st.just(Lapse()),
    st.just(Evict()),
    st.just(Outlive()),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Times are counted from the example's start."""
    state = draw(st.sampled_from(State))
    ended = state in (State.COMPLETED, State.FAILED)
    return Record(
        state=state,
        fingerprint=b"h" * 32,
        recipe="older",
        rule="r",
        token=draw(st.sampled_from([*TOKENS, NO_TOKEN])),
        version=draw(versions),
        attempt=draw(st.integers(0, 4)),
        may_have_run=draw(st.booleans()),
        on_unknown=draw(st.sampled_from(OnUnknown)),
        reason=draw(reasons) if state is State.UNKNOWN else Reason.NONE,
        created_at=-7 * UNIT,
        updated_at=-3 * UNIT,
        expires_at=draw(st.sampled_from([UNIT, 4 * UNIT, 20 * UNIT])),
        lease_until=draw(st.sampled_from([-2 * UNIT, 3 * UNIT])),
        answer=draw(outcomes) if ended else None,
        credential=draw(credentials),
    )


locks = st.builds(Lock, token=tokens, until=st.sampled_from([UNIT, 3 * UNIT]))
slots = st.builds(
    Slot,
    record=st.one_of(st.none(), records()),
    lock=st.one_of(st.none(), locks),
    dead=st.one_of(st.just(()), st.lists(locks, max_size=3, unique_by=lambda lock: lock.token).map(tuple)),
)


class Pair:
    """One operation in the server and in the model, whose clock stands at 0."""

    def __init__(self, server: redis.Redis, store: RedisStore, record_id: str, start: Slot) -> None:
        self._server = server
        self._store = store
        self._id = record_id
        self._record, self._lock, self._dead = (f"shop:{{{record_id}}}:{part}" for part in ("record", "lock", "dead"))
        seconds, micros = server.time()
        self._now = seconds * 1000 + micros // 1000
        self.slot = start
        if start.record is not None:
            value = encode(self._moved(start.record, self._now))
            server.set(self._record, value, pxat=self._now + start.record.expires_at)
        if start.lock is not None:
            server.set(self._lock, start.lock.token, pxat=self._now + start.lock.until)
        if start.dead:
            value = b"".join(DEAD.pack(each.token, self._now + each.until) for each in start.dead)
            server.set(self._dead, value, pxat=self._now + max(each.until for each in start.dead))

    async def step(self, step: Step) -> None:
        before, step = self.slot, self._resolved(step)
        told = self._tell(step)
        asked = await self._ask(step)
        assert self._comparable(asked) == told, (before, step)
        assert self._stored() == self.slot, (before, step)
        looked = self._comparable(await self._store.get(self._id))
        assert looked == semantics.look(self.slot, 0), self.slot

    def _resolved(self, step: Step) -> Step:
        record = self.slot.record
        match step:
            case TakeOver() | SettleRelease() | SettleComplete() | SettleDelete() if (
                record is not None and step.seen_version == AS_IT_IS
            ):
                return replace(step, seen_token=record.token, seen_version=record.version)
            case SettleRelease() | SettleComplete() | SettleDelete() if (
                record is not None and step.seen_version == ITS_VERSION
            ):
                return replace(step, seen_version=record.version)
            case _:
                return step

    def _tell(self, step: Step) -> object:
        """What the model does and answers."""
        fact: object = None
        match step:
            case Claim():
                self.slot, fact = semantics.claim(self.slot, step, 0)
            case TakeOver():
                self.slot, fact = semantics.take_over(self.slot, step, 0)
            case Renewal():
                self.slot, fact = semantics.renew(self.slot, step, 0)
            case NextAttempt():
                self.slot, fact = semantics.next_attempt(self.slot, step, 0)
            case Completion():
                self.slot, fact = semantics.complete(self.slot, step, 0)
            case MarkUnknown():
                self.slot, fact = semantics.mark_unknown(self.slot, step, 0)
            case Release():
                self.slot, fact = semantics.release(self.slot, step, 0)
            case TakeBack():
                self.slot = semantics.take_back(self.slot, step, 0)
            case Lapse():
                self.slot = replace(self.slot, lock=None)
            case Evict():
                self.slot = replace(self.slot, record=None)
            case Outlive():
                self.slot = replace(self.slot, dead=self.slot.dead[1:])
            case _:
                self.slot, fact = semantics.settle(self.slot, step, 0)
        return fact

    async def _ask(self, step: Step) -> object:
        store, record_id = self._store, self._id
        match step:
            case Claim():
                return await store.claim(record_id, step)
            case TakeOver():
                return await store.take_over(record_id, step)
            case Renewal():
                return await store.renew(record_id, step)
            case NextAttempt():
                return await store.next_attempt(record_id, step)
            case Completion():
                return await store.complete(record_id, step)
            case MarkUnknown():
                return await store.mark_unknown(record_id, step)
            case Release():
                return await store.release(record_id, step)
            case TakeBack():
                await store.take_back(record_id, step)
                return None
            case Lapse():
                self._server.delete(self._lock)
                return None
            case Evict():
                self._server.delete(self._record)
                return None
            case Outlive():
                self._outlive()
                return None
            case _:
                return await store.settle(record_id, step)

    def _comparable(self, fact: object) -> object:
        match fact:
            case Found(record, lease_left, now):
                assert self._rounded(now - self._now) == 0, "the server's clock"
                return Found(self._moved(record, -self._now), self._rounded(lease_left))
            case Locked(lease_left):
                return Locked(self._rounded(lease_left))
            case _:
                return fact

    def _stored(self) -> Slot:
        value, lock = self._server.get(self._record), self._server.get(self._lock)
        record = None
        if isinstance(value, bytes):
            record = self._moved(decode(value), -self._now)
            assert self._rounded(self._left(self._record)) == record.expires_at, "the key lives as long as the record"
        held = Lock(lock, self._rounded(self._left(self._lock))) if isinstance(lock, bytes) else None
        return Slot(record, held, self._stored_dead())

    def _stored_dead(self) -> tuple[Lock, ...]:
        """The server keeps some that are over by now: the scripts pass over them."""
        value = self._server.get(self._dead)
        if not isinstance(value, bytes):
            return ()
        times = [(token, until) for token, until in DEAD.iter_unpack(value) if until > self._now]
        known = tuple(Lock(token, self._rounded(until - self._now)) for token, until in times)
        assert self._rounded(self._left(self._dead)) == max(each.until for each in known), "as long as the last of them"
        return known

    def _outlive(self) -> None:
        value = self._server.get(self._dead)
        if not isinstance(value, bytes):
            return
        kept = list(DEAD.iter_unpack(value))
        first = next(at for at, (_, until) in enumerate(kept) if until > self._now)
        kept[first] = (kept[first][0], self._now - UNIT)
        self._server.set(self._dead, b"".join(DEAD.pack(*each) for each in kept), pxat=max(each[1] for each in kept))

    def _left(self, key: str) -> int:
        left = self._server.pttl(key)
        assert isinstance(left, int)
        return left

    def _moved(self, record: Record, by: int) -> Record:
        times = [time + by for time in (record.created_at, record.updated_at, record.expires_at, record.lease_until)]
        created, updated, expires, lease_until = map(self._rounded, times) if by < 0 else times
        return structs.replace(
            record, created_at=created, updated_at=updated, expires_at=expires, lease_until=lease_until
        )

    @staticmethod
    def _rounded(time: int) -> int:
        return round(time / UNIT) * UNIT
