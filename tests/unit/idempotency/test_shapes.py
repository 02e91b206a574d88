"""Problems in the shapes of other APIs. What their libraries make of them is in docs/clients.md, seen by `python -m tests.sdks`."""

from __future__ import annotations

import json

import pytest

from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.problems import TABLE, Problem, Retry, Slug, render
from idemproxy.idempotency.shapes import Shape

OTHERS = [shape for shape in Shape if shape is not Shape.PROBLEM]
HOPELESS = {Slug.OUTCOME_UNKNOWN, Slug.ANSWER_NOT_KEPT, Slug.KEY_REUSED, Slug.KEY_EXPIRED}


def shaped(shape: Shape, slug: Slug) -> dict[str, object]:
    members = json.loads(render(Problem(slug, "What happened.", 2_000), shape=shape).body)
    assert isinstance(members, dict)
    return members


def own(shape: Shape, slug: Slug) -> dict[str, object]:
    """What a shape has beside a problem's members."""
    plain = shaped(Shape.PROBLEM, slug)
    return {name: value for name, value in shaped(shape, slug).items() if plain.get(name) != value}


def lines(answer: Answer) -> list[str]:
    return answer.head.decode("ascii").split("\r\n")


@pytest.mark.parametrize("slug", Slug)
@pytest.mark.parametrize("shape", OTHERS)
def test_a_shape_changes_the_body_and_no_field_that_clients_act_on(shape: Shape, slug: Slug) -> None:
    plain = render(Problem(slug, "What happened.", 2_000), "https://api.example.com/docs")
    other = render(Problem(slug, "What happened.", 2_000), "https://api.example.com/docs", shape=shape)
    assert other.status == plain.status
    own = ("content-type", "content-length")
    assert {each for each in lines(plain) if not each.lower().startswith(own)} <= set(lines(other))
    assert f"Content-Length: {len(other.body)}" in lines(other)


@pytest.mark.parametrize("slug", Slug)
@pytest.mark.parametrize("shape", OTHERS)
def test_a_shape_says_what_happened_and_what_to_do(shape: Shape, slug: Slug) -> None:
    text = render(Problem(slug, "What happened.", 2_000), shape=shape).body.decode()
    assert '"What happened."' in text
    assert f'"urn:idemproxy:problem:{slug.value}"' in text
    assert f'"retry": "{TABLE[slug].retry.value}"' in text
    same_key = TABLE[slug].retry is Retry.SAME_KEY
    assert ('"retry_after": 2' in text or '"retry_after": "2"' in text) is same_key


@pytest.mark.parametrize("slug", Slug)
@pytest.mark.parametrize("shape", OTHERS)
def test_a_shape_is_a_problem_document_too(shape: Shape, slug: Slug) -> None:
    assert "Content-Type: application/problem+json" in lines(render(Problem(slug, "x"), shape=shape))
    plain, other = shaped(Shape.PROBLEM, slug), shaped(shape, slug)
    of_svix = {"detail": other["detail"]} if shape is Shape.SVIX and slug is Slug.KEY_REUSED else {}
    del plain["error"]
    assert {**plain, **of_svix} == {name: other[name] for name in plain}


@pytest.mark.parametrize("slug", Slug)
def test_a_plain_problem_has_an_error_for_clients_that_look_for_nothing_else(slug: Slug) -> None:
    error = shaped(Shape.PROBLEM, slug)["error"]
    assert isinstance(error, dict)
    assert set(error) == {"type", "code", "message"}
    assert error["message"] == "What happened."


@pytest.mark.parametrize(
    ("slug", "kind", "code"),
    [
        (Slug.KEY_REUSED, "idempotency_error", "key_reused"),
        (Slug.KEY_IN_FLIGHT, "idempotency_error", "idempotency_key_in_use"),
        (Slug.OUTCOME_UNKNOWN, "api_error", "outcome_unknown"),
        (Slug.STORE_UNAVAILABLE, "api_error", "store_unavailable"),
        (Slug.REQUEST_TOO_LARGE, "invalid_request_error", "request_too_large"),
    ],
)
def test_stripe(slug: Slug, kind: str, code: str) -> None:
    error = shaped(Shape.STRIPE, slug)["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["code"], error["message"]) == (kind, code, "What happened.")


def test_openai() -> None:
    assert own(Shape.OPENAI, Slug.KEY_IN_FLIGHT) == {
        "error": {
            "message": "What happened.",
            "type": "invalid_request_error",
            "param": None,
            "code": "key_in_flight",
            "problem": "urn:idemproxy:problem:key-in-flight",
            "retry": "same_key",
            "retry_after": 2,
        }
    }
    error = shaped(Shape.OPENAI, Slug.UPSTREAM_FAILED)["error"]
    assert isinstance(error, dict)
    assert error["type"] == "server_error"


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        (Slug.KEY_MISSING, "invalid_request_error"),
        (Slug.SIGNATURE_INVALID, "authentication_error"),
        (Slug.OUTCOME_UNKNOWN, "conflict_error"),
        (Slug.REQUEST_TOO_LARGE, "request_too_large"),
        (Slug.KEY_REUSED, "invalid_request_error"),
        (Slug.UPSTREAM_UNREACHABLE, "api_error"),
        (Slug.UPSTREAM_TIMEOUT, "timeout_error"),
    ],
)
def test_anthropic(slug: Slug, kind: str) -> None:
    members = shaped(Shape.ANTHROPIC, slug)
    error = members["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["message"]) == (kind, "What happened.")
    assert error["details"] == {"error_code": slug.value.replace("-", "_")}


def test_svix_has_a_list_at_422_and_a_text_elsewhere() -> None:
    assert own(Shape.SVIX, Slug.OUTCOME_UNKNOWN) == {"code": "outcome_unknown"}
    assert shaped(Shape.SVIX, Slug.OUTCOME_UNKNOWN)["detail"] == "What happened."
    told = {"loc": ["header", "idempotency-key"], "msg": "What happened.", "type": "key_reused"}
    assert shaped(Shape.SVIX, Slug.KEY_REUSED)["detail"] == [told]
    # the status that the rule gives counts, not the table's
    moved = render(Problem(Slug.KEY_REUSED, "x"), "", {Slug.KEY_REUSED: 409}, Shape.SVIX)
    assert json.loads(moved.body)["detail"] == "x"


@pytest.mark.parametrize(
    ("slug", "category", "code"),
    [
        (Slug.KEY_REUSED, "INVALID_REQUEST_ERROR", "IDEMPOTENCY_KEY_REUSED"),
        (Slug.KEY_IN_FLIGHT, "INVALID_REQUEST_ERROR", "CONFLICT"),
        (Slug.CREDENTIAL_INVALID, "AUTHENTICATION_ERROR", "UNAUTHORIZED"),
        (Slug.UPSTREAM_TIMEOUT, "API_ERROR", "GATEWAY_TIMEOUT"),
        (Slug.OUTCOME_UNKNOWN, "API_ERROR", "CONFLICT"),
    ],
)
def test_square(slug: Slug, category: str, code: str) -> None:
    errors = shaped(Shape.SQUARE, slug)["errors"]
    assert isinstance(errors, list)
    assert [(each["category"], each["code"], each["detail"]) for each in errors] == [(category, code, "What happened.")]


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        (Slug.KEY_IN_FLIGHT, "invalid_state"),
        (Slug.KEY_REUSED, "invalid_state"),
        (Slug.KEY_MISSING, "invalid_api_usage"),
        (Slug.UPSTREAM_FAILED, "gocardless"),
    ],
)
def test_gocardless(slug: Slug, kind: str) -> None:
    error = shaped(Shape.GOCARDLESS, slug)["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["code"], error["message"]) == (kind, TABLE[slug].status, "What happened.")
    assert error["errors"] == [{"reason": slug.value.replace("-", "_"), "message": "What happened."}]


def test_workos() -> None:
    assert own(Shape.WORKOS, Slug.KEY_MISSING) == {"code": "key_missing", "message": "What happened."}


def test_google() -> None:
    assert own(Shape.GOOGLE, Slug.KEY_IN_FLIGHT) == {
        "error": {
            "code": 409,
            "message": "What happened.",
            "status": "ABORTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "KEY_IN_FLIGHT",
                    "domain": "idemproxy",
                    "metadata": {
                        "problem": "urn:idemproxy:problem:key-in-flight",
                        "retry": "same_key",
                        "retry_after": "2",
                    },
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
            ],
        }
    }


def test_azure_and_aws_name_the_error_in_a_field_too() -> None:
    azure = render(Problem(Slug.KEY_REUSED, "x"), shape=Shape.AZURE)
    assert "x-ms-error-code: KeyReused" in lines(azure)
    assert json.loads(azure.body)["error"]["code"] == "KeyReused"
    aws = render(Problem(Slug.KEY_REUSED, "x"), shape=Shape.AWS)
    assert "x-amzn-ErrorType: KeyReusedException" in lines(aws)
    assert (json.loads(aws.body)["__type"], json.loads(aws.body)["message"]) == ("KeyReusedException", "x")


@pytest.mark.parametrize("slug", Slug)
def test_slack_is_told_to_stop_only_where_a_retry_cannot_help(slug: Slug) -> None:
    plain, slack = render(Problem(slug, "x")), render(Problem(slug, "x"), shape=Shape.SLACK)
    assert slack.body == plain.body
    assert ("X-Slack-No-Retry: 1" in lines(slack)) is (slug in HOPELESS)
    again = render(Problem(slug, "x", retry=Retry.SAME_KEY), shape=Shape.SLACK)
    assert "X-Slack-No-Retry: 1" not in lines(again)
