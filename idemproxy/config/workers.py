"""How many worker processes serve: a number, or `auto`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from idemproxy.config.faults import Faults
from idemproxy.config.kinds import Schema, Whole, Words, WrongError, told
from idemproxy.config.tree import Leaf, Node, Shape

MOST: Final = 256
RIGHT: Final = f"write a whole number from 1 to {MOST}, or auto"


class Auto:
    """As many as there are CPUs that this process may use, counted when it starts."""


def _auto(text: str) -> object:
    if text != "auto":
        raise WrongError("", RIGHT)
    return Auto()


@dataclass(frozen=True, slots=True)
class Workers:
    """A number of processes, or Auto."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Leaf):
            return told(node, path, faults, WrongError("", RIGHT))
        if node.shape is Shape.WHOLE or node.text.isdecimal():
            return Whole(1, MOST).read(node, path, faults)
        return Words(_auto, RIGHT, {}).read(node, path, faults)

    def schema(self) -> Schema:
        whole = {"type": "integer", "minimum": 1, "maximum": MOST}
        return {"anyOf": [whole, {"type": "string", "enum": ["auto"]}, {"$ref": "#/$defs/substituted"}]}
