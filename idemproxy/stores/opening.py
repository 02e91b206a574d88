"""Which backend a store's address names."""

from __future__ import annotations

from idemproxy.clocks import boottime
from idemproxy.errors import ConfigError
from idemproxy.stores.base import Store
from idemproxy.stores.circuit import Circuit


async def open_store(url: str, *, namespace: str, timeout_ms: int) -> Circuit:
    """The store at `url`, in a circuit, not reached yet: what is wrong with it shows at the first command, and in `check`.
    `timeout_ms` is the longest that one command takes. Raises ConfigError for an address of no known backend."""
    return Circuit(backend(url, namespace=namespace, timeout_ms=timeout_ms), boottime)


def backend(url: str, *, namespace: str, timeout_ms: int) -> Store:
    """The store itself. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    match scheme:  # a backend's libraries are loaded where it is used
        case "sqlite":
            from idemproxy.stores.sqlite import SqliteStore

            return SqliteStore(rest, namespace=namespace, timeout_ms=timeout_ms)
        case "redis" | "rediss" | "unix":
            from idemproxy.stores.redis import RedisStore

            return RedisStore(url, namespace=namespace, timeout_ms=timeout_ms)
        case _:
            raise ConfigError(
                f"store: {scheme}: is no store that is known: write sqlite:PATH, redis://, rediss:// or unix://"
            )
