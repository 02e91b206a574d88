"""The tokens that requests bear, verified: by keys that were given, and by key sets that are fetched. A token that held a moment ago is
not verified again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, assert_never

from idemproxy.clocks import Clock
from idemproxy.idempotency.jwt_claims import Claims, Doubt, Doubted, TokenPolicy, TrustedKey, verified
from idemproxy.idempotency.messages import Fields, values
from idemproxy.jwks import KeySet

REMEMBERED: Final = 60.0
"""Seconds for which a token that held is not verified again."""
MOST: Final = 4096
"""Tokens that are remembered."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """The token's key is not known, and the keys that could be newer cannot be fetched: nobody can tell whether it holds."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """Claims that held at `since`, and what they are worth until `until`: seconds since 1970."""

    claims: Claims
    since: float
    until: float


class Tokens:
    """Verifies the tokens of one configuration. `wall` is the time of day, in seconds since 1970."""

    def __init__(
        self,
        policy: TokenPolicy,
        keys: Sequence[TrustedKey],
        sets: Sequence[KeySet],
        wall: Clock = time.time,
        most: int = MOST,
    ) -> None:
        self._policy = policy
        self._given = tuple(keys)
        self._sets = tuple(sets)
        self._wall = wall
        self._most = most
        self._published: tuple[tuple[TrustedKey, ...], ...] = ()
        self._keys = self._given
        self._remembered: dict[bytes, _Remembered] = {}

    def warm(self) -> None:
        """Begin to fetch, so that the first request finds keys."""
        for each in self._sets:
            each.begin()

    async def claims(self, fields: Fields) -> Claims | Doubted | Undecided:
        """What the Bearer token of a request says, once everything about it holds. Waits for newer keys where its own is not known."""
        keys, now = self._trusted(), self._wall()
        name = _name(fields)
        known = self._remembered.get(name)
        if known is not None and known.since <= now < known.until:
            return known.claims
        found = verified(self._policy, keys, fields, now)
        if self._sets and isinstance(found, Doubted) and found.reason is Doubt.UNKNOWN_KEY:
            await asyncio.gather(*(each.renew() for each in self._sets))
            newer = self._trusted()
            if newer is not keys:
                found = verified(self._policy, newer, fields, now)
        match found:
            case Claims():
                self._remember(name, found, now)
                return found
            case Doubted(Doubt.UNKNOWN_KEY) if any(each.fault for each in self._sets):
                return Undecided()
            case Doubted():
                return found
            case other:
                assert_never(other)

    async def named(self, fields: Fields, names: Sequence[str]) -> Mapping[str, bytes] | Doubted | Undecided:
        """The values of these claims, as parts of a scope; each of them must be there."""
        found = await self.claims(fields)
        if not isinstance(found, Claims):
            return found
        named: dict[str, bytes] = {}
        for name in names:
            value = found.scope_value(name)
            if isinstance(value, Doubted):
                return value
            named[name] = value
        return named

    async def close(self) -> None:
        """Give up what is being fetched."""
        await asyncio.gather(*(each.close() for each in self._sets))

    def _trusted(self) -> tuple[TrustedKey, ...]:
        """Every key: the same tuple as long as they are the same. What held by others is not remembered."""
        if self._sets:
            published = tuple([each.trusted() for each in self._sets])
            if any(ours is not theirs for ours, theirs in zip_longest(published, self._published)):
                self._published = published
                self._keys = self._given + tuple([key for each in published for key in each])
                self._remembered.clear()
        return self._keys

    def _remember(self, name: bytes, claims: Claims, now: float) -> None:
        """Until it expires, and not for long: what is revoked by taking away its key must end soon."""
        expires = claims.tree.get("exp")
        until = now + REMEMBERED
        if expires is not None:
            until = min(until, expires + self._policy.leeway / 1_000)
        self._remembered.pop(name, None)
        if len(self._remembered) >= self._most:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[name] = _Remembered(claims, now, until)


def _name(fields: Fields) -> bytes:
    """A token's name among those that are remembered: it holds nothing of the token."""
    found = values(fields, b"authorization")
    return hashlib.sha256(found[0]).digest() if len(found) == 1 else b""
