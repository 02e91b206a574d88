"""What the parent of worker processes decides: how many, when a dead one is replaced, and how it died."""

from __future__ import annotations

import os
import signal

import pytest

from idemproxy.config import load_text
from idemproxy.config.settings import Settings
from idemproxy.runtime.reload import named_otherwise, needs_restart
from idemproxy.runtime.workers import FIRST_PAUSE, LONGEST_PAUSE, count, pause_after, why_ended

BASE = "upstream: http://127.0.0.1:9\nroutes: []\n"


def settings(text: str = "") -> Settings:
    return load_text(f"{BASE}{text}", "test.yaml", {})


def test_as_many_as_there_are_cpus_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5, 7}, raising=False)
    assert count(settings("workers: auto")) == 3
    assert count(settings("workers: 2")) == 2
    assert count(settings()) == 1


def test_the_first_death_costs_no_time_and_further_ones_ever_more_up_to_a_limit() -> None:
    pauses = [pause_after(deaths) for deaths in range(1, 100)]
    assert pauses[:4] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (3 << 8, "ended with status 3"),
        (signal.SIGKILL, "killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),
        (40, "killed by signal 40"),
    ],
)
def test_how_a_process_ended_in_words(status: int, words: str) -> None:
    assert why_ended(int(status)) == words


# ---------------------------------------------------------------------------------------------------- what needs a restart

TLS = "tls: {listen: {certificate: a.pem, key: b.pem}}\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("listen: 127.0.0.1:1\n", ("listen",)),
        ("listen: unix:/a\n", ("listen",)),
        ("admin: 127.0.0.1:1\n", ("admin",)),
        ("store: sqlite:other.db\n", ("store",)),
        ("store_timeout: 9s\n", ("store_timeout",)),
        ("namespace: other\n", ("namespace",)),
        ("workers: 2\n", ("workers",)),
        ("workers: auto\n", ("workers",)),
        (TLS, ("tls.listen, added or taken away",)),
        ("namespace: a\nlisten: 127.0.0.1:1\n", ("listen", "namespace")),
    ],
)
def test_what_needs_a_restart_is_named(text: str, named: tuple[str, ...]) -> None:
    assert needs_restart(settings(), settings(text)) == named
    assert needs_restart(settings(text), settings()) == named
    assert needs_restart(settings(text), settings(text)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "upstream_timeouts: {connect: 1s}\n",
        "drain_timeout: 1s\n",
        "docs_url: https://a.test\n",
        "forwarded_headers: true\nvia: true\nupstream_host: true\n",
        "pool: {max: 1}\n",
    ],
)
def test_what_needs_none_is_not(text: str) -> None:
    assert needs_restart(settings(), settings(text)) == ()


def test_every_setting_either_needs_a_restart_or_is_known_to_need_none() -> None:
    """One that is new has to be thought about."""
    taken_over = {
        "upstream",
        "upstream_timeouts",
        "drain_timeout",
        "docs_url",
        "hop",
        "pool",
        "upstream_tls",
        "jwt",
        "rules",
    }
    fixed = {"listen", "admin", "store", "store_timeout", "namespace", "workers", "listen_tls"}
    assert set(Settings.__dataclass_fields__) - {"warnings"} == taken_over | fixed


def test_other_files_of_a_certificate_need_no_restart() -> None:
    assert needs_restart(settings(TLS), settings(TLS.replace("a.pem", "c.pem"))) == ()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("scope: []", ("charges",)),
        ('scope: ["header:X-Account"]', ("charges",)),
        ('key: {from: "{header:ce-id}"}', ("charges",)),
        ("ttl: 1h", ()),
        ("key: {required: true}", ()),
    ],
)
def test_a_rule_whose_operations_get_other_ids_is_told(changed: str, named: tuple[str, ...]) -> None:
    rule = "routes:\n  - name: charges\n    match: {path: /x}\n"
    before = load_text(f"upstream: http://127.0.0.1:9\n{rule}", "test.yaml", {})
    after = load_text(f"upstream: http://127.0.0.1:9\n{rule}    {changed}\n", "test.yaml", {})
    assert named_otherwise(before, after) == named
    assert named_otherwise(before, before) == ()
