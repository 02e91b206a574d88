"""The store interface. Every command gives a fact, or raises: StoreUnavailable when it was certainly not applied, StoreAmbiguous
when it may have been. What the commands mean is written once, in `semantics.py`; one suite holds every backend to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from idemproxy.errors import StoreUnavailable
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown, Reason, Record, State, Tombstone

# ---------------------------------------------------------------------------------------------------------------- commands


class Claim(msgspec.Struct, frozen=True):
    """Ask to own an operation. `lease` and `ttl` are milliseconds. `credential` is kept with the record: a text without NUL, or ""."""

    token: bytes
    fingerprint: bytes
    recipe: str
    rule: str
    on_unknown: OnUnknown
    lease: int
    ttl: int
    credential: str = ""

    def __repr__(self) -> str:
        """Without the credential."""
        return f"Claim(token={self.token!r}, rule={self.rule!r}, lease={self.lease}, ttl={self.ttl})"


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Ask to own an operation whose outcome is unknown, as it was seen: by that token, at that version."""

    token: bytes
    seen_token: bytes
    seen_version: int
    lease: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Ask that the lease of the claim `token` run on."""

    token: bytes
    lease: int
    ttl: int


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """The owner `token` means to send once more: number that attempt, and let the lease run on as a renewal does. `may_have_run`:
    an earlier attempt of this owner was sent, and may have had its effect."""

    token: bytes
    may_have_run: bool
    lease: int
    ttl: int


class Anew(msgspec.Struct, frozen=True):
    """What a missing record is written from, when its owner ends it within `ttl` of its last acknowledged claim or renewal."""

    claim: Claim
    attempt: int
    version: int


class Completion(msgspec.Struct, frozen=True):
    """The outcome is known: record it. `anew` is None once the owner may no longer write a missing record."""

    token: bytes
    answer: Answer | Tombstone
    ttl: int
    anew: Anew | None


@dataclass(frozen=True, slots=True)
class MarkUnknown:
    """The request may have run, and no answer came."""

    token: bytes
    reason: Reason
    ttl: int
    anew: Anew | None


class Release(msgspec.Struct, frozen=True):
    """Nothing was executed: the next claim may. Leaves `unknown` where an earlier attempt may have run."""

    token: bytes
    ttl: int


@dataclass(frozen=True, slots=True)
class TakeBack:
    """A claim is not wanted, and nobody acts on it: whether it was applied, is still on its way or was lost, its token is dead for one
    `lease`, whatever happens to the operation meanwhile."""

    token: bytes
    lease: int


@dataclass(frozen=True, slots=True)
class SettleRelease:
    """An operator says: it did not happen. `ttl` is how long the attempt's number is kept. Each settlement names the token and the
    version of the record that was read: if either moved, nothing changes."""

    seen_token: bytes
    seen_version: int
    ttl: int


@dataclass(frozen=True, slots=True)
class SettleComplete:
    """An operator, or a probe, says: it happened, and this is the answer."""

    seen_token: bytes
    seen_version: int
    answer: Answer
    ttl: int


@dataclass(frozen=True, slots=True)
class SettleDelete:
    """An operator says: forget it, the attempt's number with it."""

    seen_token: bytes
    seen_version: int


Settlement = SettleRelease | SettleComplete | SettleDelete


@dataclass(frozen=True, slots=True)
class NameNewest:
    """Under a retry marker's id: name `nonce` the newest operation, for `window` milliseconds, if what is named there is `expected`
    (None: nothing)."""

    expected: bytes | None
    nonce: bytes
    window: int


# ------------------------------------------------------------------------------------------------------------------- facts


class Claimed(msgspec.Struct, frozen=True):
    """The asking token owns the operation."""

    attempt: int
    version: int


@dataclass(frozen=True, slots=True)
class Found:
    """Another record stands there. `lease_left` is milliseconds on the store's clock, 0 when no owner is alive. `now` is that
    clock, as the record was read."""

    record: Record
    lease_left: int
    now: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no record (a released operation has none)."""


class Locked(msgspec.Struct, frozen=True):
    """A lease runs, and its record is gone (evicted): somebody executes, nothing else is known."""

    lease_left: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The asking token was released or taken back: it owns nothing, for good."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease runs on."""

    version: int


class Done(msgspec.Struct, frozen=True):
    """The end is in the store: applied now, or applied before by the same token."""

    state: State


ClaimFact = Claimed | Found | Locked | Dead
TakeOverFact = Claimed | Found | Missing | Dead
RenewFact = Renewed | Found | Missing | Locked | Dead
NextFact = Claimed | Found | Missing | Locked | Dead
EndFact = Done | Found | Missing | Locked | Dead
"""What `Found` holds here, and in a NextFact and a RenewFact, may lack its answer (None), where it is large: the rest is right."""

LookFact = Found | Missing | Locked


@dataclass(frozen=True, slots=True)
class Newest:
    """The operation that is named the newest one under a retry marker's id, now that the command was done or refused; None: none is."""

    nonce: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some records for an operator, and the cursor of the next page (None: that was the last)."""

    found: tuple[tuple[str, Found], ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """What a store says of itself at start: `warnings` are sentences for an operator."""

    description: str
    warnings: tuple[str, ...]


class Refused(StoreUnavailable):
    """The store itself says that it does not do the command as things stand. So it is there, and it may well do others."""


class Store(Protocol):
    """Where records are kept. A record id is 64 hexadecimal digits. A command is whole or not at all."""

    async def claim(self, record_id: str, claim: Claim) -> ClaimFact: ...

    async def take_over(self, record_id: str, take_over: TakeOver) -> TakeOverFact: ...

    async def renew(self, record_id: str, renewal: Renewal) -> RenewFact: ...

    async def next_attempt(self, record_id: str, asked: NextAttempt) -> NextFact: ...

    async def complete(self, record_id: str, completion: Completion) -> EndFact: ...

    async def mark_unknown(self, record_id: str, mark: MarkUnknown) -> EndFact: ...

    async def release(self, record_id: str, release: Release) -> EndFact: ...

    async def take_back(self, record_id: str, take_back: TakeBack) -> None: ...

    async def settle(self, record_id: str, settlement: Settlement) -> EndFact: ...

    async def name_newest(self, marker_id: str, asked: NameNewest) -> Newest: ...

    async def get(self, record_id: str) -> LookFact: ...

    async def watch(self, wake: Callable[[str | None], None], listening: Callable[[], None]) -> None:
        """Listen for ends until cancelled: `wake` is called with the id of every operation that ended (or was freed) in any
        process, or with None where the store tells only that something changed. `listening` is called each time that listening
        has begun: who reads a record after that misses nothing. Raises StoreError when listening breaks."""
        ...

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page: ...

    async def check(self) -> Check: ...

    async def close(self) -> None: ...
