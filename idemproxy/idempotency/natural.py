"""Natural keys: the name of an operation, derived from what a request says (DESIGN.md section 6, *Derived keys*)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.messages import values
from idemproxy.idempotency.routes import Rule
from idemproxy.idempotency.template import Asked, Part, Source, Template, read_part

_OF_BODY: Final = frozenset({Source.JSON, Source.FORM, Source.BODY})


@dataclass(frozen=True, slots=True)
class Underivable:
    """A part of each template is absent; `detail` names the parts, and never what they hold."""

    detail: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The request names several operations: a part comes several times with different values, so that nobody can say which counts, or the
    body is a batch."""

    detail: str


def needs_body(rule: Rule) -> bool:
    """Whether a body must be there before the key can be derived."""
    return any(isinstance(each, Part) and each.source in _OF_BODY for t in rule.key.natural for each in t.pieces)


def derive(rule: Rule, asked: Asked) -> Key | Underivable | Ambiguous:
    """The key by the first template that can be filled. It begins with a length of eight bytes, of which the first is 0, as no key from a
    header does."""
    if rule.key.batches and (kind := _batch(rule, asked)):
        return Ambiguous(
            f"Batches ({kind}) are not supported here: one request holds several operations, of which each needs an idempotency key of "
            "its own. Send each in a request of its own. Nothing was executed."
        )
    lacking: list[str] = []
    for template in rule.key.natural:
        match _filled(template, asked):
            case Part() as part:
                lacking.append(_shown(part))
            case Ambiguous() as ambiguous:
                return ambiguous
            case parts:
                return Key(framed(b"idemproxy natural key 1", rule.name.encode(), *parts), derived=True)
    said = " or ".join(dict.fromkeys(lacking))
    return Underivable(f"The request has no {said}, from which its idempotency key is made. Nothing was executed.")


def _batch(rule: Rule, asked: Asked) -> str:
    """The media type, where it is one of a batch."""
    kinds = {value.partition(b";")[0].strip(b" \t").lower() for value in values(asked.fields, b"content-type")}
    return next((kind.decode("ascii") for kind in sorted(kinds & rule.key.batches)), "")


def _filled(template: Template, asked: Asked) -> tuple[bytes, ...] | Part | Ambiguous:
    """The template's pieces, each with what it is; or the part that is absent."""
    parts: list[bytes] = []
    for piece in template.pieces:
        if isinstance(piece, bytes):
            parts.append(framed(b"literal", piece))
            continue
        found = read_part(piece, asked)
        if not found:
            return piece
        if len(found) > 1:
            return Ambiguous(
                f"The request has {_shown(piece)}, from which its idempotency key is made, several times with different values. "
                "Nothing was executed."
            )
        (value,) = found
        parts.append(framed(value.type.value, value.text))
    return tuple(parts)


def _shown(part: Part) -> str:
    return f"{part.source.value}:{part.name}" if part.name else part.source.value
