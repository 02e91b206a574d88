"""Keys from a JWKS URL, and tokens verified with them: fetched in the background, kept, and fetched again when a token names a key that is
not there. A URL that hangs delays nobody whose key is known, and nobody else for longer than one time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from idemproxy.clocks import Clock
from idemproxy.idempotency.jwt_claims import Claims, Doubt, Doubted, TokenPolicy, verified
from idemproxy.idempotency.jwt_keys import BadKey, TrustedKey, jwks_keys
from idemproxy.idempotency.messages import Fields

_LARGEST: Final = 256 << 10

Fetch = Callable[[], Awaitable[bytes]]
"""Gets a JWKS. Whatever it raises means that there was none; JwksUnavailable says why in words for an operator."""


class JwksUnavailable(Exception):
    """No JWKS came. The message says why, and holds no part of the URL."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `fresh`: how long keys are used before newer ones are asked for; `kept`: how long they are used while none come; `pause`:
    the least from one fetch to the next; `first`: the same, as long as there are no keys at all; `limit`: how long one may take."""

    fresh: float = 600.0
    kept: float = 86_400.0
    pause: float = 60.0
    first: float = 5.0
    limit: float = 5.0


class KeySet:
    """The keys of one URL. `clock` counts seconds. `fault` is why the newest fetch brought none, or ""."""

    def __init__(self, fetch: Fetch, clock: Clock, pace: Pace = Pace()) -> None:
        self._fetch = fetch
        self._clock = clock
        self._pace = pace
        self._keys: tuple[TrustedKey, ...] = ()
        self._since = float("-inf")
        self._asked = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.fault = ""

    def trusted(self) -> tuple[TrustedKey, ...]:
        """The keys that are trusted now. Where they are no longer fresh, newer ones are fetched meanwhile."""
        age = self._clock() - self._since
        if age > self._pace.kept:
            self._keys = ()
        if age > self._pace.fresh:
            self._begin()
        return self._keys

    async def renew(self) -> None:
        """Fetch once more, unless that was only just done, and wait for what is being fetched."""
        self._begin()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Give up the fetch that is running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _begin(self) -> None:
        """There is never more than one fetch at a time."""
        if self._task is not None and not self._task.done():
            return
        now = self._clock()
        if now - self._asked >= (self._pace.pause if self._keys else self._pace.first):
            self._asked = now
            self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._pace.limit):
                text = await self._fetch()
            self._keys = jwks_keys(text, public_only=True)
        except TimeoutError:
            self.fault = "no answer came in time"
        except BadKey as bad:
            self.fault = f"the answer is no use: {bad}"
        except JwksUnavailable as unavailable:
            self.fault = str(unavailable)
        except Exception as error:  # a fetch that fails in any way must not end the requests that wait for it
            self.fault = type(error).__name__
        else:
            self.fault = ""
            self._since = self._clock()


class Tokens:
    """Verifies the tokens of requests, by keys that were given and by key sets that are fetched."""

    def __init__(self, policy: TokenPolicy, keys: Sequence[TrustedKey], sets: Sequence[KeySet]) -> None:
        self._policy = policy
        self._given = tuple(keys)
        self._sets = tuple(sets)

    def warm(self) -> None:
        """Begin to fetch, so that the first request finds keys."""
        self._keys()

    async def claims(self, fields: Fields, now: float) -> Claims | Doubted:
        """As `verified`, with newer keys where the token's is not known. `now` is seconds since 1970."""
        keys = self._keys()
        found = verified(self._policy, keys, fields, now)
        if isinstance(found, Claims) or found.reason is not Doubt.UNKNOWN_KEY or not self._sets:
            return found
        await asyncio.gather(*(each.renew() for each in self._sets))
        newer = self._keys()
        same = len(newer) == len(keys) and all(ours is theirs for ours, theirs in zip(newer, keys, strict=True))
        return found if same else verified(self._policy, newer, fields, now)

    async def close(self) -> None:
        """Give up what is being fetched."""
        await asyncio.gather(*(each.close() for each in self._sets))

    def _keys(self) -> tuple[TrustedKey, ...]:
        return self._given + tuple(key for each in self._sets for key in each.trusted())


def http_fetch(session: aiohttp.ClientSession, url: str) -> Fetch:
    """A fetch by GET, without redirects: whoever could redirect it could replace the keys."""

    async def fetch() -> bytes:
        try:
            async with session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer:
                if answer.status != 200:
                    raise JwksUnavailable(f"the answer's status is {answer.status}")
                return await _bounded(answer.content)
        except aiohttp.ClientError as error:
            raise JwksUnavailable(f"it cannot be fetched ({type(error).__name__})") from error

    return fetch


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    text = bytearray()
    async for piece in content.iter_any():
        text += piece
        if len(text) > _LARGEST:
            raise JwksUnavailable(f"the answer is larger than {_LARGEST} bytes")
    return bytes(text)
