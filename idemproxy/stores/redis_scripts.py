"""The Redis store's commands as they go over the wire (RESP2), and its scripts: one a command, run by EVALSHA."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from idemproxy.errors import StoreAmbiguous
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import (
    FINGERPRINT_BYTES,
    NO_TOKEN,
    RULE_BYTES_AT,
    TOKEN_AT,
    OnUnknown,
    Reason,
    Record,
    State,
    Tombstone,
    beside,
    decode,
    encode,
)
from idemproxy.stores.base import Anew, Claim, Claimed, Dead, Done, Found, Locked, Missing, Newest, Renewed
from idemproxy.stores.redis_wire import Reply, bulk

Fact = Claimed | Found | Missing | Locked | Dead | Renewed | Done | Newest


@dataclass(frozen=True, slots=True)
class Abridged:
    """Found, without the answer, which is too large for the connection of the small commands. `size` is bytes of the whole record."""

    found: Found
    size: int


MOST_BYTES = 64 * 2**10
"""Of a command or a record: a larger one goes over a connection of its own, so that small ones do not wait behind it. As in
prelude.lua."""

_FOLDER = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the heads of the two commands that run it, up to its keys."""

    by_digest: bytes
    by_text: bytes


def number(value: int) -> bytes:
    """A number as scripts read it."""
    return b"%d" % value


def _script(name: str, arguments: int, *parts: str) -> Script:
    """A command on a record. `arguments` counts those after its three keys."""
    return _of_files(("prelude", *parts, name), 3, arguments)


def _of_files(files: tuple[str, ...], keys: int, arguments: int) -> Script:
    text = "\n".join((_FOLDER / f"{file}.lua").read_text("utf-8") for file in files).encode()
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
    size = 3 + keys + arguments
    return Script(
        b"*%d\r\n%b" % (size, bulk(b"EVALSHA", digest, number(keys))),
        b"*%d\r\n%b" % (size, bulk(b"EVAL", text, number(keys))),
    )


CLAIM = _script("claim", 4, "owning")
TAKE_OVER = _script("take_over", 5, "owning")
RENEW = _script("renew", 3, "owning")
NEXT_ATTEMPT = _script("next_attempt", 4, "owning")
FINISH = _script("finish", 10, "ending")
RELEASE = _script("release", 4, "ending")
TAKE_BACK = _script("take_back", 4, "ending")
SETTLE = _script("settle", 9, "ending")
LOOK = _script("look", 1)
NAME_NEWEST = _of_files(("name_newest",), 1, 3)

_KEPT = 2
_ANSWER = struct.Struct(">HIH")
"""Status, bytes of the answer's head, bytes of its trailers: as in record.py."""


@lru_cache(maxsize=4096)
def _plain(
    recipe: str, rule: str, on_unknown: OnUnknown, version: int, attempt: int, marks: int, credential: int
) -> bytes:
    record = Record(
        State.PROCESSING,
        bytes(FINGERPRINT_BYTES + marks),
        recipe,
        rule,
        NO_TOKEN,
        version,
        attempt,
        False,
        on_unknown,
        Reason.NONE,
        0,
        0,
        0,
        0,
        None,
        "0" * credential,
    )
    return encode(record)


def template(claim: Claim, attempt: int = 1, version: int = 1) -> bytes:
    """The record that a claim makes, for a script to fill in the times."""
    marks = len(claim.fingerprint) - FINGERPRINT_BYTES
    plain = _plain(claim.recipe, claim.rule, claim.on_unknown, version, attempt, marks, len(claim.credential))
    said = beside(claim.fingerprint, claim.credential)
    digest, rest = claim.fingerprint[:FINGERPRINT_BYTES], plain[RULE_BYTES_AT : len(plain) - len(said)]
    return b"".join((plain[:TOKEN_AT], claim.token, digest, rest, said))


def anew(made_from: Anew | None) -> bytes:
    """What a missing record is written from; empty where it may not be."""
    return b"" if made_from is None else template(made_from.claim, made_from.attempt, made_from.version)


def answer_parts(answer: Answer | Tombstone) -> tuple[bytes, bytes, bytes]:
    """The flag of a kept answer, its status and lengths, and what follows rule and recipe in the record."""
    match answer:
        case Answer(status, head, body, trailers):
            payload = b"".join((head, trailers, body))
            return number(_KEPT), _ANSWER.pack(status, len(head), len(trailers)), payload
        case Tombstone(status):
            return b"0", _ANSWER.pack(status, 0, 0), b""


NO_ANSWER = (b"0", bytes(_ANSWER.size), b"")


_MISSING, _DEAD_TOKEN = Missing(), Dead()
_FACTS: dict[object, Callable[[list[Any]], Fact | Abridged]] = {
    1: lambda reply: Claimed(reply[1], reply[2]),
    2: lambda reply: Found(decode(reply[1]), reply[2], reply[3]),
    3: lambda _: _MISSING,
    4: lambda reply: Locked(reply[1]),
    5: lambda _: _DEAD_TOKEN,
    6: lambda reply: Renewed(reply[1]),
    7: lambda reply: Done(State(reply[1])),
    8: lambda reply: Abridged(Found(decode(reply[1]), reply[2], reply[3]), reply[4]),
    9: lambda reply: Newest(reply[1]),
}
"""By the codes of prelude.lua, and of name_newest.lua."""


def fact_of(reply: Reply) -> Fact | Abridged:
    """What a script answered: a code, then the members of the fact. Raises RecordUnreadable, and StoreAmbiguous for an answer that
    no script of ours gives."""
    make = _FACTS.get(reply[0]) if isinstance(reply, list) and reply else None
    if make is None or not isinstance(reply, list):
        raise StoreAmbiguous(
            "the server gave an answer that is no fact: is it Redis, with nothing in between that changes replies?"
        )
    return make(reply)
