"""`docs/openapi.md` shows what `idemproxy init` writes, and its example is one for every command."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from openapi_spec_validator import validate

from idemproxy import config
from idemproxy.documents.additions import with_rules
from idemproxy.documents.description import Description
from idemproxy.documents.first_config import first_config

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = DOCS / "examples" / "payments-api.yaml"
(SHOWN,) = re.findall(
    r"^```yaml\n(.*?)^```$", (DOCS / "openapi.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def test_the_page_shows_what_is_written() -> None:
    assert first_config(Description.of_file(EXAMPLE)) == SHOWN


def test_the_example_has_nothing_to_warn_of() -> None:
    settings = config.load_text(SHOWN, "shown.yaml", {})
    assert settings.warnings == ()
    raw, notes = with_rules(Description.of_file(EXAMPLE), settings)
    assert notes == []
    for description in (EXAMPLE.read_bytes(), raw):
        validate(yaml.safe_load(description))
