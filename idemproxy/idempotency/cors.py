"""What a browser lets a script of another origin read of the proxy's own answers (fetch.spec.whatwg.org, "CORS protocol").

Without `Access-Control-Allow-Origin` a script takes our 409 for a network error, and may pay again with a new key."""

from __future__ import annotations

from dataclasses import dataclass

from idemproxy.idempotency.messages import Fields, values

ANYONE = b"*"

_TO_READ = "Retry-After, Link, Stripe-Should-Retry, X-Should-Retry"
_REPLAYED = b"Access-Control-Expose-Headers: Idempotent-Replayed\r\n"


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins whose scripts may read, as browsers write them; ANYONE stands for every one, without credentials."""

    origins: frozenset[bytes]


def readable(cors: Cors | None, fields: Fields) -> tuple[str, ...]:
    """Header fields, as `Name: value`, that let the sender of `fields` read a problem."""
    if cors is None:
        return ()
    origin = _listed(cors, fields)
    if origin is None:
        return ("Vary: Origin",)
    # With credentials a browser shows an answer only where it is told so, and never by the asterisk.
    allowed = ("Access-Control-Allow-Credentials: true",) if origin != ANYONE else ()
    return (
        f"Access-Control-Allow-Origin: {origin.decode('ascii')}",
        *allowed,
        f"Access-Control-Expose-Headers: {_TO_READ}",
        "Vary: Origin",
    )


def exposed(cors: Cors | None, fields: Fields) -> bytes:
    """The field line, if any, that lets the sender of `fields` see that an answer is a replay. It joins what the upstream exposes: such
    fields are lists. Whether the answer can be read at all is what the upstream's recorded fields say."""
    return b"" if cors is None or _listed(cors, fields) is None else _REPLAYED


def _listed(cors: Cors, fields: Fields) -> bytes | None:
    """The request's origin, or the asterisk, where scripts from there may read."""
    match values(fields, b"origin"):
        case [origin] if origin in cors.origins:
            return origin
        case [_, *_] if ANYONE in cors.origins:
            return ANYONE
        case _:
            return None
