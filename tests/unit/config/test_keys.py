"""Natural keys, scopes, fingerprints and ages in a configuration: what is read, refused and warned of."""

from __future__ import annotations

import pytest

from idemproxy.config.settings import ListenTls
from idemproxy.idempotency.routes import (
    Birth,
    BodyRecipe,
    CertificateScope,
    CookieScope,
    Ignored,
    KeyAge,
    PathScope,
    Recipe,
    RetryMarker,
    Within,
)
from idemproxy.idempotency.template import Source, parse_template
from tests.unit.config.texts import problem, rule, rule_text, settings


def refused(lines: str, match: str = "{path: '/x/{id}'}") -> str:
    return problem(rule_text(lines, match))


def warnings(lines: str, match: str = "{path: '/x/{id}'}") -> str:
    return "\n".join(settings(rule_text(lines, match)).warnings)


def test_a_natural_key_alone_reads_no_header_and_with_header_is_its_fallback() -> None:
    templates = (parse_template("{json:/a}", frozenset(Source)), parse_template("{body|sha256}", frozenset(Source)))
    alone = rule("key: {from: ['{json:/a}', '{body|sha256}']}").key
    assert (alone.headers, alone.natural, alone.required) == ((), templates, False)
    both = rule("key: {header: K, from: '{json:/a}'}").key
    assert (both.headers, both.natural) == ((b"k",), templates[:1])
    assert rule("key: {required: true}").key.headers == (b"idempotency-key",)


def test_ages() -> None:
    assert rule("key: {format: uuid7}").key.age == KeyAge(Birth.UUID7, 300_000)
    assert rule("key: {format: ulid, max_clock_skew: 1s}").key.age == KeyAge(Birth.ULID, 1_000)
    assert rule("key: {first_sent: X-First}").key.age == KeyAge(b"x-first", 300_000)
    assert rule("key: {format: uuid7, first_sent: X-First}").key.age == KeyAge(b"x-first", 300_000)
    assert rule("key: {format: uuid4}").key.age is None


def test_retry_markers() -> None:
    alone = rule("key: {retry_marker: {header: X-Retry-Count}}").key
    assert (alone.headers, alone.marker) == ((b"idempotency-key",), RetryMarker(b"x-retry-count", 1_800_000))
    both = rule("key: {header: K, retry_marker: {header: X-Retry-Count, window: 20m}}").key
    assert (both.headers, both.marker) == ((b"k",), RetryMarker(b"x-retry-count", 1_200_000))
    assert rule("key: {from: '{json:/a}', retry_marker: {header: X-Retry-Count}}").key.headers == ()
    assert rule("key: {required: true}").key.marker is None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("key: {retry_marker: {window: 5m}}", "key.retry_marker.window: is nothing without header"),
        ("key: {retry_marker: {header: X-Retry, window: 0s}}", "key.retry_marker.window"),
        (
            "key: {retry_marker: {header: X-A}}\nfingerprint: {body: none}",
            "fingerprint.body: is none, and key.retry_marker knows an operation by its request",
        ),
        ("preset: openai\nfingerprint: {body: none}", "is none, and key.retry_marker knows"),
        ("preset: github\nkey: {retry_marker: {header: X-A}}", "is none, and key.retry_marker knows"),
        ("key: {retry_marker: x-retry}", "write a mapping with header or window"),
        ("key: {retry_marker: {header: X-Retry, windows: 5m}}", "did you mean window?"),
        ("key: {retry_marker: {header: X-A}}\nattempt_header: x-a", "is a header of key.retry_marker too"),
    ],
)
def test_retry_markers_that_cannot_be(lines: str, said: str) -> None:
    assert said in refused(lines)


def test_a_window_longer_than_answers_are_remembered_is_told() -> None:
    told = "ttl is shorter than key.retry_marker.window"
    assert told in warnings("key: {retry_marker: {header: X-A, window: 2h}}\nttl: 1h")
    assert told not in warnings("key: {retry_marker: {header: X-A, window: 1h}}\nttl: 1h")


@pytest.mark.parametrize("left_out", ["{query: false}", "{body: json, ignore: [/a]}", "{ignore: 'query:t'}"])
def test_a_marker_over_a_request_that_is_not_compared_whole_is_told(left_out: str) -> None:
    told = "key.retry_marker knows an operation by its request"
    assert told in warnings(f"key: {{retry_marker: {{header: X-A}}}}\nfingerprint: {left_out}")
    assert told not in warnings(f"fingerprint: {left_out}")


def test_a_window_that_the_upstream_may_outlast_is_told() -> None:
    lines, told = "key: {retry_marker: {header: X-A, window: 10m}}", "key.retry_marker.window is not longer than"
    for response, expected in (("60s", False), ("599s", False), ("10m", True), ("1h", True), ("0", True)):
        text = f"upstream_timeouts: {{response: {response}}}\n{rule_text(lines)}"
        assert any(told in each for each in settings(text).warnings) is expected, response


def test_fingerprints() -> None:
    found = rule("fingerprint: {body: json, ignore: [/a/b, 'json:/c', 'query:t', 'header:Content-Type']}").fingerprint
    ignore = (Ignored(Within.JSON, "/a/b"), Ignored(Within.JSON, "/c"), Ignored(Within.QUERY, "t"))
    assert found == Recipe((), True, BodyRecipe.JSON, ignore)
    assert rule("fingerprint: {body: form, ignore: 'form:n'}").fingerprint.ignore == (Ignored(Within.FORM, "n"),)
    assert rule("fingerprint: {body: multipart}").fingerprint.body is BodyRecipe.MULTIPART


def test_scopes() -> None:
    found = settings(rule_text("scope: ['cookie:sid', 'path:id']", "{path: '/x/{id}'}")).rules[0]
    assert found.scope == (CookieScope(b"sid"), PathScope("id"))
    tls = "tls: {listen: {certificate: a, key: b, client_ca: c}}\n"
    listened = settings(tls + rule_text("scope: [client_cert]"))
    assert listened.rules[0].scope == (CertificateScope(),)
    assert listened.listen_tls == ListenTls("a", "b", "c")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "key: {from: '{xml:a}'}",
            "a part's source is none of header, query, path, cookie, json, form, body, client_ip, target",
        ),
        ("key: {from: '{json:/a|upper}'}", "a part's filter is none of lower, trim, sha256"),
        ("key: {from: '{json:a}'}", "a JSON pointer begins with /"),
        ("key: {from: '{json:/a}}'}", "a brace has no partner"),
        ("key: {from: '{json:/a'}", "a brace has no partner"),
        ("key: {from: order}", "the same for every request"),
        ("key: {from: []}", "an empty one"),
        ("key: {from: '{path:order}'}", "has a path: part that the rule's path has not"),
        ("key: {from: '{header:Host}'}", "a header that routes the request"),
        ("key: {from: '{header:Content-Length}'}", "a header of the connection or of the framing"),
        (f"key: {{from: '{{header:{'a' * 520}}}'}}", "longer than 512"),
        ("key: {first_sent: 'a b'}", "not a header's name"),
        ("key: {max_clock_skew: 0}", "from 1ms to 24h"),
        ("scope: ['path:order']", "has a path: part that the rule's path has not"),
        ("{key: {from: '{header:X-A}'}, attempt_header: x-a}", "is a header of key.from too"),
        ("scope: [client_cert]", "write tls.listen.client_ca too"),
        ("scope: ['cookie:a b']", "without the name of a cookie"),
        ("scope: ['cookies:a']", "did you mean cookie:a?"),
        ("fingerprint: {ignore: ['json:/a']}", "has a json: part, and the body is not read so"),
        ("fingerprint: {body: json, ignore: ['form:a']}", "has a form: part, and the body is not read so"),
        ("fingerprint: {body: json, ignore: ['json:a']}", "a JSON pointer begins with /"),
        ("fingerprint: {ignore: ['cookie:a']}", "query:NAME"),
        ("on_unknown: {probe: {url: '/k/{json:/a}'}}", "a part's source is none of header, query, path, cookie"),
    ],
)
def test_what_is_refused(lines: str, words: str) -> None:
    assert words in refused(lines)


@pytest.mark.parametrize(
    ("lines", "match", "words"),
    [
        ("scope: ['header:X-Amz-Date']", "{path: /x}", "x-amz-date, which differs in each attempt"),
        ("", "{path: /x, headers: {X-Amz-Content-Sha256: UNSIGNED-PAYLOAD}}", "AWS SigV4"),
        (
            "{scope: [{header: Authorization, pattern: '(a)'}], key: {from: '{json:/a}'}}",
            "{path: /x}",
            "with a natural key is weak",
        ),
        ("key: {from: '{client_ip}{json:/a}'}", "{path: /x}", "callers behind one address"),
        ("key: {from: '{body|sha256}'}", "{path: /x}", "sent twice on purpose runs once"),
    ],
)
def test_what_is_warned_of(lines: str, match: str, words: str) -> None:
    assert words in warnings(lines, match)


def test_what_is_not_warned_of() -> None:
    assert warnings("{key: {from: '{body|sha256}'}, ttl: 30s, lease: 20s}") == ""
    assert warnings("key: {from: '{path:id}-{json:/amount}'}") == ""
