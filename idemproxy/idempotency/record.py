"""The record: what the store holds for an operation, and its binary encoding (DESIGN.md sections 4 and 5)."""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.messages import Answer

TOKEN_BYTES = 16
NO_TOKEN = bytes(TOKEN_BYTES)
"""The token of a record that nobody owns: an operator settled it."""


class State(IntEnum):
    """Where an operation stands. `RELEASED` is not a state that a caller meets: it is what a release leaves, so that attempts
    stay numbered and the released token stays dead."""

    PROCESSING = 1
    COMPLETED = 2
    FAILED = 3
    UNKNOWN = 4
    RELEASED = 5


class OnUnknown(IntEnum):
    """What a rule does with an operation whose outcome is unknown. A smaller value is stricter."""

    BLOCK = 1
    PROBE = 2
    RETRY = 3


class Reason(IntEnum):
    """Why an outcome is unknown."""

    NONE = 0
    RESET = 1
    TIMEOUT = 2
    CUT_BODY = 3
    UNREADABLE = 4
    UNKNOWN_STATUS = 5
    DRAINED = 6
    GUARD = 7
    RELEASED_AFTER_SEND = 8


class Tombstone(msgspec.Struct, frozen=True):
    """An answer too large to keep: executed, never to be executed again, not to be replayed."""

    status: int


class Record(msgspec.Struct, frozen=True):
    """What the store holds for an operation. Times are milliseconds on the store's clock. `lease_until` is when the last lease that
    was given ends, or ended. `fingerprint` is a digest, and behind it a mark of each part. `credential` names what its caller showed,
    under a rule that asks for that (`credentials.py`)."""

    state: State
    fingerprint: bytes
    recipe: str
    rule: str
    token: bytes
    version: int
    attempt: int
    may_have_run: bool
    on_unknown: OnUnknown
    reason: Reason
    created_at: int
    updated_at: int
    expires_at: int
    lease_until: int
    answer: Answer | Tombstone | None
    credential: str = ""

    def __repr__(self) -> str:
        """Without the credential."""
        told = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "credential"]
        return f"Record({', '.join(told)})"


_HEAD = struct.Struct(">2sBBBBIQQQQQ16s32sHHHIH")
"""Magic and encoding, state, flags, on_unknown, reason, attempt, version, created_at, updated_at, expires_at, lease_until, token,
fingerprint's digest, bytes of rule, bytes of recipe and what is beside it, status, bytes of the answer's head, bytes of its trailers.
Then rule, recipe, the answer's head, trailers and body. The fingerprint's marks and the credential are beside the recipe, where there are
any: behind a zero byte and the number of the marks' bytes.
`stores/scripts` reads and writes these offsets in Lua."""

HEAD_BYTES = _HEAD.size
MAGIC = b"I\x02"
FINGERPRINT_BYTES = 32
TOKEN_AT = 50
FINGERPRINT_AT = TOKEN_AT + TOKEN_BYTES
RULE_BYTES_AT = FINGERPRINT_AT + FINGERPRINT_BYTES
"""Where a record's parts begin, for who fills in or reads one of them alone."""

_STATES = {state.value: state for state in State}
_POLICIES = {policy.value: policy for policy in OnUnknown}
_REASONS = {reason.value: reason for reason in Reason}
_MAY_HAVE_RUN = 1
_KEPT = 2


MOST_MARKS = 252
"""Bytes of a fingerprint's marks that a record keeps: of 63 parts."""


def beside(fingerprint: bytes, credential: str) -> bytes:
    """What follows a recipe: the marks of a fingerprint, as many as their number's byte can tell, and a credential."""
    marks = fingerprint[FINGERPRINT_BYTES : FINGERPRINT_BYTES + MOST_MARKS]
    return b"\0%c%b%b" % (len(marks), marks, credential.encode()) if marks or credential else b""


def encode(record: Record) -> bytes:
    """The record as one binary value."""
    flags = _MAY_HAVE_RUN if record.may_have_run else 0
    status, head, body, trailers = 0, b"", b"", b""
    match record.answer:
        case Answer(status, head, body, trailers):
            flags |= _KEPT
        case Tombstone(status):
            pass
        case None:
            pass
    rule, recipe = record.rule.encode(), record.recipe.encode()
    recipe = b"%b%b" % (recipe, beside(record.fingerprint, record.credential))
    fixed = _HEAD.pack(
        MAGIC,
        record.state,
        flags,
        record.on_unknown,
        record.reason,
        record.attempt,
        record.version,
        record.created_at,
        record.updated_at,
        record.expires_at,
        record.lease_until,
        record.token,
        record.fingerprint[:FINGERPRINT_BYTES],
        len(rule),
        len(recipe),
        status,
        len(head),
        len(trailers),
    )
    return b"".join((fixed, rule, recipe, head, trailers, body))


def decode(value: bytes) -> Record:
    """The record that `encode` wrote. Raises RecordUnreadable for anything else."""
    if value[:2] != MAGIC or len(value) < HEAD_BYTES:
        raise RecordUnreadable(
            "a record is in an encoding that this version does not know: it was written by another version of idemproxy, or by "
            "another program that shares the store; run one version a namespace, or delete the record"
        )
    (
        _,
        state,
        flags,
        on_unknown,
        reason,
        attempt,
        version,
        created_at,
        updated_at,
        expires_at,
        lease_until,
        token,
        fingerprint,
        rule_bytes,
        recipe_bytes,
        status,
        head_bytes,
        trailer_bytes,
    ) = _HEAD.unpack_from(value)
    recipe_at = HEAD_BYTES + rule_bytes
    head_at = recipe_at + recipe_bytes
    trailers_at = head_at + head_bytes
    body_at = trailers_at + trailer_bytes
    if len(value) < body_at:
        raise RecordUnreadable("a record is cut short: restore the store from a backup, or delete the record")
    answer: Answer | Tombstone | None = None
    if flags & _KEPT:
        answer = Answer(status, value[head_at:trailers_at], value[body_at:], value[trailers_at:body_at])
    elif status:
        answer = Tombstone(status)
    named, _, said = value[recipe_at:head_at].partition(b"\0")
    marks, credential = (said[1 : 1 + said[0]], said[1 + said[0] :]) if said else (b"", b"")
    try:
        return Record(
            _STATES.get(state) or State(state),
            fingerprint + marks,
            named.decode(),
            value[HEAD_BYTES:recipe_at].decode(),
            token,
            version,
            attempt,
            bool(flags & _MAY_HAVE_RUN),
            _POLICIES.get(on_unknown) or OnUnknown(on_unknown),
            _REASONS.get(reason) or Reason(reason),
            created_at,
            updated_at,
            expires_at,
            lease_until,
            answer,
            credential.decode(),
        )
    except ValueError as error:
        raise RecordUnreadable(
            f"a record holds a value that this version does not know ({error}): delete the record"
        ) from error
