"""A problem as its client gets it: in the words of the rule that the request met, readable where the rule says so."""

from __future__ import annotations

from idemproxy.idempotency.cors import readable
from idemproxy.idempotency.messages import Answer, Fields
from idemproxy.idempotency.problems import Problem, render
from idemproxy.idempotency.routes import Rule


def answer_to(fields: Fields, problem: Problem, rule: Rule | None, docs_url: str) -> Answer:
    """The answer to a request with these header fields; `rule` is None where none was found, or the request was refused before."""
    if rule is None:
        return render(problem, docs_url)
    return render(problem, docs_url, rule.problem_status, rule.problem_shape, readable(rule.cors, fields))
