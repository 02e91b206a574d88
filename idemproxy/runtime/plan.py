"""What one configuration makes of requests. A reload replaces it whole; what must outlive that is shared by all plans: the store, the
registry of executions, and who waits for whom."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from idemproxy import certificates
from idemproxy.clocks import boottime
from idemproxy.config.settings import KeySetUrl, Settings, TcpAddress, UnixAddress
from idemproxy.execution import Execution
from idemproxy.forwarding import Forwarding, Hop
from idemproxy.gateway import Gateway
from idemproxy.idempotency.observation import shadow_namespace
from idemproxy.idempotency.record import TOKEN_BYTES
from idemproxy.identifying import Identifier
from idemproxy.jwks import KeySet, Pace, http_fetch
from idemproxy.observe.metrics import Metrics
from idemproxy.observing import Observing, Watch
from idemproxy.ownership import Ownership
from idemproxy.probing import Prober
from idemproxy.proxy.outcome import Origin, Patience
from idemproxy.proxy.pool import Limits
from idemproxy.proxy.upstream import Upstream
from idemproxy.reauthorizing import Reauthorizer
from idemproxy.shadows import Shadows
from idemproxy.startup import refuse_loop
from idemproxy.stores.base import Store
from idemproxy.tokens import Tokens
from idemproxy.waiters import Waiters

log = structlog.get_logger()

CLOCK: Final = boottime
PACE = Pace()
"""How often keys of tokens are fetched."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration whose files were read and found good."""

    settings: Settings
    origin: Origin


def prepare(settings: Settings) -> Prepared:
    """Everything that may fail, or take its time: names are resolved, certificates are read. Raises StartError."""
    refuse_loop(settings)
    if settings.listen_tls is not None:
        certificates.listener(settings.listen_tls)
    return Prepared(settings, _origin(settings))


@dataclass(frozen=True, slots=True)
class Shared:
    """What every plan of a process has in common."""

    store: Store
    waiters: Waiters
    watch: Watch
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration in force. A request keeps to the one that it began under, and so does what it executes."""

    settings: Settings
    upstream: Upstream
    ownership: Ownership
    prober: Prober
    reauthorizer: Reauthorizer
    key_sets: dict[str, KeySet]
    tokens: Tokens | None
    gateway: Gateway


def share(store: Store, waiters: Waiters, metrics: Metrics) -> Shared:
    """What the first plan begins with, and each further one goes on with."""
    return Shared(store, waiters, Watch(Shadows(store, _token), CLOCK, metrics), metrics)


def make(prepared: Prepared, shared: Shared, before: Plan | None) -> Plan:
    """The plan of a configuration; `before` is the one that it replaces."""
    settings = prepared.settings
    timeouts, pool = settings.upstream_timeouts, settings.pool
    patience = Patience(timeouts.connect / 1000, timeouts.response / 1000, timeouts.idle / 1000)
    upstream = Upstream(prepared.origin, Limits(pool.max, pool.queue, pool.idle / 1000))
    forwarding = Forwarding(upstream, _hop(settings), patience, settings.docs_url)
    forward = Execution(forwarding).carry_out
    if before is None:
        ownership = Ownership(shared.store, forward, CLOCK, _token, shared.metrics)
    else:
        ownership = before.ownership.forwarding_by(forward)
    prober = Prober(forwarding, shared.store)
    reauthorizer = Reauthorizer(forwarding, CLOCK)
    key_sets = _key_sets(settings, before)
    jwt = settings.jwt
    tokens = None if jwt is None else Tokens(jwt.policy, jwt.keys, tuple(key_sets.values()))
    observed = Identifier(shadow_namespace(settings.namespace), shared.store, _token, tokens)
    gateway = Gateway(
        settings.rules,
        Identifier(settings.namespace, shared.store, _token, tokens),
        settings.docs_url,
        forwarding,
        ownership,
        shared.waiters,
        prober,
        reauthorizer,
        Observing(settings.rules, observed, forwarding, shared.watch),
        CLOCK,
        shared.metrics,
    )
    if before is not None:
        gateway.succeed(before.gateway)
    return Plan(settings, upstream, ownership, prober, reauthorizer, key_sets, tokens, gateway)


def _key_sets(settings: Settings, before: Plan | None) -> dict[str, KeySet]:
    """By URL. A reload fetches them anew, and goes on with the keys that it has until then."""
    made = {}
    for each in settings.jwt.urls if settings.jwt is not None else ():
        made[each.url] = keys = KeySet(http_fetch(each.url), CLOCK, PACE, _teller(each))
        if before is not None and (known := before.key_sets.get(each.url)) is not None:
            keys.succeed(known)
    return made


def _teller(of: KeySetUrl) -> Callable[[str], None]:
    def tell(fault: str) -> None:
        setting = f"jwt.keys[{of.number}]"
        if fault:
            log.error(
                "jwks not fetched",
                setting=setting,
                fault=fault,
                doing="going on with the keys that are there, and trying again",
            )
        else:
            log.info("jwks fetched", setting=setting)

    return tell


def _token() -> bytes:
    return os.urandom(TOKEN_BYTES)


def _hop(settings: Settings) -> Hop:
    added = settings.hop
    return Hop(
        base=settings.upstream.base,
        authority=settings.upstream.authority,
        scheme=b"http" if settings.listen_tls is None else b"https",
        forwarded_headers=added.forwarded_headers,
        via=added.via,
        upstream_host=added.upstream_host,
    )


def _origin(settings: Settings) -> Origin:
    match settings.upstream.address:
        case UnixAddress(path):
            return Origin(host="", port=0, path=path, tls=None, server_name=None)
        case TcpAddress(host, port):
            if not settings.upstream.tls:
                return Origin(host=host, port=port, path=None, tls=None, server_name=None)
            files = settings.upstream_tls
            tls = certificates.upstream(files)
            return Origin(host=host, port=port, path=None, tls=tls, server_name=files.server_name or host)
