"""Which rule a request meets. Security code: a miss means that a request is not protected."""

from __future__ import annotations

import re
from typing import Final

from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import Pattern, Segments, Wild, pattern_readings, plain_reading, readings, split_target
from idemproxy.idempotency.routes import Match, Mode, Rule

_PORT: Final = re.compile(rb":[0-9]*\Z")


class RouteTable:
    """The rules. A request meets the first one, by position, that any reading of it meets; where readings meet different rules, one that
    is enforced goes before one that only observes.

    By position also where readings meet different rules: else a path that is odd on purpose could choose a catch-all's settings over
    those of the rule before it. Patterns are one tree by segments, so that a look-up costs the path's length, not the number of
    rules; what it finds for the paths that rules spell out is kept, so that these cost one look-up."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._root = _Node()
        patterns = [pattern_readings(rule.match.path) for rule in rules]
        for position, of_one in enumerate(patterns):
            for pattern in of_one:
                self._root.add(pattern, position)
        self._spelt_out: dict[bytes, list[int]] = {}
        for pattern in set[Pattern]().union(*patterns):
            literals = [each for each in pattern if isinstance(each, bytes)]
            path = b"/" + b"/".join(literals)
            if len(literals) == len(pattern) and (reading := plain_reading(path)) is not None:
                self._spelt_out[path] = self._root.met_by(reading)
        methods = [rule.match.methods for rule in rules]
        self._methods = None if frozenset() in methods else frozenset[bytes]().union(*methods)

    def find(self, method: bytes, target: bytes, fields: Fields) -> Rule | None:
        """The rule for a request, given as it came; None: no rule protects it. A method is compared as it is and in upper case, since
        there are services that do not mind its case (RFC 9110, section 9.1, does)."""
        if self._methods is not None and not _has(self._methods, method):
            return None
        authority, path, _ = split_target(target)
        positions = self._spelt_out.get(path)
        if positions is None:
            reading = plain_reading(path)
            if reading is None:
                return self._find_odd(method, authority, path, fields)
            positions = self._root.met_by(reading)
        return self._protecting(self._first(positions, method, authority, fields)) if positions else None

    def _find_odd(self, method: bytes, authority: bytes | None, path: bytes, fields: Fields) -> Rule | None:
        """The rule for a path that servers read in different ways."""
        found = readings(path)
        if found is None:
            every = enumerate(self._rules)
            return self._protecting([at for at, rule in every if _meets(rule.match, method, authority, fields)])
        firsts: set[int] = set()
        for reading in found:
            firsts.update(self._first(self._root.met_by(reading), method, authority, fields))
        return self._protecting(sorted(firsts))

    def _first(self, positions: list[int], method: bytes, authority: bytes | None, fields: Fields) -> list[int]:
        """The first rule, of those whose pattern one reading meets, that the request meets; where the request names no host, those behind
        a rule for a host too, since it may be for another."""
        met: list[int] = []
        for position in positions:
            match = self._rules[position].match
            if _meets(match, method, authority, fields):
                met.append(position)
                if not match.hosts or authority is not None or values(fields, b"host"):
                    break
        return met

    def _protecting(self, positions: list[int]) -> Rule | None:
        """The first rule of those that the readings of one request meet. One that only observes gives way: under another reading the
        request would be protected."""
        if len(positions) > 1:
            for position in positions:
                if self._rules[position].mode is Mode.ENFORCE:
                    return self._rules[position]
        return self._rules[positions[0]] if positions else None


def _has(methods: frozenset[bytes], method: bytes) -> bool:
    return method in methods or method.upper() in methods


def _meets(match: Match, method: bytes, authority: bytes | None, fields: Fields) -> bool:
    """Whether a request whose path a rule's pattern meets has everything else that the rule asks for."""
    if match.methods and not _has(match.methods, method):
        return False
    if match.hosts and not _may_be_for(match.hosts, authority, fields):
        return False
    return not match.headers or all(value in values(fields, name) for name, value in match.headers)


def _may_be_for(hosts: frozenset[bytes], authority: bytes | None, fields: Fields) -> bool:
    """Whether a request may be for one of the hosts. An absolute-form target's authority goes before `Host` (RFC 9112, section 3.2.2). A
    request that names no host may: the service behind takes it for whichever it likes."""
    named = values(fields, b"host") if authority is None else [authority]
    found = [host for each in named if (host := _PORT.sub(b"", each.lower()).removesuffix(b"."))]
    return not found or not hosts.isdisjoint(found)


def lacking(match: Match, method: bytes, target: bytes, fields: Fields) -> tuple[str, ...]:
    """What keeps a request from a rule with that match: `path`, `method`, `host`, `header:NAME`; nothing: it may meet it."""
    authority, path, _ = split_target(target)
    root = _Node()
    for pattern in pattern_readings(match.path):
        root.add(pattern, 0)
    found = readings(path)
    missed = [] if found is None or any(root.met_by(reading) for reading in found) else ["path"]
    if match.methods and not _has(match.methods, method):
        missed.append("method")
    if match.hosts and not _may_be_for(match.hosts, authority, fields):
        missed.append("host")
    missed += [f"header:{name.decode()}" for name, value in match.headers if value not in values(fields, name)]
    return tuple(missed)


class _Node:
    """Where patterns that begin alike part. `ends`, `rests`: positions of the rules whose pattern ends here, and of those that take
    any rest from here on."""

    __slots__ = ("ends", "literals", "one", "rests")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.one: _Node | None = None
        self.ends: list[int] = []
        self.rests: list[int] = []

    def add(self, pattern: Pattern, position: int) -> None:
        """Raises ValueError for a pattern that goes on behind `**`."""
        node = self
        for number, segment in enumerate(pattern, 1):
            match segment:
                case Wild.REST:
                    if number < len(pattern):
                        raise ValueError("** stands before a pattern's end")
                    node.rests.append(position)
                    return
                case Wild.SEGMENT:
                    node.one = node.one or _Node()
                    node = node.one
                case literal:
                    node = node.literals.setdefault(literal, _Node())
        node.ends.append(position)

    def met_by(self, segments: Segments) -> list[int]:
        """The positions, in order, of the rules whose pattern a path meets."""
        met: list[int] = []
        branches: list[tuple[_Node, int]] = []
        node, at, end = self, 0, len(segments)
        while True:
            if node.rests:
                met += node.rests
            following: _Node | None = None
            if at == end:
                met += node.ends
            else:
                segment = segments[at]
                at += 1
                following = node.literals.get(segment)
                if node.one is not None and segment:
                    if following is not None:
                        branches.append((following, at))
                    following = node.one
            if following is not None:
                node = following
            elif branches:
                node, at = branches.pop()
            else:
                return sorted(set(met)) if len(met) > 1 else met
