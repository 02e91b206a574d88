"""`idemproxy explain`, as an operator runs it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from idemproxy.cli import main
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import OnUnknown
from idemproxy.stores.base import Claim, Claimed, Completion, Done
from idemproxy.stores.opening import open_store

CONFIG = """\
upstream: http://127.0.0.1:9
store: {store}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges, hosts: [api.test], headers: {{X-Kind: pay}}}}
    key: {{required: true}}
    scope: ["header:Authorization", "cookie:session", "literal:shop"]
    fingerprint: {{body: json, headers: [Content-Type, Authorization]}}
  - name: orders
    match: {{path: "/orders/{{order}}"}}
    key: {{from: ["{{header:X-Order}}", "o-{{path:order}}-{{json:/amount|sha256}}"]}}
  - name: rest
    match: {{path: /**}}
"""
SECRET = "Bearer s3cret"
CHARGE = ["POST", "http://api.test/v1/charges?a=1", "-H", "X-Kind: pay", "-H", f"Authorization: {SECRET}"]
KEYED = [*CHARGE, "-H", "Idempotency-Key: k1", "-d", '{"a":1}']
REFUSED_FROM = 9
"""A port that nobody listens on."""

Explain = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def file(tmp_path: Path, store: Path) -> Path:
    file = tmp_path / "idemproxy.yaml"
    file.write_text(CONFIG.format(store=f"sqlite:{store}"))
    return file


@pytest.fixture
def explain(file: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Runs the command; gives what it prints, or what it says is wrong."""

    def run(*arguments: str, status: int = 0, config: Path = file) -> str:
        try:
            ended: object = main(["explain", "--config", str(config), *arguments])
        except SystemExit as wrong:
            ended = wrong.code
        said = capsys.readouterr()
        assert ended == status, said
        assert "Traceback" not in said.err
        if status:
            assert said.out == ""
            assert len(said.err.splitlines()) <= 2, said.err
            return said.err
        return said.out

    return run


def as_json(said: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(said)
    return shown


async def record(store: Path, record_id: str, fingerprint: bytes, answer: Answer | None) -> None:
    opened = await open_store(f"sqlite:{store}", namespace="default", timeout_ms=20_000)
    claim = Claim(
        b"t" * 16, fingerprint, "1:query:json:content-type,authorization", "charges", OnUnknown.BLOCK, 60_000, 60_000
    )
    assert isinstance(await opened.claim(record_id, claim), Claimed)
    if answer is not None:
        assert isinstance(await opened.complete(record_id, Completion(claim.token, answer, 60_000, None)), Done)
    await opened.close()


def test_a_request_of_the_command_line(explain: Explain, store: Path) -> None:
    shown = as_json(explain(*KEYED, "--json"))
    assert shown["rule"] == "charges"
    assert shown["not_matched"] == [{"rule": "orders", "lacks": ["path"]}, {"rule": "rest", "lacks": []}]
    assert (shown["key"], shown["key_from"]) == ("k1", "header:idempotency-key")
    assert [part["part"] for part in shown["scope"]] == ["header:authorization", "cookie:session", "literal:shop"]
    assert [part["value"] for part in shown["scope"]][1:] == [None, "shop"]
    assert len(shown["fingerprint"]) == len(shown["id"]) == 64
    assert shown["id"].startswith(shown["short_id"])
    assert shown["fingerprint_parts"]["query"] == "a=1"
    assert shown["record"] is None
    assert shown["decision"] == "execute"
    assert SECRET not in str(shown)
    assert "s3cret" not in str(shown)
    assert not store.exists(), "a store was made to be looked at"


def test_in_words(explain: Explain) -> None:
    said = explain(*KEYED)
    for line in (
        "rule          charges",
        "not orders: other path",
        "not rest: an earlier rule",
        "key           k1  from header",
    ):
        assert line in said
    assert "decision      execute: " in said
    assert "s3cret" not in said
    lacking = explain("PATCH", "http://other.test/v1/charges")
    assert "not charges: other method, other host, other header:x-kind" in lacking
    assert "decision      forward: It bears no key" in lacking


@pytest.mark.parametrize(
    ("arguments", "decision", "status"),
    [
        (["GET", "/v1/charges"], "forward", None),
        (["POST", "/elsewhere"], "forward", None),
        (CHARGE, "refuse:key-missing", 400),
        ([*CHARGE, "-H", "Idempotency-Key: a, b"], "refuse:key-invalid", 400),
        ([*KEYED, "-H", "Connection: x-kind"], "refuse:not-http", 400),
        (["CONNECT", "http://h/"], "refuse:not-http", 501),
    ],
)
def test_decisions(explain: Explain, arguments: list[str], decision: str, status: int | None) -> None:
    shown = as_json(explain(*arguments, "--json"))
    assert (shown["decision"], shown.get("status")) == (decision, status)
    assert {"rule", "key", "scope", "fingerprint", "id", "record", "decision"} <= set(shown)
    if status is not None:
        assert shown["problem"]["status"] == status


def test_a_derived_key(explain: Explain) -> None:
    shown = as_json(explain("POST", "/orders/7", "-d", '{"amount": 5}', "--json"))
    assert shown["key"] == "o-7-" + hashlib.sha256(b"5").hexdigest()
    assert shown["key_from"] == "o-{path:order}-{json:/amount|sha256}"
    named = as_json(explain("POST", "/orders/7", "-H", "X-Order: n1", "--json"))
    assert (named["key"], named["key_from"]) == ("n1", "{header:x-order}")


def test_what_is_recorded_is_shown_and_stays_as_it_is(explain: Explain, store: Path) -> None:
    unknown = as_json(explain(*KEYED, "--json"))
    asyncio.run(
        record(store, unknown["id"], bytes.fromhex(unknown["fingerprint"]), Answer(201, b"201 Created\r\n", b"secret"))
    )
    before = store.read_bytes()
    shown = as_json(explain(*KEYED, "--json"))
    assert (shown["decision"], shown["status"]) == ("replay", 201)
    assert (shown["record"]["state"], shown["record"]["attempt"], shown["record"]["rule"]) == (
        "completed",
        1,
        "charges",
    )
    assert shown["record"]["age"] >= 0
    assert "secret" not in str(shown["record"])
    reused = as_json(explain(*KEYED[:-1], '{"a":2}', "--json"))
    assert (reused["decision"], reused["status"]) == ("refuse:key-reused", 422)
    assert "record        completed, " in explain(*KEYED)
    assert store.read_bytes() == before


def test_a_record_whose_owner_is_alive(explain: Explain, store: Path) -> None:
    found = as_json(explain(*KEYED, "--json"))
    asyncio.run(record(store, found["id"], bytes.fromhex(found["fingerprint"]), None))
    shown = as_json(explain(*KEYED, "--json"))
    assert shown["decision"] == "wait"
    assert 0 < shown["record"]["lease_left"] <= 60_000
    assert "processing, " in explain(*KEYED)
    assert ", lease for " in explain(*KEYED)


@pytest.mark.parametrize(
    ("more", "decision"), [("", "refuse:store-unavailable"), ("on_store_failure: fail_open", "forward")]
)
def test_a_store_that_is_down(explain: Explain, tmp_path: Path, more: str, decision: str) -> None:
    file = tmp_path / "down.yaml"
    text = CONFIG.format(store=f"redis://127.0.0.1:{REFUSED_FROM}/0").replace(
        "key: {required: true}", f"key: {{}}\n    {more}"
    )
    file.write_text(text)
    shown = as_json(explain(*KEYED, "--json", config=file))
    assert (shown["rule"], shown["key"], shown["record"], shown["decision"]) == ("charges", "k1", None, decision)
    assert len(shown["id"]) == 64
    assert shown["store_trouble"]
    said = explain(*KEYED, config=file)
    assert "record        unknown" in said
    assert "store         unknown: " in said


def test_a_request_from_a_file_and_from_curl(explain: Explain, tmp_path: Path) -> None:
    command = as_json(explain(*KEYED, "-H", "Content-Type: application/json", "--json"))
    raw = tmp_path / "charge.http"
    raw.write_text(
        f"POST /v1/charges?a=1 HTTP/1.1\nHost: api.test\nX-Kind: pay\nAuthorization: {SECRET}\nIdempotency-Key: k1\n"
        'Content-Type: application/json\nContent-Length: 7\n\n{"a":1}\n'
    )
    file = as_json(explain("--request", str(raw), "--json"))
    curl = as_json(
        explain(
            *(
                "--json",
                "--",
                "curl",
                "-sS",
                "https://api.test/v1/charges?a=1",
                "-H",
                "X-Kind: pay",
                "-H",
                f"Authorization: {SECRET}",
            ),
            *("-H", "Idempotency-Key: k1", "--json", '{"a":1}'),
        )
    )
    archive = tmp_path / "charge.har"
    fields = {"X-Kind": "pay", "Authorization": SECRET, "idempotency-key": "k1", "content-type": "application/json"}
    request = {
        "method": "POST",
        "url": "https://api.test/v1/charges?a=1",
        "headers": [{"name": name, "value": value} for name, value in fields.items()],
        "postData": {"text": '{"a":1}'},
    }
    archive.write_text(json.dumps({"log": {"entries": [{"request": request}]}}))
    har = as_json(explain("--har", str(archive), "--entry", "1", "--json"))
    for shown in (file, curl, har):
        assert (shown["rule"], shown["id"], shown["fingerprint"]) == ("charges", command["id"], command["fingerprint"])
    assert len(file["notes"]) == 1
    assert "note          Its lines end" in explain("--request", str(raw))
    same = as_json(explain("--request", str(raw), "--against", str(archive), "--json"))
    assert same["against"]["relation"] == "retry"


def against(explain: Explain, tmp_path: Path, *arguments: str, old: str = "", new: str = "") -> dict[str, Any]:
    """How a request stands to that of the command line, which differs in some text."""
    file = tmp_path / "other.http"
    text = (
        f"POST /v1/charges?a=1 HTTP/1.1\r\nHost: api.test\r\nX-Kind: pay\r\nAuthorization: {SECRET}\r\n"
        'Idempotency-Key: k1\r\nContent-Length: 7\r\n\r\n{"a":1}'
    )
    file.write_bytes(text.replace(old, new).encode() if old else text.encode())
    shown: dict[str, Any] = as_json(explain(*(arguments or KEYED), "--json", "--against", str(file)))["against"]
    assert "s3cret" not in str(shown)
    return shown


@pytest.mark.parametrize(
    ("old", "new", "relation", "differs"),
    [
        ("", "", "retry", []),
        ("k1", "k2", "other operation", ["key"]),
        ("a=1 ", "a=2 ", "reuse", ["query"]),
        ('"a":1', '"a":2', "reuse", ["body"]),
        ("s3cret", "s3cre7", "other operation", ["scope header:authorization", "header:authorization"]),
        ("Idempotency-Key", "Other", "no operation", []),
        ("pay", "other", "other operation", ["rule"]),
    ],
)
def test_two_requests(explain: Explain, tmp_path: Path, old: str, new: str, relation: str, differs: list[str]) -> None:
    shown = against(explain, tmp_path, old=old, new=new)
    assert shown["relation"] == relation
    assert [part["part"] for part in shown["parts"] if not part["equal"]] == differs
    assert shown["json_differs"] == (["/a"] if differs == ["body"] else [])


def test_two_requests_under_two_rules_can_be_one_operation(explain: Explain, file: Path, tmp_path: Path) -> None:
    rule = "    match: {path: /v1/charges, headers: {X-Kind: {kind}}}\n"
    file.write_text(
        "upstream: http://127.0.0.1:9\nstore: sqlite:none.db\nroutes:\n  - name: one\n"
        + rule.replace("{kind}", "pay")
        + "    fingerprint: {query: false}\n  - name: two\n"
        + rule.replace("{kind}", "refund")
    )
    shown = against(explain, tmp_path, old="a=1", new="a=2")
    assert shown["relation"] == "retry"
    other = against(explain, tmp_path, old="X-Kind: pay", new="X-Kind: refund")
    assert (other["relation"], [part["part"] for part in other["parts"] if not part["equal"]]) == ("retry", ["rule"])


def test_two_requests_in_words(explain: Explain, tmp_path: Path) -> None:
    against(explain, tmp_path, old='"a":1', new='"a":2')
    said = explain(*KEYED, "--against", str(tmp_path / "other.http"))
    assert "against       the same key for another request" in said
    assert '  this:  7 bytes, by its JSON value: {"a":1}' in said
    assert '  other: 7 bytes, by its JSON value: {"a":2}' in said
    assert "JSON differs at: /a" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give one request"),
        (["POST"], "METHOD TARGET"),
        (["POST", "/a", "/b"], "METHOD TARGET"),
        (["POST", "/a", "--request", "x"], "give one request"),
        (["POST", "/a", "--entry", "1"], "--entry: only with --har"),
        (["--request", "x", "-d", "1"], "only with METHOD TARGET"),
        (["POST", "/a", "-H", "nonsense"], "write 'Name: value'"),
        (["POST", "/a", "--entry", "x", "--har", "y"], "--entry"),
        (["POST", "/a", "--peer", "nobody"], "--peer"),
    ],
)
def test_wrong_usage(explain: Explain, arguments: list[str], why: str) -> None:
    assert why in explain(*arguments, status=2)


def test_what_cannot_be_read_is_told_in_a_line(explain: Explain, tmp_path: Path) -> None:
    assert "no/such.http: No such file" in explain("--request", "no/such.http", status=1)
    file = tmp_path / "a.har"
    file.write_text("{}")
    assert f"{file}: it has no log" in explain("--har", str(file), status=1)
    assert f"{file}: it has no log" in explain("POST", "/a", "--against", str(file), status=1)
    assert "it does not begin" in explain("--request", str(file), status=1)
    assert "option -Z" in explain("--", "curl", "-Z", "http://a/", status=1)
    assert "begins with /" in explain("POST", "v1/charges", status=1)


def test_a_configuration_with_mistakes(explain: Explain, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("upstream: nonsense\n")
    assert f"{file}:1:11" in explain("POST", "/a", config=file, status=2)


def test_of_a_rule_that_only_observes_it_says_so(explain: Explain, file: Path) -> None:
    before = explain(*KEYED)
    assert as_json(explain(*KEYED, "--json"))["mode"] == "enforce"
    file.write_text(file.read_text().replace("  - name: charges\n", "  - name: charges\n    mode: observe\n"))
    assert as_json(explain(*KEYED, "--json"))["mode"] == "observe"
    said = "only observes: the request is passed on as it came, and what follows is what enforcing would do"
    assert said not in before
    assert [line for line in explain(*KEYED).splitlines() if line.strip() != said] == before.splitlines()
