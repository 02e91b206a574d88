"""`cors:` and `problem_shape:` of a rule."""

from __future__ import annotations

import pytest

from idemproxy.idempotency.cors import Cors
from idemproxy.idempotency.shapes import Shape
from tests.unit.config.texts import rule as rule_of
from tests.unit.config.texts import rule_problem


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://shop.example", b"https://shop.example"),
        ("HTTPS://Shop.Example", b"https://shop.example"),
        ("http://localhost:3000", b"http://localhost:3000"),
        ("http://[::1]:3000", b"http://[::1]:3000"),
        ("http://shop.example:443", b"http://shop.example:443"),
        ("https://xn--bcher-kva.example", b"https://xn--bcher-kva.example"),
        ("chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", b"chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb"),
        ("*", b"*"),
    ],
)
def test_an_origin_is_as_browsers_send_it(written: str, sent: bytes) -> None:
    assert rule_of(f'cors: {{origins: ["{written}"]}}').cors == Cors(frozenset({sent}))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("shop.example", "write an origin as browsers do"),
        ("https://shop.example/", "did you mean https://shop.example?"),
        ("https://shop.example/pay", "write an origin as browsers do"),
        ("https://shop.example:443", "leave :443 out"),
        ("http://shop.example:80", "leave :80 out"),
        ("https://*.shop.example", "write each origin whole"),
        ("https://bücher.example", "xn--"),
        ("https://user@shop.example", "write an origin as browsers do"),
        ("null", "pages that have none"),
        ("", "write an origin as browsers do"),
    ],
)
def test_what_no_browser_sends_is_told(written: str, words: str) -> None:
    assert words in rule_problem(f'cors: {{origins: ["{written}"]}}')


def test_a_rule_without_cors_has_none() -> None:
    rule = rule_of("problem_shape: problem")
    assert (rule.cors, rule.problem_shape) == (None, Shape.PROBLEM)


def test_cors_without_origins_is_told() -> None:
    assert "routes[0].cors.origins" in rule_problem("cors: {}")
    assert "at least one" in rule_problem("cors: {origins: []}")


@pytest.mark.parametrize("shape", Shape)
def test_every_shape_can_be_written(shape: Shape) -> None:
    assert rule_of(f"problem_shape: {shape.value}").problem_shape is shape


def test_a_shape_that_there_is_not_is_told() -> None:
    assert "did you mean stripe?" in rule_problem("problem_shape: strip")
