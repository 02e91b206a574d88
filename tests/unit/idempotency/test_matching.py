"""The table of rules finds what trying every rule in order finds, whatever the rules and however odd the target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemproxy.idempotency.matching import RouteTable
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.paths import plain_reading, readings, split_target
from idemproxy.idempotency.routes import Match, Mode, Rule
from tests.unit.idempotency import slow_matching
from tests.unit.idempotency.examples import calmly

often = settings(calmly, max_examples=500)

WORDS = [
    "a",
    "b",
    "c",
    "A",
    "a:b",
    "a;p",
    "a%2Fb",
    "%61",
    "caf%C3%A9",
    "a%5Cb",
    ".a",
    "a.",
    "%2A%2A",
    "%7Bx%7D",
    "a%25b",
    "",
]
ODD = [
    b"",
    b".",
    b"..",
    b"%2e",
    b"%2E%2e",
    b"..;",
    b";p",
    b"a;p",
    b"a%3bp",
    b"..%2fb",
    b"a%2fb",
    b"a%2Fb",
    b"a%5cb",
    b"a\\b",
]
ODD += [
    b"%2561",
    b"%25252e",
    b"a%00",
    b"a%",
    b"a%zz",
    b"%c3%a9",
    b"caf\xc3\xa9",
    b"a//b",
    b"x",
    b"**",
    b"{x}",
    b"%2a*",
    b".a",
    b"a.",
]
METHODS = [b"POST", b"post", b"PUT", b"GET", b"OPTIONS", b"brew", b"BREW"]
HOSTS = [b"one", b"ONE.", b"one:80", b"two", b"two.:443", b"", b"three", b"[::1]:80"]


def paths_of_rules() -> st.SearchStrategy[str]:
    segments = st.one_of(st.sampled_from(["a", "b", "c"]), st.just("{x}"), st.sampled_from(WORDS))
    ends = st.sampled_from(["", "", "/", "/**", "/**/"])
    return st.builds(
        lambda parts, end: "".join(f"/{each}" for each in parts) + end or "/", st.lists(segments, max_size=4), ends
    )


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Rules of few paths, so that they stand in each other's way."""
    methods = st.sampled_from(
        [frozenset[bytes](), *[frozenset({b"POST", b"PUT"})] * 3, frozenset({b"brew", b"OPTIONS"})]
    )
    paths = st.sampled_from(draw(st.lists(paths_of_rules(), min_size=1, max_size=3)))
    hosts = st.sampled_from([frozenset[bytes](), frozenset({b"one"}), frozenset({b"two", b"[::1]"})])
    headers = st.sampled_from([(), (), (), ((b"x-kind", b"1"),), ((b"x-kind", b"1"), (b"x-more", b"2"))])
    mode = st.sampled_from(list(Mode))
    return tuple(
        draw(
            st.lists(
                st.builds(Rule, st.just("rule"), st.builds(Match, methods, paths, hosts, headers), mode=mode),
                max_size=6,
            )
        )
    )


@st.composite
def targets(draw: st.DrawFn, known: tuple[Rule, ...]) -> bytes:
    """A rule's own path or one made up, whole or with something odd put in, in origin, absolute or asterisk form."""
    own = [rule.match.path.encode() for rule in known]
    made = st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"B", b"x"]), max_size=5).map(
        lambda parts: b"/" + b"/".join(parts)
    )
    path = draw(st.one_of(st.sampled_from(own), made) if own else made)
    path = path.replace(b"/**", draw(st.sampled_from([b"", b"/", b"/x", b"/x/y"]))) or b"/"
    path = path.replace(b"{x}", draw(st.sampled_from([b"x", b"X1", b"a", b"", b"a%2Fb", b"."])))
    segments = path.split(b"/")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        segments.insert(draw(st.integers(1, len(segments))), draw(st.sampled_from(ODD)))
    path = b"/".join(segments)
    path = draw(st.sampled_from([path, path, path.upper(), path + b"/", path + b"//", path + b"/.." * 300]))
    path += draw(st.sampled_from([b"", b"", b"?", b"?a=/../b", b"?x?y"]))
    start = draw(
        st.sampled_from([b"", b"", b"", b"", b"http://one", b"HTTP://u@two:80", b"http://", b"http:", b"*", b"/", b"x"])
    )
    return draw(st.sampled_from([start + path] * 9 + [b"*", b"http://one", b"http://one?/a"]))


def fields() -> st.SearchStrategy[Fields]:
    host = st.builds(lambda name, value: (name, value), st.sampled_from([b"Host", b"hOST"]), st.sampled_from(HOSTS))
    kind = st.sampled_from([(b"X-Kind", b"1"), (b"x-kind", b"2"), (b"X-More", b"2")])
    return st.builds(lambda some, more: (*some, *more), st.lists(host, max_size=2), st.lists(kind, max_size=3))


@often
@given(st.data(), rules(), fields())
def test_the_table_finds_what_trying_every_rule_finds(
    data: st.DataObject, known: tuple[Rule, ...], sent: Fields
) -> None:
    table = RouteTable(known)
    for _ in range(4):
        method, target = data.draw(st.sampled_from(METHODS)), data.draw(targets(known))
        assert table.find(method, target, sent) is slow_matching.find(known, method, target, sent), target


@often
@given(st.lists(paths_of_rules(), min_size=1, max_size=12), st.data())
def test_of_rules_that_differ_by_path_alone_the_first_is_found(paths: list[str], data: st.DataObject) -> None:
    known = tuple(Rule(path, Match(frozenset({b"POST"}), path)) for path in paths)
    table = RouteTable(known)
    for _ in range(4):
        target = data.draw(targets(known))
        assert table.find(b"POST", target, ()) is slow_matching.find(known, b"POST", target, ()), target


@often
@given(st.lists(st.one_of(st.sampled_from(ODD), st.binary(max_size=3)), max_size=5).map(b"/".join))
def test_a_path_is_plain_only_where_it_has_no_other_reading(rest: bytes) -> None:
    path = b"/" + rest
    plain = plain_reading(path)
    assert set(readings(path) or ()) == slow_matching.readings(path)
    if plain is not None:
        assert slow_matching.odd_readings(path) == {plain}


def test_a_rule_that_spells_out_an_odd_path_does_not_go_before_an_earlier_one() -> None:
    for first, odd in (("/a", "/a;p"), ("/a/b", "/a%5Cb"), ("/b", "/a/../b"), ("/a/b", "/a//b")):
        known = (Rule("first", Match(frozenset(), first)), Rule("odd", Match(frozenset(), odd)))
        found = RouteTable(known).find(b"POST", odd.encode().replace(b"%5C", b"\\"), ())
        assert found is known[0], odd


def test_a_host_in_the_target_is_a_host_that_is_named() -> None:
    one = Rule("observes", Match(frozenset(), "/a", hosts=frozenset({b"one"})), mode=Mode.OBSERVE)
    rest = Rule("enforces", Match(frozenset(), "/a"))
    table = RouteTable((one, rest))
    assert table.find(b"POST", b"http://one/a", ()) is one
    assert table.find(b"POST", b"/a", ()) is rest


@pytest.mark.parametrize("octet", range(256))
def test_an_octet_that_means_something_is_never_plain(octet: int) -> None:
    for spelt in (bytes([octet]), b"%%%02x" % octet, b"%%%02X" % octet):
        for path in (b"/" + spelt, b"/a" + spelt, b"/a" + spelt + b"b", b"/a/" + spelt + b"/b"):
            plain = plain_reading(path)
            assert plain is None or slow_matching.odd_readings(path) == {plain}, path


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a/b?c?d", (None, b"/a/b", b"c?d")),
        (b"/a?", (None, b"/a", b"")),
        (b"/", (None, b"/", None)),
        (b"//a/b", (None, b"//a/b", None)),
        (b"*", (None, b"*", None)),
        (b"http://u:p@one:80/a?b", (b"one:80", b"/a", b"b")),
        (b"http://one?b=/c", (b"one", b"/", b"b=/c")),
        (b"http://one", (b"one", b"/", None)),
        (b"?b", (b"", b"/", None)),
        (b"", (b"", b"/", None)),
    ],
)
def test_a_target_is_split(target: bytes, parts: tuple[bytes | None, bytes, bytes | None]) -> None:
    assert split_target(target) == parts
