"""Records for an operator: the server's SCAN, filtered by what stands in the heads of the records."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from idemproxy.errors import RecordUnreadable, StoreError
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import HEAD_BYTES, MAGIC, RULE_BYTES_AT, State
from idemproxy.stores.base import Found, LookFact, Page
from idemproxy.stores.redis_link import Link
from idemproxy.stores.redis_wire import command

_ROUNDS = 50
_MOST_KEYS = 1000
_PAGE_BYTES = 16 * 2**20
"""What one page may cost: rounds of SCAN, keys that one round looks at, bytes of answers."""

_HEAD_AND_RULE = 1023
"""The last byte that is read of a record to decide whether it is wanted; a rule's name has at most 64 characters."""

_CURSOR = re.compile(r"(?P<scan>[0-9]{1,20})(?P<rest>(?:,[0-9a-f]{64})*)")
_BEGIN = "0"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a page is chosen from. A page's cursor is the server's, followed by the ids that it found and that the page had no
    room for."""

    link: Link
    prefix: bytes
    suffix: bytes
    get: Callable[[str], Awaitable[LookFact]]

    async def page(self, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        """A page may be empty although others follow. Raises StoreError."""
        place, waiting = _read(cursor)
        found: list[tuple[str, Found]] = []
        size = 0
        for turn in range(_ROUNDS):
            if not waiting and (turn == 0 or place != _BEGIN):
                place, ids = await self._ids(place, min(max(limit - len(found), 10), _MOST_KEYS))
                waiting = await self._wanted(ids, state, rule)
            while waiting and len(found) < limit and size < _PAGE_BYTES:
                record_id = waiting.pop(0)
                one = await self._look(record_id)
                if one is not None and _fits(one, state, rule):
                    found.append((record_id, one))
                    size += len(one.record.answer.body) if isinstance(one.record.answer, Answer) else 0
            if waiting or place == _BEGIN or len(found) >= limit:
                break
        ended = place == _BEGIN and not waiting
        return Page(tuple(found), None if ended else ",".join((place, *waiting)))

    async def _ids(self, place: str, count: int) -> tuple[str, list[str]]:
        pattern = self.prefix + b"*" + self.suffix
        reply = await self.link.want(command(b"SCAN", place.encode(), b"MATCH", pattern, b"COUNT", b"%d" % count))
        match reply:
            case [bytes(following), list(keys)]:
                ids = [self._id(key) for key in keys if isinstance(key, bytes)]
                return following.decode(), [record_id for record_id in ids if record_id is not None]
            case _:
                raise StoreError("the server answered SCAN with something else")

    def _id(self, key: bytes) -> str | None:
        digits = key[len(self.prefix) : len(key) - len(self.suffix)].decode("ascii", "replace")
        return digits if re.fullmatch("[0-9a-f]{64}", digits) else None

    async def _wanted(self, ids: list[str], state: State | None, rule: str | None) -> list[str]:
        heads = await asyncio.gather(*(self._head(record_id) for record_id in ids))
        return [record_id for record_id, head in zip(ids, heads, strict=True) if _may_fit(head, state, rule)]

    async def _head(self, record_id: str) -> bytes:
        key = self.prefix + record_id.encode() + self.suffix
        reply = await self.link.want(command(b"GETRANGE", key, b"0", b"%d" % _HEAD_AND_RULE))
        return reply if isinstance(reply, bytes) else b""

    async def _look(self, record_id: str) -> Found | None:
        try:
            fact = await self.get(record_id)
        except RecordUnreadable as error:
            raise RecordUnreadable(f"record {record_id}: {error}") from error
        return fact if isinstance(fact, Found) else None


def _read(cursor: str | None) -> tuple[str, list[str]]:
    if cursor is None:
        return _BEGIN, []
    read = _CURSOR.fullmatch(cursor)
    if read is None:
        raise StoreError("this cursor was not given by a page of the store: begin without one")
    return read["scan"], read["rest"].split(",")[1:]


def _may_fit(head: bytes, state: State | None, rule: str | None) -> bool:
    """An encoding that is not known is looked at, so that it is told and not passed over."""
    if not head:
        return False
    if head[:2] != MAGIC or len(head) < HEAD_BYTES:
        return True
    if head[2] == State.RELEASED or (state is not None and head[2] != state):
        return False
    end = HEAD_BYTES + int.from_bytes(head[RULE_BYTES_AT : RULE_BYTES_AT + 2], "big")
    return rule is None or head[HEAD_BYTES:end] == rule.encode()


def _fits(found: Found, state: State | None, rule: str | None) -> bool:
    """As it is read now; it may have changed since its head was."""
    return (state is None or found.record.state is state) and (rule is None or found.record.rule == rule)
