"""Which operations of a description the rules protect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from idemproxy.documents.description import Description, Operation, Server
from idemproxy.idempotency.matching import RouteTable
from idemproxy.idempotency.routes import Mode, Rule

_NAME: Final = re.compile(r"\{[^{}/]*\}")
_ANY: Final = "any-one-of-them"
"""Stands where a path has a name: no rule's own segment is like that, so that only a rule for any segment is met."""


@dataclass(frozen=True, slots=True)
class Protected:
    """An operation, and the rule that its requests meet."""

    operation: Operation
    rule: Rule


def enforced(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Those that mean something to a client: one that only observes changes nothing."""
    return tuple(rule for rule in rules if rule.mode is Mode.ENFORCE)


def protected(description: Description, rules: tuple[Rule, ...]) -> Iterator[Protected]:
    """The operations of which every request meets a rule by its method, path and host. The header fields that a rule asks for are left
    to its `match.headers`. Raises DescriptionError."""
    tables: dict[frozenset[bytes], _Table] = {}
    for operation in description.operations():
        servers = description.servers(operation)
        hosts = frozenset(host for each in servers if (host := _host(each)))
        if hosts not in tables:
            tables[hosts] = _Table(rules, hosts)
        rule = tables[hosts].find(operation, servers)
        if rule is not None and rule.mode is Mode.ENFORCE:
            yield Protected(operation, rule)


def _host(server: Server) -> bytes:
    return re.sub(r":[0-9]*$", "", server.origin.rpartition("//")[2]).lower().encode("utf-8", "replace")


class _Table:
    """The rules for some hosts. A description that names no host may be for any."""

    def __init__(self, rules: tuple[Rule, ...], hosts: frozenset[bytes]) -> None:
        self._rules = {
            rule.name: rule
            for rule in rules
            if not hosts or not rule.match.hosts or not hosts.isdisjoint(rule.match.hosts)
        }
        bare = (
            replace(rule, match=replace(rule.match, hosts=frozenset(), headers=())) for rule in self._rules.values()
        )
        self._routes = RouteTable(tuple(bare))

    def find(self, operation: Operation, servers: list[Server]) -> Rule | None:
        """Paths are relative to the server's; a configuration may also have been written without its path."""
        path = quote(_NAME.sub(_ANY, operation.path), safe="/!$&'()*+,:;=@~%")
        for base in dict.fromkeys([*(quote(each.base, safe="/%") for each in servers), ""]):
            found = self._routes.find(operation.method.encode(), (base + path).encode(), ())
            if found is not None:
                return self._rules[found.name]
        return None
