"""A process of a test's own that uses a SQLite store. `python -m tests.stores.sqlite_child WHAT ...`"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys

from idemproxy.errors import StoreError
from idemproxy.stores.base import Claimed
from idemproxy.stores.sqlite import SqliteStore
from tests.stores.asking import OTHER, claim, complete, new_id

TIMEOUT_MS = 30_000


def shared_ids(count: int) -> list[str]:
    """The same ones in every process."""
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


async def _race(path: str, token: bytes) -> list[str]:
    store = SqliteStore(path, namespace="race", timeout_ms=TIMEOUT_MS)
    try:
        ids = shared_ids(20)
        facts = await asyncio.gather(*(store.claim(record_id, claim(token)) for record_id in ids))
        return [record_id for record_id, fact in zip(ids, facts, strict=True) if isinstance(fact, Claimed)]
    finally:
        await store.close()


def race(number: str) -> None:
    """For each path that is read: claim what all others claim, and print what was won."""
    for line in sys.stdin:
        try:
            print(json.dumps(asyncio.run(_race(line.strip(), bytes([int(number)]) * 16))), flush=True)
        except StoreError as error:
            print(json.dumps([f"{type(error).__name__}: {error}"]), flush=True)


async def _claim_on(path: str) -> None:
    store = SqliteStore(path, namespace="test", timeout_ms=TIMEOUT_MS)

    async def one_after_another() -> None:
        while True:
            record_id = new_id()
            await store.claim(record_id, claim())
            print(record_id, flush=True)

    await asyncio.gather(*(one_after_another() for _ in range(8)))


def claim_on(path: str) -> None:
    """Claim, and print each id as its fact comes, until killed."""
    asyncio.run(_claim_on(path))


async def _fill(path: str) -> dict[str, object]:
    store = SqliteStore(path, namespace="test", timeout_ms=TIMEOUT_MS)
    ids = [new_id()]
    await store.claim(ids[0], claim())
    await store.complete(ids[0], complete(answer=OTHER))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    while True:
        record_id = new_id()
        try:
            await store.claim(record_id, claim())
        except StoreError as error:
            failed, failure = record_id, f"{type(error).__name__}: {error}"
            break
        ids.append(record_id)
    replayed = await store.claim(ids[0], claim(b"B" * 16))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    missing = await store.get(failed)
    again = await store.claim(failed, claim())
    await store.close()
    return {
        "ids": [*ids, failed],
        "failure": failure,
        "names": [name for name in (*ids, failed) if name in failure],
        "replayed": type(replayed).__name__,
        "missing": type(missing).__name__,
        "again": type(again).__name__,
    }


def fill(path: str) -> None:
    """Claim until there is no room, then get room again; print what happened."""
    print(json.dumps(asyncio.run(_fill(path))))


if __name__ == "__main__":
    {"race": race, "claim_on": claim_on, "fill": fill}[sys.argv[1]](sys.argv[2])
