"""Presets: rules as well-known clients and senders need them (DESIGN.md section 6). Data alone; how one enters a rule is in
`layers.py`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from idemproxy.config.presets.callers import CALLERS
from idemproxy.config.presets.preset import Preset
from idemproxy.config.presets.senders import SENDERS

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({**CALLERS, **SENDERS})


def set_by(name: str) -> Mapping[str, object]:
    """The settings that the preset of that name sets, as one would write them in YAML: a copy. Raises KeyError."""
    return copy.deepcopy(dict(PRESETS[name].sets))
