"""The house (DESIGN.md section 3): who may import whom, and what may not be there at all."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import idemproxy

ROOT = Path(idemproxy.__file__).parent
ANYWHERE = frozenset({"errors"})
"""What everyone may import."""

ARROWS: dict[str, frozenset[str]] = {
    # the protocol, and what it is said in
    "errors": frozenset(),
    "clocks": frozenset(),
    "idempotency": frozenset(),
    "http1": frozenset({"idempotency.messages"}),
    # the outside: never each other
    "stores": frozenset({"idempotency", "http1", "clocks"}),
    "proxy": frozenset({"idempotency", "http1", "clocks"}),
    "config": frozenset({"idempotency"}),
    "observe": frozenset({"idempotency", "stores.base", "clocks"}),
    "tee": frozenset(),
    # what joins them
    "forwarding": frozenset({"idempotency", "http1", "proxy"}),
    "execution": frozenset({"idempotency", "http1", "proxy", "forwarding", "tee"}),
    "waiters": frozenset({"idempotency", "stores", "clocks"}),
    "outcomes": frozenset({"idempotency", "stores", "execution"}),
    "jwks": frozenset({"idempotency", "clocks"}),
    "tokens": frozenset({"idempotency", "clocks", "jwks"}),
    "identifying": frozenset(
        {"idempotency", "http1", "proxy", "stores", "clocks", "execution", "forwarding", "given", "tokens"}
    ),
    "given": frozenset({"idempotency", "execution", "observe"}),
    "lease": frozenset({"idempotency", "stores", "clocks", "observe"}),
    "shadows": frozenset({"idempotency", "stores", "execution", "identifying"}),
    "overhearing": frozenset({"idempotency", "http1", "proxy", "clocks", "execution"}),
    "observing": frozenset(
        {"idempotency", "http1", "proxy", "clocks", "observe"}
        | {"execution", "forwarding", "identifying", "overhearing", "shadows"}
    ),
    "probing": frozenset({"idempotency", "http1", "proxy", "stores", "execution", "forwarding"}),
    "reauthorizing": frozenset({"idempotency", "http1", "proxy", "clocks", "execution", "forwarding"}),
    "owner": frozenset(
        {"idempotency", "stores", "clocks", "execution", "forwarding", "lease", "observe", "outcomes", "tee"}
    ),
    "ownership": frozenset({"idempotency", "stores", "clocks", "execution", "owner", "observe", "outcomes"}),
    "gateway": frozenset(
        {"idempotency", "http1", "proxy", "stores", "clocks", "observe"}
        | {
            "execution",
            "forwarding",
            "given",
            "identifying",
            "observing",
            "owner",
            "ownership",
            "outcomes",
            "probing",
            "reauthorizing",
            "tee",
            "waiters",
        }
    ),
    # what is asked before anything is served
    "requests_given": frozenset({"idempotency", "http1"}),
    "explaining": frozenset(
        {
            "idempotency",
            "http1",
            "proxy",
            "stores",
            "clocks",
            "execution",
            "given",
            "identifying",
            "records",
            "requests_given",
            "tokens",
        }
    ),
    # what stands on top
    "records": frozenset({"idempotency", "stores"}),
    "admin": frozenset({"idempotency", "stores", "observe", "records"}),
    "startup": frozenset({"config"}),
    "certificates": frozenset({"config"}),
    "runtime": frozenset(
        {"idempotency", "http1", "proxy", "stores", "config", "observe", "clocks", "admin", "certificates"}
        | {"records", "startup"}
        | {"execution", "forwarding", "gateway", "identifying", "jwks", "observing", "ownership", "outcomes", "probing"}
        | {"reauthorizing", "shadows", "tee", "tokens", "waiters"}
    ),
    "reporting": frozenset({"idempotency"}),
    "advising": frozenset({"idempotency", "reporting"}),
    "cli_report": frozenset({"reporting", "advising"}),
    "cli_records": frozenset({"idempotency", "stores", "config", "records"}),
    "cli_explain": frozenset({"idempotency", "stores", "config", "explaining", "jwks", "requests_given", "tokens"}),
    "documents": frozenset({"idempotency", "config"}),
    "cli_documents": frozenset({"config", "documents"}),
    "cli": frozenset(
        {"idempotency", "config", "observe", "runtime", "demo"}
        | {"cli_documents", "cli_explain", "cli_records", "cli_report"}
    ),
    "demo": frozenset(),
    "__init__": frozenset(),
    "__main__": frozenset({"cli"}),
}
"""A module or package of ours, and what of ours it may import beside itself."""

PURE = ("idempotency", "http1")
COMPUTING = frozenset({"re2", "msgspec", "jwt", "cryptography"})
"""Packages that only compute, which the pure parts may use."""
IMPURE = frozenset(
    {"asyncio", "time", "random", "secrets", "socket", "ssl", "select", "datetime", "os", "uuid", "threading"}
)
LOGGERS = frozenset({"gateway", "lease", "observing", "owner", "ownership", "runtime", "observe"})
NAMELESS = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})
MOST_LINES = 450

MODULES = sorted(ROOT.rglob("*.py"))


def unit(path: Path) -> str:
    """The package at the top that a module is in, or its own name where it is at the top itself."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, by its whole name; names that are taken from one stand behind it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> Iterator[str]:
    yield from (each.removeprefix("idemproxy.") for each in imports(path) if each.startswith("idemproxy."))


def foreign(path: Path) -> set[str]:
    return {each.split(".")[0] for each in imports(path)} - {"idemproxy", "__future__"}


def allowed(imported: str, by: str) -> bool:
    arrows = ARROWS[by] | ANYWHERE | {by}
    return any(imported == arrow or imported.startswith(f"{arrow}.") for arrow in arrows)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_imports_only_what_it_may(path: Path) -> None:
    assert unit(path) in ARROWS, "a new part of the house needs its arrows in the table"
    assert [each for each in ours(path) if not allowed(each, unit(path))] == []


def test_the_arrows_have_no_circle() -> None:
    standing = {part: {arrow.split(".")[0] for arrow in arrows} for part, arrows in ARROWS.items()}
    while standing:
        lowest = {part for part, arrows in standing.items() if not arrows & set(standing)}
        assert lowest, f"in a circle: {sorted(standing)}"
        standing = {part: arrows for part, arrows in standing.items() if part not in lowest}


@pytest.mark.parametrize("path", [path for path in MODULES if unit(path) in PURE], ids=name)
def test_the_protocol_is_pure(path: Path) -> None:
    """No event loop, no clock, no randomness, no socket, and no library that could have them."""
    assert foreign(path) & IMPURE == set()
    assert foreign(path) <= sys.stdlib_module_names | COMPUTING
    named = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert named & {"open", "print", "input", "exec", "eval", "__import__"} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if unit(path) not in LOGGERS], ids=name)
def test_only_some_log(path: Path) -> None:
    assert foreign(path) & {"structlog", "logging"} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if unit(path) != "stores"], ids=name)
def test_only_stores_know_a_store(path: Path) -> None:
    assert foreign(path) & {"redis", "hiredis", "sqlite3", "asyncpg", "psycopg"} == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_has_a_size_and_a_name(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    assert NAMELESS.isdisjoint(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", [path for path in MODULES if unit(path) != "__main__"], ids=name)
def test_no_regular_expression_has_a_possessive_quantifier(path: Path) -> None:
    """Python before 3.11.5 matches some of them wrongly (python/cpython#106052): a path slipped past its rule that way."""
    module = importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
    held = [
        *vars(module).values(),
        *(each for held in vars(module).values() if isinstance(held, type) for each in vars(held).values()),
    ]
    patterns = [each for each in held if isinstance(each, re.Pattern)]
    parsed = [str(re._parser.parse(each.pattern, each.flags & ~re.UNICODE)) for each in patterns]  # type: ignore[attr-defined]
    assert [each for each in parsed if "POSSESSIVE" in each or "ATOMIC" in each] == []
