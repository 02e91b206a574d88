"""Which rule a request meets: what the config promises, and every way past a rule that a real server would let through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.matching import RouteTable, lacking
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.routes import Match, Mode, Rule
from tests.unit.idempotency.examples import calmly

UNSAFE = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})
HOST: Fields = ((b"Host", b"api.example.com"),)


def table(*paths: str) -> RouteTable:
    return RouteTable(tuple(Rule(path, Match(UNSAFE, path)) for path in paths))


def met(routes: RouteTable, target: bytes, method: bytes = b"POST", fields: Fields = HOST) -> str | None:
    rule = routes.find(method, target, fields)
    return None if rule is None else rule.name


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/", b"/"),
        ("/v1/charges", b"/v1/charges"),
        ("/v1/charges", b"/v1/charges?expand=1"),
        ("/v1/charges", b"/v1/charges?"),
        ("/v1/charges/{id}", b"/v1/charges/ch_1"),
        ("/v1/charges/{id}", b"/v1/charges/CH%20%C3%A9"),
        ("/v1/charges/{id}", b"/v1/charges/a%2Fb"),
        ("/v1/charges/{id}/refunds", b"/v1/charges/a%2Fb/refunds"),
        ("/v1/{kind}/{id}", b"/v1/charges/ch_1"),
        ("/hooks/**", b"/hooks/a/b/c"),
        ("/hooks/**", b"/hooks/a"),
        ("/hooks/**", b"/hooks/"),
        ("/hooks/**", b"/hooks"),
        ("/**", b"/"),
        ("/**", b"/anything/at/all"),
        ("/v1/charges:refund", b"/v1/charges:refund"),
        ("/caf%C3%A9", b"/caf%c3%a9"),
        ("/caf%C3%A9", b"/caf\xc3\xa9"),
        ("/a%2Fb", b"/a%2fb"),
        ("/a%2Fb", b"/a/b"),
        ("/matrix;type=x", b"/matrix;type=x"),
        ("/v1/charges/", b"/v1/charges/"),
        ("/v1/charges/", b"/v1/charges"),
        ("/%7Bid%7D", b"/%7bid%7d"),
    ],
)
def test_a_pattern_is_met(pattern: str, target: bytes) -> None:
    assert met(table(pattern), target) == pattern


@pytest.mark.parametrize(
    ("pattern", "target"),
    [
        ("/", b"/v1"),
        ("/v1/charges", b"/v1/charge"),
        ("/v1/charges", b"/v1/charges2"),
        ("/v1/charges", b"/v1/charges/ch_1"),
        ("/v1/charges", b"/v2/charges"),
        ("/v1/charges", b"/x/v1/charges"),
        ("/v1/charges", b"/?/v1/charges"),
        ("/v1/charges", b"*"),
        ("/**", b"*"),
        ("/v1/charges/{id}", b"/v1/charges"),
        ("/v1/charges/{id}", b"/v1/charges/"),
        ("/v1/charges/{id}", b"/v1/charges//"),
        ("/v1/charges/{id}", b"/v1/charges/a/b"),
        ("/v1/charges/{id}/refunds", b"/v1/charges//refunds"),
        ("/hooks/**", b"/hooksa/b"),
        ("/v1/charges", b"/v1/charges%20"),
        ("/matrix;type=x", b"/matrix;type=y"),
        ("/%7Bid%7D", b"/anything"),
        ("/%2A%2A", b"/anything"),
    ],
)
def test_a_pattern_is_not_met(pattern: str, target: bytes) -> None:
    assert met(table(pattern), target) is None


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/v1/ch%61rges", id="escaped letter: decoded by every server"),
        pytest.param(b"/v1/ch%2561rges", id="escaped twice: decoded by a gateway and again behind it"),
        pytest.param(b"/v1/ch%252561rges", id="escaped three times"),
        pytest.param(b"/v1%2Fcharges", id="escaped slash: nginx, WSGI, Go and Django decode it before they route"),
        pytest.param(b"/v1%252fcharges", id="slash escaped twice"),
        pytest.param(b"/%2Fv1/charges", id="escaped slash at the beginning"),
        pytest.param(b"/v1/charges%2F", id="escaped slash at the end"),
        pytest.param(b"//v1/charges", id="slashes merged at the beginning"),
        pytest.param(b"/v1////charges", id="slashes merged"),
        pytest.param(b"/v1/./charges", id="dot segment"),
        pytest.param(b"/v1/charges/.", id="dot segment at the end"),
        pytest.param(b"/v1/x/../charges", id="two dots"),
        pytest.param(b"/v1/charges/x/..", id="two dots at the end"),
        pytest.param(b"/../../v1/charges", id="two dots above the root"),
        pytest.param(b"/v1/x/%2e%2E/charges", id="escaped dots"),
        pytest.param(b"/v1/x/%252e%252e/charges", id="dots escaped twice"),
        pytest.param(b"/v1/x/.%2e%2fcharges", id="escaped dot and slash"),
        pytest.param(b"/v1/x//../charges", id="merged, then dots: nginx"),
        pytest.param(b"/v1//../charges", id="dots, then merged: RFC 3986"),
        pytest.param(b"/v1\\charges", id="backslash: IIS"),
        pytest.param(b"/v1%5Ccharges", id="escaped backslash"),
        pytest.param(b"/v1/x\\..\\charges", id="backslashes about dots"),
        pytest.param(b"/v1;a=b/charges;c", id="parameters: servlets"),
        pytest.param(b"/v1/charges;jsessionid=1", id="session id: servlets"),
        pytest.param(b"/v1/x/..;/charges", id="two dots with a parameter: Tomcat behind a proxy"),
        pytest.param(b"/v1/x/%2e%2e%3b/charges", id="the same, escaped"),
        pytest.param(b"/v1/charges%3Bjsessionid=1", id="session id behind an escaped semicolon"),
        pytest.param(b"/v1/charges/", id="last slash: Express, Flask, Spring"),
        pytest.param(b"/v1/charges//", id="last slashes"),
        pytest.param(b"/V1/Charges", id="case: Express, ASP.NET, IIS"),
        pytest.param(b"/V1/CH%41RGES/", id="case, escape and last slash"),
        pytest.param(b"//x/v1/charges", id="a host: new URL(req.url, base) in Node, urlsplit in Python"),
        pytest.param(b"///x/v1/charges", id="a host behind more slashes"),
        pytest.param(b"/\\x/v1/charges", id="a host behind a backslash"),
        pytest.param(b"http://api.example.com/v1/charges", id="absolute-form"),
        pytest.param(b"HTTPS://u:p@api.example.com:443//v1/./charges?x=/", id="absolute-form, odd"),
        pytest.param(b"/" + b"x/../" * 5_000 + b"v1/charges", id="more segments than are worth reading"),
        pytest.param(b"/" + b"%2f" * 5_000 + b"v1/charges", id="more escaped slashes than are worth reading"),
        pytest.param(b"/" + b"\\" * 5_000 + b"v1/charges", id="more backslashes than are worth reading"),
    ],
)
def test_no_spelling_slips_past_a_rule(target: bytes) -> None:
    assert met(table("/v1/charges"), target) == "/v1/charges"


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/c/a%5Cb/charges%3Arefund",
        b"/v1/c/a\\b/charges:refund",
        b"/v1/c/a%2Fb/charges%3Arefund",
        b"/v1/c/a;b/charges:refund;c",
        b"/v1/c/../charges:refund",
        b"/v1//c/../charges:refund",
        b"/v1/c/%2e%2E/charges:refund",
    ],
)
def test_what_stands_in_a_name_does_not_hide_the_rest(target: bytes) -> None:
    """A server that takes it for no separator hands the request to the handler of the pattern."""
    assert met(table("/v1/c/{id}/charges:refund"), target) == "/v1/c/{id}/charges:refund"


LITERALS = b"abcXYZ019-._~"
NOTHING = [b"", b".", b"%2e", b"x/..", b"x/%2E.", b"a/b/../%2e%2e", b"%2e/x/.."]
"""What can stand before a segment and means nothing."""


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    """The path /v1/customers/{id}/charges in a spelling that RFC 3986 or nginx reads so."""
    parts = [b""]
    name = bytes(draw(st.lists(st.sampled_from(LITERALS), min_size=1, max_size=6)))
    for segment in (b"v1", b"customers", b"c" + name, b"charges"):
        parts += draw(st.lists(st.sampled_from(NOTHING), max_size=2))
        parts.append(b"".join(draw(_escaped(octet)) for octet in segment))
    parts.append(draw(st.sampled_from([b"", b".", b"x/..", b"%2E"])))
    query = draw(st.sampled_from([b"", b"?", b"?a=/../b", b"?%2f"]))
    return b"/".join(parts) + query


def _escaped(octet: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from([bytes([octet]), b"%%%02x" % octet, b"%%%02X" % octet])


@calmly
@given(spellings(), st.sampled_from([b"POST", b"post", b"Post"]))
def test_no_generated_spelling_slips_past_a_rule(target: bytes, method: bytes) -> None:
    pattern = "/v1/customers/{id}/charges"
    assert met(table(pattern), target, method) == pattern


@calmly
@given(st.binary(max_size=60), st.sampled_from([b"/", b"", b"http://", b"//"]))
def test_any_target_is_read(rest: bytes, start: bytes) -> None:
    target = start + rest
    assert met(table("/**"), target) == (None if target.startswith(b"*") else "/**")


def test_the_first_rule_wins() -> None:
    assert met(table("/v1/{id}", "/v1/charges"), b"/v1/charges") == "/v1/{id}"
    assert met(table("/v1/charges", "/v1/{id}"), b"/v1/charges") == "/v1/charges"
    assert met(table("/v1/charges", "/v1/{id}"), b"/v1/refunds") == "/v1/{id}"
    assert met(table("/**", "/v1/charges"), b"/v1/charges") == "/**"
    assert met(table("/v1/charges", "/**"), b"/v2") == "/**"


def test_an_odd_path_cannot_choose_a_later_rule() -> None:
    """Here `/**` might not require a key."""
    routes = table("/v1/charges", "/**")
    assert met(routes, b"/v1%2Fcharges") == "/v1/charges"
    assert met(routes, b"/x/..;/v1/charges") == "/v1/charges"
    assert met(routes, b"/" + b"x/../" * 5_000 + b"v1/charges") == "/v1/charges"
    assert met(routes, b"/v1/other") == "/**"


def test_a_thousand_rules_are_told_apart() -> None:
    paths = [path for number in range(500) for path in (f"/v1/thing{number}", f"/v1/thing{number}/{{id}}/act{number}")]
    routes = table(*paths)
    for number in range(500):
        assert met(routes, b"/v1/thing%d" % number) == f"/v1/thing{number}"
        assert met(routes, b"/v1/thing%d/x/act%d" % (number, number)) == f"/v1/thing{number}/{{id}}/act{number}"
        assert met(routes, b"/v1/thing%d/x/act%d" % (number, number + 1)) is None


@pytest.mark.parametrize("method", [b"POST", b"post", b"PoSt", b"DELETE"])
def test_methods_are_met_in_any_case(method: bytes) -> None:
    assert met(table("/a"), b"/a", method) == "/a"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"POSTS", b"PROPFIND"])
def test_other_methods_are_not(method: bytes) -> None:
    assert met(table("/a"), b"/a", method) is None


def test_own_methods_and_any_method() -> None:
    any_method = Rule("any", Match(frozenset(), "/any"))
    brew = Rule("brew", Match(frozenset({b"brew"}), "/pot"))
    routes = RouteTable((any_method, brew))
    assert met(routes, b"/any", b"GET") == "any"
    assert met(routes, b"/any", b"anything") == "any"
    assert met(routes, b"/pot", b"brew") == "brew"
    assert met(routes, b"/pot", b"GET") is None
    assert met(RouteTable((brew,)), b"/pot", b"brew") == "brew"


HOSTED = RouteTable((Rule("hosted", Match(UNSAFE, "/a", hosts=frozenset({b"api.example.com", b"[::1]"}))),))


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/a", b"api.example.com"),
        (b"/a", b"API.Example.COM"),
        (b"/a", b"api.example.com:8080"),
        (b"/a", b"api.example.com:"),
        (b"/a", b"api.example.com."),
        (b"/a", b"api.example.com.:443"),
        (b"/a", b"[::1]"),
        (b"/a", b"[::1]:80"),
        (b"/a", b""),
        (b"http://api.example.com/a", b"other.example.com"),
        (b"http://user@API.example.com.:80/a", b"other.example.com"),
    ],
)
def test_hosts_are_met(target: bytes, host: bytes) -> None:
    assert met(HOSTED, target, fields=((b"hOST", host),)) == "hosted"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/a", b"example.com"),
        (b"/a", b"api.example.com.evil.test"),
        (b"/a", b"[::2]"),
        (b"http://other.example.com/a", b"api.example.com"),
        (b"http://api.example.com@other.example.com/a", b"api.example.com"),
    ],
)
def test_other_hosts_are_not(target: bytes, host: bytes) -> None:
    assert met(HOSTED, target, fields=((b"Host", host),)) is None


def test_a_request_without_a_host_may_be_for_any() -> None:
    assert met(HOSTED, b"/a", fields=()) == "hosted"


def test_headers_must_all_be_there_with_their_values() -> None:
    match = Match(UNSAFE, "/a", headers=((b"x-version", b"2"), (b"x-kind", b"Order")))
    routes = RouteTable((Rule("versioned", match), Rule("rest", replace(match, headers=()))))
    assert met(routes, b"/a", fields=((b"X-Version", b"2"), (b"X-KIND", b"Order"))) == "versioned"
    assert met(routes, b"/a", fields=((b"X-Version", b"1"), (b"X-Version", b"2"), (b"X-Kind", b"Order"))) == "versioned"
    for fields in (
        (),
        ((b"X-Version", b"2"),),
        ((b"X-Version", b"2"), (b"X-Kind", b"order")),
        ((b"X-Version", b"2, 3"), (b"X-Kind", b"Order")),
    ):
        assert met(routes, b"/a", fields=fields) == "rest"


RULED = (
    Match(UNSAFE, "/a/{b}", hosts=frozenset({b"one"})),
    Match(frozenset({b"BREW"}), "/a/**"),
    Match(frozenset(), "/a/c", headers=((b"x-kind", b"1"),)),
    Match(UNSAFE, "/{any}/c"),
)


@calmly
@given(
    st.sampled_from([b"POST", b"post", b"BREW", b"GET"]),
    st.sampled_from(
        [b"/a/c", b"/A//c/", b"/a", b"/x/c", b"/x", b"http://two/a/c", b"/a/..;/c", b"*", b"/" + b"/." * 300]
    ),
    st.sampled_from([b"one", b"two:80", b""]),
    st.sampled_from([(), ((b"X-Kind", b"1"),), ((b"x-kind", b"2"),)]),
)
def test_the_rule_is_the_first_that_nothing_is_lacking_for(
    method: bytes, target: bytes, host: bytes, more: Fields
) -> None:
    rules = tuple(Rule(str(number), match) for number, match in enumerate(RULED))
    fields = ((b"Host", host), *more)
    found = [rule for rule in rules if not lacking(rule.match, method, target, fields)]
    assert RouteTable(rules).find(method, target, fields) is (found[0] if found else None)


def test_what_is_lacking_is_named() -> None:
    everything = Match(UNSAFE, "/a", frozenset({b"one"}), ((b"x-kind", b"1"),))
    assert lacking(everything, b"GET", b"/b", ((b"Host", b"two"),)) == ("path", "method", "host", "header:x-kind")
    assert lacking(everything, b"PUT", b"/a", ((b"Host", b"one"), (b"X-Kind", b"1"))) == ()


def test_without_rules_nothing_is_met() -> None:
    assert met(RouteTable(()), b"/a") is None


def test_nothing_may_stand_behind_the_rest() -> None:
    with pytest.raises(ValueError, match="before a pattern's end"):
        table("/a/**/b")


# ------------------------------------------------------------------------------------------------------- rules that only observe


def observing(path: str, **match: Any) -> Rule:
    return Rule(f"observe {path}", Match(UNSAFE, path, **match), mode=Mode.OBSERVE)


def enforcing(path: str, **match: Any) -> Rule:
    return Rule(path, Match(UNSAFE, path, **match))


CHARGES = RouteTable((observing("/v1/x/**"), enforcing("/v1/charges")))


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/x/../charges",
        b"/v1/x/..%2Fcharges",
        b"/v1/x/%2e%2e/charges",
        b"/v1/x//../../charges",
        b"/v1/x\\..\\charges",
    ],
)
def test_a_rule_that_only_observes_does_not_unprotect_another_spelling_of_a_path(target: bytes) -> None:
    assert met(CHARGES, target) == "/v1/charges"


def test_a_path_that_may_mean_anything_is_protected_before_it_is_observed() -> None:
    assert met(CHARGES, b"/v1/x" + b"/..;/%5c" * 200) == "/v1/charges"


def test_a_rule_that_only_observes_comes_first_where_it_stands_first() -> None:
    routes = RouteTable((observing("/v1/charges"), enforcing("/v1/**")))
    assert met(routes, b"/v1/charges") == "observe /v1/charges"
    assert met(CHARGES, b"/v1/x/a") == "observe /v1/x/**"
    assert met(CHARGES, b"/v1/x/a/../b") == "observe /v1/x/**"


def test_a_request_that_names_no_host_is_protected_before_it_is_observed() -> None:
    routes = RouteTable((observing("/a", hosts=frozenset({b"one"})), enforcing("/a", hosts=frozenset({b"two"}))))
    assert met(routes, b"/a", fields=()) == "/a"
    assert met(routes, b"/a", fields=((b"Host", b"one"),)) == "observe /a"
    anywhere = RouteTable((observing("/a"), enforcing("/a", hosts=frozenset({b"two"}))))
    assert met(anywhere, b"/a", fields=()) == "observe /a"
