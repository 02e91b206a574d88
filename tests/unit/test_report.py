"""`idemproxy report`: what it counts, what it advises, and what it says of files that are no log."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idemproxy import reporting
from idemproxy.advising import advice
from idemproxy.cli import main
from idemproxy.reporting import Report, RuleReport, Seen, Spread, busiest

Line = dict[str, Any]


def observed(decision: str, state: str, **more: Any) -> Line:
    line = {"timestamp": "2026-03-01T09:30:00.125Z", "level": "info", "event": "observed", "rule": "charges"}
    told = {"decision": decision, "state": state, "status": 201, "ms": 20.0, "client": "3f9c02d1", "agent": "Shop/2.1"}
    return {**line, **told, "key": "sent", "key_form": "uuid4", **more}


EXECUTED = observed("would_execute", "completed", id="a1")
NO_KEY = observed("would_pass_on", "no_key", key="none", key_form="")
OTHER = {"timestamp": "2026-03-01T09:29:00.000Z", "level": "info", "event": "store ready", "store": "sqlite"}


def encoded(*lines: Line) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def report_of(*lines: Line) -> Report:
    report = Report()
    report.read(encoded(*lines).splitlines(keepends=True))
    return report


def rule_of(*lines: Line) -> RuleReport:
    return report_of(*lines).rules["charges"]


def advised(*lines: Line) -> dict[str, str]:
    return {each.setting: each.because for each in advice(rule_of(*lines))}


# ---------------------------------------------------------------------------------------------------------------------- counts


def test_requests_count_by_what_enforcing_would_have_done() -> None:
    tally = rule_of(
        EXECUTED,
        observed("would_replay", "completed"),
        observed("would_replay", "failed", status=500),
        observed("would_wait", "processing"),
        observed("would_refuse", "key-in-flight"),
        observed("would_refuse", "key-reused", differs=["body"]),
        observed("would_refuse", "key-missing", key="none", key_form=""),
        observed("would_refuse", "outcome-unknown"),
        observed("would_probe", "unknown"),
        NO_KEY,
        observed("not_judged", "cut_body"),
    ).tally
    assert (tally.requests, tally.with_key, tally.without_key) == (11, 9, 2)
    assert (tally.executed, tally.duplicates, tally.conflicts, tally.mismatches) == (1, 2, 2, 1)
    assert tally.refused == {"key-missing": 1, "outcome-unknown": 1}
    assert tally.not_judged == {"cut_body": 1}
    assert (tally.repeated, tally.succeeded) == (5, 4)


def test_requests_count_by_client_too() -> None:
    rule = rule_of(
        EXECUTED,
        observed("would_replay", "completed", client="77aa77aa", agent="Till/1"),
        observed("would_execute", "completed", client="77aa77aa", agent="Till/1", suspected="new_key"),
        observed("would_execute", "completed", agent="Shop/2.2"),
    )
    counted = {
        key: (each.tally.requests, each.tally.duplicates, each.tally.suspected["new_key"])
        for key, each in rule.clients.items()
    }
    assert counted == {
        ("3f9c02d1", "Shop/2.1"): (1, 0, 0),
        ("77aa77aa", "Till/1"): (2, 1, 1),
        ("3f9c02d1", "Shop/2.2"): (1, 0, 0),
    }


def test_clients_beyond_a_number_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MOST_CLIENTS", 2)
    rule = rule_of(*(observed("would_execute", "completed", client=f"{number:08}") for number in range(5)))
    assert [(each.name, each.tally.requests) for each in busiest(rule.clients.values())] == [
        ("00000000", 1),
        ("00000001", 1),
        ("(others)", 3),
    ]


def test_lines_of_enforced_rules_count_apart() -> None:
    line = {
        "event": "decision",
        "rule": "charges",
        "decision": "refused",
        "state": "key-reused",
        "status": 422,
        "ms": 1.0,
    }
    rule = rule_of(EXECUTED, line, {**line, "differs": ["query"]})
    assert rule.tally.requests == 1
    assert [each.setting for each in advice(rule)] == ["fingerprint: {query: false}"]
    assert rule.enforced == {("refused", "key-reused"): 2}


@pytest.mark.parametrize("first", [True, False], ids=["the first's line first", "the waiting one's line first"])
def test_a_wait_lasts_until_the_first_ends(first: bool) -> None:
    lines = [
        observed("would_execute", "completed", id="a1", ms=4_000.0),
        observed("would_wait", "processing", id="a1", behind_ms=500, ms=90.0),
    ]
    rule = rule_of(*(lines if first else lines[::-1]), observed("would_execute", "completed", id="b2", ms=9_000.0))
    assert (rule.overlaps.count, rule.overlaps.longest) == (1, 3_500.0)


def test_operations_beyond_a_number_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MOST_OPERATIONS", 10)
    report = report_of(*(observed("would_execute", "completed", id=f"{number}") for number in range(50)))
    assert len(report._operations) == 10


def test_a_spread_tells_the_longest_and_bounds_of_parts() -> None:
    spread = Spread()
    for ms in (*range(1, 100), 5_000):
        spread.add(ms)
    assert spread.longest == 5_000
    assert 50 <= spread.within(0.5) <= 55
    assert 99 <= spread.within(0.99) <= 109
    assert spread.within(1) == 5_000
    assert spread.share(5_000) == 1
    assert 0.9 <= spread.share(110) < 1


# ---------------------------------------------------------------------------------------------------------------------- advice


def test_little_is_advised_of_little() -> None:
    assert advised(EXECUTED, EXECUTED) == {}


def test_a_key_is_required_where_all_send_one_and_its_form_is_told() -> None:
    said = advised(*([EXECUTED] * 30))
    assert set(said) == {"key: {required: true}", "key: {format: uuid4}"}
    assert set(advised(*([EXECUTED] * 30), NO_KEY)) == {"key: {format: uuid4}"}
    mixed = advised(*([EXECUTED] * 30), observed("would_execute", "completed", key_form="uuid7"))
    assert "key: {format: uuid}" in mixed
    assert not any("format" in setting for setting in advised(*([EXECUTED] * 30), {**EXECUTED, "key_form": "any"}))
    assert not any("format" in setting for setting in advised(*([EXECUTED] * 30), {**EXECUTED, "key_form": "ulid"}))


def test_clients_that_send_no_key_are_counted() -> None:
    others = [observed("would_pass_on", "no_key", key="none", key_form="", client=f"{number}") for number in range(3)]
    assert advised(EXECUTED, *others)["key: {required: false}"].startswith("3 of 4 clients send no key")
    missing = [{**each, "decision": "would_refuse", "state": "key-missing"} for each in others]
    assert advised(EXECUTED, *missing)["key: {required: false}"].startswith("3 of 4 requests have no key")


def test_a_scope_that_nobody_fills_is_told() -> None:
    assert "scope" in advised({**EXECUTED, "client": "anonymous"})
    assert "scope" not in advised({**EXECUTED, "client": "anonymous"}, EXECUTED)


@pytest.mark.parametrize(
    ("differs", "setting"),
    [
        (["body"], "fingerprint: {body: json, ignore: [..]}"),
        (["query"], "fingerprint: {query: false}"),
        (["header:content-type"], "fingerprint: {headers: [..]}"),
        (["path", "body"], ""),
    ],
)
def test_what_mismatches_differ_in_decides_what_is_advised(differs: list[str], setting: str) -> None:
    found = advice(rule_of(observed("would_refuse", "key-reused", differs=differs)))
    assert [each.setting for each in found] == [setting]


def test_mismatches_of_which_nothing_is_known_advise_nothing() -> None:
    assert advised(observed("would_refuse", "key-reused")) == {}


@pytest.mark.parametrize(("took", "setting"), [(4_000.0, "wait_timeout: 10s"), (45_000.0, "wait_timeout: 60s")])
def test_the_waits_decide_how_long_is_waited(took: float, setting: str) -> None:
    said = advised({**EXECUTED, "ms": took}, observed("would_wait", "processing", id="a1", behind_ms=0))
    assert "covers 100%" in said[setting].replace(" %", "%")


@pytest.mark.parametrize(("behind", "setting"), [(7_200_000, "ttl: 24h"), (100_000_000, "ttl: 3d")])
def test_the_latest_retry_decides_how_long_answers_are_remembered(behind: int, setting: str) -> None:
    assert setting in advised(EXECUTED, observed("would_replay", "completed", behind_ms=behind))


@pytest.mark.parametrize(
    ("lines", "setting"),
    [
        ([observed("would_refuse", "request-too-large")], "max_request_body"),
        ([observed("would_refuse", "answer-not-kept")], "max_response_body"),
        ([observed("would_refuse", "outcome-unknown")], "on_unknown"),
        ([observed("would_refuse", "store-unavailable")], "on_store_failure"),
        ([observed("would_refuse", "signature-invalid")], "verify"),
        ([observed("would_refuse", "key-invalid", key="unusable", key_form="")], "key: {format: any}"),
        ([{**NO_KEY, "suspected": "no_key"}], 'key: {from: "{body|sha256}"}'),
        ([observed("would_execute", "completed", suspected="new_key")], "key: {from: ..}"),
    ],
)
def test_what_would_be_refused_or_is_suspected_is_advised_on(lines: list[Line], setting: str) -> None:
    assert setting in advised(EXECUTED, *lines)
    assert setting not in advised(EXECUTED)


def test_a_switch_of_protocols_and_requests_not_looked_at_are_noted() -> None:
    notes = advice(
        rule_of({**EXECUTED, "status": 101}, {**NO_KEY, "decision": "not_judged", "state": "busy", "key": ""})
    )
    assert [each.setting for each in notes][-2:] == ["", ""]


# --------------------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "proxy.log"
    file.write_bytes(
        b"idemproxy listening on 127.0.0.1:8080\n"
        + encoded(OTHER, *([EXECUTED] * 3), observed("would_replay", "completed", behind_ms=1_000), NO_KEY)
        + encoded({**EXECUTED, "client": "\x1b[31mred", "timestamp": "2026-03-02T00:00:00.000Z"})
    )
    return file


def test_the_report_is_for_people(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(log)]) == 0
    said = capsys.readouterr().out
    for part in (
        "6 observed requests, 2026-03-01T09:30:00.125Z to 2026-03-02T00:00:00.000Z",
        "1 lines are not the log's: skipped",
        "rule charges",
        "3f9c02d1 Shop/2.1",
        "executions prevented           1  1 of them succeeded once more",
        "ttl: 24h",
    ):
        assert part in said
    assert "\x1b" not in said


def test_the_report_is_for_programs(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(log), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (rule,) = said["rules"]
    assert said["lines"] == {"counted": 6, "other_event": 1, "other_version": 0, "no_line": 1}
    assert (rule["rule"], rule["requests"], rule["duplicates"], rule["executions_prevented"]) == ("charges", 6, 1, 1)
    assert sum(client["requests"] for client in rule["clients"]) == 6
    assert rule["longest_gap_ms"] == 1_000


def test_the_log_may_come_by_a_pipe(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(log.read_bytes())))
    assert main(["report", "-"]) == 0
    assert "standard input: 6 observed requests" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is not a log of idemproxy"),
        (b"GET / HTTP/1.1\n" * 5, "is not a log of idemproxy"),
        (bytes(range(256)) * 1_000, "is not a log of idemproxy"),
        (b"x" * 1_000_000, "is not a log of idemproxy"),
        (b'{"a": 1}\n[1]\n"x"\n7\n', "is not a log of idemproxy"),
        (b"\x1f\x8b\x08\x00rest", "is compressed"),
        (encoded(OTHER), "no request under a rule is in it"),
        (encoded(observed("might_execute", "completed")), "is of another version"),
        (encoded(observed("would_execute", "completed", suspected="by_moonlight")), "is of another version"),
        (encoded(observed("would_execute", "completed")).replace(b"20.0", b"1e999"), "is of another version"),
        (encoded(observed("would_execute", "completed", ms=-1)), "is of another version"),
        (encoded(observed("would_execute", "completed", status="201")), "is of another version"),
    ],
)
def test_what_is_no_log_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file = tmp_path / "proxy.log"
    file.write_bytes(content)
    assert main(["report", str(file)]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


def test_a_file_that_is_not_there_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "gone", tmp_path):
        assert main(["report", str(path)]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_last_line_that_is_cut_is_told_and_not_counted(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log.open("ab") as file:
        file.write(encoded(EXECUTED)[:60])
    assert main(["report", str(log)]) == 0
    said = capsys.readouterr().out
    assert "6 observed requests" in said
    assert "the last line is cut" in said


def test_a_line_without_end_is_not_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "proxy.log"
    file.write_bytes(encoded(EXECUTED) + b"{" * 5_000_000 + b"\n" + encoded(EXECUTED))
    assert main(["report", str(file), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert (lines["counted"], lines["no_line"]) == (2, 1)


def test_a_long_log_takes_no_more_memory_than_a_short_one() -> None:
    """Its operations and callers are as many as its lines."""

    def lines(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield encoded({**EXECUTED, "id": f"{number:012x}", "client": f"{number:08x}", "agent": ""})

    report = Report()
    report.read(lines(60_000))
    assert report.lines[Seen.COUNTED] == 60_000
    assert len(report._operations) == reporting.MOST_OPERATIONS
    assert len(report.rules["charges"].clients) == reporting.MOST_CLIENTS + 1
