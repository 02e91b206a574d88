"""Incidents that clients of other proxies and servers had, as their reports tell them, through a pair of proxies."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.asking import Answer
from tests.faults.pair import Pair
from tests.faults.upstream import Exchange, answer, created


def test_a_payment_that_was_asked_for_is_taken_once(pair: Pair) -> None:
    """402, then the same key with proof of payment; then with another, fresh proof."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "payment"

    def respond(exchange: Exchange) -> None:
        if exchange.values("X-Payment"):
            created(exchange)
        else:
            exchange.send(answer("402 Payment Required", b"pay"))

    upstream.behave[key] = respond
    assert one.ask("/plain", key).told == (402, b"pay")
    paid = other.ask("/plain", key, fields=(("X-Payment", "proof-1"),))
    assert (paid.status, paid.replayed) == (201, False)
    again = one.ask("/plain", key, fields=(("X-Payment", "proof-2"),))
    assert (again.told, again.replayed) == (paid.told, True)
    assert [each.values("X-Payment") for each in upstream.exchanges[key]] == [[], ["proof-1"]]


def test_a_key_that_a_hop_doubled_is_that_key(pair: Pair) -> None:
    """Two field lines, a list in one, or quotation marks: one operation."""
    key = "doubled"
    first = pair.one.ask("/plain", key, fields=(("Idempotency-Key", key),))
    forms = (f"{key}, {key}", f'"{key}"', f'"{key}", "{key}"')
    for again in (
        pair.other.ask("/plain", key),
        *(pair.other.ask("/plain", None, fields=(("Idempotency-Key", form),)) for form in forms),
    ):
        assert (again.told, again.replayed) == (first.told, True)
    assert sum(len(each) for name, each in pair.upstream.exchanges.items() if key in name) == 1


def test_after_a_429_another_body_may_come_with_the_key(pair: Pair) -> None:
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "changed"

    def respond(exchange: Exchange) -> None:
        if exchange.body == b"A":
            exchange.send(answer("429 Too Many Requests", b"", "Retry-After: 1"))
        else:
            created(exchange)

    upstream.behave[key] = respond
    assert one.ask("/plain", key, body=b"A").status == 429
    changed = other.ask("/plain", key, body=b"B")
    assert (changed.status, changed.replayed) == (201, False)
    again = one.ask("/plain", key, body=b"B")
    assert (again.told, again.replayed) == (changed.told, True)
    assert other.ask("/plain", key, body=b"A").problem == "key-reused"
    assert [each.body for each in upstream.exchanges[key]] == [b"A", b"B"]


def test_a_failure_that_was_recorded_shows_that_it_is_a_replay(pair: Pair) -> None:
    """The same 4xx for hours, and nobody saw that the upstream was not asked any more."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "not-due"
    upstream.behave[key] = lambda exchange: exchange.send(answer("409 Conflict", b"not due yet"))
    first, again = one.ask("/plain", key), other.ask("/plain", key)
    assert (first.told, first.replayed) == ((409, b"not due yet"), False)
    assert (again.told, again.replayed) == (first.told, True)
    assert upstream.executed(key) == 1


def test_what_an_operator_settled_as_not_executed_is_executed_with_its_key(pair: Pair) -> None:
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "settled"
    upstream.behave[key] = lambda exchange: exchange.cut(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nbegun")
    assert one.ask("/settled", key).problem == "upstream-failed"
    upstream.behave[key] = created
    assert other.ask("/settled", key).problem == "outcome-unknown"
    _, row = operate(pair, "list", "--rule", "settled").splitlines()
    operate(pair, "resolve", row.split()[0], "--release")
    done = one.ask("/settled", key)
    assert (done.status, done.replayed) == (201, False)
    assert other.ask("/settled", key).told == done.told
    assert upstream.executed(key) == 2


def operate(pair: Pair, command: str, *arguments: str) -> str:
    """What `idemproxy records` prints."""
    asked = [sys.executable, "-m", "idemproxy", "records", command, "--store", pair.store, *arguments]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_wrong_code_is_not_remembered_where_the_rule_says_so(pair: Pair) -> None:
    """A one-time password that was mistyped: 400 is one of the rule's release_statuses."""
    one, other, upstream, key = pair.one, pair.other, pair.upstream, "otp"

    def respond(exchange: Exchange) -> None:
        if exchange.body == b"123456":
            created(exchange)
        else:
            exchange.send(answer("400 Bad Request", b"wrong code"))

    upstream.behave[key] = respond
    assert one.ask("/otp", key, body=b"123455").told == (400, b"wrong code")
    right = other.ask("/otp", key, body=b"123456")
    assert (right.status, right.replayed) == (201, False)
    again = one.ask("/otp", key, body=b"123456")
    assert (again.told, again.replayed) == (right.told, True)
    assert upstream.executed(key) == 2


def test_a_hop_that_sends_everything_twice_executes_everything_once(pair: Pair) -> None:
    """Two identical requests, 0 to 5 ms apart, on connections of their own, to either process."""
    pairs = 100

    def one_of_two(number: int) -> Answer:
        time.sleep(number % 6 / 1000 if number % 2 else 0)
        member = pair.other if number % 4 == 1 else pair.one
        return member.ask("/plain", f"twice-{number // 2}", body=b"%d" % (number // 2))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one_of_two, range(2 * pairs)))
    assert [answers[2 * number].told for number in range(pairs)] == [
        answers[2 * number + 1].told for number in range(pairs)
    ]
    assert {each.status for each in answers} == {201}
    assert [sum(each.replayed for each in answers[at : at + 2]) for at in range(0, 2 * pairs, 2)] == [1] * pairs
    assert [pair.upstream.executed(f"twice-{number}") for number in range(pairs)] == [1] * pairs


def test_what_was_negotiated_is_replayed_as_it_was(pair: Pair) -> None:
    """A retry that accepts another coding, or comes from another origin, is the same operation: its answer is the recorded one, with
    its Content-Encoding, unless the rule has the field in its fingerprint."""
    upstream = pair.upstream
    coded = answer(
        "201 Created",
        b"\x1f\x8b",
        "Content-Encoding: gzip",
        "Vary: Accept-Encoding, Origin",
        "Access-Control-Allow-Origin: https://a.test",
    )
    for key in ("negotiated", "negotiated-strictly"):
        upstream.behave[key] = lambda exchange: exchange.send(coded)
    gzip = (("Accept-Encoding", "gzip"), ("Origin", "https://a.test"))
    identity = (("Accept-Encoding", "identity"), ("Origin", "https://b.test"))
    first = pair.one.ask("/plain", "negotiated", fields=gzip)
    again = pair.other.ask("/plain", "negotiated", fields=identity)
    assert (again.told, again.replayed) == (first.told, True)
    for name in ("Content-Encoding", "Vary", "Access-Control-Allow-Origin"):
        assert again.values(name) == first.values(name) != []
    assert pair.one.ask("/negotiated", "negotiated-strictly", fields=gzip).status == 201
    assert pair.other.ask("/negotiated", "negotiated-strictly", fields=identity).problem == "key-reused"
    assert upstream.executed("negotiated") == upstream.executed("negotiated-strictly") == 1
