"""Clients under whose load an upstream is restarted, and what became of each request."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.proxy.wire import Ended, Wire

BUSY = (0.0, 0.005, 0.02)
CALM = (0.3, 1.0)
"""Seconds between two requests of a client; the longest is as long as the upstream keeps an idle connection."""


@dataclass
class Reads:
    """GETs: how many were answered by the upstream, and what the others saw."""

    good: int = 0
    bad: list[str] = field(default_factory=list)


@dataclass
class Operations:
    """POSTs, each with a key of its own. `executed`, `unknown` and `unsent` are the keys whose last answer said so."""

    executed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)
    released: int = 0
    """Answers that said that a request was not sent."""
    other: list[str] = field(default_factory=list)

    def share(self) -> str:
        """For a person to read."""
        keys = len(self.executed) + len(self.unknown) + len(self.unsent)
        return f"{keys} operations: {len(self.unknown)} unknown, {self.released} times released"


async def _asked(wire: Wire, request: bytes) -> tuple[int, str]:
    """Status, and the body or the problem's type."""
    await wire.send(request)
    reply = await wire.answer(request.split(b" ", 1)[0])
    body = reply.body.decode()
    if reply.values(b"content-type") == [b"application/problem+json"]:
        return reply.status, str(json.loads(body)["type"]).rpartition(":")[2]
    return reply.status, body


async def read_kept(
    port: int, reads: Reads, over: asyncio.Event, chance: random.Random, pauses: tuple[float, ...]
) -> None:
    """GETs on one connection until it is over."""
    async with await Wire.connect(port) as wire:
        while not over.is_set():
            try:
                answered = await _asked(wire, b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n")
            except (Ended, ConnectionError) as error:
                reads.bad.append(repr(error))
                return
            _count(reads, answered)
            await asyncio.sleep(chance.choice(pauses))


async def read_fresh(port: int, reads: Reads, over: asyncio.Event, chance: random.Random) -> None:
    """GETs, each on a connection of its own, until it is over."""
    while not over.is_set():
        try:
            async with await Wire.connect(port) as wire:
                _count(reads, await _asked(wire, b"GET /x HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"))
        except (Ended, ConnectionError) as error:
            reads.bad.append(repr(error))
        await asyncio.sleep(chance.choice(BUSY[1:]))


def _count(reads: Reads, answered: tuple[int, str]) -> None:
    if answered == (200, "read"):
        reads.good += 1
    else:
        reads.bad.append(f"{answered[0]} {answered[1]}")


def _post(path: str, key: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: {key}\r\nContent-Length: 8\r\n\r\namount=5".encode()


async def operate(
    port: int, path: str, name: str, operations: Operations, over: asyncio.Event, chance: random.Random
) -> None:
    """POSTs on one connection until it is over; what was released is sent again with the same key, as it asks for."""
    async with await Wire.connect(port) as wire:
        number = 0
        while not over.is_set():
            number += 1
            key = f"{name}-{number}"
            while (ended := await _asked(wire, _post(path, key))) == (502, "upstream-unreachable"):
                operations.released += 1
                if over.is_set():
                    break
                await asyncio.sleep(0.02)
            match ended:
                case (200, body) if body == key:
                    operations.executed.append(key)
                case (502, "upstream-failed"):
                    operations.unknown.append(key)
                case (502, "upstream-unreachable"):
                    operations.unsent.append(key)
                case _:
                    operations.other.append(f"{key}: {ended}")
            await asyncio.sleep(chance.choice(BUSY))


async def settle(port: int, path: str, operations: Operations) -> list[str]:
    """Send again what is not known to be executed, now that the upstream stays. Gives what was answered otherwise than it must."""
    expected = dict.fromkeys(operations.unknown, (409, "outcome-unknown"))
    expected |= {key: (200, key) for key in operations.unsent}
    async with await Wire.connect(port) as wire:
        answered = {key: await _asked(wire, _post(path, key)) for key in expected}
    return [f"{key}: {answered[key]}, not {expected[key]}" for key in expected if answered[key] != expected[key]]


def executed_twice(ledger: Counter[str]) -> list[str]:
    """The keys that stand in the ledger more than once."""
    return [key for key, times in ledger.items() if times > 1]


def not_as_answered(operations: Operations, ledger: Counter[str]) -> list[str]:
    """The keys that were answered as executed and were not."""
    return [key for key in operations.executed if ledger[key] != 1]
