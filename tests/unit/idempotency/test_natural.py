"""Natural keys: what is the same operation, what is another, and what names none."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.content import Content
from idemproxy.idempotency.identity import Key, read_key
from idemproxy.idempotency.natural import Ambiguous, Underivable, derive, needs_body
from idemproxy.idempotency.routes import KeySource, Match, Recipe, Rule, own_fields
from idemproxy.idempotency.template import Asked, BadTemplate, Source, parse_template
from tests.unit.idempotency.examples import calmly

PATH = "/v1/{order}/x"


def rule(*texts: str, name: str = "r") -> Rule:
    natural = tuple(parse_template(text, frozenset(Source)) for text in texts)
    return Rule(name, Match(frozenset(), PATH), KeySource((), natural=natural))


def asked(target: bytes = b"/v1/7/x", *fields: tuple[bytes, bytes], body: bytes = b"", peer: str = "") -> Asked:
    return Asked(PATH, target, fields, peer, Content(body))


def key(by: Rule, request: Asked) -> bytes:
    found = derive(by, request)
    assert isinstance(found, Key)
    assert found.derived
    return found.value


def of_json(text: str, value: object) -> bytes:
    return key(rule(text), asked(body=json.dumps(value).encode()))


def test_text_number_and_flag_are_different() -> None:
    values = [1, "1", 1.0, "1.0", True, "true", False]
    assert len({of_json("{json:/a}", {"a": value}) for value in values}) == len(values)


@calmly
@given(
    st.lists(st.text("ab/-", max_size=3).filter(bool), min_size=2, max_size=2),
    st.lists(st.text("ab/-", max_size=3).filter(bool), min_size=2, max_size=2),
)
def test_parts_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    for text in ("{json:/0}{json:/1}", "{json:/0}/{json:/1}", "{json:/0}-{json:/1}"):
        assert (of_json(text, one) == of_json(text, other)) is (one == other)


def test_rules_and_templates_that_differ_give_different_keys() -> None:
    texts = ["{header:a}", "x{header:a}", "{header:a}x", "{header:a}{header:a}", "{header:a|sha256}"]
    request = asked(b"/v1/7/x", (b"A", b"x"))
    found = {key(rule(text), request) for text in texts} | {key(rule("{header:a}", name="other"), request)}
    assert len(found) == len(texts) + 1


@calmly
@given(st.binary(min_size=1, max_size=40), st.text("abc", min_size=1))
def test_no_key_of_a_header_equals_a_derived_one(value: bytes, name: str) -> None:
    made = key(rule("{body}", name=name), asked(body=value))
    by_header = Rule("h", Match(frozenset(), "/"), KeySource(max_length=8_192))
    assert not isinstance(read_key(by_header, ((b"Idempotency-Key", made),)), Key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (asked(b"/v1/7/x?q=a%20b"), asked(b"/v1/%37/x?z&q=a+b")),
        (asked(b"/v1/7/x?q=1", (b"A", b"1"), (b"a", b"1")), asked(b"/v1/7/x?q=1&q=1", (b"A", b"1"))),
    ],
)
def test_parts_are_decoded_and_repetitions_are_one(one: Asked, other: Asked) -> None:
    assert key(rule("{path:order}{query:q}"), one) == key(rule("{path:order}{query:q}"), other)


def test_sources_without_a_name() -> None:
    by = rule("{client_ip}{body|sha256}")
    one = key(by, asked(body=b"x", peer="::1"))
    assert one != key(by, asked(body=b"x", peer="::2"))
    assert one != key(by, asked(body=b"y", peer="::1"))
    assert isinstance(derive(by, asked(body=b"x")), Underivable)
    assert isinstance(derive(by, asked(peer="::1")), Underivable), "no digest of nothing"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"/a?q", b"/a?q", True),
        (b"http://h/a?q", b"/a?q", True),
        (b"/a?q", b"/a?r", False),
        (b"/a?", b"/a", False),
        (b"/a/b", b"/a/%62", False),
        (b"/a", b"/b", False),
    ],
)
def test_the_target_is_path_and_query_as_sent(one: bytes, other: bytes, equal: bool) -> None:
    by = rule("{target}{header:x}")
    assert (key(by, asked(one, (b"X", b"1"))) == key(by, asked(other, (b"X", b"1")))) is equal


BATCHES = KeySource(headers=(), natural=rule("{header:a}").key.natural, batches=frozenset({b"multipart/mixed"}))


@pytest.mark.parametrize("kind", [b"multipart/mixed", b"Multipart/Mixed ;boundary=x", b"multipart/mixed;"])
def test_a_batch_has_no_derived_key_even_where_a_template_could_be_filled(kind: bytes) -> None:
    by = Rule("b", Match(frozenset(), "/"), BATCHES, fingerprint=Recipe(headers=()))
    found = derive(by, asked(b"/", (b"A", b"1"), (b"Content-Type", kind)))
    assert isinstance(found, Ambiguous)
    assert "Batches (multipart/mixed) are not supported here" in found.detail
    assert isinstance(derive(by, asked(b"/", (b"A", b"1"), (b"Content-Type", b"multipart/mixed-replace"))), Key)
    assert b"content-type" in own_fields(by)


def test_filters_in_their_order() -> None:
    request = asked(b"/v1/7/x", (b"A", b" Ab "))
    digest = hashlib.sha256(b"ab").hexdigest().encode()
    assert key(rule("{header:a|trim|lower|sha256}"), request) == key(rule("{header:a}"), asked(b"/", (b"A", digest)))
    assert isinstance(derive(rule("{header:a|trim}"), asked(b"/", (b"A", b"  "))), Underivable)


def test_who_lacks_what_is_told_and_never_what_is_there() -> None:
    found = derive(rule("{json:/a}{json:/secret}", "{query:q}"), asked(body=b'{"a":"hidden","secret":null}'))
    assert isinstance(found, Underivable)
    assert "json:/secret or query:q" in found.detail
    assert "hidden" not in found.detail


@pytest.mark.parametrize("target", [b"/v1/7/x?q=1&q=2", b"/v1/7/x?q=1&q="])
def test_different_values_are_ambiguous_even_where_another_template_could_be_filled(target: bytes) -> None:
    found = derive(rule("{query:q}", "{path:order}"), asked(target))
    assert isinstance(found, Ambiguous)
    assert "query:q" in found.detail


def test_when_a_body_is_needed() -> None:
    assert [
        needs_body(rule(text))
        for text in ("{json:/a}", "{form:a}", "{body}", "{target}", "{client_ip}", "{path:order}")
    ] == [True] * 3 + [False] * 3
    assert needs_body(rule("{header:a}", "{json:/a}"))


def test_fields_that_make_a_key_are_the_rules_own() -> None:
    assert {b"x-id", b"cookie"} <= own_fields(rule("{header:X-Id}", "{cookie:sid}"))


@pytest.mark.parametrize(
    "text",
    [
        "{json}",
        "{json:}",
        "{json:a}",
        "{json:/~2}",
        "{body:x}",
        "{client_ip:x}",
        "{target:x}",
        "{xml:a}",
        "{header:a|upper}",
        "{header}",
        "{",
        "a}",
    ],
)
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(BadTemplate):
        parse_template(text, frozenset(Source))


@pytest.mark.parametrize("text", ["/{json:/a}", "/{form:a}", "/{body}", "/{client_ip}", "/{target}"])
def test_a_probe_reads_heads_only(text: str) -> None:
    with pytest.raises(BadTemplate, match="header, query, path, cookie"):
        parse_template(text)


def test_pointers_with_escapes() -> None:
    values = [
        of_json("{json:/a~1b}", {"a/b": 1}),
        of_json("{json:/l/1}", {"l": [0, 1]}),
        of_json("{json:/ü}", {"ü": 1}),
    ]
    assert all(one == other for one, other in pairwise(values))
