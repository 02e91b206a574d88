"""The proxy's own answers, as DESIGN.md section 6 promises them to programs outside this repository."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.problems import TABLE, Problem, Retry, Slug, render, status_of

CONTRACT = {
    "key-missing": (400, "fix_request"),
    "key-invalid": (400, "fix_request"),
    "key-expired": (409, "ask_operator"),
    "key-underivable": (400, "fix_request"),
    "request-too-large": (413, "fix_request"),
    "key-in-flight": (409, "same_key"),
    "outcome-unknown": (409, "ask_operator"),
    "answer-not-kept": (409, "ask_operator"),
    "key-reused": (422, "new_key"),
    "upstream-unreachable": (502, "same_key"),
    "upstream-failed": (502, "ask_operator"),
    "upstream-timeout": (504, "ask_operator"),
    "store-unavailable": (503, "same_key"),
    "signature-invalid": (401, "fix_request"),
    "credential-invalid": (401, "fix_request"),
    "not-authorized": (401, "fix_request"),
    "reauthorize-unavailable": (503, "same_key"),
    "not-http": (400, "fix_request"),
    "shutting-down": (503, "same_key"),
}
HOPELESS = {"outcome-unknown", "answer-not-kept", "key-reused", "key-expired"}


def fields(answer: Answer) -> dict[str, str]:
    """The header fields by their names, in lower case: none may come twice."""
    lines = answer.head.decode("ascii").split("\r\n")
    assert lines[-1] == ""
    pairs = [line.split(": ", 1) for line in lines[1:-1]]
    found = {name.lower(): value for name, value in pairs}
    assert len(found) == len(pairs)
    return found


def body(answer: Answer) -> dict[str, object]:
    members = json.loads(answer.body)
    assert isinstance(members, dict)
    return members


def test_every_problem_is_in_the_contract() -> None:
    assert {slug.value for slug in Slug} == set(CONTRACT)
    assert {slug.value for slug in TABLE} == set(CONTRACT)


@pytest.mark.parametrize("slug", Slug)
def test_a_problem_is_what_the_contract_says(slug: Slug) -> None:
    status, retry = CONTRACT[slug.value]
    answer = render(Problem(slug, "What happened."))
    members = body(answer)
    assert members["type"] == f"urn:idemproxy:problem:{slug.value}"
    assert members["title"]
    assert (members["status"], members["detail"], members["retry"]) == (status, "What happened.", retry)
    assert answer.status == status
    assert answer.head.startswith(f"{status} ".encode())
    assert len(answer.head.split(b"\r\n", 1)[0]) > 4, "a reason"


@pytest.mark.parametrize("slug", Slug)
def test_the_header_fields_of_a_problem(slug: Slug) -> None:
    answer = render(Problem(slug, "Été."))
    found = fields(answer)
    assert found["content-type"] == "application/problem+json"
    assert found["content-length"] == str(len(answer.body))
    assert found["cache-control"] == "no-store"
    assert ("retry-after" in found) is ("retry_after" in body(answer)) is (CONTRACT[slug.value][1] == "same_key")
    for name in ("stripe-should-retry", "x-should-retry"):
        assert found.get(name) == ("false" if slug.value in HOPELESS else None)
    assert "link" not in found
    assert "idempotent-replayed" not in found


def test_titles_tell_problems_apart() -> None:
    assert len({kind.title for kind in TABLE.values()}) == len(TABLE)


def test_a_problem_byte_for_byte() -> None:
    answer = render(Problem(Slug.KEY_IN_FLIGHT, "Wait.", retry_after=2_000), "https://api.example.com/docs")
    assert answer == Answer(
        409,
        b"409 Conflict\r\n"
        b"Content-Type: application/problem+json\r\n"
        b"Retry-After: 2\r\n"
        b'Link: <https://api.example.com/docs>; rel="describedby"\r\n'
        b"Cache-Control: no-store\r\n"
        b"Content-Length: 260\r\n",
        b'{"type": "https://api.example.com/docs#key-in-flight", "title": "Operation still in flight", "status": 409, '
        b'"detail": "Wait.", "retry": "same_key", "retry_after": 2, '
        b'"error": {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "Wait."}}\n',
    )


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [(None, 1), (0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (30_000, 30), (30_500, 31)],
)
def test_retry_after_is_never_too_soon(milliseconds: int | None, seconds: int) -> None:
    answer = render(Problem(Slug.STORE_UNAVAILABLE, "x", retry_after=milliseconds))
    assert fields(answer)["retry-after"] == str(seconds)
    assert body(answer)["retry_after"] == seconds


def test_retry_after_only_for_the_same_request() -> None:
    """A problem may say otherwise than its kind: what was sent is executed again only where the rule says so."""
    again = render(Problem(Slug.UPSTREAM_TIMEOUT, "x", 3_000, retry=Retry.SAME_KEY))
    assert body(again)["retry"] == "same_key"
    assert fields(again)["retry-after"] == "3"
    not_again = render(Problem(Slug.SHUTTING_DOWN, "x", 3_000, retry=Retry.ASK_OPERATOR))
    assert body(not_again)["retry"] == "ask_operator"
    assert "retry-after" not in fields(not_again)
    assert "retry_after" not in body(not_again)


def test_a_page_about_problems() -> None:
    answer = render(Problem(Slug.KEY_MISSING, "x"), "https://api.example.com/docs/idempotency")
    assert body(answer)["type"] == "https://api.example.com/docs/idempotency#key-missing"
    assert fields(answer)["link"] == '<https://api.example.com/docs/idempotency>; rel="describedby"'


@pytest.mark.parametrize("status", [400, 408, 414, 431, 500, 501, 505])
def test_a_request_below_the_rules_has_its_own_status(status: int) -> None:
    problem = Problem(Slug.NOT_HTTP, "x", status=status)
    answer = render(problem)
    assert answer.status == body(answer)["status"] == status_of(problem) == status
    assert len(answer.head.split(b"\r\n", 1)[0]) > 4, "a reason"


def test_a_rule_can_give_problems_another_status() -> None:
    statuses = MappingProxyType({Slug.KEY_IN_FLIGHT: 503, Slug.NOT_AUTHORIZED: 503})
    answer = render(Problem(Slug.KEY_IN_FLIGHT, "x"), problem_status=statuses)
    assert (answer.status, body(answer)["status"]) == (503, 503)
    assert answer.head.startswith(b"503 Service Unavailable\r\n")
    assert body(answer)["retry"] == "same_key"
    assert status_of(Problem(Slug.NOT_AUTHORIZED, "x", status=403)) == 403
    assert status_of(Problem(Slug.NOT_AUTHORIZED, "x", status=403), statuses) == 503
    assert status_of(Problem(Slug.KEY_REUSED, "x"), statuses) == 422


def test_a_status_without_a_reason_is_still_a_status_line() -> None:
    answer = render(Problem(Slug.KEY_REUSED, "x"), problem_status={Slug.KEY_REUSED: 499})
    assert answer.head.startswith(b"499 \r\n")


def test_a_detail_cannot_break_out_of_the_body() -> None:
    answer = render(Problem(Slug.KEY_INVALID, 'a"b\\c\r\n\x00é€'))
    assert body(answer)["detail"] == 'a"b\\c\r\n\x00é€'
    assert fields(answer)["content-length"] == str(len(answer.body))
    assert answer.body.count(b"\n") == 1
