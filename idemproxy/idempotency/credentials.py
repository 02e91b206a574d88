"""What a caller shows to be let in, and whether it is what began an operation (DESIGN.md section 6, `reauthorize`)."""

from __future__ import annotations

import hashlib
from typing import Final

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.record import NO_TOKEN, Record
from idemproxy.idempotency.routes import HeaderScope, Rule

CREDENTIALS: Final = frozenset({b"authorization", b"cookie", b"x-api-key"})
"""Fields, in lower case, that say who is asking, whatever a rule's scope is."""


def credential_fields(rule: Rule, fields: Fields) -> Fields:
    """The fields that say who is asking, those of the rule's scope included."""
    named = CREDENTIALS | {part.name for part in rule.scope if isinstance(part, HeaderScope)}
    return tuple([field for field in fields if field[0].lower() in named])


def credential_of(rule: Rule, fields: Fields, record_id: str) -> str:
    """A name for what the caller shows: it tells nothing of that, and is another one for each operation. "" where nothing is shown:
    nobody is known by that."""
    shown = [part for name, value in credential_fields(rule, fields) for part in (name.lower(), value)]
    if not shown:
        return ""
    return hashlib.sha256(framed(b"idemproxy credential 1", record_id.encode(), *shown)).hexdigest()[:32]


def began_by(record: Record) -> str:
    """The credential that the recorded answer was given to, as far as is known. Where an operation was taken over, or settled by a probe
    or an operator, the answer was given to another one than began it: then to nobody."""
    return "" if record.may_have_run or record.token == NO_TOKEN else record.credential
