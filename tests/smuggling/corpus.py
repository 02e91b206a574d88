"""The whole corpus, by family."""

from __future__ import annotations

from typing import Final

from tests.smuggling import chunk_cases, framing_cases, line_cases, route_cases, sequence_cases
from tests.smuggling.cases import Case

FAMILIES: Final[dict[str, tuple[Case, ...]]] = {
    "both-framings": framing_cases.BOTH,
    "lengths": framing_cases.LENGTHS,
    "codings": framing_cases.CODINGS,
    "bodies": framing_cases.BODIES,
    "chunk-sizes": chunk_cases.SIZES,
    "chunk-line-ends": chunk_cases.LINE_ENDS,
    "chunk-extensions": chunk_cases.EXTENSIONS,
    "trailers": chunk_cases.TRAILERS,
    "fields": line_cases.FIELDS,
    "start-lines": line_cases.START_LINES,
    "methods": line_cases.METHODS,
    "targets": route_cases.TARGETS,
    "hosts": route_cases.HOSTS,
    "connection": route_cases.CONNECTION,
    "upgrades": route_cases.UPGRADES,
    "versions": sequence_cases.VERSIONS,
    "pipelines": sequence_cases.PIPELINES,
    "expectations": sequence_cases.EXPECTATIONS,
}

_CASES: Final = [(family, case) for family, cases in FAMILIES.items() for case in cases]
NUMBERS: Final = {(family, case.name): number for number, (family, case) in enumerate(_CASES)}
"""Each case's number, which makes its paths its own."""
