"""What the store's commands promise, whatever their order: any sequence of them, over one operation, by owners alive and dead."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, OnUnknown, Reason, Record, State, Tombstone
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Anew,
    Claim,
    Claimed,
    Completion,
    Dead,
    Done,
    Found,
    MarkUnknown,
    NextAttempt,
    Release,
    Renewal,
    Renewed,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    TakeBack,
    TakeOver,
)
from idemproxy.stores.semantics import EMPTY, Slot, current

LEASE, TTL = 100, 10_000
TOKENS = [bytes([number]) * 16 for number in range(1, 7)]
tokens = st.sampled_from(TOKENS)
who = st.none() | tokens
"""None: whoever the record names."""
answers = st.sampled_from([Answer(200, b"200 OK\r\n", b"ok"), Answer(500, b"500 No\r\n", b""), Tombstone(200)])
FINISHED = (State.COMPLETED, State.FAILED)


def finished(operation: Operation) -> bool:
    record = operation.record()
    return record is not None and record.state in (*FINISHED, State.RELEASED)


class Operation(RuleBasedStateMachine):
    """One operation's slot. Since the record was made: `attempt` is the highest number that was given; `executing`
    are the tokens whose request may be on its way; `dead` are those that were freed. A token is chosen once: a dead one asks no more,
    but for a claim still on its way. The record remembers the last one of these, and `back` are all that were taken back, each until
    its lease is over."""

    def __init__(self) -> None:
        super().__init__()
        self.slot: Slot = EMPTY
        self.now = 1_000
        self.attempt = 0
        self.executing: set[bytes] = set()
        self.dead: set[bytes] = set()
        self.back: dict[bytes, int] = {}
        self.version = 0

    @initialize(token=tokens)
    def begin(self, token: bytes) -> None:
        self.claim(token)

    def named(self, who: bytes | None) -> bytes:
        record = self.record()
        return who or (record.token if record is not None else TOKENS[0])

    def asks(self, token: bytes) -> bool:
        record = self.record()
        return token not in self.dead or record is None or record.token == token or self.was_taken_back(token)

    def was_taken_back(self, token: bytes) -> bool:
        return self.back.get(token, 0) > self.now

    def begin_anew(self) -> None:
        self.attempt = 0
        self.executing.clear()
        self.dead.clear()
        self.version = 0

    def record(self) -> Record | None:
        return current(self.slot, self.now).record

    def keep(self, slot: Slot) -> None:
        """No version falls while the record lives."""
        record = self.record()
        if record is None:
            self.begin_anew()
        elif slot.record is not None:
            assert slot.record.version >= self.version
            if slot is not self.slot and slot.record.state is not record.state:
                assert slot.record.version > record.version
            if (
                slot.lock is not None
                and current(self.slot, self.now).lock is None
                and slot.record.state is record.state
            ):
                assert slot.record.version > record.version, "revived, and nobody could tell"
            if slot.lock is None or slot.lock == current(self.slot, self.now).lock:
                assert slot.record.lease_until == record.lease_until, "no lease was given"
        self.slot = slot
        if slot.record is not None:
            self.version = slot.record.version

    def grant(self, token: bytes, before: Record | None, fact: object) -> None:
        """An owner that asks again keeps its attempt, any other gets a number that nobody had."""
        if self.was_taken_back(token):
            assert isinstance(fact, Dead | Found), "a token that was taken back"
        if not isinstance(fact, Claimed):
            return
        if before is not None and before.token == token:
            assert fact.attempt == before.attempt
        else:
            assert fact.attempt > self.attempt
        self.attempt = fact.attempt
        self.executing.add(token)

    # ------------------------------------------------------------------------------------------------------------- commands

    @rule(who=who)
    def claim(self, who: bytes | None) -> None:
        token = self.named(who)
        if not self.asks(token):
            return
        before = self.record()
        asked = Claim(token, b"f" * 32, "r", "charges", OnUnknown.BLOCK, LEASE, TTL)
        slot, fact = semantics.claim(self.slot, asked, self.now)
        self.keep(slot)
        if isinstance(fact, Claimed):
            own = before is not None and before.token == token
            assert before is None or own or before.state is State.RELEASED
            assert own or self.executing <= {token}, "somebody else may be executing"
        self.grant(token, before, fact)

    @rule(token=tokens, seen=who, behind=st.sampled_from([0, 0, 0, 1]))
    def take_over(self, token: bytes, seen: bytes | None, behind: int) -> None:
        if not self.asks(token):
            return
        before = current(self.slot, self.now)
        version = self.version - behind
        seen_token = self.named(seen)
        slot, fact = semantics.take_over(self.slot, TakeOver(token, seen_token, version, LEASE, TTL), self.now)
        self.keep(slot)
        if isinstance(fact, Claimed) and before.record is not None and before.record.token != token:
            assert (before.record.token, before.record.version) == (seen_token, version)
            assert before.record.state is State.UNKNOWN or before.lock is None
            assert slot.record is not None
            assert slot.record.may_have_run
        self.grant(token, before.record, fact)

    @rule(who=who)
    def renew(self, who: bytes | None) -> None:
        token = self.named(who)
        slot, fact = semantics.renew(self.slot, Renewal(token, LEASE, TTL), self.now)
        self.owner_alone(token, slot)
        if isinstance(fact, Renewed):
            assert token in self.executing
        self.keep(slot)

    @rule(who=who, may_have_run=st.booleans())
    def next_attempt(self, who: bytes | None, may_have_run: bool) -> None:
        token = self.named(who)
        before = self.record()
        slot, fact = semantics.next_attempt(self.slot, NextAttempt(token, may_have_run, LEASE, TTL), self.now)
        self.owner_alone(token, slot)
        self.keep(slot)
        if isinstance(fact, Claimed):
            assert before is not None
            assert slot.record is not None
            assert token in self.executing
            assert fact.attempt > self.attempt, "the number of an earlier attempt"
            assert slot.record.may_have_run is (before.may_have_run or may_have_run)
            self.attempt = fact.attempt

    @rule(who=who, answer=answers)
    def complete(self, who: bytes | None, answer: Answer | Tombstone) -> None:
        token = self.named(who)
        slot, fact = semantics.complete(self.slot, Completion(token, answer, TTL, None), self.now)
        self.owner_alone(token, slot)
        self.keep(slot)
        if isinstance(fact, Done):
            again = semantics.complete(slot, Completion(token, answer, TTL, None), self.now)
            assert again == (slot, fact)

    @rule(who=who)
    def mark_unknown(self, who: bytes | None) -> None:
        token = self.named(who)
        slot, _ = semantics.mark_unknown(self.slot, MarkUnknown(token, Reason.RESET, TTL, None), self.now)
        self.owner_alone(token, slot)
        self.keep(slot)

    @rule(who=who)
    def release(self, who: bytes | None) -> None:
        token = self.named(who)
        before = self.record()
        slot, fact = semantics.release(self.slot, Release(token, TTL), self.now)
        self.owner_alone(token, slot)
        self.keep(slot)
        if isinstance(fact, Done):
            assert before is not None
            assert not (fact.state is State.RELEASED and before.may_have_run), "the evidence is gone"
            if fact.state is State.RELEASED:
                self.executing.discard(token)
                self.dead.add(token)

    @rule(who=who)
    def take_back(self, who: bytes | None) -> None:
        """Of a claim that nobody executes: an unconfirmed one, or one that waits for its turn."""
        token = self.named(who)
        before = current(self.slot, self.now)
        slot = semantics.take_back(self.slot, TakeBack(token, LEASE), self.now)
        if before.record is None or before.record.token != token or before.record.state is not State.PROCESSING:
            assert (slot.record, slot.lock) == (before.record, before.lock), "what it does not own"
        self.keep(slot)
        self.executing.discard(token)
        self.dead.add(token)
        self.back[token] = self.now + LEASE

    @rule(
        word=st.sampled_from(["release", "complete", "delete"]),
        seen=st.none() | st.none() | tokens,
        behind=st.sampled_from([0, 0, 0, 1]),
    )
    def settle(self, word: str, seen: bytes | None, behind: int) -> None:
        before = current(self.slot, self.now)
        token, version = self.named(seen), self.version - behind
        asked: Settlement = {
            "release": SettleRelease(token, version, TTL),
            "complete": SettleComplete(token, version, Answer(200, b"200 OK\r\n", b"said"), TTL),
            "delete": SettleDelete(token, version),
        }[word]  # type: ignore[assignment]
        slot, fact = semantics.settle(self.slot, asked, self.now)
        if isinstance(fact, Done):
            assert before.record is not None
            assert (before.record.token, before.record.version) == (token, version)
            assert before.record.state is not State.PROCESSING or before.lock is None
            self.executing.clear()
            if word == "complete":
                assert before.record.state not in FINISHED
                assert slot.record is not None
                assert slot.record.token == NO_TOKEN, "its owner could still end it"
        else:
            assert slot == before
        self.keep(slot)
        if slot.record is None:
            self.begin_anew()
        elif slot.record.state is State.RELEASED:
            self.dead.add(slot.record.token)

    @precondition(lambda self: current(self.slot, self.now).lock is not None)
    @rule()
    def its_owner_stalls(self) -> None:
        self.now += LEASE

    @rule(milliseconds=st.sampled_from([1, LEASE - 1, LEASE]))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @precondition(finished)
    @rule()
    def all_expires(self) -> None:
        self.now += 2 * (LEASE + TTL)
        self.keep(current(self.slot, self.now))

    # ------------------------------------------------------------------------------------------------------------- promises

    def owner_alone(self, token: bytes, after: Slot) -> None:
        """An owner's command changes nothing but its own operation while that runs or is unknown."""
        before = current(self.slot, self.now)
        own = before.record is not None and before.record.token == token
        if not own or before.record is None or before.record.state in (*FINISHED, State.RELEASED):
            assert after == before

    @invariant()
    def at_most_one_token_is_alive(self) -> None:
        alive = [
            token
            for token in TOKENS
            if isinstance(semantics.renew(self.slot, Renewal(token, LEASE, TTL), self.now)[1], Renewed)
        ]
        assert len(alive) <= 1
        slot = current(self.slot, self.now)
        if slot.lock is not None:
            assert slot.record is not None
            assert (slot.record.state, slot.record.token) == (State.PROCESSING, slot.lock.token)
            assert slot.record.expires_at >= slot.lock.until + TTL
            assert slot.record.lease_until == slot.lock.until

    @invariant()
    def a_look_is_what_a_stranger_would_find(self) -> None:
        asked = Claim(b"S" * 16, b"f" * 32, "r", "charges", OnUnknown.BLOCK, LEASE, TTL)
        slot, fact = semantics.claim(self.slot, asked, self.now)
        look = semantics.look(self.slot, self.now)
        assert (fact == look) if isinstance(look, Found) else isinstance(fact, Claimed)
        if isinstance(look, Found):
            assert slot == current(self.slot, self.now)

    @invariant()
    def who_was_taken_back_owns_nothing(self) -> None:
        """Whatever became of the operation since: its commands change nothing."""
        slot = current(self.slot, self.now)
        claim = Claim(b"", b"f" * 32, "r", "charges", OnUnknown.BLOCK, LEASE, TTL)
        for token in filter(self.was_taken_back, self.back):
            own = structs.replace(claim, token=token)
            seen = TakeOver(token, self.named(None), self.version, LEASE, TTL)
            anew = Anew(own, 1, 1)
            kept, fact = semantics.claim(slot, own, self.now)
            assert kept is slot
            assert isinstance(fact, Dead | Found)
            assert semantics.take_over(slot, seen, self.now) == (slot, Dead())
            assert semantics.renew(slot, Renewal(token, LEASE, TTL), self.now) == (slot, Dead())
            assert semantics.next_attempt(slot, NextAttempt(token, True, LEASE, TTL), self.now) == (slot, Dead())
            assert semantics.complete(slot, Completion(token, Tombstone(200), TTL, anew), self.now) == (slot, Dead())
            assert semantics.mark_unknown(slot, MarkUnknown(token, Reason.RESET, TTL, anew), self.now) == (slot, Dead())
            assert semantics.release(slot, Release(token, TTL), self.now)[0] is slot

    @invariant()
    def who_was_taken_back_is_forgotten_after_its_lease(self) -> None:
        remembered = current(self.slot, self.now).dead
        assert {each.token for each in remembered} == set(filter(self.was_taken_back, self.back))
        assert len(remembered) == len({each.token for each in remembered})

    @invariant()
    def a_freed_token_is_dead(self) -> None:
        record = self.record()
        if record is not None and record.state is State.RELEASED:
            assert isinstance(semantics.renew(self.slot, Renewal(record.token, LEASE, TTL), self.now)[1], Dead)
            asked = Claim(record.token, b"f" * 32, "r", "charges", OnUnknown.BLOCK, LEASE, TTL)
            assert isinstance(semantics.claim(self.slot, asked, self.now)[1], Dead)


TestOperation = Operation.TestCase
TestOperation.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
