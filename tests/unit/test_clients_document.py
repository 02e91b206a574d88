"""docs/clients.md tells of every problem, every shape, and the versions that were tried."""

from __future__ import annotations

from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.shapes import Shape
from tests.sdks.clients import LIBRARIES, title
from tests.sdks.document import DOCUMENT, tables

EVERY_PROBLEM = [f"| `{slug.value}` |" for slug in Slug]


def test_the_tables_tell_of_every_problem() -> None:
    found = tables()
    for name in ("problem", "shaped", "browser"):
        lines = found[name].splitlines()
        assert [line[: line.index("|", 1) + 1] for line in lines[2:]] == EVERY_PROBLEM, name
        assert {line.count("|") for line in lines} == {lines[0].count("|")}, name


def test_the_tables_are_of_the_pinned_versions() -> None:
    found = tables()
    for each in LIBRARIES:
        assert f" {title(each)} |" in found["problem"]
        assert (f" {title(each)}: `{each.shape.value}` |" in found["shaped"]) is (each.shape is not Shape.PROBLEM)


def test_no_library_takes_an_answer_in_its_own_shape_for_anything_else() -> None:
    shaped = tables()["shaped"]
    assert not [word for word in ("success", "crash", "mute") if word in shaped]


def test_every_shape_is_described() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert [shape for shape in Shape if f"\n| `{shape.value}`" not in text] == []
