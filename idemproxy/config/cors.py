"""Which browsers' scripts may read the proxy's own answers: `cors:` in a rule."""

from __future__ import annotations

import re
from typing import Final

from idemproxy.config import values
from idemproxy.config.kinds import Listing, Words, WrongError
from idemproxy.config.table import Field, Found, Table
from idemproxy.idempotency.cors import ANYONE, Cors

ORIGIN: Final = (
    'write an origin as browsers do, such as https://shop.example or http://localhost:3000, or "*" for every one'
)
_PORTS: Final = {"http": "80", "https": "443"}


def _origin(text: str) -> bytes:
    """An origin, in lower case as browsers send it (RFC 6454, section 6.2)."""
    if text == "*":
        return ANYONE
    if text.lower() == "null":
        # What every page from a file and in a sandbox sends, whoever wrote it.
        raise WrongError("the origin of pages that have none", ORIGIN)
    found = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/?#@]+?)(?::([0-9]{1,5}))?(/?)", text, re.IGNORECASE)
    if found is None:
        raise WrongError("not a scheme, :// and a host", ORIGIN)
    scheme, host, port, slash = found.groups()
    if slash:
        raise WrongError("with a path", ORIGIN, f"did you mean {text.rstrip('/')}?")
    if not host.startswith("[") and not host.isascii():
        raise WrongError("with a host that browsers send in its ASCII form", ORIGIN, "write its name as xn--..")
    if "*" in host:
        raise WrongError("a pattern", ORIGIN, "write each origin whole")
    if port is not None and _PORTS.get(scheme.lower()) == port:
        raise WrongError("with the port that browsers leave out", ORIGIN, f"leave :{port} out")
    written = values.hostname(host)
    return b"%b://%b%b" % (scheme.lower().encode(), written, f":{int(port)}".encode() if port is not None else b"")


CORS: Final = Table(
    "rule.cors",
    (
        Field(
            "origins",
            Listing(Words(_origin, ORIGIN, {"pattern": r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+)$"}), "origins", 1),
            "Origins such as https://shop.example; * is every one, without credentials.",
            required=True,
        ),
    ),
)


def cors(rule: Found) -> Cors | None:
    """`cors:` of a merged rule; None without it."""
    origins = rule.inner("cors").get("origins", tuple)
    return None if origins is None else Cors(frozenset(origins))
