"""What a preset is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """The settings of a rule as one client or sender needs them. `about` and `source` are one line each: what it is for, and where its
    rules are published. `sets` is as one would write it in YAML."""

    about: str
    source: str
    sets: Mapping[str, object]
