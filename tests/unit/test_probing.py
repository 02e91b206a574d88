"""Probes of one process: one at a time for an operation, however many ask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from msgspec import structs

from idemproxy.execution import Operation
from idemproxy.forwarding import Forwarding, Hop
from idemproxy.idempotency.operation import Probe, Said
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import HeaderScope, ProbeRule, own_fields
from idemproxy.idempotency.template import parse_template
from idemproxy.probing import Prober
from idemproxy.proxy.outcome import NotSent, Outgoing, Patience, Unsent
from idemproxy.proxy.upstream import Upstream
from tests.stores.memory import MemoryStore
from tests.unit.owning import RULE, operation

TEMPLATE = parse_template("/by-key/{header:X-Tenant}")
ASKING = replace(RULE, on_unknown=OnUnknown.PROBE, probe=ProbeRule(TEMPLATE, 1_000))
SEEN = Probe(b"t" * 16, 1, 0)


class Silent:
    """An upstream that keeps everybody waiting, and then cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = asyncio.Event()

    async def exchange(self, outgoing: Outgoing) -> NotSent:
        self.asked += 1
        await self.let_go.wait()
        return NotSent(Unsent.UNREACHABLE, "away")


def prober(upstream: Silent) -> Prober:
    forwarding = Forwarding(cast("Upstream", upstream), Hop(b"", b"api"), Patience(0, 0, 0), "")
    return Prober(forwarding, MemoryStore(lambda: 0.0))


def asking() -> Operation:
    """An operation whose request can be probed for."""
    plain = operation(ASKING)
    return structs.replace(plain, head=structs.replace(plain.head, fields=(*plain.head.fields, (b"X-Tenant", b"t1"))))


async def test_all_who_ask_at_once_share_one_probe() -> None:
    upstream = Silent()
    probing = prober(upstream)
    wanted = [asyncio.ensure_future(probing.learn(asking(), SEEN, 30.0)) for _ in range(20)]
    another = asyncio.ensure_future(probing.learn(asking(), replace(SEEN, version=2), 30.0))
    async with asyncio.timeout(20):
        while upstream.asked < 2:
            await asyncio.sleep(0)
        upstream.let_go.set()
        assert set(await asyncio.gather(*wanted, another)) == {Said.NOTHING}
    assert upstream.asked == 2


async def test_who_has_no_patience_left_learns_nothing_and_the_others_go_on() -> None:
    upstream = Silent()
    probing = prober(upstream)
    patient = asyncio.ensure_future(probing.learn(asking(), SEEN, 30.0))
    assert await probing.learn(asking(), SEEN, 0.01) is Said.NOTHING
    assert not patient.done()
    await probing.close()
    assert await patient is Said.NOTHING


async def test_a_request_without_what_the_probe_needs_asks_nobody() -> None:
    upstream = Silent()
    assert await prober(upstream).learn(operation(ASKING), SEEN, 30.0) is Said.NOTHING
    assert upstream.asked == 0


def test_nothing_on_the_way_may_make_a_probes_fields_vanish() -> None:
    assert b"x-tenant" in own_fields(ASKING)
    assert b"x-tenant" not in own_fields(RULE)
    assert HeaderScope(b"authorization") in RULE.scope
