"""Which rule a request meets, written as plainly as the promise reads: every rule is tried, every reading of the path is made. What the
product's table is compared with; of the product it has only what rules mean by their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.paths import Pattern, Wild, pattern_readings
from idemproxy.idempotency.routes import Match, Mode, Rule

_PLAIN = re.compile(rb"(?:/(?!\.)(?:[a-z0-9._~!$&'()*+,:=@-]|%(?!2[5ef]|3b|5c)[0-9a-f]{2})+)*/?")
_MOST = 256

Path = tuple[bytes, ...]


def find(rules: tuple[Rule, ...], method: bytes, target: bytes, fields: Fields) -> Rule | None:
    """The rule for a request; None: no rule protects it."""
    authority, path = _authority_and_path(target)
    asked = [rule for rule in rules if _is_for(rule.match, method, authority, fields)]
    found = readings(path)
    if found is None:
        return _protecting(rules, asked)
    unnamed = authority is None and not _values(fields, b"host")
    firsts: list[Rule] = []
    for reading in found:
        for rule in asked:
            if any(_is_on(pattern, reading) for pattern in pattern_readings(rule.match.path)):
                firsts.append(rule)
                if not (unnamed and rule.match.hosts):
                    break
    return _protecting(rules, firsts)


def _protecting(rules: tuple[Rule, ...], firsts: list[Rule]) -> Rule | None:
    met = [rule for rule in rules if any(rule is each for each in firsts)]
    enforced = [rule for rule in met if rule.mode is Mode.ENFORCE]
    return next(iter(enforced + met), None)


def _authority_and_path(target: bytes) -> tuple[bytes | None, bytes]:
    if target[:1] in (b"/", b"*"):
        return None, target.split(b"?")[0]
    after = target.partition(b"://")[2]
    authority = re.split(rb"[/?]", after)[0]
    return authority.split(b"@")[-1], after[len(authority) :].split(b"?")[0] or b"/"


def _is_for(match: Match, method: bytes, authority: bytes | None, fields: Fields) -> bool:
    if match.methods and not {method, method.upper()} & match.methods:
        return False
    if match.hosts:
        named = _values(fields, b"host") if authority is None else [authority]
        hosts = {re.sub(rb"\.?\Z", b"", re.sub(rb":[0-9]*\Z", b"", each.lower()), count=1) for each in named} - {b""}
        if hosts and not hosts & match.hosts:
            return False
    return all(value in _values(fields, name) for name, value in match.headers)


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for found, value in fields if found.lower() == name]


def _is_on(pattern: Pattern, reading: Path) -> bool:
    if pattern[-1:] == (Wild.REST,):
        pattern = pattern[:-1]
        reading = reading[: len(pattern)]
    if len(pattern) != len(reading):
        return False
    return all(
        bool(segment) if wanted is Wild.SEGMENT else wanted == segment
        for wanted, segment in zip(pattern, reading, strict=True)
    )


def readings(path: bytes) -> set[Path] | None:
    """Everything that a raw path can mean; None: anything."""
    path = path.lower()
    if _PLAIN.fullmatch(path):
        return {_segments(path)}
    if not path.startswith(b"/"):
        return set()
    decoded = _decoded(path)
    if decoded.count(b"/") + decoded.count(b"\\") > _MOST:
        return None
    return odd_readings(path)


def odd_readings(path: bytes) -> set[Path]:
    """The readings of a path that begins with a slash, without asking whether it is plain."""
    path = path.lower()
    return {reading for spelling in _spellings(path, _decoded(path)) for reading in _structures(_segments(spelling))}


def _spellings(path: bytes, decoded: bytes) -> Iterator[bytes]:
    spellings = {path}
    if decoded.count(b"/") > path.count(b"/") or b"\\" in decoded or b";" in decoded:
        spellings |= {decoded, path.replace(b"\\", b"/"), decoded.replace(b"\\", b"/")}
        spellings |= {re.sub(rb";[^/]*", b"", each) for each in spellings}
    for each in spellings:
        yield each
        if each.startswith(b"//"):
            yield re.sub(rb"\A/+[^/]*/?", b"/", each)


def _structures(path: Path) -> Iterator[Path]:
    yield path
    yield tuple(filter(None, path))
    yield tuple(filter(None, _without_dots(path)))
    yield _without_dots(tuple(filter(None, path)))


def _without_dots(path: Path) -> Path:
    kept: list[bytes] = []
    for each in path:
        if each == b"..":
            kept = kept[:-1]
        elif each != b".":
            kept.append(each)
    return tuple(kept)


def _segments(path: bytes) -> Path:
    return tuple(_decoded(each) for each in path.rstrip(b"/").split(b"/")[1:])


def _decoded(text: bytes) -> bytes:
    for _ in range(3):
        if b"%" in text:
            text = unquote_to_bytes(text).lower()
    return text
