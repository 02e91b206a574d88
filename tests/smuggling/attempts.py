"""One case at a time: sent, answered, counted on both sides of the proxy."""

from __future__ import annotations

import contextlib
import re
import select
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, assert_never

import pytest

from idemproxy.proxy.outcome import NotSent, Outgoing
from idemproxy.proxy.upstream import Upstream as Exchanges
from tests.proxy.product import Api, Product, serving, sqlite
from tests.proxy.wire import Wire, eventually
from tests.smuggling.cases import Begun, Case, Outcome, Place, filled
from tests.smuggling.upstreams import Upstream

RULE: Final = """
  - match: {methods: [], path: "/safe/**"}
"""
UNREAD: Final = b"? ?"
_STATUS_LINES: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) ")


class Stage:
    """The proxy in front of one server, and the requests that it has sent there."""

    def __init__(self, product: Product, upstream: Upstream, sent: list[bytes]) -> None:
        self._product = product
        self._upstream = upstream
        self._sent = sent
        self._before = len(upstream.seen())

    async def attempt(self, case: Case, number: int, places: Sequence[Place]) -> None:
        """Send a case to each place, and then a request of somebody else. Raises AssertionError where one meets what it should not."""
        before = len(_certain(self._sent))
        expected: list[bytes] = []
        if isinstance(case.outcome, Begun):
            await self._send(case, number, Place.AT_ONCE)
        for place in places:
            expected += await self._send(case, number, place)
        await self.follow(b"GET /follow/%04d" % number)
        sent = _certain(self._sent)[before:-1]
        assert sent == expected, f"the proxy sent {sent}, not {expected}"

    async def follow(self, line: bytes) -> None:
        """A request of somebody else gets its own answer, and the server has seen what the proxy has sent and nothing else."""
        reply = await self._product.ask(line + b" HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (reply.status, reply.body) == (200, line.partition(b" ")[2]), f"another's answer: {reply}"
        due = _certain(self._sent)
        await eventually(lambda: len(self._seen()) >= len(due) and line in self._seen(), "the server's note")
        seen, sent = Counter(self._seen()), Counter(due)
        unread = seen.pop(UNREAD, 0)
        assert seen <= sent, f"the server saw {seen - sent} that the proxy did not send"
        often = Counter(self._upstream.seen()[self._before :])
        assert all(often[line] <= count for line, count in Counter(self._sent).items()), "seen more often than sent"
        assert (sent - seen).total() == unread, f"the proxy sent {sent - seen}, of which the server read less"

    def forget(self) -> None:
        """After a fault: what comes is judged from here on."""
        self._sent.clear()
        self._before = len(self._upstream.seen())

    def _seen(self) -> list[bytes]:
        return _certain(self._upstream.seen()[self._before :])

    async def _send(self, case: Case, number: int, place: Place) -> list[bytes]:
        """Send it, and read its answers. Gives the requests that the proxy is to send on."""
        request, outcome = filled(case.request, number, place), case.at(place)
        async with await self._product.connect() as wire:
            match outcome:
                case Outcome(passed, refused):
                    lines = [filled(line, number, place) for line in passed]
                    await wire.send(request)
                    await _answers(wire, lines, refused)
                    return lines
                case Begun(line):
                    if place is not Place.AT_ONCE:
                        head, end, request = request.partition(b"\r\n\r\n")
                        await self._begin(wire, head + end)
                    await _broken(wire, request)
                    return [filled(line, number, place)]
                case other:
                    assert_never(other)

    async def _begin(self, wire: Wire, head: bytes) -> None:
        """Send a head, and wait until the server is at work on it."""
        before = len(self._seen())
        await wire.send(head)
        await eventually(lambda: len(self._seen()) > before or _readable(wire), "the begin of the request")


def _certain(lines: list[bytes]) -> list[bytes]:
    """Without those that a server sees or does not, as it happens."""
    return [line for line in lines if Place.AT_ONCE.value not in line]


async def _broken(wire: Wire, rest: bytes) -> None:
    """The rest of a request whose body is at fault: it gets one answer at the most."""
    with contextlib.suppress(OSError):
        await wire.send(rest)
        wire.half_close()
    got = await wire.until_gone()
    statuses = _STATUS_LINES.findall(got)
    assert statuses in ([], [b"400"], [b"200"]), f"answered {got!r}"
    assert b"/smuggled/" not in got


def _readable(wire: Wire) -> bool:
    poll = select.poll()
    poll.register(wire.socket, select.POLLIN)
    return bool(poll.poll(0))


async def _answers(wire: Wire, passed: Sequence[bytes], refused: int | None) -> None:
    """As many answers as there are requests that go on, each its own, and not a byte more."""
    for line in passed:
        method, _, target = line.partition(b" ")
        reply = await wire.answer(method)
        if reply.status == 200 and method != b"HEAD":
            assert reply.body == target, f"the answer to {line!r} is {reply}"
        assert reply.status < 500 or reply.status == 501, f"the answer to {line!r} is {reply}"
    if refused is not None:
        reply = await wire.answer()
        assert reply.status == refused, f"refused with {reply}"
        assert reply.values(b"connection") == [b"close"], f"refused with {reply}"
    else:
        wire.half_close()
    rest = await wire.until_gone()
    assert not rest, f"more than was asked for: {rest!r}"


@contextlib.asynccontextmanager
async def staged(upstream: Upstream, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """The proxy in front of that server, for as long as the block runs."""
    sent: list[bytes] = []
    exchange = Exchanges.exchange

    async def counting(self: Exchanges, outgoing: Outgoing) -> object:
        line = outgoing.head.partition(b" HTTP/1.1\r\n")[0]
        sent.append(line)
        outcome = await exchange(self, outgoing)
        assert not isinstance(outcome, NotSent), outcome
        return outcome

    monkeypatch.setattr(Exchanges, "exchange", counting)
    behind = Api()
    behind.port = upstream.port
    async with serving(sqlite(folder), rules=RULE, api=behind) as product:
        yield Stage(product, upstream, sent)
