"""Who signed a webhook: `verify:` in a rule. No fault that is told here shows a piece of a secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from idemproxy.config.faults import Faults, Place
from idemproxy.config.kinds import (
    INVALID,
    Schema,
    choice,
    duration,
    substitutable,
)
from idemproxy.config.table import Field, Found, Table
from idemproxy.config.tree import Broken, Leaf, Node, Row, Shape
from idemproxy.idempotency.signatures import Scheme, Verification, WrongSecret, secret_of

_SECRET: Final = "write the secret, best as ${NAME} or ${file:PATH}"


@dataclass(frozen=True, slots=True)
class Written:
    """A secret, and where it stands. `literal`: it stands in the file itself."""

    text: str = field(repr=False)
    place: Place
    path: str
    literal: bool


@dataclass(frozen=True, slots=True)
class SecretText:
    """A text that no message shows."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if isinstance(node, Broken):
            return INVALID
        if not isinstance(node, Leaf):
            faults.add(node.place, path, "is no text", _SECRET)
        elif not node.text.strip() or (node.shape is Shape.NULL and not node.foreign):
            faults.add(node.place, path, "is empty", _SECRET)
        elif not node.foreign and node.shape is not Shape.TEXT:
            faults.add(node.place, path, f"is what YAML reads as {node.shape.value}", "put it in quotation marks")
        else:
            return Written(node.text, node.place, path, literal=not node.foreign)
        return INVALID

    def schema(self) -> Schema:
        return substitutable({"type": "string", "minLength": 1})


@dataclass(frozen=True, slots=True)
class SecretTexts:
    """One secret or a list of them, as a tuple."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if not isinstance(node, Row):
            alone = SecretText().read(node, path, faults)
            return INVALID if alone is INVALID else (alone,)
        if not node.items:
            faults.add(node.place, path, "is an empty list", "write at least one secret")
            return INVALID
        found = [SecretText().read(each, f"{path}[{index}]", faults) for index, each in enumerate(node.items)]
        return INVALID if INVALID in found else tuple(found)

    def schema(self) -> Schema:
        one = SecretText().schema()
        return {"anyOf": [{"type": "array", "items": one, "minItems": 1}, one]}


VERIFY = Table(
    "rule.verify",
    (
        Field("scheme", choice({each.value: each for each in Scheme}), "How the sender signs."),
        Field(
            "secrets",
            SecretTexts(),
            "The sender's secrets, as it shows them: any of them may have signed.",
            required=True,
        ),
        Field(
            "tolerance",
            duration("1s", "24h", "5m"),
            "How far a signed time may be off; github and shopify sign none.",
            "5m",
        ),
    ),
)


def verification(rule: Found, faults: Faults) -> Verification | None:
    """`verify:` of a merged rule; None without it. What is missing or wrong in it goes to `faults`."""
    found = rule.inner("verify")
    scheme, secrets = found.get("scheme", Scheme), found.get("secrets", tuple)
    if scheme is None or secrets is None:
        _tell_missing(found, faults)
        return None
    keys = []
    for each in secrets:
        try:
            keys.append(secret_of(scheme, each.text))
        except WrongSecret as wrong:
            faults.add(
                each.place, each.path, f"is no secret of {scheme.value}: {wrong}", "copy it as the sender shows it"
            )
    return Verification(scheme, tuple(keys), found.need("tolerance", int))


def _tell_missing(found: Found, faults: Faults) -> None:
    """Secrets alone would leave a rule unguarded. A scheme alone may come from `defaults:` or a preset, for rules that have secrets."""
    item = found.written("secrets")
    if item is not None and item.place is not None and "scheme" not in found.items:
        faults.add(item.place, item.path, "is nothing without scheme", "write `scheme:` beside it")


def warn_unverified(rule: Found) -> list[str]:
    """A scheme that has no secrets: told also where a preset has it."""
    found = rule.inner("verify")
    if found.get("scheme", Scheme) is None or found.written("secrets") is not None:
        return []
    return [
        "the sender signs, and verify.secrets is missing: nothing is verified, and whoever knows an event's id can use it up"
    ]


def warn_verify(rule: Found) -> list[str]:
    """What is surprising about a merged rule's `verify:`."""
    secrets = rule.inner("verify").get("secrets", tuple) or ()
    if any(each.literal for each in secrets):
        return ["verify.secrets has a secret in the file itself: ${NAME} or ${file:PATH} keeps it out"]
    return []
