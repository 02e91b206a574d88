"""Which rule a request meets. Security code: a miss means that a request is not protected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import Pattern, Segments, Wild, pattern_readings, readings, split_target
from idemproxy.idempotency.routes import Match, Mode, Rule

_PORT: Final = re.compile(rb":[0-9]*\Z")


class RouteTable:
    """The rules. A request meets the first one, by position, that any reading of it meets; where readings meet different rules, one that
    is enforced goes before one that only observes.

    By position also where readings meet different rules: else a path that is odd on purpose could choose a catch-all's settings over
    those of the rule before it. Patterns are one tree by segments, so that a look-up costs the path's length, not the number of
    rules."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._root = _Node()
        for position, rule in enumerate(rules):
            for pattern in pattern_readings(rule.match.path):
                self._root.add(pattern, position)
        methods = [rule.match.methods for rule in rules]
        self._methods = None if frozenset() in methods else frozenset[bytes]().union(*methods)

    def find(self, method: bytes, target: bytes, fields: Fields) -> Rule | None:
        """The rule for a request, given as it came; None: no rule protects it. A method is compared as it is and in upper case, since
        there are services that do not mind its case (RFC 9110, section 9.1, does)."""
        upper = method.upper()
        if self._methods is not None and upper not in self._methods and method not in self._methods:
            return None
        authority, path, _ = split_target(target)

        def met(positions: Iterable[int]) -> Iterator[int]:
            for position in positions:
                match = self._rules[position].match
                if match.methods and method not in match.methods and upper not in match.methods:
                    continue
                if _meets(match, authority, fields):
                    yield position

        found = readings(path)
        if found is None:
            return self._protecting(met(range(len(self._rules))))
        unnamed = authority is None and not values(fields, b"host")
        firsts = {position for reading in found for position in self._first(met(self._on(reading)), unnamed)}
        return self._protecting(sorted(firsts))

    def _first(self, positions: Iterator[int], unnamed: bool) -> Iterator[int]:
        """The first rule that one reading meets; where the request names no host (`unnamed`), those behind a rule for a host too, since it
        may be for another."""
        for position in positions:
            yield position
            if not (unnamed and self._rules[position].match.hosts):
                return

    def _protecting(self, positions: Iterable[int]) -> Rule | None:
        """The first rule of those that the readings of one request meet. One that only observes gives way: under another reading the
        request would be protected."""
        rules = [self._rules[position] for position in positions]
        return next((rule for rule in rules if rule.mode is Mode.ENFORCE), rules[0] if rules else None)

    def _on(self, reading: Segments) -> list[int]:
        """The positions, in order, of the rules whose pattern a reading meets."""
        found: set[int] = set()
        self._root.collect(reading, found)
        return sorted(found)


def _meets(match: Match, authority: bytes | None, fields: Fields) -> bool:
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
    root, met = _Node(), set[int]()
    for pattern in pattern_readings(match.path):
        root.add(pattern, 0)
    found = readings(path)
    for reading in found or ():
        root.collect(reading, met)
    missed = [] if found is None or met else ["path"]
    if match.methods and match.methods.isdisjoint((method, method.upper())):
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

    def collect(self, segments: Segments, met: set[int]) -> None:
        """Add to `met` the positions of all rules whose pattern the path meets."""
        nodes = [self]
        for segment in segments:
            following: list[_Node] = []
            for node in nodes:
                if node.rests:
                    met.update(node.rests)
                if (literal := node.literals.get(segment)) is not None:
                    following.append(literal)
                if node.one is not None and segment:
                    following.append(node.one)
            if not following:
                return
            nodes = following
        for node in nodes:
            met.update(node.ends)
            met.update(node.rests)
