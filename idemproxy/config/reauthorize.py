"""Asking the upstream before a replay: `reauthorize:` in a rule."""

from __future__ import annotations

import re
from typing import Final

from idemproxy.config import values
from idemproxy.config.faults import Faults
from idemproxy.config.kinds import Words, WrongError, timeout
from idemproxy.config.table import Field, Found, Table
from idemproxy.idempotency.routes import Reauthorize
from idemproxy.idempotency.template import Part, Source, Template

_PATH: Final = (
    "write a path of the upstream that a GET of has no effect, such as /v1/models or /v1/tenants/{path:tenant}"
)


def _target(text: str) -> Template:
    try:
        template = values.probe_target(text)
    except WrongError as wrong:
        raise WrongError(str(wrong), _PATH) from None
    if any(isinstance(piece, Part) and piece.source is not Source.PATH for piece in template.pieces):
        raise WrongError("with a part that is no path: part", _PATH)
    return template


REAUTHORIZE: Final = Table(
    "rule.reauthorize",
    (
        Field(
            "path",
            Words(_target, _PATH, {"pattern": "^/"}),
            "What is asked for, by GET, as the caller: 2xx lets it have the replay.",
        ),
        Field("cache", timeout("24h", "60s"), "How long a 2xx is remembered; 0: not at all.", "60s"),
    ),
)


def reauthorization(rule: Found) -> Reauthorize | None:
    """`reauthorize:` of a merged rule; None without it."""
    found = rule.inner("reauthorize")
    target, cache = found.get("path", Template), found.get("cache", int)
    return None if target is None or cache is None else Reauthorize(target, cache)


def check_reauthorize(rule: Found, faults: Faults) -> None:
    """A question without a path, and parts of a path that the rule's path has not."""
    item, path = rule.written("reauthorize"), rule.inner("reauthorize").written("path")
    if path is None or path.place is None or not isinstance(path.value, Template):
        if item is not None and item.place is not None and "path" not in rule.inner("reauthorize").items:
            faults.add(item.place, "reauthorize.path", "is missing", _PATH)
        return
    named = set(re.findall(r"\{([^{}]+)\}", rule.inner("match").get("path", str) or ""))
    if any(isinstance(piece, Part) and piece.name not in named for piece in path.value.pieces):
        faults.add(
            path.place, path.path, "has a path: part that the rule's path has not", "name a {segment} of match.path"
        )
