"""Listening for ends: a connection of its own, subscribed to the namespace's channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis

from idemproxy.errors import StoreUnavailable
from idemproxy.stores.redis_address import Address
from idemproxy.stores.redis_errors import meaning
from idemproxy.stores.redis_wire import Replied, Wire, command

PING_EVERY = 5.0
"""Seconds: a connection that has died without a word is noticed after this and the time limit of a command."""


class _Feed(Wire):
    """A connection on which messages come between the replies."""

    def __init__(self, name: str, wake: Callable[[str | None], None]) -> None:
        super().__init__(name)
        self._wake = wake

    def received(self, reply: Replied) -> None:
        match reply:
            case [b"message", bytes(), bytes(record_id)]:
                self._wake(record_id.decode("ascii", "replace"))
            case _:
                super().received(reply)


async def listen(
    address: Address, channel: bytes, wake: Callable[[str | None], None], listening: Callable[[], None]
) -> None:
    """Until cancelled. Raises StoreError when listening breaks."""
    feed = await address.connect(lambda: _Feed(str(address), wake))
    try:
        await _ask(feed, address, command(b"SUBSCRIBE", channel))
        listening()
        while True:
            await asyncio.wait([feed.gone], timeout=PING_EVERY)
            if feed.gone.done():
                raise StoreUnavailable(f"{address} ended the connection on which it tells of ends")
            await _ask(feed, address, command(b"PING"))
    finally:
        await feed.close()


async def _ask(feed: _Feed, address: Address, line: bytes) -> None:
    reply = await feed.ask(line, address.limit)
    if isinstance(reply, hiredis.ReplyError):
        raise meaning(str(address), str(reply))
