"""Long bodies and many open streams through a real idemproxy: its memory stays flat, and nobody waits for another (FORWARDING.md,
points 6 and 15). `make streams` does the same with 10 GiB and 1,000 streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.streams.ends import Upstream, ask, download, upload
from tests.streams.events import EventUpstream, Listener, share, until
from tests.streams.flow import Flow, Framing, stops
from tests.streams.front import PLAIN, ROOM, RULE, Front, keyed, proxied
from tests.streams.memory import Memory, mb

LARGE = 256 << 20
WARM = 8 << 20
STREAMS = 200
EVENTS = 5


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as behind:
        yield behind


@pytest.fixture(scope="module")
def without_rules(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Front]:
    with proxied(tmp_path_factory.mktemp("without"), upstream.port, " []") as front:
        yield warm(front, upstream)


@pytest.fixture(scope="module")
def with_a_rule(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Front]:
    with proxied(tmp_path_factory.mktemp("with"), upstream.port, RULE) as front:
        flow = Flow(WARM, Framing.CHUNKED)
        download(front.port, upstream, flow, keyed(b"/rule/out/%d" % upstream.enter(flow), b"warm"))
        yield warm(front, upstream)


def warm(front: Front, upstream: Upstream) -> Front:
    """What it takes once is taken before anything is measured."""
    for framing in Framing:
        upload(front.port, upstream, Flow(WARM, framing))
        download(front.port, upstream, Flow(WARM, framing))
    return front


class TestMemory:
    """Each body stops three times for a sink that stands still, and three times for a source that does."""

    def test_of_an_upload_with_a_length(self, without_rules: Front, upstream: Upstream) -> None:
        memory = Memory(without_rules.pid)
        upload(without_rules.port, upstream, Flow(LARGE, Framing.LENGTH, stops(LARGE, 3)))
        assert memory.grown < ROOM, mb(memory.grown)

    def test_of_a_chunked_download(self, without_rules: Front, upstream: Upstream) -> None:
        memory = Memory(without_rules.pid)
        download(without_rules.port, upstream, Flow(LARGE, Framing.CHUNKED, stops(LARGE, 3)))
        assert memory.grown < ROOM, mb(memory.grown)

    def test_of_a_chunked_upload_beside_a_rule(self, with_a_rule: Front, upstream: Upstream) -> None:
        memory = Memory(with_a_rule.pid)
        upload(with_a_rule.port, upstream, Flow(LARGE, Framing.CHUNKED, stops(LARGE, 3)))
        assert memory.grown < ROOM, mb(memory.grown)

    def test_of_a_download_with_a_length_beside_a_rule(self, with_a_rule: Front, upstream: Upstream) -> None:
        memory = Memory(with_a_rule.pid)
        download(with_a_rule.port, upstream, Flow(LARGE, Framing.LENGTH, stops(LARGE, 3)))
        assert memory.grown < ROOM, mb(memory.grown)

    def test_of_a_rules_answer_that_is_too_large_to_keep(self, with_a_rule: Front, upstream: Upstream) -> None:
        memory = Memory(with_a_rule.pid)
        flow = Flow(LARGE, Framing.CHUNKED, stops(LARGE, 3))
        request = keyed(b"/rule/out/%d" % upstream.enter(flow), b"large")
        download(with_a_rule.port, upstream, flow, request)
        assert memory.grown < ROOM, mb(memory.grown)
        assert ask(with_a_rule.port, request).startswith(b"HTTP/1.1 409 "), "the answer was not kept"


class TestEvents:
    async def test_each_of_many_streams_gets_each_event(self, tmp_path: Path) -> None:
        async with EventUpstream() as upstream:
            with proxied(tmp_path, upstream.port, RULE) as front:
                protected = [keyed(b"/rule/events", b"key-%d" % number) for number in range(STREAMS // 2)]
                listeners = await Listener.open_all(front.port, [PLAIN] * (STREAMS // 2) + protected)
                for number in range(EVENTS):
                    upstream.emit(number)
                    await all_got(listeners, number + 1)
                assert all(each.numbers == list(range(EVENTS)) for each in listeners)
                delays = [delay for each in listeners for delay in each.delays]
                print(f"{STREAMS} streams: an event arrives after {share(delays, 0.5) * 1000:.1f} ms at the median")
                await Listener.close_all(listeners)

    async def test_a_client_that_does_not_read_holds_nobody_back(self, tmp_path: Path) -> None:
        async with EventUpstream() as upstream:
            with proxied(tmp_path, upstream.port, RULE) as front:
                deaf = await Listener.open(front.port, PLAIN)
                deaf.stop_reading()
                stuck = upstream.streams[0]
                protected = [keyed(b"/rule/events", b"key-%d" % number) for number in range(10)]
                listeners = await Listener.open_all(front.port, [PLAIN] * 10 + protected)
                memory = Memory(front.pid)
                await stuck.flood(LARGE)
                for number in range(EVENTS):
                    for stream in upstream.streams:
                        if stream is not stuck:
                            stream.emit(number)
                    await all_got(listeners, number + 1)
                assert not deaf.numbers
                assert memory.grown < ROOM, mb(memory.grown)
                await Listener.close_all([deaf, *listeners])


async def all_got(listeners: list[Listener], count: int) -> None:
    await until(lambda: all(len(each.numbers) >= count for each in listeners), f"{count} events on each stream")
