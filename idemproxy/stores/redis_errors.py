"""What an error reply of the server means for the command that it answers: not applied, perhaps applied, or never to be applied."""

from __future__ import annotations

import re

from idemproxy.errors import StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.stores.base import Refused

_REFUSALS = {
    "BUSY": "it is busy running a script of another program that takes too long; wait, or end that one with SCRIPT KILL",
    "CLUSTERDOWN": "its cluster is down: a part of the slots is served by no node",
    "CROSSSLOT": "it is a node of a cluster, or a proxy in front of one, that this address cannot speak to",
    "LOADING": "it is loading its data; it answers when that is done",
    "MASTERDOWN": "it is a replica that has lost its master, and refuses to answer from old data",
    "MISCONF": "it refuses writes because it cannot save its data: look at its log (disk full?)",
    "MOVED": "it is a node of a cluster, and the key belongs to another node; a plain redis:// address cannot follow",
    "ASK": "it is a node of a cluster that is moving the key to another node; a plain redis:// address cannot follow",
    "TRYAGAIN": "its cluster is moving the key; try again",
    "NOAUTH": "it asks for a password: put it into `store`",
    "NOPERM": "its user may not run what the store needs: see the ACL in the documentation of the Redis store",
    "NOREPLICAS": "it has too few replicas connected to accept writes (min-replicas-to-write)",
    "NOSCRIPT": "it forgets scripts as soon as they are loaded",
    "OOM": "its memory is full (maxmemory): raise it, or free some",
    "READONLY": "it is a read-only replica; name the master in `store`",
    "WRONGPASS": "it refuses the user name or the password in `store`",
}
"""Errors that come before the first write."""

TURNED_AWAY = frozenset({"READONLY", "MASTERDOWN", "LOADING"})
"""Errors after which a new connection may lead to another server, behind the same name."""

_WRAPPED = re.compile(rf"[\s-]({'|'.join(_REFUSALS)})\s")
"""Before version 7 an error inside a script is quoted in one of another code."""


def code_of(text: str) -> str:
    """The error's code: its first word, or of the error that a script met."""
    first = text.partition(" ")[0]
    if first == "ERR" and "script" in text and (inner := _WRAPPED.search(text)):
        return inner[1]
    return first


def meaning(where: str, text: str) -> StoreError:
    """The error to raise for an error reply. `where` names the server; what the reply quotes of the command is never passed on."""
    code = code_of(text)
    if "PARTIAL" in text:
        return StoreAmbiguous(
            f"{where} failed in the middle of a command, which may have been applied in part ({code})"
        )
    if (why := _REFUSALS.get(code)) is not None:
        return Refused(f"{where} refused the command ({code}): {why}")
    if code == "WRONGTYPE":
        return StoreError(
            f"{where} holds a key of this namespace that is no record (WRONGTYPE): another program shares the database; choose "
            "another `namespace`, or another database number"
        )
    if text.startswith("ERR unknown command"):
        return StoreUnavailable(
            f"{where} does not know a command that the store needs (EVALSHA, EVAL): is it renamed or forbidden?"
        )
    if text.startswith("ERR max number of clients"):
        return StoreUnavailable(f"{where} has no connection left (maxclients)")
    return StoreAmbiguous(
        f"{where} answered with an error that this version does not know ({code}): the command may have been applied"
    )
