"""Short ways to a configuration in tests."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent, indent

import pytest

from idemproxy.config import load_text
from idemproxy.config.settings import Settings
from idemproxy.errors import ConfigError
from idemproxy.idempotency.routes import Rule

UPSTREAM = "upstream: http://127.0.0.1:9000\n"


def settings(text: str, **environ: str) -> Settings:
    """The settings of a text that is right."""
    return load_text(text, "c.yaml", environ)


def top(line: str, **environ: str) -> Settings:
    """The settings of one more line at the top."""
    return settings(f"{UPSTREAM}{line}\n", **environ)


def rule_text(lines: str, match: str = "{path: /x}") -> str:
    """A configuration with one rule that has these lines, or these members of a mapping in braces."""
    if lines.startswith("{"):
        return f"{UPSTREAM}routes:\n  - {{match: {match}, {lines[1:]}\n"
    return f"{UPSTREAM}routes:\n  - match: {match}\n{indent(dedent(lines), '    ')}\n"


def rule(lines: str, **environ: str) -> Rule:
    """The rule of a configuration that is right."""
    return settings(rule_text(lines), **environ).rules[0]


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the error about a text that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, "c.yaml", environ or {})
    return str(caught.value).splitlines()


def problem(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The only line of the error about a text that is wrong in one way."""
    lines = problems(text, environ)
    assert len(lines) == 1, lines
    return lines[0]


def top_problem(line: str, **environ: str) -> str:
    """What is wrong with one more line at the top."""
    return problem(f"{UPSTREAM}{line}\n", environ)


def rule_problem(lines: str, **environ: str) -> str:
    """What is wrong with a rule that has these lines."""
    return problem(rule_text(lines), environ)
