"""A link to a Redis server that is always there: connected when it is first needed, and again when the connection has ended."""

from __future__ import annotations

import asyncio

import hiredis

from idemproxy.errors import StoreUnavailable
from idemproxy.stores.redis_address import Address
from idemproxy.stores.redis_errors import TURNED_AWAY, code_of, meaning
from idemproxy.stores.redis_wire import Replied, Reply, Wire

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
"""Seconds after a failed attempt to connect, in which commands fail at once."""


class Link:
    """One connection at a time, which all commands share. A server that is down is told at once; it is tried again when a command
    comes after a short pause."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[Wire | StoreUnavailable] | None = None
        self._refused: StoreUnavailable | None = None
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0
        self._retired: set[Wire] = set()

    async def ask(self, command: bytes, size: int = 0) -> Replied:
        """The reply, which may be an error of the server. `size` is as in Wire.ask. The time limit holds for the connecting, where
        there is no connection, and then anew for the reply. Raises StoreUnavailable, StoreAmbiguous."""
        wire = self._wire
        if wire is None or not wire.open:
            wire = await self._connected()
        reply = await wire.ask(command, self._address.limit, size)
        if isinstance(reply, hiredis.ReplyError) and code_of(str(reply)) in TURNED_AWAY:
            self._retire(wire)
        return reply

    async def want(self, command: bytes) -> Reply:
        """The reply. Raises StoreError also where the server answers with an error."""
        reply = await self.ask(command)
        if isinstance(reply, hiredis.ReplyError):
            raise meaning(str(self._address), str(reply))
        return reply

    async def close(self) -> None:
        """End every connection; commands in flight fail."""
        self._not_before = float("inf")
        self._refused = StoreUnavailable("the store was closed")
        connecting, wire = self._connecting, self._wire
        if connecting is not None:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        if wire is not None:
            self._retired.add(wire)
        for retired in list(self._retired):
            await retired.close()
        self._retired.clear()

    async def _connected(self) -> Wire:
        """A new connection. Callers share the attempt, and one that is cancelled does not end it."""
        if self._connecting is None:
            if self._refused is not None and asyncio.get_running_loop().time() < self._not_before:
                raise StoreUnavailable(str(self._refused))
            self._connecting = asyncio.ensure_future(self._connect())
        connecting = self._connecting
        await asyncio.wait([connecting])
        outcome = self._refused if connecting.cancelled() else connecting.result()
        if not isinstance(outcome, Wire):
            raise StoreUnavailable(str(outcome))
        return outcome

    async def _connect(self) -> Wire | StoreUnavailable:
        try:
            wire = await self._address.connect(lambda: Wire(str(self._address)))
        except StoreUnavailable as error:
            self._refused = error
            self._not_before = asyncio.get_running_loop().time() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            return error
        else:
            self._wire = wire
            self._refused = None
            self._pause = _FIRST_PAUSE
            return wire
        finally:
            self._connecting = None

    def _retire(self, wire: Wire) -> None:
        """The server says that it is not the one to ask (any more): behind its name there may be another by now."""
        if self._wire is wire:
            self._wire = None
            self._retired.add(wire)
            wire.gone.add_done_callback(lambda _: self._retired.discard(wire))
            wire.retire()
