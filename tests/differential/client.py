"""The client: sends a case's requests and reads what comes back, to the end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.differential.corpus import Case, Client, End
from tests.differential.origin import Origin
from tests.differential.reading import Answers, Ended, SeenAnswer, SeenRequest, read_answers
from tests.proxy.wire import DEADLINE, Wire, eventually

_INVITED: Final = re.compile(rb"^HTTP/1\.[01] 10[01]\b.*\n\r?\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Observed:
    """What both ends saw of a case. `rest` came behind the answers; `authority` is the upstream's own."""

    requests: tuple[SeenRequest, ...]
    answers: tuple[SeenAnswer, ...]
    rest: bytes
    authority: bytes


async def observe(case: Case, port: int, origin: Origin) -> Observed:
    """Send the case to that port, behind which `origin` is. Raises TimeoutError where it does not come to an end."""
    origin.begin(case)
    try:
        async with asyncio.timeout(DEADLINE), await Wire.connect(port) as wire:
            read = await _Talk(case, wire, origin).run()
    except TimeoutError:
        raise TimeoutError(
            f"{case} has not come to an end at port {port}, the upstream saw {origin.requests}"
        ) from None
    if case.refused is not None or case.client is Client.HALF_CLOSES:
        await origin.caught_up()
    await origin.settled()
    return Observed(tuple(origin.requests), read.seen, read.rest, b"127.0.0.1:%d" % origin.port)


class _Talk:
    def __init__(self, case: Case, wire: Wire, origin: Origin) -> None:
        self._case = case
        self._wire = wire
        self._origin = origin
        self._received = b""
        self._ended = Ended.NOT

    async def run(self) -> Answers:
        """The case from its first byte to the end of the connection."""
        if any(exchange.held for exchange in self._case.exchanges):
            await self._in_turn()
        else:
            await self._at_once()
        with contextlib.suppress(OSError):
            self._wire.half_close()
        await self._receive_until(lambda: False)
        return self._answers()

    def _answers(self, count: int | None = None) -> Answers:
        methods = [exchange.method for exchange in self._case.exchanges[:count]]
        return read_answers(self._received, methods, ended=self._ended)

    async def _at_once(self) -> None:
        sending = asyncio.ensure_future(self._send_all())
        try:
            await self._receive_until(self._answered)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_all(self) -> None:
        await self._send(b"".join(exchange.request for exchange in self._case.exchanges))
        if self._case.client is Client.HALF_CLOSES:
            await eventually(lambda: self._origin.heads, "the request's head at the upstream")
            self._wire.half_close()
            self._origin.may_answer.set()

    async def _in_turn(self) -> None:
        for number, exchange in enumerate(self._case.exchanges, 1):
            await self._send(exchange.request)
            if exchange.held and await self._invited(number):
                await self._send(exchange.held)
            if any(answer.status == 101 for answer in self._answers(number).seen):
                return
            await self._receive_until(partial(self._answered, number))

    def _answered(self, count: int | None = None) -> bool:
        return self._answers(count).done

    async def _invited(self, number: int) -> bool:
        start = len(self._received)
        await self._receive_until(lambda: _INVITED.search(self._received, start) or self._answered(number))
        return _INVITED.search(self._received, start) is not None

    async def _receive_until(self, enough: Callable[[], object]) -> None:
        while self._ended is Ended.NOT and not enough():
            try:
                data = await self._wire.receive()
            except ConnectionError:
                self._ended = Ended.RESET
                return
            self._received += data
            if not data:
                self._ended = Ended.CLOSED
            if self._has_all():
                self._origin.may_reset.set()

    def _has_all(self) -> bool:
        """Everything came that a last answer which ends in a reset has."""
        last = self._case.exchanges[-1]
        if last.script.end is not End.RESET or self._origin.may_reset.is_set():
            return False
        methods = [exchange.method for exchange in self._case.exchanges]
        seen = read_answers(self._received, methods, ended=Ended.RESET).seen
        if len(seen) < len(methods) or not seen[-1].head.line:
            return False
        sent = read_answers(last.script.answer, [last.method], ended=Ended.RESET).seen
        return seen[-1].body.whole or len(seen[-1].body.data) >= sum(len(answer.body.data) for answer in sent)

    async def _send(self, data: bytes) -> None:
        step = self._case.split or len(data) or 1
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), step):
                await self._wire.send(data[at : at + step])
                if self._case.split:
                    await asyncio.sleep(0)
