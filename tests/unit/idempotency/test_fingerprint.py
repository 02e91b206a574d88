"""What must be the same in a retry, and what need not be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.errors import RecordUnreadable
from idemproxy.idempotency.content import Content
from idemproxy.idempotency.fingerprint import (
    differing,
    equal,
    fingerprint,
    part_names,
    recipe_name,
    recipe_of,
)
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.routes import BodyRecipe, Recipe
from tests.unit.idempotency.examples import calmly

JSON: Fields = ((b"Content-Type", b"application/json"),)
DEFAULT = Recipe()


def of(
    target: bytes = b"/v1/charges",
    method: bytes = b"POST",
    fields: Fields = JSON,
    body: bytes = b'{"amount": 1}',
    recipe: Recipe = DEFAULT,
) -> bytes:
    return fingerprint(recipe, method, target, fields, Content(body))


def test_a_fingerprint_is_pinned() -> None:
    """Records outlive the process that wrote them: a change here makes every retry a reuse (422)."""
    assert of()[:32].hex() == "adcd6f018f55de30f6bd320b43dad22d63c0558136bb245c3d3f829524424544"
    assert of(b"/v1/charges?a=1")[:32].hex() == "7da71fe8006b8a8dd726d3031f7136464598dd46a9543d2d56cd0d3ce6830eba"


@pytest.mark.parametrize(
    "other",
    [
        of(method=b"PUT"),
        of(method=b"post"),
        of(b"/v1/refunds"),
        of(b"/v1/charges/"),
        of(b"/v1/ch%61rges"),
        of(b"/v1/charges?"),
        of(b"/v1/charges?a=1"),
        of(body=b'{"amount":1}'),
        of(body=b""),
        of(fields=()),
        of(fields=((b"Content-Type", b""),)),
        of(fields=((b"Content-Type", b"text/plain"),)),
        of(fields=JSON + JSON),
        of(fields=((b"Content-Type", b"application/json, application/json"),)),
    ],
)
def test_what_makes_another_request(other: bytes) -> None:
    assert other != of()


@pytest.mark.parametrize(
    "same",
    [
        of(),
        of(b"http://api.example.com/v1/charges"),
        of(b"HTTPS://user@api.example.com:443/v1/charges"),
        of(fields=((b"CONTENT-TYPE", b"application/json"),)),
        of(fields=(*JSON, (b"Date", b"today"), (b"Authorization", b"Bearer new"))),
        of(fields=((b"X-Request-Id", b"1"), *JSON)),
    ],
)
def test_what_is_the_same_request(same: bytes) -> None:
    assert same == of()


@pytest.mark.parametrize(
    ("absolute", "origin"),
    [
        (b"http://h", b"/"),
        (b"http://h/", b"/"),
        (b"http://h?a", b"/?a"),
        (b"http://h/?", b"/?"),
        (b"http://h/a?b=http://c/d", b"/a?b=http://c/d"),
    ],
)
def test_absolute_form_is_what_goes_to_the_upstream(absolute: bytes, origin: bytes) -> None:
    assert of(absolute) == of(origin)


def test_a_recipe_without_query() -> None:
    recipe = Recipe(query=False)
    assert of(b"/a?b=1", recipe=recipe) == of(b"/a?b=2", recipe=recipe) == of(b"/a", recipe=recipe)
    assert of(b"/a?b=1", recipe=recipe) != of(b"/c?b=1", recipe=recipe)


def test_a_recipe_without_body() -> None:
    recipe = Recipe(body=BodyRecipe.NONE)
    assert of(body=b"one", recipe=recipe) == of(body=b"two", recipe=recipe) == of(body=b"", recipe=recipe)
    assert of(body=b"one", recipe=recipe) != of(b"/other", body=b"one", recipe=recipe)


def test_a_recipe_of_other_headers() -> None:
    recipe = Recipe(headers=(b"x-tenant", b"x-kind"))
    tenant: Fields = ((b"X-Tenant", b"a"),)
    assert of(fields=tenant, recipe=recipe) == of(fields=(*tenant, *JSON), recipe=recipe)
    assert of(fields=tenant, recipe=recipe) != of(fields=((b"X-Kind", b"a"),), recipe=recipe)
    assert of(fields=(*tenant, (b"X-Kind", b"b")), recipe=recipe) == of(
        fields=((b"X-Kind", b"b"), *tenant), recipe=recipe
    )


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (of(method=b"PUT"), ("method",)),
        (of(b"/v1/refunds"), ("path",)),
        (of(b"/v1/charges?"), ("query",)),
        (of(fields=()), ("header:content-type",)),
        (of(body=b""), ("body",)),
        (of(b"/v1/charges?a=1", b"PUT", (), b""), ("method", "query", "header:content-type", "body")),
        (of(), ()),
    ],
    ids=range(7),
)
def test_what_differs_is_named(other: bytes, names: tuple[str, ...]) -> None:
    assert differing(DEFAULT, of(), other) == differing(DEFAULT, other, of()) == names
    assert equal(of(), other) is (not names)


def test_what_a_recipe_leaves_out_does_not_differ() -> None:
    recipe = Recipe(headers=(b"x-a", b"x-b"), query=False, body=BodyRecipe.NONE)
    one = of(b"/a?b", fields=((b"X-B", b"1"),), body=b"1", recipe=recipe)
    other = of(b"/a?c", fields=((b"X-B", b"2"),), body=b"2", recipe=recipe)
    assert differing(recipe, one, other) == ("header:x-b",)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_however_many_headers_there_are(count: int) -> None:
    recipe = Recipe(headers=tuple(b"x-%d" % each for each in range(count)))
    assert len(of(recipe=recipe)) == 32 + 4 * len(part_names(recipe))
    assert differing(recipe, of(recipe=recipe), of(body=b"2", recipe=recipe)) == ("body",)


def test_a_fingerprint_from_before_parts_were_told_apart() -> None:
    assert equal(of()[:32], of())
    assert not equal(of()[:32], of(body=b"2"))
    assert differing(DEFAULT, of()[:32], of(body=b"2")) == ()


VALUES = st.lists(st.binary(max_size=2), max_size=2).map(tuple)
REQUESTS = st.tuples(
    st.sampled_from([b"POST", b"PUT"]),
    st.binary(max_size=2).filter(lambda path: b"?" not in path),
    st.none() | st.binary(max_size=2),
    VALUES,
    VALUES,
    st.binary(max_size=2),
)
Parts = tuple[bytes, bytes, bytes | None, tuple[bytes, ...], tuple[bytes, ...], bytes]


@calmly
@given(REQUESTS, REQUESTS)
def test_fingerprints_are_equal_only_where_all_is(one: Parts, other: Parts) -> None:
    recipe = Recipe(headers=(b"a", b"b"))

    def print_of(parts: Parts) -> bytes:
        method, path, query, first, second, body = parts
        fields = (*((b"A", value) for value in first), *((b"B", value) for value in second))
        return fingerprint(
            recipe, method, b"/" + path + (b"" if query is None else b"?" + query), fields, Content(body)
        )

    assert (print_of(one) == print_of(other)) is (one == other)


TOKEN = st.text(st.sampled_from("abcxyz0189!#$%&'*+-.^_`|~"), min_size=1, max_size=12).map(str.encode)
RECIPES = st.builds(Recipe, st.lists(TOKEN, max_size=4).map(tuple), st.booleans(), st.sampled_from(BodyRecipe))


@calmly
@given(RECIPES)
def test_a_recipe_can_be_read_from_its_name(recipe: Recipe) -> None:
    assert recipe_of(recipe_name(recipe)) == recipe


def test_the_name_of_the_default_recipe() -> None:
    assert recipe_name(Recipe()) == "1:query:raw:content-type"
    assert recipe_name(replace(Recipe(), headers=(), query=False, body=BodyRecipe.NONE)) == "1:-:none:"


@pytest.mark.parametrize(
    "name", ["", "1", "2:query:raw:content-type", "1:query:xml:a", "1:some:raw:a", "1:query:raw:a:b"]
)
def test_a_recipe_of_another_version_is_an_error(name: str) -> None:
    with pytest.raises(RecordUnreadable):
        recipe_of(name)
