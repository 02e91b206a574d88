"""An explanation as JSON has it. The names rule, key, scope, fingerprint, id, record and decision are relied upon (DESIGN.md section 6)."""

from __future__ import annotations

import json

from idemproxy.explaining.comparison import Comparison, compare
from idemproxy.explaining.explainer import Explainer, Explanation, Named, sentence, word
from idemproxy.explaining.shown import key_shown, parts_shown, scope_shown, text
from idemproxy.http1.heads import BadHead
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.operation import Refuse, Replay
from idemproxy.idempotency.problems import render
from idemproxy.idempotency.record import FINGERPRINT_BYTES
from idemproxy.records import Seen
from idemproxy.records import plain as record_plain
from idemproxy.requests_given.written import Written
from idemproxy.stores.base import Found, Locked, LookFact


async def explained(
    explainer: Explainer, request: Written, against: Written | None, peer: str, docs_url: str
) -> dict[str, object]:
    """A request, and how it stands to another one, of a client with that IP address."""
    one = await explainer.explain(request, peer)
    shown = plain(one, docs_url)
    if against is not None:
        other = await explainer.explain(against, peer)
        shown["against"] = comparison_plain(compare(one, other)) | {"explained": plain(other, docs_url)}
    return shown


def plain(explanation: Explanation, docs_url: str) -> dict[str, object]:
    """Everything that is known, members in the order of a request's way. Durations are milliseconds."""
    head, rule, verdict = explanation.request.head, explanation.rule, explanation.verdict
    shown: dict[str, object] = (
        {} if isinstance(head, BadHead) else {"method": text(head.method), "target": text(head.target)}
    )
    shown["rule"] = None if rule is None else rule.name
    shown["mode"] = None if rule is None else rule.mode.value
    shown["not_matched"] = [{"rule": each.rule, "lacks": list(each.lacks)} for each in explanation.passed]
    shown |= _named(explanation.named)
    shown["decision"] = word(verdict)
    shown["detail"] = sentence(verdict, rule)
    match verdict:
        case Replay(answer):
            shown["status"] = answer.status
        case Refuse(problem, differs):
            answer = render(problem, docs_url, rule.problem_status) if rule is not None else render(problem, docs_url)
            shown["status"] = answer.status
            shown["problem"] = json.loads(answer.body)
            if differs:
                shown["differs"] = list(differs)
        case _:
            pass
    shown["store_trouble"] = explanation.trouble
    shown["notes"] = list(explanation.request.notes)
    return shown


def _named(named: Named | None) -> dict[str, object]:
    if named is None:
        return {"key": None, "key_from": None, "scope": None, "fingerprint": None, "id": None, "record": None}
    operation = named.operation
    key, source = key_shown(named)
    return {
        "key": key,
        "key_from": source,
        "scope": [{"part": name, "value": value} for name, value in scope_shown(named)],
        "fingerprint": operation.fingerprint[:FINGERPRINT_BYTES].hex(),
        "fingerprint_parts": dict(parts_shown(named, operation.rule.fingerprint, 0)),
        "recipe": operation.recipe,
        "id": operation.record_id,
        "short_id": short_id(operation.record_id),
        "record": _record(operation.record_id, named.fact),
    }


def _record(record_id: str, fact: LookFact | None) -> dict[str, object] | None:
    match fact:
        case Found(record, lease_left, now):
            shown = record_plain(Seen(record_id, record, lease_left), show_body=False)
            return shown | {"age": max(0, now - record.created_at)}
        case Locked(lease_left):
            return {"id": record_id, "state": "processing", "lease_left": lease_left}
        case _:
            return None


def comparison_plain(comparison: Comparison) -> dict[str, object]:
    """What makes two requests one operation, or two."""
    return {
        "relation": comparison.relation.value,
        "parts": [
            {"part": side.name, "equal": side.equal, "this": side.this, "other": side.other}
            for side in comparison.sides
        ],
        "json_differs": list(comparison.places),
    }
