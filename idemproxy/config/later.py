"""What the configuration will have and has not yet: known by name, so that nobody takes it for a misspelling or, worse, for real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Later:
    """A setting that is not built. `works`: the values that mean "without it", which are accepted."""

    doc: str
    works: tuple[bool | int | str | list[str], ...] = ()


SETTINGS: Mapping[str, Mapping[str, Later]] = MappingProxyType(
    {
        "": {
            "admin_token": Later("What the admin port asks for."),
            "admin_show_bodies": Later("Bodies of recorded answers on the admin port.", (False,)),
            "replicas": Later("Redis replicas that a claim waits for.", (0,)),
        },
    }
)

VALUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "store": frozenset({"redis+sentinel", "redis+cluster", "postgresql", "postgres"}),
    }
)

NOT_YET = "known, but it comes later: not built yet"
