"""`make streams`: the long run. 10 GiB up and 10 GiB down between ends that are slow in turn, and 1,000 streams of server-sent events,
through an idemproxy of its own. Prints what it measured; exits with 1 where something did not hold."""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from tests.streams.ends import Upstream, download, upload
from tests.streams.events import EventUpstream, Listener, share, until
from tests.streams.flow import Flow, Framing, stops
from tests.streams.front import PLAIN, ROOM, RULE, Front, keyed, proxied
from tests.streams.memory import Memory, mb

WARM = 8 << 20
STOPS = 10
"""How often each end stands still within a body."""
SOON = 0.050
"""Seconds in which an event arrives at the median."""

Carry = Callable[[int, Upstream, Flow], None]


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.streams", description=__doc__)
    asked.add_argument("--gib", type=float, default=10.0, help="size of each body (default %(default)g)")
    asked.add_argument("--streams", type=int, default=1000, help="streams of events (default %(default)d)")
    asked.add_argument("--seconds", type=int, default=20, help="how long events are sent (default %(default)d)")
    options = asked.parse_args()
    # Both ends of each stream are in this process.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        held = bodies(Path(folder), int(options.gib * (1 << 30)))
    for spread in (True, False):
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            held &= runner.run(events(Path(folder), options.streams, options.seconds, spread))
    return 0 if held else 1


def bodies(folder: Path, total: int) -> bool:
    """Every kind of long body, one after the other."""
    with Upstream() as upstream, proxied(folder, upstream.port, RULE) as front:
        ways: list[tuple[str, Carry, Framing]] = [
            ("upload", upload, Framing.LENGTH),
            ("download", download, Framing.LENGTH),
            ("chunked upload", upload, Framing.CHUNKED),
            ("chunked download", download, Framing.CHUNKED),
            ("answer on a rule's route", _protected, Framing.CHUNKED),
        ]
        for _, carry, framing in ways:
            carry(front.port, upstream, Flow(WARM, framing))
        held = True
        for name, carry, framing in ways:
            held &= _body(front, name, Flow(total, framing, stops(total, STOPS)), partial(carry, front.port, upstream))
        return held


def _protected(port: int, upstream: Upstream, flow: Flow) -> None:
    number = upstream.enter(flow)
    download(port, upstream, flow, keyed(b"/rule/out/%d" % number, b"key-%d" % number))


def _body(front: Front, name: str, flow: Flow, carry: Callable[[Flow], None]) -> bool:
    memory = Memory(front.pid)
    curve: list[int] = []
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(memory, flow, curve, over))
    watching.start()
    began = time.monotonic()
    try:
        carry(flow)
    finally:
        over.set()
        watching.join()
    seconds = time.monotonic() - began
    grown = memory.grown
    print(
        f"{name}, {flow.total / (1 << 30):.1f} GiB, {STOPS} stops of the sink, {STOPS} of the source: {seconds:.0f} s, "
        f"{mb(flow.total / seconds)}/s; at most {mb(flow.held)} on their way at a stop"
    )
    print(f"  memory before {mb(memory.before)}, then at each tenth: {', '.join(mb(size) for size in curve)}")
    print(f"  most that it grew: {mb(grown)}, allowed {mb(ROOM)}", flush=True)
    return grown < ROOM


def _watch(memory: Memory, flow: Flow, curve: list[int], over: threading.Event) -> None:
    while not over.wait(0.02):
        if flow.received >= flow.total * (len(curve) + 1) // 10:
            curve.append(memory.now)


async def events(folder: Path, count: int, seconds: int, spread: bool) -> bool:
    """One event every second to each of `count` streams: spread over the second, or all at once."""
    async with EventUpstream() as upstream:
        with proxied(folder, upstream.port, RULE) as front:
            listeners = await Listener.open_all(front.port, [PLAIN] * count)
            memory = Memory(front.pid)
            for number in range(seconds):
                await (_over_a_second(upstream, number) if spread else _at_once(upstream, number))
            await until(lambda: all(len(each.numbers) == seconds for each in listeners), "every event has arrived")
            grown = memory.grown
            await Listener.close_all(listeners)
    complete = all(each.numbers == list(range(seconds)) for each in listeners)
    delays = [delay for each in listeners for delay in each.delays]
    print(
        f"{count} streams, an event a second on each, {'spread over the second' if spread else 'all at once'}, {seconds} s: "
        f"{len(delays)} arrived{'' if complete else ', NOT the same that were sent'}; median {share(delays, 0.5) * 1000:.1f} ms, "
        f"p99 {share(delays, 0.99) * 1000:.1f} ms, most {max(delays) * 1000:.1f} ms; memory grew by {mb(grown)} from {mb(memory.before)}",
        flush=True,
    )
    # All at once, half of the streams wait for the other half: there the delay says how fast the proxy is, and is not bounded.
    return complete and (not spread or share(delays, 0.5) <= SOON)


async def _over_a_second(upstream: EventUpstream, number: int) -> None:
    began = time.monotonic()
    streams = list(upstream.streams)
    for place, stream in enumerate(streams):
        await asyncio.sleep(began + place / len(streams) - time.monotonic())
        stream.emit(number)
    await asyncio.sleep(began + 1 - time.monotonic())


async def _at_once(upstream: EventUpstream, number: int) -> None:
    began = time.monotonic()
    upstream.emit(number)
    await asyncio.sleep(began + 1 - time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
