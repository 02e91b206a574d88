"""What one hop ends: Connection and what it lists (RFC 9110, section 7.6.1), and what no trailer may carry (section 6.5.1)."""

from __future__ import annotations

from typing import Final

from idemproxy.http1.heads import BadHead, members, options
from idemproxy.idempotency.messages import Field, Fields, values

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
        b"proxy-authorization",
    }
)

END_TO_END: Final = frozenset({b"host", b"content-length", b"idempotency-key", b"authorization"})
"""Never dropped because Connection lists them: whom a message is for, where it ends, who sent it, and what it is."""

_NOT_IN_TRAILERS: Final = (
    HOP_BY_HOP
    | END_TO_END
    | {
        b"trailer",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"expect",
        b"max-forwards",
        b"cookie",
        b"set-cookie",
        b"www-authenticate",
        b"authentication-info",
        b"proxy-authentication-info",
        b"forwarded",
        b"via",
    }
)


def forwardable(fields: Fields) -> Fields:
    """The fields that go on to the next hop, as they came (FORWARDING.md, point 4). `TE: trailers` goes on, without what else TE
    accepts and also where Connection lists TE, as it should: the next hop's trailers are read and passed on."""
    own = [kind for name, _ in fields if (kind := name.lower()) in HOP_BY_HOP]
    if not own:
        return fields
    listed = options(values(fields, b"connection")) - END_TO_END if b"connection" in own else frozenset()
    dropped = HOP_BY_HOP | listed if listed else HOP_BY_HOP
    if b"te" not in own:
        return tuple([field for field in fields if field[0].lower() not in dropped])
    kept: list[Field] = []
    for field in fields:
        kind = field[0].lower()
        if kind not in dropped:
            kept.append(field)
        elif kind == b"te" and b"trailers" in members([field[1]]):
            kept.append((field[0], b"trailers"))
    return tuple(kept)


def check_options(listed: frozenset[bytes], guarded: frozenset[bytes]) -> None:
    """Refuse a request that would have a field vanish on which its meaning hangs. `listed` is what its Connection lists, `guarded` are
    a rule's own fields, all in lower case. Raises BadHead(400)."""
    if listed and listed & (END_TO_END | guarded):
        raise BadHead(400, "The request's Connection field lists a field that is not the connection's own.")


def forwardable_trailers(trailers: Fields, guarded: frozenset[bytes]) -> Fields:
    """The trailer fields that go on: without those of framing, authentication, routing and the connection, the key, and `guarded`
    (lower case: those that a rule reads)."""
    refused = _NOT_IN_TRAILERS | guarded
    return tuple([field for field in trailers if not _refused(field[0].lower(), refused)])


def _refused(name: bytes, refused: frozenset[bytes]) -> bool:
    return name in refused or name.startswith(b"x-forwarded-")
