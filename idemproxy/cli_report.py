"""`idemproxy report`: what a log says of the requests in it, and which settings would fit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from idemproxy.advising import advice
from idemproxy.errors import IdemproxyError
from idemproxy.reporting import Client, Report, RuleReport, Seen, Tally, busiest

LONGEST_LINE: Final = 65_536
"""Bytes of a line that are read: none of ours is nearly as long."""
SHOWN_CLIENTS: Final = 20
GZIP: Final = b"\x1f\x8b"

Commands = Any
"""What `add_subparsers` gives: argparse has no public name for it."""


class NoReport(IdemproxyError):
    """There is nothing to report."""


def add(commands: Commands) -> None:
    """Offer the command."""
    parser = commands.add_parser(
        "report",
        help="tell what a log of observed requests says",
        description="Read a log that the proxy wrote under rules with `mode: observe`, and tell what enforcing them would have done.",
        allow_abbrev=False,
    )
    parser.add_argument("log", metavar="LOG", help="what the proxy wrote to standard error; - is standard input")
    parser.add_argument("--json", action="store_true", help="as one JSON object, with every client")
    parser.set_defaults(act=_report)


def _report(arguments: argparse.Namespace) -> int:
    report = Report()
    if arguments.log == "-":
        named = "standard input"
        _read(report, sys.stdin.buffer, named)
    else:
        named = arguments.log
        with Path(named).open("rb") as file:
            _read(report, file, named)
    print(json.dumps(plain(report), indent=2) if arguments.json else "\n".join(_text(report, named)))
    return 0


def _read(report: Report, file: BinaryIO, named: str) -> None:
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        raise NoReport(f"{named} is empty: give what the proxy wrote to standard error")
    if first.startswith(GZIP):
        raise NoReport(f"{named} is compressed: unpack it first, such as by `zcat LOG | idemproxy report -`")
    report.read(_again(first, lines))
    if report.lines[Seen.COUNTED]:
        return
    if report.lines[Seen.OTHER_VERSION]:
        raise NoReport(f"{named} is of another version of idemproxy: read it with the version that wrote it")
    if report.lines[Seen.OTHER_EVENT]:
        raise NoReport(
            f"{named} is a log, and no request under a rule is in it: set `mode: observe` in a rule, let requests come, and read "
            "the log again (with IDEMPROXY_LOG=warning they are not logged)"
        )
    raise NoReport(
        f"{named} is not a log of idemproxy: give what it wrote to standard error, JSON lines, not to a terminal"
    )


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Line by line; of one that is too long, nothing but a part that is no line of ours."""
    while line := file.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (more := file.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
            pass
        yield b"too long\n"


# ------------------------------------------------------------------------------------------------------------------------ text


def _text(report: Report, named: str) -> Iterator[str]:
    rules = sorted(report.rules.values(), key=lambda rule: rule.name)
    requests = sum(rule.tally.requests for rule in rules)
    yield f"{_clean(named)}: {requests:,} observed requests, {_span(report)}"
    yield from _notes(report)
    for rule in rules:
        yield ""
        yield f"rule {_clean(rule.name)}"
        if rule.tally.requests:
            yield from _table(rule.tally)
        yield from _enforced(rule)
        if rule.clients:
            yield from _clients(rule)
        if found := advice(rule):
            yield ""
            yield "  settings that would fit"
            for each in found:
                yield f"    {each.setting or 'note'}"
                yield f"      {each.because}"


def _span(report: Report) -> str:
    if not report.since:
        return "no times"
    return f"{_clean(report.since)} to {_clean(report.until)}"


def _notes(report: Report) -> Iterator[str]:
    if other := report.lines[Seen.NO_LINE]:
        yield f"  {other:,} lines are not the log's: skipped"
    if other := report.lines[Seen.OTHER_VERSION]:
        yield f"  {other:,} lines are of another version of idemproxy: skipped"
    if report.cut:
        yield "  the last line is cut: skipped"


def _table(tally: Tally) -> Iterator[str]:
    for name, count, why in (
        ("requests", tally.requests, ""),
        ("with a key", tally.with_key, ""),
        ("would execute", tally.executed, ""),
        ("duplicates", tally.duplicates, "would get the recorded answer"),
        ("conflicts", tally.conflicts, "came while their operation was running"),
        ("mismatches", tally.mismatches, "same key, another request: would be refused"),
        ("would be refused", tally.refused.total(), _each(tally.refused)),
        ("suspected duplicates", tally.suspected.total(), _each(tally.suspected)),
        ("not judged", tally.not_judged.total(), _each(tally.not_judged)),
        (
            "executions prevented",
            tally.repeated,
            f"{tally.succeeded:,} of them succeeded once more" if tally.repeated else "",
        ),
    ):
        yield f"  {name:<21}{count:>11,}  {why}".rstrip()


def _each(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{_clean(name)} {count:,}" for name, count in sorted(counts.items(), key=lambda each: -each[1]) if count
    )


def _enforced(rule: RuleReport) -> Iterator[str]:
    if rule.enforced:
        told = {f"{decision} {state}": count for (decision, state), count in rule.enforced.items()}
        yield f"  enforced             {rule.enforced.total():>11,}  {_each(told)}"


_COLUMNS: Final = ("requests", "keys", "dupl.", "confl.", "mism.", "refused", "susp.", "new key")


def _clients(rule: RuleReport) -> Iterator[str]:
    yield ""
    yield f"  {'client':<34}" + "".join(f"{name:>10}" for name in _COLUMNS)
    for shown_so_far, client in enumerate(busiest(rule.clients.values())):
        if shown_so_far == SHOWN_CLIENTS:
            yield f"  and {len(rule.clients) - SHOWN_CLIENTS:,} more: see --json"
            return
        tally = client.tally
        counts = (
            *(tally.requests, tally.with_key, tally.duplicates, tally.conflicts, tally.mismatches),
            *(tally.refused.total(), tally.suspected.total(), tally.suspected["new_key"]),
        )
        yield f"  {_clean(_name(client)):<34}" + "".join(f"{count:>10,}" for count in counts)


def _name(client: Client) -> str:
    return f"{client.name} {client.agent}".strip()


def _clean(text: str) -> str:
    """A log may hold anything; a terminal must not be told by it what to do."""
    return "".join(each if each.isprintable() else "?" for each in text)


# ------------------------------------------------------------------------------------------------------------------------ JSON


def plain(report: Report) -> dict[str, object]:
    """The report as JSON has it. Durations are milliseconds."""
    return {
        "since": report.since or None,
        "until": report.until or None,
        "lines": {seen.name.lower(): report.lines[seen] for seen in Seen},
        "last_line_cut": report.cut,
        "rules": [_rule(rule) for rule in sorted(report.rules.values(), key=lambda rule: rule.name)],
    }


def _rule(rule: RuleReport) -> dict[str, object]:
    return {
        "rule": rule.name,
        **_tally(rule.tally),
        "enforced": [
            {"decision": decision, "state": state, "requests": count}
            for (decision, state), count in sorted(rule.enforced.items())
        ],
        "key_forms": dict(rule.key_forms),
        "differs": [{"parts": list(names), "requests": count} for names, count in rule.differs.items()],
        "longest_overlap_ms": round(rule.overlaps.longest, 1) if rule.overlaps.count else None,
        "longest_gap_ms": round(rule.gaps.longest, 1) if rule.gaps.count else None,
        "clients": [
            {"client": client.name, "agent": client.agent or None, **_tally(client.tally)}
            for client in busiest(rule.clients.values())
        ],
        "advice": [{"setting": each.setting or None, "because": each.because} for each in advice(rule)],
    }


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "requests": tally.requests,
        "with_key": tally.with_key,
        "would_execute": tally.executed,
        "duplicates": tally.duplicates,
        "conflicts": tally.conflicts,
        "mismatches": tally.mismatches,
        "refused": dict(tally.refused),
        "suspected_duplicates": dict(tally.suspected),
        "not_judged": dict(tally.not_judged),
        "executions_prevented": tally.repeated,
        "of_these_succeeded": tally.succeeded,
    }
