"""Which rule a request meets. Security code: a miss means that a request is not protected, so that a path is matched in every
reading that an upstream may give it, and the first rule that any reading meets is the request's."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from idemproxy.idempotency.fingerprint import origin
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.routes import Rule

_PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)+")
"""A path that has one reading only."""
_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMETERS: Final = re.compile(rb";[^/]*")


class RouteTable:
    """The rules, first match wins."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = tuple((rule, _pattern(rule.match.path)) for rule in rules)
        self._by_method: dict[bytes, tuple[tuple[Rule, re.Pattern[bytes]], ...]] = {}

    def find(self, method: bytes, target: bytes, fields: Fields) -> Rule | None:
        """The rule that protects the request, or None. Methods are compared as they came and in upper case: an upstream that
        does not mind the case must not be reached around a rule."""
        candidates = self._candidates(method)
        if not candidates or target == b"*":
            return None
        readings = _readings(origin(target).partition(b"?")[0])
        for rule, pattern in candidates:
            if any(pattern.fullmatch(reading) for reading in readings) and _applies(rule, target, fields):
                return rule
        return None

    def _candidates(self, method: bytes) -> tuple[tuple[Rule, re.Pattern[bytes]], ...]:
        known = self._by_method.get(method)
        if known is None:
            asked = {method, method.upper()}
            known = tuple(
                (rule, pattern)
                for rule, pattern in self._rules
                if not rule.match.methods or asked & rule.match.methods
            )
            if len(self._by_method) < 64:
                self._by_method[method] = known
        return known


def _pattern(path: str) -> re.Pattern[bytes]:
    """The pattern as a regular expression: `{name}` is one segment, `**` any rest, also none."""
    parts = []
    for part in re.split(r"(\{[^/{}]*\}|/\*\*|\*\*)", path):
        if part.startswith("{"):
            parts.append(b"[^/]+")
        elif part == "/**":
            parts.append(b"(?:/.*)?")
        elif part == "**":
            parts.append(b".*")
        else:
            parts.append(re.escape(part.encode()))
    return re.compile(b"".join(parts), re.DOTALL)


def _readings(path: bytes) -> tuple[bytes, ...]:
    """Every way in which an upstream may read a path."""
    if _PLAIN.fullmatch(path):
        return (path,)
    found = {path: None}
    for text in (path, _decoded(path), _decoded(_decoded(path)), _PARAMETERS.sub(b"", _decoded(path))):
        slashed = text.replace(b"\\", b"/")
        for variant in (text, slashed, _SLASHES.sub(b"/", slashed)):
            found[variant] = None
            found[_without_dots(_SLASHES.sub(b"/", variant))] = None
    for reading in list(found):
        found[reading.rstrip(b"/") or b"/"] = None
    return tuple(found)


def _decoded(path: bytes) -> bytes:
    return unquote_to_bytes(path)


def _without_dots(path: bytes) -> bytes:
    """RFC 3986, section 5.2.4."""
    out: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if len(out) > 1:
                out.pop()
        elif segment != b".":
            out.append(segment)
    if segments[-1] in (b".", b".."):
        out.append(b"")
    return b"/".join(out) or b"/"


def _applies(rule: Rule, target: bytes, fields: Fields) -> bool:
    match = rule.match
    if match.hosts and _host(target, fields) not in match.hosts:
        return False
    return all(value in values(fields, name) for name, value in match.headers)


def _host(target: bytes, fields: Fields) -> bytes:
    """The host asked for, in lower case, without port and final dot. An absolute-form target names it."""
    if target[:1] == b"/":
        authority = next(iter(values(fields, b"host")), b"")
    else:
        authority = re.split(rb"[/?]", target.partition(b"://")[2], maxsplit=1)[0].rpartition(b"@")[2]
    host = authority[: authority.rfind(b"]") + 1] if authority.startswith(b"[") else authority.partition(b":")[0]
    return host.lower().rstrip(b".")
