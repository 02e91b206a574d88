"""What a process runs with: the whole of a configuration, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from idemproxy.idempotency.jwt_claims import TokenPolicy, TrustedKey
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
class HopSettings:
    """What the proxy adds to a request as a hop of its own: the fields X-Forwarded-For, -Proto and -Host; a Via; the upstream's own
    name as Host. By default, nothing."""

    forwarded_headers: bool = False
    via: bool = False
    upstream_host: bool = False


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Connections to the upstream of one process: `max` at once, and `queue` exchanges that may wait for one. `idle` is
    milliseconds."""

    max: int = 1024
    queue: int = 1024
    idle: int = 60_000


@dataclass(frozen=True, slots=True)
class ListenTls:
    """Files of the listener's certificate chain and key (PEM). With `client_ca`, a client needs a certificate of one of these
    authorities."""

    certificate: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """Files (PEM): the authorities to trust instead of the system's, and the proxy's own certificate and key. `server_name` is
    verified and sent (SNI) instead of the upstream's host."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class KeySetUrl:
    """Where a JWKS is fetched: the place of that number in `jwt.keys`."""

    url: str = field(repr=False)
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """`jwt:` of a configuration: what a token must be, the keys that are there, and the URLs that more come from."""

    policy: TokenPolicy
    keys: tuple[TrustedKey, ...]
    urls: tuple[KeySetUrl, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are milliseconds. `warnings` are sentences for an operator about settings that are allowed and surprising.
    `store` may hold a password. `workers` None: as many as there are CPUs for this process."""

    listen: Address
    upstream: UpstreamSettings
    store: str = field(repr=False)
    admin: Address | None
    namespace: str
    workers: int | None
    upstream_timeouts: UpstreamTimeouts
    store_timeout: int
    drain_timeout: int
    docs_url: str
    hop: HopSettings
    pool: PoolSettings
    listen_tls: ListenTls | None
    upstream_tls: UpstreamTls
    jwt: JwtSettings | None
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
