"""The exchanges made by hand."""

from __future__ import annotations

from typing import Final

from tests.differential import corpus_answers, corpus_refusals, corpus_requests

CASES: Final = tuple(
    sorted(
        (*corpus_requests.CASES, *corpus_refusals.CASES, *corpus_answers.CASES),
        key=lambda case: case.point,
    )
)
"""All of them, in the order of FORWARDING.md's points."""
