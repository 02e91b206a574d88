"""What a Redis server says of itself at start, and what an operator should know about it."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis

from idemproxy.stores.base import Check
from idemproxy.stores.redis_link import Link
from idemproxy.stores.redis_wire import command


async def advise(link: Link, name: str) -> Check:
    """What a user without the right to INFO or CONFIG cannot read is left out, which the description says. Raises StoreError where
    the server cannot be reached."""
    facts = await _information(link)
    facts |= await _settings(link)
    version = facts.get("valkey_version") or facts.get("redis_version")
    described = f"{name}, version {version}" if version else name
    unread = []
    if "maxmemory-policy" not in facts:
        unread.append("eviction")
    if "save" not in facts and facts.get("appendonly") != "yes":
        unread.append("persistence")
    if unread:
        described += f" ({' and '.join(unread)} not checked: its user may not run INFO and CONFIG GET)"
    return Check(described, tuple(_warnings(facts)))


def _warnings(facts: dict[str, str]) -> Iterator[str]:
    policy = facts.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        unlimited = " (maxmemory is not set now)" if facts.get("maxmemory") == "0" else ""
        yield (
            f"maxmemory-policy is {policy}: when memory is full, the server drops records before their time, and their operations "
            f"can execute again; set it to noeviction{unlimited}"
        )
    if facts.get("save") == "" and facts.get("appendonly") == "no":
        yield (
            "the server saves nothing (`save` is empty, appendonly is no): a restart forgets every record, and their operations can "
            "execute again; set appendonly yes"
        )
    if facts.get("role") == "slave":
        yield "the server is a replica: nothing can be claimed there; name its master in `store`"
    if facts.get("cluster_enabled") == "1":
        yield "the server is a node of a cluster: only keys of its own slots can be claimed there"


async def _information(link: Link) -> dict[str, str]:
    reply = await link.ask(command(b"INFO"))
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    facts = {name: value for name, colon, value in lines if colon}
    if "maxmemory_policy" in facts:
        facts["maxmemory-policy"] = facts["maxmemory_policy"]
    if "aof_enabled" in facts:
        facts["appendonly"] = "yes" if facts["aof_enabled"] == "1" else "no"
    return facts


async def _settings(link: Link) -> dict[str, str]:
    facts: dict[str, str] = {}
    for name in ("maxmemory-policy", "save", "appendonly"):
        reply = await link.ask(command(b"CONFIG", b"GET", name.encode()))
        match reply:
            case [bytes(), bytes(value)]:
                facts[name] = value.decode("utf-8", "replace")
            case hiredis.ReplyError():
                return facts
    return facts
