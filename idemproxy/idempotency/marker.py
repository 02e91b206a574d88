"""Retry markers: clients that send no key, but number their attempts (DESIGN.md section 6, *Retry marker*). A first attempt is an operation
of its own, whatever it says. A further one belongs to the newest operation that the same caller began with the same request.

The newest operation is named in the store by a nonce, under an id that is made of everything but the nonce."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.identity import BadKey, Key, NoKey, record_id
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.routes import RetryMarker, Rule

_NUMBER: Final = re.compile(rb"[0-9]{1,6}")


class Attempt(Enum):
    """What a client says of its request."""

    FIRST = auto()
    AGAIN = auto()


def attempt_of(marker: RetryMarker, fields: Fields) -> Attempt | NoKey | BadKey:
    """Which attempt a request is: the marker is the number of attempts before it."""
    found = set(values(fields, marker.header))
    if not found:
        return NoKey()
    number = found.pop()
    if found or not _NUMBER.fullmatch(number):
        named = marker.header.decode("ascii")
        return BadKey(f"{named}, by which retries are told, comes twice or is no whole number. Nothing was executed.")
    return Attempt.AGAIN if int(number) else Attempt.FIRST


def marker_id(namespace: str, scope: tuple[bytes | None, ...], rule: Rule, fingerprint: bytes) -> str:
    """Where the newest operation of that caller and request is named: 64 hexadecimal digits, which are no operation's id."""
    return record_id(namespace, scope, framed(b"idemproxy retry marker 1", rule.name.encode(), fingerprint))


def marked_key(rule: Rule, fingerprint: bytes, nonce: bytes) -> Key:
    """The key of the operation that was named by `nonce`. It begins as no key from a header does."""
    return Key(framed(b"idemproxy marked key 1", rule.name.encode(), fingerprint, nonce), derived=True)
