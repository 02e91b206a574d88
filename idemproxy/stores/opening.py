"""Which backend a store's address names."""

from __future__ import annotations

from idemproxy.stores.base import Store


async def open_store(url: str, *, namespace: str, timeout_ms: int) -> Store:
    """The store at `url`, not reached yet: what is wrong with it shows at the first command. `timeout_ms` is the longest that one
    command takes."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        from idemproxy.stores.sqlite import SqliteStore

        return SqliteStore(rest, namespace=namespace, timeout_ms=timeout_ms)
    from idemproxy.stores.redis import RedisStore

    return RedisStore(url, namespace=namespace, timeout_ms=timeout_ms)
