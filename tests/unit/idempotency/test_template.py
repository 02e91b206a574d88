"""Templates: what a part finds in a request, and that nothing in a part can mean anything else in the target that it makes."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.template import BadTemplate, Filter, Part, Source, Template, parse_template, target_of
from tests.unit.idempotency.examples import calmly

FIELDS = (
    (b"Idempotency-Key", b"k-1"),
    (b"X-Two", b"a"),
    (b"X-Two", b"b"),
    (b"X-Same", b"a"),
    (b"X-Same", b"a"),
    (b"X-Empty", b""),
    (b"Cookie", b"sid=s1; theme=dark"),
)
TARGET = b"/v1/orders/o%2F7/lines?day=Mon%20day&day2=x&twice=1&twice=2&plus=a+b"
PATH = "/v1/orders/{order}/lines"


def filled(text: str) -> bytes | None:
    return target_of(parse_template(text), PATH, TARGET, FIELDS)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/k/{header:Idempotency-Key}", b"/k/k-1"),
        ("/k/{header:idempotency-key}?x=1", b"/k/k-1?x=1"),
        ("/k/{path:order}", b"/k/o%2F7"),
        ("/k/{query:day}", b"/k/Mon%20day"),
        ("/k/{query:plus}", b"/k/a%20b"),
        ("/k/{cookie:sid}", b"/k/s1"),
        ("/k/{header:x-same}", b"/k/a"),
        ("/k/{query:day|lower}-{cookie:sid}", b"/k/mon%20day-s1"),
        ("/k/{cookie:sid|sha256}", b"/k/" + hashlib.sha256(b"s1").hexdigest().encode()),
    ],
)
def test_what_a_part_finds(text: str, target: bytes) -> None:
    assert filled(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "/k/{header:x-absent}",
        "/k/{header:x-two}",
        "/k/{header:x-empty}",
        "/k/{query:absent}",
        "/k/{query:twice}",
        "/k/{cookie:none}",
        "/k/{path:line}",
    ],
)
def test_a_part_that_is_absent_empty_or_several_things_fills_nothing(text: str) -> None:
    assert filled(text) is None


@pytest.mark.parametrize("target", [b"/v1/orders/7", b"/v1/orders/7/lines/8", b"/v1//orders/7/lines", b"*"])
def test_a_path_that_is_not_built_as_the_pattern_fills_nothing(target: bytes) -> None:
    template = Template((b"/k/", Part(Source.PATH, "order")))
    assert target_of(template, PATH, target, ()) is None


def test_a_rest_may_be_as_long_as_it_likes() -> None:
    template = parse_template("/k/{path:order}")
    assert target_of(template, "/v1/{order}/**", b"/v1/7/a/b/c", ()) == b"/k/7"
    assert target_of(template, "/v1/{order}/**", b"/v1/7", ()) == b"/k/7"


def test_filters_stand_in_order() -> None:
    part = Part(Source.HEADER, "a", (Filter.TRIM, Filter.SHA256))
    assert parse_template("{header:A|trim|sha256}") == Template((part,))


@pytest.mark.parametrize(
    "text", ["{", "}", "a{b", "a}b", "{}", "{header}", "{header:}", "{x:y}", "{header:a|b}", "{{header:a}}"]
)
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(BadTemplate):
        parse_template(text)


@calmly
@given(st.binary(min_size=1, max_size=40))
def test_a_part_means_only_itself_in_a_target(value: bytes) -> None:
    found = target_of(parse_template("/k/{header:a}/end"), "/x", b"/x", ((b"A", value),))
    if value in (b".", b".."):
        assert found is None
        return
    assert found is not None
    assert found.count(b"/") == 3
    assert not set(found) & set(b"?#\r\n \\%\0") - set(b"%")
    assert unquote_to_bytes(found.split(b"/")[2]) == value
