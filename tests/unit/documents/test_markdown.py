"""`idemproxy docs`: what the page tells the users of an API is what the rules do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from idemproxy import config
from idemproxy.cli import main
from idemproxy.config.presets import set_by
from idemproxy.documents.markdown import markdown

TOP = "upstream: http://10.1.2.3:9000\nstore: redis://user:hunter2@db:6379/0\nroutes:\n"
ALWAYS = {
    *("request-too-large", "key-in-flight", "answer-not-kept", "key-reused", "upstream-unreachable"),
    *("upstream-failed", "upstream-timeout", "store-unavailable", "shutting-down", "not-http"),
}


def page(*rules: str, top: str = "") -> str:
    text = top + TOP + "".join(f"  - {{match: {{path: /v1/charges, methods: [POST]}}, {rule}}}\n" for rule in rules)
    return markdown(config.load_text(text, "c.yaml", {}))


def problems(text: str) -> dict[str, tuple[set[str], set[str]]]:
    """The table of answers: by name, its statuses and what `retry` can say."""
    rows = re.findall(r"^\| ([0-9, ]+) \| `([a-z-]+)` \| .* \| ([^|]*) \|$", text, re.MULTILINE)
    return {slug: (set(statuses.split(", ")), set(re.findall("`([a-z_]+)`", retry))) for statuses, slug, retry in rows}


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("name: a", {"key-invalid", "outcome-unknown"}),
        ("key: {required: true}", {"key-missing", "key-invalid", "outcome-unknown"}),
        ("key: {format: uuid7}", {"key-invalid", "key-expired", "outcome-unknown"}),
        ('key: {from: "{json:/id}", required: true}', {"key-underivable", "outcome-unknown"}),
        ('key: {header: K, from: "{json:/id}"}', {"key-invalid", "key-underivable", "outcome-unknown"}),
        ("guarantee: at_least_once", {"key-invalid"}),
        (
            "guarantee: at_least_once, verify: {scheme: github, secrets: [hunter2hunter2]}",
            {"key-invalid", "signature-invalid"},
        ),
    ],
)
def test_only_answers_that_can_occur_are_told(rule: str, more: set[str]) -> None:
    assert set(problems(page(rule))) == ALWAYS | more


def test_a_rule_that_only_observes_means_nothing_to_clients() -> None:
    assert "No endpoint of this API is protected" in page("mode: observe")


def test_a_retry_marker_is_explained() -> None:
    text = page("key: {retry_marker: {header: x-attempt, window: 20m}}")
    assert "`X-Attempt` says how many attempts there were before" in text
    assert "within 20 minutes" in text
    assert "key-invalid" in problems(text)
    refused = page("key: {required: true, retry_marker: {header: x-attempt}}")
    assert "which does not number its attempts, is refused" in refused


def test_callers_that_are_asked_for_are_told_what_can_be_said_to_them() -> None:
    jwt = "jwt: {keys: [{secret: 0123456789abcdef0123456789abcdef}], algorithms: [HS256]}\n"
    claims = page('scope: ["jwt:sub"]', top=jwt)
    assert "the Bearer token's `sub`" in claims
    assert problems(claims)["credential-invalid"] == ({"401", "503"}, {"fix_request", "same_key"})
    asked = problems(page("reauthorize: {path: /me}"))
    assert asked["not-authorized"] == ({"401", "403"}, {"fix_request"})
    assert asked["reauthorize-unavailable"] == ({"503"}, {"same_key"})


def test_what_a_preset_sets_is_printed() -> None:
    text = page("preset: github, wait_timeout: 2s")
    part = text[text.index("## Presets") :]
    assert "### `github`: `POST /v1/charges`" in part
    (block,) = re.findall("```yaml\n(.*?)```", part, re.DOTALL)
    assert yaml.safe_load(block) == set_by("github")
    assert "waits for its answer up to 2 seconds" in text, "what the rule itself says"
    assert "## Presets" not in page("name: a")


def test_each_answer_has_the_status_and_the_advice_of_its_rules() -> None:
    found = problems(page("problem_status: {key-in-flight: 503, upstream-unreachable: 500}"))
    assert found["key-in-flight"] == ({"503"}, {"same_key"})
    assert found["upstream-unreachable"] == ({"500"}, {"same_key"})
    assert found["outcome-unknown"] == ({"409"}, {"ask_operator"})
    assert found["key-reused"] == ({"422"}, {"new_key"})
    assert found["shutting-down"] == ({"503"}, {"same_key", "ask_operator"})
    probing = problems(page('on_unknown: {probe: {url: "/by/{header:Idempotency-Key}"}}'))
    assert probing["outcome-unknown"] == ({"409"}, {"same_key"})
    assert probing["upstream-failed"] == ({"502"}, {"same_key"})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("key: {required: true}", "| POST | `/v1/charges` | `Idempotency-Key`, required |"),
        ("key: {required: true}", "A request without a key is refused."),
        ('key: {header: K, from: "{json:/id}", required: true}', "| POST | `/v1/charges` | `K`, optional |"),
        ('key: {header: K, from: "{json:/id}", required: true}', "A request in which that is missing is refused."),
        ("name: a", "A request without a key is not protected"),
        ("key: {header: [PayPal-Request-Id, X-Key]}", "the header `PayPal-Request-Id` or `X-Key`"),
        ("key: {format: ulid}", "a ULID"),
        (
            "key: {format: {regex: 'a|b'}, max_length: 20}",
            r"a text that matches `a\|b` as a whole, of at most 20 bytes",
        ),
        (
            'key: {from: ["{json:/id}-{header:X-Order}", "{body|sha256}"]}',
            "the JSON body's `/id` and the header `X-Order` or, where",
        ),
        ("ttl: 90s", "remembered for 90 seconds"),
        ("ttl: 7d", "remembered for 7 days"),
        ("ttl: 24h", "remembered for 24 hours"),
        ('scope: ["header:Authorization", "cookie:sid"]', "the header `Authorization` and the cookie `sid`"),
        ("scope: []", "Keys are shared by all callers"),
        ("fingerprint: {query: false, body: none, headers: []}", "method and path. The body may differ."),
        ("fingerprint: {body: json, ignore: ['json:/sentAt']}", "May differ: the JSON body's `/sentAt`."),
        ("in_flight: reject", "answered at once, with 409"),
        ("wait_timeout: 5s", "up to 5 seconds; then 409"),
        ("max_request_body: 64KiB", "up to 64 KiB"),
        ("guarantee: at_least_once", "it may be executed twice"),
        ("release_statuses: [429, 402]", "After 402 or 429 nothing was executed"),
        ("verify: {scheme: github, secrets: [hunter2hunter2]}", "must be signed as `github` has it"),
    ],
)
def test_what_a_rule_says_is_told(rule: str, words: str) -> None:
    assert words in page(rule)


def test_rules_that_are_alike_to_a_client_are_told_once() -> None:
    text = page("name: a", "name: b, lease: 5s", "name: c, ttl: 1h")
    assert len(re.findall("^### `POST", text, re.MULTILINE)) == 2
    assert text.count("remembered for") == 2


def test_the_type_is_that_of_the_answers() -> None:
    assert "`urn:idemproxy:problem:`" in page("name: a")
    assert "`https://x.example/docs#`" in page("name: a", top="docs_url: https://x.example/docs\n")


def test_nothing_of_the_inside_is_told() -> None:
    text = page("name: secret-rule, verify: {scheme: github, secrets: [hunter2hunter2]}, attempt_header: X-Inside")
    for inside in ("hunter2", "10.1.2.3", "secret-rule", "redis", "X-Inside"):
        assert inside not in text


def test_without_rules_nothing_is_promised() -> None:
    text = markdown(config.load_text("upstream: http://a:1\n", "c.yaml", {}))
    assert "No endpoint of this API is protected" in text
    assert "retry" not in text


def test_the_page_goes_into_a_file_and_replaces_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "c.yaml", tmp_path / "page.md"
    file.write_text(TOP + "  - {match: {path: /a}}\n")
    assert main(["docs", "--config", str(file)]) == 0
    printed = capsys.readouterr().out
    out.write_text("old")
    assert main(["docs", "--config", str(file), "-o", str(out)]) == 0
    assert out.read_text() == printed
    assert printed.startswith("# Sending a request again")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.yaml", "page.md"]


def test_a_faulty_configuration_is_told_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("upstreem: http://a:1\n")
    assert main(["docs", "--config", str(file)]) == 2
    assert f"{file}:1:1" in capsys.readouterr().err
