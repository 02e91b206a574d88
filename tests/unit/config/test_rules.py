"""Rules: their defaults, how they merge, what they exclude and what they warn of."""

from __future__ import annotations

import pytest

from idemproxy.config import load_text, without_file
from idemproxy.config.settings import TcpAddress, UpstreamTimeouts
from idemproxy.errors import ConfigError
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    AT_LEAST_ONCE_RELEASES,
    AT_MOST_ONCE_RELEASES,
    BodyRecipe,
    Guarantee,
    HeaderScope,
    InFlight,
    LiteralScope,
    Match,
    OnStoreFailure,
    Rule,
)
from tests.unit.config.texts import UPSTREAM, problem, problems, rule, rule_problem, settings, top_problem

UNSAFE = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})


def test_a_rule_that_says_nothing_is_the_protocols_own_default() -> None:
    assert rule("") == Rule("route-1", Match(UNSAFE, "/x"))


def test_the_top_that_says_nothing() -> None:
    found = settings(UPSTREAM)
    assert (found.listen, found.admin) == (TcpAddress("127.0.0.1", 8080), None)
    assert (found.store, found.namespace, found.docs_url) == ("sqlite:idemproxy.db", "default", "")
    assert (found.store_timeout, found.drain_timeout, found.upstream_timeouts) == (1_000, 25_000, UpstreamTimeouts())
    assert found.rules == ()
    assert "there are no routes" in found.warnings[0]


def test_without_a_file_any_unsafe_method_that_carries_a_key_is_protected_everywhere() -> None:
    found = without_file("http://h:9000/base", None, None, None, {})
    assert found.rules == (Rule("any-unsafe-method", Match(UNSAFE, "/**")),)
    assert (found.listen, found.store, found.admin, found.warnings) == (
        TcpAddress("127.0.0.1", 8080),
        "sqlite:idemproxy.db",
        None,
        (),
    )
    given = without_file("http://h:9000", "127.0.0.1:0", "redis://h", "127.0.0.1:9090", {})
    assert (given.listen, given.store, given.admin) == (
        TcpAddress("127.0.0.1", 0),
        "redis://h",
        TcpAddress("127.0.0.1", 9090),
    )


def test_without_a_file_errors_name_the_options() -> None:
    with pytest.raises(ConfigError) as caught:
        without_file("h:9000", "8080", "foo:x", "127.0.0.1", {})
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "--admin",
        "--listen",
        "--store",
        "--upstream",
    ]
    with pytest.raises(ConfigError, match=r"^--upstream: is the same address as `listen`"):
        without_file("http://127.0.0.1:8080", None, None, None, {})


def test_the_guarantee_sets_what_is_not_written() -> None:
    once, again = rule("guarantee: at_most_once"), rule("guarantee: at_least_once")
    assert (once.on_unknown, once.on_store_failure, once.release_statuses) == (
        OnUnknown.BLOCK,
        OnStoreFailure.FAIL_CLOSED,
        AT_MOST_ONCE_RELEASES,
    )
    assert (again.on_unknown, again.on_store_failure, again.release_statuses) == (
        OnUnknown.RETRY,
        OnStoreFailure.FAIL_OPEN,
        AT_LEAST_ONCE_RELEASES,
    )
    own = rule("{guarantee: at_least_once, on_unknown: block, on_store_failure: fail_closed, release_statuses: []}")
    assert (own.on_unknown, own.on_store_failure, own.release_statuses) == (
        OnUnknown.BLOCK,
        OnStoreFailure.FAIL_CLOSED,
        frozenset(),
    )


def test_defaults_merge_member_by_member_under_each_rule() -> None:
    found = settings(
        UPSTREAM
        + """
defaults:
  match: {methods: [PUT]}
  key: {header: X-Key, required: true}
  fingerprint: {body: none}
  scope: []
  guarantee: at_least_once
  unknown_statuses: [502]
  problem_status: {key-reused: 409}
routes:
  - match: {path: /a}
    key: {max_length: 10}
    fingerprint: {query: false}
  - match: {path: /b, methods: [POST]}
    key: {header: Other, required: false}
    scope: ["literal:x"]
    guarantee: at_most_once
    unknown_statuses: []
    problem_status: {}
"""
    )
    first, second = found.rules
    assert (first.key.headers, first.key.required, first.key.max_length) == ((b"x-key",), True, 10)
    assert (first.fingerprint.body, first.fingerprint.query, first.fingerprint.headers) == (
        BodyRecipe.NONE,
        False,
        (b"content-type",),
    )
    assert (first.match.methods, first.scope, first.unknown_statuses) == (frozenset({b"PUT"}), (), frozenset({502}))
    assert (first.on_unknown, first.problem_status) == (OnUnknown.RETRY, {Slug.KEY_REUSED: 409})
    assert (second.key.headers, second.key.required, second.match.methods) == ((b"other",), False, frozenset({b"POST"}))
    assert (second.scope, second.unknown_statuses) == ((LiteralScope(b"x"),), frozenset())
    assert (second.on_unknown, second.problem_status) == (OnUnknown.BLOCK, {})
    assert [each.name for each in found.rules] == ["route-1", "route-2"]


def test_a_fault_in_defaults_is_told_once_and_where_it_stands() -> None:
    rules = "routes: [{match: {path: /a}}, {match: {path: /b}}]\n"
    assert problem(f"{UPSTREAM}defaults: {{lease: 1}}\n{rules}").startswith("c.yaml:2:19: defaults.lease: ")
    both = f"{UPSTREAM}defaults: {{key: {{format: uuid, max_length: 20}}}}\n{rules}"
    assert problem(both).startswith("c.yaml:2:44: defaults.key.max_length: ")


@pytest.mark.parametrize("line", ["defaults: {name: x}", "defaults: {match: {path: /x}}"])
def test_a_name_and_a_path_are_each_rules_own(line: str) -> None:
    assert "is each rule's own; write it in the rule" in top_problem(line)


def test_every_setting_of_a_rule_is_read() -> None:
    found = rule(
        """
        name: charges
        key: {header: [A, b], required: true, format: {regex: '[a-z]+'}, max_length: 8192}
        scope: ['header:Authorization', {header: X-User, pattern: '^id=(\\d+)'}, 'literal:a:b']
        fingerprint: {headers: [], query: false, body: none}
        guarantee: at_most_once
        in_flight: reject
        wait_timeout: 1s
        max_waiters: 1
        retry_after: 2s
        on_unknown: retry
        on_store_failure: fail_open
        ttl: 1h
        lease: 1s
        release_statuses: [401, 5xx]
        unknown_statuses: [404]
        attempt_header: X-Attempt
        fresh_connection: true
        max_request_body: 1MiB
        max_response_body: 2MiB
        replay_drop_headers: [Set-Cookie]
        problem_status: {key-in-flight: 503}
        mode: enforce
        """
    )
    assert (found.name, found.key.headers, found.key.required, found.key.form, found.key.max_length) == (
        "charges",
        (b"a", b"b"),
        True,
        "regex",
        8192,
    )
    header, pattern, text = found.scope
    assert (header, text) == (HeaderScope(b"authorization"), LiteralScope(b"a:b"))
    assert isinstance(pattern, HeaderScope)
    assert pattern.pattern is not None
    assert pattern.pattern.text == rb"^id=(\d+)"
    assert (found.fingerprint.headers, found.fingerprint.query, found.fingerprint.body) == ((), False, BodyRecipe.NONE)
    assert (found.guarantee, found.in_flight, found.wait_timeout, found.max_waiters) == (
        Guarantee.AT_MOST_ONCE,
        InFlight.REJECT,
        1_000,
        1,
    )
    assert (found.retry_after, found.on_unknown, found.on_store_failure) == (
        2_000,
        OnUnknown.RETRY,
        OnStoreFailure.FAIL_OPEN,
    )
    assert (found.ttl, found.lease) == (3_600_000, 1_000)
    assert (found.release_statuses, found.unknown_statuses) == (frozenset({401, *range(500, 600)}), frozenset({404}))
    assert (found.attempt_header, found.fresh_connection) == (b"X-Attempt", True)
    assert (found.max_request_body, found.max_response_body) == (1 << 20, 2 << 20)
    assert (found.replay_drop_headers, found.problem_status) == (frozenset({b"set-cookie"}), {Slug.KEY_IN_FLIGHT: 503})


UUID4 = "7f0f3c5e-3a8b-4f66-9c1d-1f2e3d4c5b6a"
UUID7 = "01890a5d-ac96-774b-bcce-b302099a8057"
HEX = "7f0f3c5e-3a8b-1f66-0c1d-1f2e3d4c5b6a"
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (
            "uuid",
            [UUID4, UUID7, HEX, UUID4.upper()],
            [f"stripe-node-retry-{UUID4}", UUID4[:-1], f"{UUID4}\n", UUID4.replace("-", "")],
        ),
        ("uuid4", [UUID4, UUID4.upper()], [UUID7, HEX]),
        ("uuid7", [UUID7], [UUID4, HEX]),
        ("ulid", [ULID, ULID.lower()], [f"8{ULID[1:]}", f"{ULID[:-1]}U", f"{ULID}0"]),
        ("{regex: 'a+|b'}", ["aa", "b"], ["aab", "", "c"]),
    ],
)
def test_formats_match_whole_keys(form: str, good: list[str], bad: list[str]) -> None:
    pattern = rule(f"key: {{format: {form}}}").key.pattern
    assert pattern is not None
    assert all(pattern.whole(key.encode()) for key in good)
    assert not any(pattern.whole(key.encode()) for key in bad)


def test_any_format_matches_without_a_pattern() -> None:
    assert (rule("key: {format: any}").key.form, rule("key: {format: any}").key.pattern) == ("any", None)


def test_a_status_that_is_written_as_unknown_leaves_the_guarantees_own_list() -> None:
    assert 401 not in rule("unknown_statuses: [401]").release_statuses
    again = rule("{guarantee: at_least_once, unknown_statuses: [502, 504]}")
    assert again.release_statuses == AT_LEAST_ONCE_RELEASES - {502, 504}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "{release_statuses: [409, 429], unknown_statuses: [409]}",
            "unknown_statuses: 409 stand in release_statuses too",
        ),
        (
            "{release_statuses: [5xx], unknown_statuses: [502, 504]}",
            "unknown_statuses: 502 and 1 more stand in release_statuses too",
        ),
        ("{attempt_header: idempotency-key}", "attempt_header: is a header of key.header too"),
        ("{attempt_header: X-A, scope: ['header:x-a']}", "attempt_header: is a header of scope too"),
        (
            "{attempt_header: X-A, fingerprint: {headers: [X-A]}}",
            "attempt_header: is a header of fingerprint.headers too",
        ),
        ("{attempt_header: Authorization}", "a header that means something else"),
        ("{attempt_header: Transfer-Encoding}", "a header of the connection or of the framing"),
        (
            "{key: {format: ulid, max_length: 25}}",
            "key.max_length: no key can be both this short and of the format; a ulid is 26 bytes",
        ),
        ("{key: {max_length: 0}}", "write a whole number from 1 to 8192"),
        ("{key: {max_length: 8193}}", "write a whole number from 1 to 8192"),
        ("{key: {header: []}}", "an empty one; write at least one of headers"),
        ("{key: {header: Host}}", "a header that routes the request"),
        ("{key: {header: Content-Length}}", "a header of the connection or of the framing"),
        ("{key: {header: TE}}", "a header of the connection or of the framing"),
        ("{key: {header: 'a b'}}", "not a header's name"),
        ("{key: {header: [K, k]}}", "key.header[1]: found `k` a second time"),
        ("{key: {format: uuid5}}", "write any, uuid, uuid4, uuid7 or ulid; did you mean uuid?"),
        ("{key: {format: {regex: '('}}}", "not a regular expression"),
        ("{key: {format: {regex: '(?=a)b'}}}", "no look-around, no back references"),
        ("{key: {format: {regex: '(a)\\1'}}}", "no look-around, no back references"),
        ("{key: {format: {regex: 'a{1,100000}'}}}", "not a regular expression"),
        ("{key: {format: {regex: 'ä'}}}", "with characters outside ASCII"),
        ("{key: {format: {}}}", "key.format.regex: is missing"),
        ("{scope: [Authorization]}", "did you mean header:Authorization?"),
        ("{scope: ['heder:X']}", "did you mean header:X?"),
        ("{scope: ['header:']}", "not a header's name"),
        ("{scope: ['header:Proxy-Authorization']}", "a header of the connection"),
        ("{scope: [{header: X}]}", "pattern: is missing"),
        ("{scope: [{header: X, pattern: 'abc'}]}", "without a group; put what counts in ( )"),
        ("{scope: ['header:X', 'header:x']}", "scope[1]: found `header:x` a second time"),
        ("{fingerprint: {headers: [Content-Length]}}", "a header of the connection or of the framing"),
        ("{replay_drop_headers: [Content-Length]}", "a header of the connection or of the framing"),
        ("{problem_status: {key-in-flight: 399}}", "write a whole number from 400 to 599"),
        ("{problem_status: {key-in-flight: 600}}", "write a whole number from 400 to 599"),
        ("{problem_status: {key-inflight: 503}}", "did you mean key-in-flight?"),
        ("{problem_status: {not-http: 400}}", "found `not-http`"),
        ("{release_statuses: [100]}", "write a whole number from 200 to 599"),
        ("{release_statuses: [1xx]}", "write a status from 200 to 599 or a class such as 4xx"),
        ("{release_statuses: ~}", "found nothing (null); write a list of statuses"),
        ("{lease: 99ms}", "from 100ms to 1h"),
        ("{guarantee: exactly_once}", "write at_most_once or at_least_once"),
        ("{in_flight: wayt}", "write wait or reject; did you mean wait?"),
        ("{header: X}", "header: is no known setting; did you mean key.header?"),
        ("{path: /x}", "path: is no known setting; did you mean match.path?"),
        ("{fresh_conection: true}", "did you mean fresh_connection?"),
    ],
)
def test_what_a_rule_cannot_have(lines: str, words: str) -> None:
    assert words in rule_problem(lines)


def test_a_header_that_defaults_name_twice_over_is_told_where_the_rule_stands() -> None:
    text = (
        f"{UPSTREAM}defaults: {{release_statuses: [5xx]}}\nroutes: [{{match: {{path: /x}}, unknown_statuses: [502]}}]\n"
    )
    assert problem(text).startswith("c.yaml:3:48: routes[0].unknown_statuses: ")


def test_names_are_unique() -> None:
    lines = [
        "{name: a, match: {path: /a}}",
        "{name: a, match: {path: /b}}",
        "{name: route-4, match: {path: /c}}",
        "{match: {path: /d}}",
    ]
    text = f"{UPSTREAM}routes:\n" + "".join(f"- {line}\n" for line in lines)
    assert problems(text) == [
        "c.yaml:4:10: routes[1].name: the rule on line 3 has this name; give each rule a name of its own",
        "c.yaml:5:10: routes[2].name: routes[3] has this name by default; give each rule a name of its own",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls: {upstream: {ca: a.pem}}", "the upstream is not https"),
        ("tls: {upstream: {certificate: a.pem}}", "there is no `key`"),
        ("tls: {upstream: {key: a.pem}}", "there is no `certificate`"),
    ],
)
def test_tls_that_nothing_would_use(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_text(f"upstream: http://127.0.0.1:1\n{text}\n", "c.yaml", {})
