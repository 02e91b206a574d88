"""What an operator does with records: look, settle, forget. Every act names the token and the version that were looked at, and is
refused while an owner is alive (DESIGN.md section 4, *Operators*)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, assert_never

from idemproxy.errors import IdemproxyError
from idemproxy.idempotency import identity
from idemproxy.idempotency.identity import BadKey, Key, NoKey, read_key, scope_values, short_id
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import FINGERPRINT_BYTES, Reason, Record, State, Tombstone
from idemproxy.idempotency.routes import HeaderScope, LiteralScope, Rule
from idemproxy.stores.base import (
    Dead,
    Done,
    EndFact,
    Found,
    Locked,
    Missing,
    SettleComplete,
    SettleDelete,
    Settlement,
    SettleRelease,
    Store,
)

STATES: Final = (State.PROCESSING, State.COMPLETED, State.FAILED, State.UNKNOWN)
"""The states that an operator meets."""
ID_DIGITS: Final = 64
PREFIX_DIGITS: Final = 8
"""The fewest digits that an id can be shortened to."""

_PAGE: Final = 500


class NoSuchRecord(IdemproxyError):
    """There is no record to act on (a released operation has none)."""


class AmbiguousId(IdemproxyError):
    """A shortened id that several records begin with, or that is no id."""


class ActRefused(IdemproxyError):
    """The record is not what the operator saw, or an owner is alive."""


class AnswerInvalid(IdemproxyError):
    """What an operator wants to record cannot be an answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as an operator sees it. `lease_left` is milliseconds, 0 where no owner is alive."""

    record_id: str
    record: Record
    lease_left: int

    @property
    def state(self) -> State:
        """A running operation whose lease has lapsed is unknown."""
        lapsed = self.record.state is State.PROCESSING and not self.lease_left
        return State.UNKNOWN if lapsed else self.record.state


# -------------------------------------------------------------------------------------------------------------------- looking


async def select(store: Store, state: State | None, rule: str | None, limit: int) -> list[Seen]:
    """At most `limit` records of that state and rule (None: any). Raises StoreError."""
    chosen: dict[str, Seen] = {}
    for asked in _asked(state):
        async for seen in _every(store, asked, rule):
            if state is None or seen.state is state:
                chosen[seen.record_id] = seen
            if len(chosen) >= limit:
                return list(chosen.values())
    return list(chosen.values())


def _asked(state: State | None) -> tuple[State | None, ...]:
    """A store knows a lapsed operation by the state that its record was left in."""
    match state:
        case State.UNKNOWN | State.PROCESSING:
            return (State.UNKNOWN, State.PROCESSING)
        case _:
            return (state,)


async def _every(store: Store, state: State | None, rule: str | None) -> AsyncIterator[Seen]:
    cursor: str | None = None
    while True:
        page = await store.scan(state=state, rule=rule, limit=_PAGE, cursor=cursor)
        for record_id, found in page.found:
            if found.record.state is not State.RELEASED:
                yield Seen(record_id, found.record, found.lease_left)
        cursor = page.cursor
        if cursor is None:
            return


async def find(store: Store, text: str) -> Seen:
    """The record with that id, whole or shortened to eight digits or more. Raises NoSuchRecord, AmbiguousId, StoreError."""
    digits = text.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{PREFIX_DIGITS},{ID_DIGITS}}}", digits):
        raise AmbiguousId(
            f"a record's id is {PREFIX_DIGITS} to {ID_DIGITS} hexadecimal digits, as `records list` shows it"
        )
    if len(digits) == ID_DIGITS:
        return await look(store, digits)
    matching = {seen.record_id async for seen in _every(store, None, None) if seen.record_id.startswith(digits)}
    if not matching:
        raise NoSuchRecord(
            f"no record's id begins with {digits}: it has expired, was released, or is in another store or namespace"
        )
    if len(matching) > 1:
        raise AmbiguousId(f"{len(matching)} records' ids begin with {digits}: give more digits")
    return await look(store, matching.pop())


async def look(store: Store, record_id: str) -> Seen:
    """The record with that whole id. Raises NoSuchRecord, ActRefused (a lease runs, the record is lost), StoreError."""
    match await store.get(record_id):
        case Found(record, lease_left):
            return Seen(record_id, record, lease_left)
        case Missing():
            raise NoSuchRecord(
                f"there is no record {short_id(record_id)}: it has expired, was released, or is in another store or namespace"
            )
        case Locked(lease_left):
            raise ActRefused(
                _executing(record_id, lease_left) + " (its record is gone from the store: was it evicted?)"
            )
        case other:
            assert_never(other)


def nameable(rule: Rule) -> bool:
    """Whether a key and values of header fields name an operation under the rule: no natural key, and no scope of another kind."""
    return bool(rule.key.headers) and all(isinstance(part, HeaderScope | LiteralScope) for part in rule.scope)


def id_of(rule: Rule, namespace: str, key: bytes, scope: Sequence[bytes]) -> str:
    """The id of the operation that a client names so: `scope` are the values of the header fields in the rule's scope, in its order;
    one that is not given was absent. Raises AmbiguousId for what cannot be a key. `rule` is nameable."""
    match read_key(rule, tuple((name, key) for name in rule.key.headers)):
        case Key(value):
            names = (part.name for part in rule.scope if isinstance(part, HeaderScope))
            return identity.record_id(namespace, scope_values(rule, tuple(zip(names, scope, strict=False))), value)
        case BadKey(detail):
            raise AmbiguousId(detail.removesuffix(" Nothing was executed."))
        case NoKey():
            raise AmbiguousId(f"rule {rule.name} reads no key")
        case other:
            assert_never(other)


# ------------------------------------------------------------------------------------------------------------------- settling


async def release(store: Store, seen: Seen, ttl: int) -> State:
    """It did not happen: the next request with the key executes. `ttl` is milliseconds."""
    return await _settle(store, seen.record_id, SettleRelease(seen.record.token, seen.record.version, ttl))


async def complete(store: Store, seen: Seen, answer: Answer, ttl: int) -> State:
    """It happened, and this is the answer. `ttl` is milliseconds."""
    return await _settle(store, seen.record_id, SettleComplete(seen.record.token, seen.record.version, answer, ttl))


async def delete(store: Store, seen: Seen) -> State:
    """Forget it."""
    return await _settle(store, seen.record_id, SettleDelete(seen.record.token, seen.record.version))


def still(seen: Seen, version: int) -> Seen:
    """The record, as long as it is of the version that the operator looked at before. Raises ActRefused."""
    if seen.record.version != version:
        raise ActRefused(_changed(seen.record_id, version, seen.record.version))
    return seen


async def _settle(store: Store, record_id: str, settlement: Settlement) -> State:
    """The state that the act left. Raises NoSuchRecord, ActRefused, StoreError."""
    fact: EndFact = await store.settle(record_id, settlement)
    match fact:
        case Done(state):
            return state
        case Missing() | Dead():
            raise NoSuchRecord(
                f"there is no record {short_id(record_id)} any more: it has expired or was released meanwhile"
            )
        case Locked(lease_left):
            raise ActRefused(_executing(record_id, lease_left))
        case Found(record, lease_left):
            if lease_left:
                raise ActRefused(_executing(record_id, lease_left))
            if (record.token, record.version) != (settlement.seen_token, settlement.seen_version):
                raise ActRefused(_changed(record_id, settlement.seen_version, record.version))
            raise ActRefused(
                f"record {short_id(record_id)} is {record.state.name.lower()}: only an unknown outcome can be given an answer"
            )
        case other:
            assert_never(other)


def _changed(record_id: str, seen: int, now: int) -> str:
    how = f"version {seen}, now {now}" if seen != now else f"version {now} is another's now"
    return f"record {short_id(record_id)} changed since it was read ({how}): look at it again"


def _executing(record_id: str, lease_left: int) -> str:
    return (
        f"record {short_id(record_id)} is being executed: its owner is alive, and its lease runs {lease_left / 1000:.1f} s more unless "
        "it is renewed; wait for its end"
    )


# ------------------------------------------------------------------------------------------------------- an operator's answer

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NOT_GIVEN = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_WITHOUT_BODY = frozenset({204, 205, 304})


def answer_of(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
    """An answer in an operator's words. Its length is written, and its `Content-Type` where none is given. Raises AnswerInvalid."""
    if not 200 <= status <= 599:
        raise AnswerInvalid(f"status {status} cannot be an answer's: give one from 200 to 599")
    if body and status in _WITHOUT_BODY:
        raise AnswerInvalid(f"an answer with status {status} has no body")
    given = [_field(name.strip(), value.strip()) for name, value in headers]
    lines = [f"{status} {_phrase(status)}".rstrip(), *(f"{name}: {value}" for name, value in given)]
    if body and not any(name.lower() == "content-type" for name, _ in given):
        lines.append(f"Content-Type: {_kind(body)}")
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    return Answer(status, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), body)


def _field(name: str, value: str) -> tuple[str, str]:
    if not _NAME.fullmatch(name):
        raise AnswerInvalid(f"{name!r} is not a header field's name")
    if name.lower() in _NOT_GIVEN:
        raise AnswerInvalid(f"{name} cannot be given: it is written for each connection")
    if not _VALUE.fullmatch(value):
        raise AnswerInvalid(f"the value of {name} holds a character that a header field cannot")
    return name, value


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _kind(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


# ---------------------------------------------------------------------------------------------------------------- as plain data

_SECRET = frozenset({"set-cookie", "authorization", "www-authenticate", "authentication-info"})


def plain(seen: Seen, *, show_body: bool) -> dict[str, object]:
    """A record as JSON has it: times are milliseconds on the store's clock. The owner's token is never told; bodies, cookies and
    credentials only where asked."""
    record = seen.record
    return {
        "id": seen.record_id,
        "state": seen.state.name.lower(),
        "rule": record.rule,
        "attempt": record.attempt,
        "version": record.version,
        "reason": _reason(seen),
        "on_unknown": record.on_unknown.name.lower(),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "expires_at": record.expires_at,
        "lease_left": seen.lease_left,
        "fingerprint": record.fingerprint[:FINGERPRINT_BYTES].hex(),
        "recipe": record.recipe,
        "answer": _answer(record.answer, show_body=show_body),
    }


def _reason(seen: Seen) -> str | None:
    if seen.state is not State.UNKNOWN:
        return None
    if seen.record.state is State.PROCESSING:
        return "owner gone"
    return None if seen.record.reason is Reason.NONE else seen.record.reason.name.lower().replace("_", " ")


def _answer(answer: Answer | Tombstone | None, *, show_body: bool) -> dict[str, object] | None:
    match answer:
        case None:
            return None
        case Tombstone(status):
            return {"status": status, "kept": False}
        case Answer(status, head, body):
            shown: dict[str, object] = {
                "status": status,
                "kept": True,
                "headers": [_header(line, show_body=show_body) for line in head.split(b"\r\n")[1:-1]],
                "body_bytes": len(body),
            }
            return shown | (_body(body) if show_body else {})
        case other:
            assert_never(other)


def _header(line: bytes, *, show_body: bool) -> list[str]:
    name, _, value = (part.decode("latin-1").strip() for part in line.partition(b":"))
    return [name, value if show_body or name.lower() not in _SECRET else "(hidden)"]


def _body(body: bytes) -> dict[str, object]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}
