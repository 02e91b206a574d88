"""Hop-by-hop fields: what one connection ends (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from typing import Final

from idemproxy.http1.refusal import BadHead
from idemproxy.idempotency.messages import Fields

_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"te",
        b"proxy-authenticate",
        b"proxy-authorization",
    }
)
_END_TO_END: Final = frozenset({b"host", b"content-length", b"idempotency-key", b"authorization"})
_NO_TRAILER: Final = _HOP | frozenset(
    {
        b"host",
        b"content-length",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"trailer",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"expect",
        b"max-forwards",
        b"cache-control",
        b"range",
        b"idempotency-key",
        b"x-idempotency-key",
    }
)


def options(fields: Fields) -> frozenset[bytes]:
    """The members of every Connection field, in lower case."""
    found = [value for name, value in fields if name.lower() == b"connection"]
    return frozenset(member.strip(b" \t").lower() for value in found for member in value.split(b",")) - {b""}


def forwardable(fields: Fields) -> Fields:
    """The fields that go on to the next hop, as they came. `TE: trailers` goes on, with the `Connection: TE` that it needs."""
    listed = options(fields)
    dropped = _HOP | listed
    kept = [field for field in fields if field[0].lower() not in dropped]
    if any(name.lower() == b"te" and _wants_trailers(value) for name, value in fields):
        kept += [(b"TE", b"trailers"), (b"Connection", b"TE")]
    return tuple(kept)


def _wants_trailers(value: bytes) -> bool:
    return b"trailers" in (member.partition(b";")[0].strip(b" \t").lower() for member in value.split(b","))


def check_options(fields: Fields, guarded: frozenset[bytes]) -> None:
    """A Connection field must not make a field vanish that decides what the request is (FORWARDING.md, point 4). `guarded` are a
    rule's own fields, in lower case. Raises BadHead."""
    listed = options(fields)
    if listed and (listed & _END_TO_END or listed & guarded):
        raise BadHead(400, "A Connection field lists a field that is not for one connection alone.")


def forwardable_trailers(trailers: Fields, guarded: frozenset[bytes]) -> Fields:
    """Trailers that may go on: none that frames, routes, authenticates or names an operation (RFC 9110, section 6.5.1)."""
    return tuple(field for field in trailers if field[0].lower() not in _NO_TRAILER and field[0].lower() not in guarded)
