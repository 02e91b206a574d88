"""`idemproxy docs --openapi`: the description says what the rules do, is valid, and is else as it came."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from idemproxy import config
from idemproxy.cli import main
from idemproxy.documents.additions import with_rules
from idemproxy.documents.description import Description
from idemproxy.documents.reading import parse
from idemproxy.errors import DescriptionError
from tests.unit.documents.descriptions import PAYMENTS
from tests.unit.documents.test_first_config import DESCRIPTIONS

CONFIG = """\
upstream: http://127.0.0.1:9000
routes:
  - name: charges
    match: {methods: [POST], path: /v1/charges}
    key: {required: true, format: uuid}
  - name: webhooks
    match: {path: /v1/webhooks}
    key: {header: X-Event-Id, required: true, max_length: 64}
    guarantee: at_least_once
"""
HEAD = "openapi: 3.0.3\ninfo: {title: A, version: '1'}\n"
OK = "responses: {'200': {description: Done}}"
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/IdempotencyProblem"}}}


def added(text: str | bytes, rules: str = CONFIG) -> tuple[bytes, list[str]]:
    raw = text if isinstance(text, bytes) else text.encode()
    return with_rules(Description(parse(raw, "api.yaml")), config.load_text(rules, "c.yaml", {}))


def read(raw: bytes) -> Any:
    """As any reader of OpenAPI has it; whatever is no text in YAML 1.1 is text here."""
    text = raw.decode("utf-8-sig")
    return json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=yaml.BaseLoader)


def resolved(root: Any, node: Any) -> Any:
    while "$ref" in node:
        found = root
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/")]
        node = found
    return node


def one(paths: str, rules: str = CONFIG, rest: str = "") -> Any:
    """A description with some paths, with the rules in it: valid, and the same when they are added again."""
    raw, _ = added(f"{HEAD}servers: [{{url: /v1}}]\npaths:\n{paths}\n{rest}", rules)
    assert added(raw, rules)[0] == raw
    validate(yaml.safe_load(raw))
    return yaml.safe_load(raw)


# -------------------------------------------------------------------------------------------------------------- what is added


def test_the_key_is_a_parameter() -> None:
    root = one(f"  /webhooks:\n    post:\n      {OK}\n")
    (parameter,) = (resolved(root, each) for each in root["paths"]["/webhooks"]["post"]["parameters"])
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("X-Event-Id", "header", True)
    assert parameter["schema"] == {"type": "string", "minLength": 1, "maxLength": 64}


def test_a_key_that_is_described_is_left_as_it_is() -> None:
    raw, notes = added(PAYMENTS)
    assert b"parameters/IdempotencyKey" in raw
    charge = read(raw)["paths"]["/charges"]
    assert "parameters" not in charge["post"]
    assert not [note for note in notes if "described otherwise" in note]


def test_a_key_that_is_described_otherwise_is_told() -> None:
    listed = "parameters: [{in: header, name: idempotency-key, schema: {type: string}}]"
    _, notes = added(f"{HEAD}paths: {{/v1/charges: {{post: {{{listed}, {OK}}}}}}}")
    assert "POST /v1/charges: Idempotency-Key is required by the rules, and described otherwise" in notes


@pytest.mark.parametrize(
    ("rule", "required"),
    [
        ("key: {required: true}", True),
        ("name: a", False),
        ('key: {header: Idempotency-Key, from: "{json:/id}", required: true}', False),
    ],
)
def test_a_key_is_required_where_a_request_without_is_refused(rule: str, required: bool) -> None:
    rules = f"upstream: http://a:1\nroutes:\n  - {{match: {{path: /a}}, {rule}}}\n"
    root = one(f"  /a: {{post: {{{OK}}}}}\n", rules)
    assert root["components"]["parameters"]["IdempotencyKey"]["required"] is required


def test_a_rule_for_some_headers_only_requires_no_key() -> None:
    rules = "upstream: http://a:1\nroutes:\n  - {match: {path: /a, headers: {X-V: '2'}}, key: {required: true}}\n"
    parameter = one(f"  /a: {{post: {{{OK}}}}}\n", rules)["components"]["parameters"]["IdempotencyKey"]
    assert parameter["required"] is False
    assert "Only with X-V: 2." in parameter["description"]


def test_a_natural_key_is_no_parameter() -> None:
    rules = 'upstream: http://a:1\nroutes:\n  - {match: {path: /a}, key: {from: "{json:/id}", required: true}}\n'
    operation = one(f"  /a: {{post: {{{OK}}}}}\n", rules)["paths"]["/a"]["post"]
    assert "parameters" not in operation
    assert "400" in operation["responses"]


def test_the_answers_are_those_of_the_rule() -> None:
    root = one(f"  /charges: {{post: {{{OK}}}}}\n  /webhooks: {{post: {{{OK}}}}}\n")
    for path, slug, there in (
        ("/charges", "key-missing", True),
        ("/charges", "outcome-unknown", True),
        ("/webhooks", "outcome-unknown", False),
    ):
        responses = root["paths"][path]["post"]["responses"]
        assert set(responses) == {"200", "400", "409", "413", "422", "502", "503", "504"}
        said = "".join(resolved(root, each)["description"] for each in responses.values())
        assert (f"`{slug}`" in said) is there
    assert "Retry-After" in resolved(root, root["paths"]["/charges"]["post"]["responses"]["503"])["headers"]
    assert "headers" not in resolved(root, root["paths"]["/charges"]["post"]["responses"]["422"])


def test_what_the_service_answers_itself_stays_beside() -> None:
    root = read(added(PAYMENTS)[0])
    responses = root["paths"]["/charges"]["post"]["responses"]
    for status in ("400", "409", "503"):
        assert set(resolved(root, responses[status])["content"]) == {"application/json", "application/problem+json"}
    assert root["components"]["responses"]["Conflict"] == {
        "description": "A conflict",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }


@pytest.mark.parametrize(
    "response",
    [
        "{description: Mine, content: {text/plain: {}}}",
        "{description: Mine, content: {}}",
        "{description: Mine}",
        "\n            description: Mine",
        "\n            description: Mine\n            content:\n              text/plain: {}   # mine",
    ],
)
def test_an_answer_that_is_written_out_is_added_to(response: str) -> None:
    root = one(
        f"  /charges:\n    post:\n      responses:\n          '409': {response}\n          '200': {{description: Done}}\n"
    )
    own = root["paths"]["/charges"]["post"]["responses"]["409"]
    assert own["description"] == "Mine"
    assert own["content"] == {**({"text/plain": {}} if "text" in response else {}), **PROBLEM}


def test_an_answer_that_is_a_problem_of_the_services_own_is_left_and_told() -> None:
    own = "responses: {'409': {description: Mine, content: {application/problem+json: {}}}}"
    raw, notes = added(f"{HEAD}paths: {{/v1/charges: {{post: {{{own}}}}}}}")
    assert read(raw)["paths"]["/v1/charges"]["post"]["responses"]["409"]["content"] == {"application/problem+json": {}}
    assert "POST /v1/charges: its own application/problem+json for 409 is left as it is" in notes


def test_components_of_these_names_are_kept() -> None:
    rest = (
        "components: {schemas: {IdempotencyProblem: {type: string}}, responses: {Idempotency409: {description: Mine}}}"
    )
    root = one(f"  /charges: {{post: {{{OK}}}}}\n", rest=rest)
    assert root["components"]["schemas"]["IdempotencyProblem"] == {"type": "string"}
    assert root["paths"]["/charges"]["post"]["responses"]["409"] == {"$ref": "#/components/responses/Idempotency409_2"}


# -------------------------------------------------------------------------------------------------------- what a rule protects


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ("path: '/v1/a/{id}'", True),
        ("path: '/a/{id}'", True),
        ("path: '/v1/**'", True),
        ("path: '/V1/A/{other}/'", True),
        ("path: '/v1/a/b'", False),
        ("path: '/v1/a'", False),
        ("path: '/v1/a/{id}', methods: [PUT]", False),
        ("path: '/v1/a/{id}', methods: []", True),
        ("path: '/v1/a/{id}', hosts: [api.example.com]", True),
        ("path: '/v1/a/{id}', hosts: [other.example.com]", False),
    ],
)
def test_operations_are_met_by_method_path_and_host(match: str, met: bool) -> None:
    rules = f"upstream: http://a:1\nroutes:\n  - {{name: mine, match: {{{match}}}}}\n"
    text = f"{HEAD}servers: [{{url: 'https://api.example.com:8443/v1/'}}]\npaths: {{'/a/{{x}}': {{post: {{{OK}}}}}}}\n"
    raw, notes = added(text, rules)
    assert (raw != text.encode()) is met
    assert ("rule mine protects no operation that is described" in notes) is not met


def test_the_first_rule_counts() -> None:
    rules = (
        "upstream: http://a:1\nroutes:\n  - {match: {path: /v1/a}, key: {header: X-First}}\n  - {match: {path: /**}}\n"
    )
    root = one(f"  /a: {{post: {{{OK}}}}}\n", rules)
    assert root["components"]["parameters"]["IdempotencyKey"]["name"] == "X-First"


# ------------------------------------------------------------------------------------------------------------- all else stays


def test_nothing_else_changes() -> None:
    raw, _ = added(PAYMENTS)
    lines = list(difflib.ndiff(PAYMENTS.splitlines(), raw.decode().splitlines()))
    gone = [line[2:].strip() for line in lines if line.startswith("- ")]
    assert gone == [
        '"409": {$ref: "#/components/responses/Conflict"}   # its own conflict',
        'responses: {"204": {description: Taken}}',
    ]
    assert "example: 012" in raw.decode()
    assert "# its own conflict" in raw.decode()
    assert "# found" in raw.decode()


def test_a_comment_stays_on_its_line() -> None:
    text = f"{HEAD}paths:\n  /v1/charges:\n    post:\n      parameters:\n        - {{name: a, in: query, schema: {{}}}}   # one\n"
    text += "      responses:\n        '200':\n          description: Done   # two\n        # three\n  # four\n"
    raw, _ = added(text)
    assert [line for line in raw.decode().splitlines() if "#" in line.partition('"')[0]] == [
        "        - {name: a, in: query, schema: {}}   # one",
        "          description: Done   # two",
        "        # three",
        "  # four",
    ]


def test_a_description_that_no_rule_meets_stays_byte_for_byte() -> None:
    rules = "upstream: http://a:1\nroutes:\n  - {match: {path: /other}}\n"
    for text in (PAYMENTS, "\ufeff" + PAYMENTS.replace("\n", "\r\n"), json.dumps(yaml.safe_load(PAYMENTS))):
        assert added(text, rules)[0] == text.encode()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n# the end\n", "  # the end"])
def test_however_a_file_ends(last: str, newline: str) -> None:
    text = (
        f"\ufeff{HEAD}paths:\n  /v1/charges:\n    post:\n      responses:\n        '200': {{description: Done}}" + last
    ).replace("\n", newline)
    raw, _ = added(text)
    said = raw.decode()
    assert said.startswith(text.rstrip("\r\n# thend"))
    assert "\n" not in said.replace("\r\n", "") or newline == "\n"
    assert added(raw)[0] == raw
    validate(yaml.safe_load(raw.decode("utf-8-sig")))


@pytest.mark.parametrize("indent", [None, 2, 4, "\t"])
def test_json_stays_json(indent: int | str | None) -> None:
    text = json.dumps(yaml.safe_load(PAYMENTS), indent=indent).replace('"example": 10', '"example": 1.50e3')
    raw, _ = added(text)
    said = raw.decode()
    assert "1.50e3" in said
    assert said.count("\n") > 100 if indent else "\n" not in said
    assert added(raw)[0] == raw
    validate(json.loads(raw))
    removed = [line for line in difflib.ndiff(text.splitlines(), said.splitlines()) if line.startswith("- ")]
    assert indent is None or len(removed) < 30


def test_a_minified_file_stays_so() -> None:
    raw, _ = added(json.dumps(yaml.safe_load(PAYMENTS), separators=(",", ":")))
    assert b'": ' not in raw.replace(b"retry: ", b"").split(b'"components"')[0]
    validate(json.loads(raw))


@pytest.mark.parametrize(
    "text",
    [
        f"paths:\n  /v1/charges: &a\n    post: {{{OK}}}\n  /other: *a\n",
        f"paths:\n  /v1/charges:\n    post: &a {{{OK}}}\n    patch: *a\n",
        "paths:\n  /v1/charges:\n    post:\n      responses: &a {'200': {description: Done}}\n    get: {responses: *a}\n",
        f"paths:\n  /v1/charges: {{$ref: '#/x'}}\n  /other: {{$ref: '#/x'}}\nx: {{post: {{{OK}}}}}\n",
    ],
)
def test_what_stands_in_several_places_is_not_written_for_one(text: str) -> None:
    with pytest.raises(DescriptionError, match=r"^api\.yaml:\d+:\d+: stands (for|in) several p"):
        added(HEAD + text)


def test_an_anchor_elsewhere_does_no_harm() -> None:
    root = one(f"  /charges:\n    post: {{{OK}}}\nx: &a {{b: 1}}\ny: *a\n".replace("x:", "x-a:").replace("y:", "x-b:"))
    assert root["x-a"] == root["x-b"] == {"b": 1}


def grown(old: Any, new: Any) -> bool:
    """Whether everything is still there that was."""
    if isinstance(old, dict):
        return (
            isinstance(new, dict)
            and list(new)[: len(old)] == list(old)
            and all(grown(old[name], new[name]) for name in old)
        )
    if isinstance(old, list):
        return (
            isinstance(new, list) and all(grown(*pair) for pair in zip(old, new, strict=False)) and len(new) >= len(old)
        )
    return bool(old == new)


EVERYTHING = "upstream: http://a:1\nroutes:\n  - {match: {path: /**, methods: [POST, PATCH]}, key: {required: true}}\n"
STYLES = st.sampled_from(
    [
        lambda data: json.dumps(data),
        lambda data: json.dumps(data, indent=3, ensure_ascii=False),
        lambda data: json.dumps(data, separators=(",", ":")),
        lambda data: yaml.safe_dump(data, allow_unicode=True, sort_keys=False),
        lambda data: yaml.safe_dump(data, default_flow_style=None, width=30),
        lambda data: yaml.safe_dump(data, default_flow_style=True, explicit_start=True, explicit_end=True),
        lambda data: yaml.safe_dump(data, default_style="|", indent=5),
        lambda data: yaml.safe_dump(data, default_style=">", width=20, allow_unicode=True),
        lambda data: yaml.safe_dump(data, default_style="'"),
    ]
)


@settings(deadline=None, max_examples=50)
@given(DESCRIPTIONS, STYLES)
def test_in_whatever_style_it_is_written(data: dict[str, Any], style: Any) -> None:
    raw = style(
        json.loads(json.dumps(data))
    ).encode()  # a copy: nothing in it stands in several places, which YAML would tell
    out, _ = added(raw, EVERYTHING)
    assert grown(read(raw), read(out))
    assert added(out, EVERYTHING)[0] == out
    root = read(out)
    for item in root["paths"].values():
        for method in {"post", "patch"} & set(item):
            assert "422" in item[method]["responses"]
            names = [resolved(root, each)["name"].lower() for each in item[method]["parameters"]]
            assert "idempotency-key" in names


# ------------------------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_the_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules, file, out = tmp_path / "c.yaml", tmp_path / "api.yaml", tmp_path / "out.yaml"
    rules.write_text(CONFIG + "  - {name: idle, match: {path: /nowhere}}\n")
    file.write_text(PAYMENTS)
    arguments = ["docs", "--config", str(rules), "--openapi", str(file)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert f"{file}: warning: rule idle protects no operation that is described" in said.err
    assert main([*arguments, "-o", str(out)]) == 0
    assert out.read_text() == said.out
    assert main([*arguments, "-o", str(file)]) == 0
    assert file.read_bytes() == out.read_bytes()
    assert main([*arguments, "-o", str(tmp_path / "none" / "out.yaml")]) == 1
