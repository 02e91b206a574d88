"""The invariant: a server behind the proxy counts the requests that the proxy counts, whatever a client sends, and nobody gets
another's answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.smuggling.attempts import staged
from tests.smuggling.cases import Case, Place
from tests.smuggling.corpus import FAMILIES, NUMBERS
from tests.smuggling.upstreams import VARIANTS, Upstream


@pytest.mark.parametrize("family", list(FAMILIES))
async def test_the_upstream_counts_what_the_proxy_counts(
    upstream: Upstream, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []
    async with staged(upstream, tmp_path, monkeypatch) as stage:
        for case in FAMILIES[family]:
            places = _places(case, upstream.name)
            if not places:
                continue
            try:
                await stage.attempt(case, NUMBERS[family, case.name], places)
            except Exception as error:
                faults.append(f"{case.name}: {type(error).__name__}: {error}")
                stage.forget()
        await stage.follow(b"GET /last")
    assert not faults, "\n".join(faults)


def _places(case: Case, server: str) -> tuple[Place, ...]:
    """Every case goes to a rule's path too in front of one server. What goes nowhere need not go there in front of each of them."""
    if server in VARIANTS:
        return () if case.goes_nowhere else (Place.PLAIN,)
    return (Place.PLAIN,) if case.goes_nowhere and server != "nginx" else (Place.PLAIN, Place.PROTECTED)


def test_the_corpus_is_whole() -> None:
    assert len(NUMBERS) == sum(map(len, FAMILIES.values())), "two cases of one name"
    assert len(NUMBERS) >= 120
