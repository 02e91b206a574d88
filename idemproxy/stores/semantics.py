"""What each store command means, as pure functions over what the store holds for one operation. The SQLite store runs them as
they are; the Redis scripts do the same in Lua, and the suite compares the two step by step.

`now` is milliseconds on the store's clock. A function gives the slot to keep and the fact to answer; a slot that is the same
object needs no write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from msgspec import structs

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, Reason, Record, State, Tombstone
from idemproxy.stores.base import (
    Anew,
    Claim,
    Claimed,
    ClaimFact,
    Completion,
    Dead,
    Done,
    EndFact,
    Found,
    Locked,
    LookFact,
    MarkUnknown,
    Missing,
    NameNewest,
    Newest,
    NextAttempt,
    NextFact,
    Release,
    Renewal,
    Renewed,
    RenewFact,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    TakeBack,
    TakeOver,
    TakeOverFact,
)


@dataclass(frozen=True, slots=True)
class Lock:
    """The lease of the claim `token`: it runs until `until`. Of a dead token: how long that is remembered."""

    token: bytes
    until: int


@dataclass(frozen=True, slots=True)
class Slot:
    """What a store holds for one operation. `dead` are the tokens that were taken back, each until its claim can be on its way no
    more: beside the record, so that whatever becomes of that forgets none of them. Under a retry marker's id, which is no
    operation's, `newest` stands alone: an operation's nonce, and until when it is named."""

    record: Record | None = None
    lock: Lock | None = None
    dead: tuple[Lock, ...] = ()
    newest: Lock | None = None


EMPTY = Slot()


def current(slot: Slot, now: int) -> Slot:
    """The slot without what has expired."""
    record = slot.record if slot.record is not None and slot.record.expires_at > now else None
    lock = slot.lock if slot.lock is not None and slot.lock.until > now else None
    dead = slot.dead
    if dead and any(each.until <= now for each in dead):
        dead = tuple(each for each in dead if each.until > now)
    newest = slot.newest if slot.newest is not None and slot.newest.until > now else None
    unchanged = record is slot.record and lock is slot.lock and dead is slot.dead and newest is slot.newest
    return slot if unchanged else Slot(record, lock, dead, newest)


def look(slot: Slot, now: int) -> LookFact:
    """What stands there, for anyone."""
    slot = current(slot, now)
    lease_left = slot.lock.until - now if slot.lock is not None else 0
    match slot.record:
        case None:
            return Locked(lease_left) if lease_left else Missing()
        case Record(state=State.RELEASED):
            return Missing()
        case record:
            return Found(record, lease_left if record.state is State.PROCESSING else 0, now)


def name_newest(slot: Slot, asked: NameNewest, now: int) -> tuple[Slot, Newest]:
    """Name another operation the newest one, if nobody else has meanwhile: a command that is delivered late changes nothing that was
    named after it was sent."""
    slot = current(slot, now)
    named = None if slot.newest is None else slot.newest.token
    if named != asked.expected:
        return slot, Newest(named)
    return replace(slot, newest=Lock(asked.nonce, now + asked.window)), Newest(asked.nonce)


def claim(slot: Slot, asked: Claim, now: int) -> tuple[Slot, ClaimFact]:
    """Own a free operation. Asked again with the same token, it answers *claimed* again, and revives a lease that lapsed. What others
    own is found before it is asked who is dead: a replay costs the less."""
    slot = current(slot, now)
    record = slot.record
    if record is not None and record.token != asked.token and record.state is not State.RELEASED:
        return slot, _found(slot, record, now)
    if _is_dead(slot, asked.token):
        return slot, Dead()
    if record is None:
        if slot.lock is not None and slot.lock.token != asked.token:
            return slot, Locked(slot.lock.until - now)
        return _own(slot, _first(asked, 1, 1, now), asked.lease, now)
    if record.token == asked.token:
        return _again(slot, record, asked.lease, asked.ttl, now)
    return _own(slot, _first(asked, record.attempt + 1, record.version + 1, now), asked.lease, now)


def take_over(slot: Slot, asked: TakeOver, now: int) -> tuple[Slot, TakeOverFact]:
    """Own an operation whose outcome is unknown, if it is still as it was seen."""
    slot = current(slot, now)
    record = slot.record
    if _is_dead(slot, asked.token):
        return slot, Dead()
    if record is None:
        return slot, Missing()
    if record.token == asked.token:
        return _again(slot, record, asked.lease, asked.ttl, now)
    if record.state is State.RELEASED:
        return slot, Missing()
    if not _unknown(slot, record) or (record.token, record.version) != (asked.seen_token, asked.seen_version):
        return slot, _found(slot, record, now)
    taken = structs.replace(
        record,
        state=State.PROCESSING,
        reason=Reason.NONE,
        token=asked.token,
        version=record.version + 1,
        attempt=record.attempt + 1,
        may_have_run=True,
        updated_at=now,
        expires_at=now + asked.lease + asked.ttl,
    )
    return _own(slot, taken, asked.lease, now)


def renew(slot: Slot, asked: Renewal, now: int) -> tuple[Slot, RenewFact]:
    """Let the lease run on; a lapsed one that nobody took over is revived, which raises the version."""
    slot = current(slot, now)
    record = slot.record
    if _is_dead(slot, asked.token):
        return slot, Dead()
    if record is None:
        return slot, _without_record(slot, now)
    if record.token != asked.token or record.state is not State.PROCESSING:
        return slot, _refused(slot, record, asked.token, now)
    kept, owned = _own(slot, _prolonged(slot, record, asked.lease, asked.ttl, now), asked.lease, now)
    return kept, Renewed(owned.version)


def next_attempt(slot: Slot, asked: NextAttempt, now: int) -> tuple[Slot, NextFact]:
    """Number one more attempt of the operation's owner, and let the lease run on as `renew` does. Applied twice it skips a number:
    numbers are unique, not dense."""
    slot = current(slot, now)
    record = slot.record
    if _is_dead(slot, asked.token):
        return slot, Dead()
    if record is None:
        return slot, _without_record(slot, now)
    if record.token != asked.token or record.state is not State.PROCESSING:
        return slot, _refused(slot, record, asked.token, now)
    numbered = structs.replace(
        _prolonged(slot, record, asked.lease, asked.ttl, now),
        attempt=record.attempt + 1,
        may_have_run=record.may_have_run or asked.may_have_run,
    )
    return _own(slot, numbered, asked.lease, now)


def complete(slot: Slot, asked: Completion, now: int) -> tuple[Slot, EndFact]:
    """Record the outcome. Its owner may, also after its lease lapsed, as long as nobody took over: it knows the truth."""
    state = state_of(asked.answer)
    return _end(slot, asked.token, state, Reason.NONE, asked.answer, asked.ttl, asked.anew, now)


def mark_unknown(slot: Slot, asked: MarkUnknown, now: int) -> tuple[Slot, EndFact]:
    """Record that the request may have run."""
    return _end(slot, asked.token, State.UNKNOWN, asked.reason, None, asked.ttl, asked.anew, now)


def release(slot: Slot, asked: Release, now: int) -> tuple[Slot, EndFact]:
    """Free the operation, or leave it unknown where an earlier attempt may have run. The released token is dead."""
    slot = current(slot, now)
    record = slot.record
    if record is None:
        return slot, _without_record(slot, now)
    if record.token != asked.token:
        return slot, _refused(slot, record, asked.token, now)
    if record.state is State.RELEASED or (record.state is State.UNKNOWN and record.may_have_run):
        return slot, Done(record.state)
    if record.state is not State.PROCESSING:
        return slot, _found(slot, record, now)
    freed = _freed(record, asked.ttl, now)
    return Slot(freed, dead=slot.dead), Done(freed.state)


def take_back(slot: Slot, asked: TakeBack, now: int) -> Slot:
    """Leave the token dead, whatever stands there: its claim or take-over that is applied later is refused. Only what it owns is freed."""
    slot = current(slot, now)
    record, lock = slot.record, slot.lock
    dead = _with_dead(slot, asked.token, now + asked.lease)
    if lock is not None and lock.token == asked.token:
        lock = None
    if record is None or record.token != asked.token or record.state is not State.PROCESSING:
        return Slot(record, lock, dead)
    return Slot(_freed(record, max(asked.lease, record.expires_at - now), now), None, dead)


def settle(slot: Slot, asked: Settlement, now: int) -> tuple[Slot, EndFact]:
    """The word of an operator, or of a probe, on the record that it saw: refused while a lease runs, and when token or version moved
    since."""
    slot = current(slot, now)
    record = slot.record
    if record is None:
        return slot, _without_record(slot, now)
    if record.state is State.RELEASED:
        return slot, Missing()
    moved = (record.token, record.version) != (asked.seen_token, asked.seen_version)
    if moved or (record.state is State.PROCESSING and slot.lock is not None):
        return slot, _found(slot, record, now)
    match asked:
        case SettleRelease(ttl=ttl):
            freed = _remnant(record, ttl, now)
            return Slot(freed, dead=slot.dead), Done(freed.state)
        case SettleComplete(answer=answer, ttl=ttl):
            if not _unknown(slot, record):
                return slot, _found(slot, record, now)
            settled = structs.replace(_ended(record, state_of(answer), Reason.NONE, answer, ttl, now), token=NO_TOKEN)
            return Slot(settled, dead=slot.dead), Done(settled.state)
        case SettleDelete():
            return Slot(dead=slot.dead), Done(State.RELEASED)
        case other:
            assert_never(other)


def state_of(answer: Answer | Tombstone) -> State:
    """The state of a finished record."""
    return State.COMPLETED if answer.status < 400 else State.FAILED


def _end(
    slot: Slot,
    token: bytes,
    state: State,
    reason: Reason,
    answer: Answer | Tombstone | None,
    ttl: int,
    anew: Anew | None,
    now: int,
) -> tuple[Slot, EndFact]:
    slot = current(slot, now)
    record = slot.record
    if _is_dead(slot, token):
        # Who was taken back has sent nothing: it has nothing to write, not even where the record was lost.
        return slot, Dead()
    if record is None:
        if anew is None or (slot.lock is not None and slot.lock.token != token):
            return slot, _without_record(slot, now)
        record = _first(anew.claim, anew.attempt, anew.version, now)
    if record.token != token:
        return slot, _refused(slot, record, token, now)
    if record.state in (State.COMPLETED, State.FAILED):
        same = state in (State.COMPLETED, State.FAILED)
        return slot, Done(record.state) if same else _found(slot, record, now)
    if record.state is State.RELEASED:
        return slot, Dead()
    if record.state is State.UNKNOWN and state is State.UNKNOWN:
        return slot, Done(record.state)
    return Slot(_ended(record, state, reason, answer, ttl, now), dead=slot.dead), Done(state)


def _again(slot: Slot, record: Record, lease: int, ttl: int, now: int) -> tuple[Slot, Claimed | Found | Dead]:
    if record.state is State.RELEASED:
        return slot, Dead()
    if record.state is not State.PROCESSING:
        return slot, _found(slot, record, now)
    if slot.lock is not None:
        return slot, Claimed(record.attempt, record.version)
    return _own(slot, _prolonged(slot, record, lease, ttl, now), lease, now)


def _prolonged(slot: Slot, record: Record, lease: int, ttl: int, now: int) -> Record:
    """The record whose lease runs on. Where it had lapsed, somebody may have seen so: the version tells them."""
    version = record.version if slot.lock is not None else record.version + 1
    return structs.replace(record, version=version, expires_at=max(record.expires_at, now + lease + ttl))


def _own(slot: Slot, record: Record, lease: int, now: int) -> tuple[Slot, Claimed]:
    owned = structs.replace(record, lease_until=now + lease)
    lock = Lock(record.token, owned.lease_until)
    return Slot(owned, lock, slot.dead), Claimed(record.attempt, record.version)


def _first(asked: Claim, attempt: int, version: int, now: int) -> Record:
    """A new record, whose lease is not given yet."""
    return Record(
        State.PROCESSING,
        asked.fingerprint,
        asked.recipe,
        asked.rule,
        asked.token,
        version,
        attempt,
        False,
        asked.on_unknown,
        Reason.NONE,
        now,
        now,
        now + asked.lease + asked.ttl,
        now,
        None,
        asked.credential,
    )


def _ended(
    record: Record, state: State, reason: Reason, answer: Answer | Tombstone | None, ttl: int, now: int
) -> Record:
    return structs.replace(
        record,
        state=state,
        reason=reason,
        answer=answer,
        version=record.version + 1,
        updated_at=now,
        expires_at=now + ttl,
    )


def _freed(record: Record, ttl: int, now: int) -> Record:
    if record.may_have_run:
        return _ended(record, State.UNKNOWN, Reason.RELEASED_AFTER_SEND, None, max(ttl, record.expires_at - now), now)
    return _remnant(record, ttl, now)


def _remnant(record: Record, ttl: int, now: int) -> Record:
    freed = _ended(record, State.RELEASED, Reason.NONE, None, ttl, now)
    return structs.replace(freed, may_have_run=False)


def _is_dead(slot: Slot, token: bytes) -> bool:
    return bool(slot.dead) and any(each.token == token for each in slot.dead)


def _with_dead(slot: Slot, token: bytes, until: int) -> tuple[Lock, ...]:
    others = tuple(each for each in slot.dead if each.token != token)
    known = [each.until for each in slot.dead if each.token == token]
    return (*others, Lock(token, max([until, *known])))


def _unknown(slot: Slot, record: Record) -> bool:
    return record.state is State.UNKNOWN or (record.state is State.PROCESSING and slot.lock is None)


def _found(slot: Slot, record: Record, now: int) -> Found:
    alive = record.state is State.PROCESSING and slot.lock is not None
    return Found(record, slot.lock.until - now if alive and slot.lock is not None else 0, now)


def _refused(slot: Slot, record: Record, token: bytes, now: int) -> Found | Missing | Dead:
    if record.state is not State.RELEASED:
        return _found(slot, record, now)
    return Dead() if record.token == token else Missing()


def _without_record(slot: Slot, now: int) -> Missing | Locked:
    return Missing() if slot.lock is None else Locked(slot.lock.until - now)
