"""Keys from a JWKS URL: fetched in the background, kept, and fetched again when a token names a key that is not there. A URL that hangs
delays nobody whose key is known, and nobody else for longer than one time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from idemproxy.clocks import Clock
from idemproxy.idempotency.jwt_claims import TrustedKey

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
    pause: float = 30.0
    first: float = 5.0
    limit: float = 5.0


def _untold(fault: str) -> None:
    """Nobody is told."""


class KeySet:
    """The keys of one URL. `clock` counts seconds. `fault` is why the newest fetch brought none, or ""; `told` hears of it when it
    changes."""

    def __init__(self, fetch: Fetch, clock: Clock, pace: Pace = Pace(), told: Callable[[str], None] = _untold) -> None:
        self._fetch = fetch
        self._clock = clock
        self._pace = pace
        self._told = told
        self._keys: tuple[TrustedKey, ...] = ()
        self._since = float("-inf")
        self._asked = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.fault = ""

    def succeed(self, before: KeySet) -> None:
        """Begin with the keys that another one has of the same URL. They are fetched anew all the same."""
        self._keys, self._since = before._keys, before._since

    def trusted(self) -> tuple[TrustedKey, ...]:
        """The keys that are trusted now: the same tuple as long as they are the same. Where they are no longer fresh, newer ones are
        fetched meanwhile."""
        age = self._clock() - self._since
        if age > self._pace.kept:
            self._keys = ()
        if age > self._pace.fresh:
            self.begin()
        return self._keys

    async def renew(self) -> None:
        """Fetch once more, unless that was only just done, and wait for what is being fetched."""
        self.begin()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Give up the fetch that is running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def begin(self) -> None:
        """Fetch in the background, unless that was only just done. There is never more than one fetch at a time."""
        if self._task is not None and not self._task.done():
            return
        now = self._clock()
        if now - self._asked >= (self._pace.pause if self._keys else self._pace.first):
            self._asked = now
            self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        fault = await self._fetched()
        if not fault:
            self._since = self._clock()
        if fault != self.fault:
            self.fault = fault
            self._told(fault)

    async def _fetched(self) -> str:
        """Why nothing of use came, or ""."""
        from idemproxy.idempotency.jwt_keys import BadKey, jwks_keys

        try:
            async with asyncio.timeout(self._pace.limit):
                text = await self._fetch()
            self._keys = jwks_keys(text, public_only=True)
        except TimeoutError:
            return "no answer came in time"
        except BadKey as bad:
            return f"the answer is no use: {bad}"
        except JwksUnavailable as unavailable:
            return str(unavailable)
        except Exception as error:  # a fetch that fails in any way must not end the requests that wait for it
            return type(error).__name__
        return ""


def http_fetch(url: str) -> Fetch:
    """A fetch by GET, without redirects: whoever could redirect it could replace the keys."""

    async def fetch() -> bytes:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
            ):
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
