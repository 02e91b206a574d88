"""`idemproxy init`: what it makes of a description loads, and says what the description says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemproxy import config
from idemproxy.cli import main
from idemproxy.config.settings import Settings
from idemproxy.documents.first_config import first_config
from idemproxy.idempotency.routes import CookieScope, HeaderScope, Rule
from tests.unit.documents.descriptions import PAYMENTS, described


def made(text: str) -> Settings:
    return config.load_text(first_config(described(text)), "made.yaml", {})


def api(paths: str, rest: str = "") -> str:
    return f"openapi: 3.1.0\ninfo: {{title: A, version: '1'}}\n{rest}\npaths:\n{paths}"


def rules(read: Settings) -> dict[str, Rule]:
    return {rule.name: rule for rule in read.rules}


def test_a_rule_for_each_post_and_patch() -> None:
    assert {(rule.name, rule.match.path, *rule.match.methods) for rule in made(PAYMENTS).rules} == {
        ("createCharge", "/v1/charges", b"POST"),
        ("updateCharge", "/v1/charges/{id}", b"PATCH"),
        ("searchCharges", "/v1/charges/search", b"POST"),
        ("post-v1-webhooks", "/v1/webhooks", b"POST"),
    }


def test_the_upstream_is_the_first_server_without_its_path() -> None:
    assert made(PAYMENTS).upstream.url == "https://api.example.com"


@pytest.mark.parametrize(
    "servers", ["", "servers: [{url: /v2}]", "servers: [{url: 'ftp://x'}]", "servers: [{url: 'https://{h}/'}]"]
)
def test_without_an_address_there_is_a_placeholder(servers: str) -> None:
    text = first_config(described(api("  /a: {post: {}}", servers)))
    assert "upstream: http://127.0.0.1:9000" in text
    assert "placeholder" in text


def test_an_upstream_on_the_proxys_own_port_moves_the_proxy() -> None:
    read = made(api("  /a: {post: {}}", "servers: [{url: 'http://localhost:8080'}]"))
    assert read.upstream.url == "http://localhost:8080"
    assert "8081" in str(read.listen)


def test_what_most_rules_say_stands_in_the_defaults_and_the_rest_in_the_rule() -> None:
    text = first_config(described(PAYMENTS))
    found = rules(config.load_text(text, "made.yaml", {}))
    assert (found["createCharge"].key.required, found["createCharge"].key.form) == (True, "uuid")
    for name in ("updateCharge", "searchCharges", "post-v1-webhooks"):
        assert (found[name].key.required, found[name].key.form) == (False, "any")
    assert text.count("required:") == 2
    assert text.count("scope:") == 2


def test_the_key_header_is_the_declared_one() -> None:
    text = api(
        "  /a:\n    post: {parameters: [{in: header, name: PayPal-Request-Id, schema: {type: string, maxLength: 108}}]}\n"
        "  /b: {post: {}}\n"
        "  /c:\n    delete: {parameters: [{in: header, name: X-Idempotency-Key, required: true}]}\n"
        "  /d: {delete: {}}\n"
    )
    found = {rule.match.path: rule.key for rule in made(text).rules}
    assert found["/a"].headers == found["/b"].headers == (b"paypal-request-id",)
    assert (found["/a"].max_length, found["/b"].max_length) == (108, 255)
    assert (found["/c"].headers, found["/c"].required) == ((b"x-idempotency-key",), True)
    assert "/d" not in found


def test_of_several_key_headers_any_may_carry_the_key() -> None:
    both = "{in: header, name: Idempotency-Key}, {in: header, name: X-Idempotency-Key, required: true}"
    key = made(api(f"  /a: {{post: {{parameters: [{both}]}}}}\n")).rules[0].key
    assert (key.headers, key.required) == ((b"idempotency-key", b"x-idempotency-key"), True)


def test_a_header_about_replays_is_no_key() -> None:
    text = api(
        "  /a: {post: {parameters: [{in: header, name: Idempotent-Replayed}, {in: query, name: idempotency_key}]}}"
    )
    assert made(text).rules[0].key.headers == (b"idempotency-key",)


def test_the_scope_is_what_callers_show() -> None:
    found = rules(made(PAYMENTS))
    assert found["createCharge"].scope == (HeaderScope(b"authorization"),)
    assert found["post-v1-webhooks"].scope == (HeaderScope(b"x-api-key"), CookieScope(b"sid"))


def test_a_scope_that_cannot_be_said_is_told() -> None:
    schemes = "components: {securitySchemes: {q: {type: apiKey, in: query, name: k}, c: {type: mutualTLS}}}"
    text = first_config(described(api("  /a: {post: {security: [{q: []}, {c: []}]}}", schemes)))
    assert "an API key in the query" in text
    assert "client certificates" in text
    assert config.load_text(text, "made.yaml", {}).rules[0].scope == (HeaderScope(b"authorization"),)


def test_a_literal_stands_before_a_name_that_would_take_its_requests() -> None:
    read = made(api("  /a/{x}: {post: {}}\n  /a/b: {post: {}}\n  /{y}/b: {post: {}}\n"))
    assert [rule.match.path for rule in read.rules] == ["/a/b", "/a/{x}", "/{y}/b"]
    assert not [warning for warning in read.warnings if "never match" in warning]


@pytest.mark.parametrize("path", ["/a/{id}.json", "/a/{x}-{y}", "/a?b=c", "/a#b", "/a/**", "/a//b", "/a/../b", "/${x}"])
def test_a_path_that_no_rule_can_say_is_told(path: str) -> None:
    text = first_config(described(api(f"  {json.dumps(path)}: {{post: {{}}}}\n  /good: {{post: {{}}}}\n")))
    assert f"#   POST {path}: no rule can say this path" in text
    assert [rule.match.path for rule in config.load_text(text, "made.yaml", {}).rules] == ["/good"]


def test_paths_that_are_one_to_the_proxy_are_told() -> None:
    text = first_config(described(api("  /a/{x}: {post: {}}\n  /A/{y}: {post: {}}\n")))
    assert len(config.load_text(text, "made.yaml", {}).rules) == 1
    assert "its requests meet the rule for" in text


def test_names_of_segments_become_ones_of_the_configuration() -> None:
    (rule,) = made(api("  /é/{charge-id}/{charge.id}/{1}: {post: {}}\n")).rules
    assert rule.match.path == "/%C3%A9/{charge_id}/{charge_id_2}/{_1}"


def test_references_into_other_files_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "api.yaml"
    file.write_text(api("  /a: {$ref: 'other.yaml#/a'}\n  /b: {post: {parameters: [{$ref: 'k.yaml'}]}}\n"))
    assert main(["init", "--openapi", str(file)]) == 0
    said = capsys.readouterr()
    for reference in ("other.yaml#/a", "k.yaml"):
        assert reference in said.out
        assert reference in said.err


def test_no_file_is_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, out = tmp_path / "api.yaml", tmp_path / "out.yaml"
    file.write_text(PAYMENTS)
    assert main(["init", "--openapi", str(file), "-o", str(out)]) == 0
    assert config.load(out, {}).rules
    out.write_text("mine")
    assert main(["init", "--openapi", str(file), "-o", str(out)]) == 1
    assert out.read_text() == "mine"
    assert f"{out}: exists already" in capsys.readouterr().err


def test_a_description_of_more_operations_than_a_configuration_holds_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "api.yaml"
    file.write_text(api("".join(f"  /a{number}: {{post: {{}}}}\n" for number in range(2_001))))
    assert main(["init", "--openapi", str(file)]) == 1
    assert "split the description" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- whatever it may say

_ODD = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
_SEGMENTS = st.one_of(
    _ODD, st.sampled_from(["a", "{id}", "{id}", "{a-b}", "{}", "**", "..", "$batch", "${X}", "a%2Fb", "{x}.json"])
)
_PARAMETERS = st.fixed_dictionaries(
    {
        "in": st.sampled_from(["header", "query"]),
        "name": st.one_of(_ODD, st.sampled_from(["Idempotency-Key", "x-idempotent!~id"])),
    },
    optional={
        "required": st.booleans(),
        "schema": st.fixed_dictionaries({"format": st.sampled_from(["uuid", "x"]), "maxLength": st.integers(-1, 9999)}),
    },
)
_OPERATIONS: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {"responses": st.just({})},
    optional={
        "operationId": st.one_of(_ODD, st.sampled_from(["on", "null", "1", "same", "route-2"])),
        "summary": _ODD,
        "parameters": st.lists(_PARAMETERS, max_size=3),
        "security": st.lists(st.dictionaries(st.sampled_from("abc"), st.just([])), max_size=2),
    },
)
_SCHEMES = st.fixed_dictionaries(
    {"type": st.sampled_from(["http", "apiKey", "mutualTLS", "?"])},
    optional={"in": st.sampled_from(["header", "cookie", "query"]), "name": _ODD},
)
DESCRIPTIONS = st.fixed_dictionaries(
    {
        "openapi": st.just("3.0.1"),
        "info": st.fixed_dictionaries({"title": _ODD, "version": _ODD}),
        "paths": st.dictionaries(
            st.lists(_SEGMENTS, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments)),
            st.dictionaries(st.sampled_from(["get", "post", "patch", "put"]), _OPERATIONS),
            max_size=5,
        ),
        "components": st.fixed_dictionaries({"securitySchemes": st.dictionaries(st.sampled_from("abc"), _SCHEMES)}),
    },
    optional={
        "servers": st.lists(st.fixed_dictionaries({"url": st.one_of(_ODD, st.just("https://a.b/{c}"))}), max_size=2)
    },
)


@settings(deadline=None, max_examples=60)
@given(DESCRIPTIONS)
def test_whatever_a_description_says_the_configuration_loads_and_tells_all_its_operations(
    value: dict[str, Any],
) -> None:
    text = first_config(described(json.dumps(value)))
    read = config.load_text(text, "made.yaml", {})
    operations = [method for item in value["paths"].values() for method in item if method in ("post", "patch")]
    told = text.count("\n#   POST ") + text.count("\n#   PATCH ") + text.count("\n#   PUT ")
    assert len(read.rules) + told >= len(operations)
    assert not [warning for warning in read.warnings if "never match" in warning]
