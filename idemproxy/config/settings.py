"""What a process runs with: the whole of a configuration, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from idemproxy.idempotency.routes import Rule


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port to listen on or to connect to. An IPv6 host has no brackets here."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket's path."""

    path: str


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Where requests go. `base` is put in front of every target ("" or a path that begins with / and does not end with one).
    `authority` is what a `Host` field of its own would say."""

    address: Address
    tls: bool
    base: bytes
    authority: bytes
    url: str


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Milliseconds; 0 turns one off."""

    connect: int = 5_000
    response: int = 60_000
    idle: int = 60_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are milliseconds. `warnings` are sentences for an operator about settings that are allowed and surprising.
    `store` may hold a password."""

    listen: Address
    upstream: UpstreamSettings
    store: str = field(repr=False)
    admin: Address | None
    namespace: str
    upstream_timeouts: UpstreamTimeouts
    store_timeout: int
    drain_timeout: int
    docs_url: str
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
