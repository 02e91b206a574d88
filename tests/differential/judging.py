"""Each case's three observations held against each other, and the table of what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.differential.client import Observed
from tests.differential.corpus import Case
from tests.differential.differences import Difference, Where, differences, distance
from tests.differential.ended import passed_on
from tests.differential.explained import explanation
from tests.differential.setting import Explanation, Setting

NGINX_NEARER: Final = {
    "Host is the absolute target's": "nginx's $http_host is the field's, which RFC 9112, section 3.2.2, has a proxy replace",
    "Host where HTTP/1.0 has none": "nginx sends HTTP/1.1 without a Host, which RFC 9112, section 3.2, has every server refuse",
    "blanks around a value": "nginx takes tabs around a value for a part of it, which RFC 9110, section 5.5, does not",
    "a request's hop-by-hop field": "nginx passes on what Connection lists, and fields that are for a proxy",
    "an answer's hop-by-hop field": "nginx passes on what Connection lists, and fields that are for a proxy",
    "a request's Transfer-Encoding made anew": "it stands last here; nginx puts it elsewhere, and there it may have stood before",
    "an answer's Transfer-Encoding made anew": "it stands last here; nginx puts it elsewhere, and there it may have stood before",
    "ambiguity is refused": "nginx passes on what readers behind it take in different ways",
    "a malformed answer is 502": "nginx passes on what clients take in different ways",
    "cut short, by a reset": "the connection is broken at once, so that nobody takes what came for whole; nginx sends it first",
    "cut short before its head went on": "the connection is broken at once, so that nobody takes what came for whole; nginx sends it first",
    "cut short in its trailers": "trailers go on once they are whole",
    "a client that leaves cuts its request": "the exchange is dropped at once; nginx sends first what it has",
    "sent once more": "nginx gives the client a 502 at once; point 18 allows a second try of what has no effects",
}
"""Rows of the table of explained differences that may leave nginx the nearer one to the direct bytes, and why."""

TITLES: Final = {
    0: "generated heads, bodies, framings",
    1: "target",
    2: "method",
    3: "request fields",
    4: "hop-by-hop fields",
    5: "Host, and nothing added",
    6: "request body and trailers",
    7: "Expect: 100-continue",
    8: "early answers",
    9: "order, HTTP/1.0",
    10: "ambiguity refused",
    11: "status line and answer fields",
    12: "interim answers",
    13: "answers without a body",
    14: "framing, answers cut short",
    16: "malformed answers, repairs",
    18: "closed without an answer",
    19: "tunnels",
    20: "clients that leave",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a case came to. `nearer`: the rows by which nginx is nearer to the direct bytes, None where it is not. `faults` is empty
    for a case that is as it should be."""

    case: Case
    product: tuple[tuple[Difference, Explanation | None], ...]
    nginx: tuple[Difference, ...]
    nearer: frozenset[str] | None
    faults: tuple[str, ...]

    @property
    def unexplained(self) -> bool:
        """Some difference has no row in the table."""
        return any(row is None for _, row in self.product)


def judge(case: Case, direct: Observed, nginx: Observed, product: Observed) -> Judgement:
    """Hold the observations against each other."""
    at = Setting(case, direct, product)
    ours = tuple((found, explanation(at, found)) for found in differences(direct, product))
    theirs = differences(direct, nginx)
    faults = [f"{case}: unexplained: {found}" for found, row in ours if row is None]
    faults += [f"{case}: passed on: {line!r}" for line in passed_on(at)]
    answered = {difference.after for difference, _ in ours if difference.where is Where.OWN}
    if case.refused is not None and answered != {b"%d" % case.refused}:
        faults.append(f"{case}: not answered by {case.refused} but by {answered or 'the upstream'}")
    only_ours = [(found, row) for found, row in ours if found not in theirs]
    only_theirs = distance(found for found in theirs if all(found != each for each, _ in ours))
    nearer = None
    if distance(found for found, _ in only_ours) > only_theirs:
        nearer = frozenset(row.name for _, row in only_ours if row is not None) & NGINX_NEARER.keys()
        left = [found for found, row in only_ours if row is None or row.name not in NGINX_NEARER]
        if distance(left) > only_theirs:
            faults.append(
                f"{case}: nginx is nearer: {[str(each) for each in left]}, nginx: {[str(each) for each in theirs]}"
            )
    return Judgement(case, ours, theirs, nearer, tuple(faults))


def table(judgements: Iterable[Judgement]) -> Iterator[str]:
    """The judgements as lines: by point, by explanation, and the exchanges by hand in which nginx is nearer."""
    judged = list(judgements)
    yield f"{'':39}{'':>10}{'---- idemproxy ----':>33}{'------ nginx ------':>31}"
    yield (
        f"{'point of FORWARDING.md':39}{'exchanges':>10}{'identical':>11}{'explained':>11}{'UNEXPLAINED':>12}"
        f"{'identical':>11}{'different':>11}{'nearer':>8}"
    )
    for point, title in TITLES.items():
        if rows := [each for each in judged if each.case.point == point]:
            yield _row(f"{point or '':>2} {title}", rows)
    yield _row("   all", judged)
    yield "\nDifferences between idemproxy and the direct bytes, by their explanation:"
    counted = Counter(row for each in judged for _, row in each.product if row is not None)
    for row, count in sorted(counted.items(), key=lambda each: (each[0].point, each[0].name)):
        yield f"{count:>7}  point {row.point:>2}: {row.name}"
    yield "\nWhere nginx is nearer to the direct bytes, by what makes it so:"
    by_row = Counter(name for each in judged for name in each.nearer or ())
    for name, count in by_row.most_common():
        yield f"{count:>7}  {name}: {NGINX_NEARER[name]}"
    for each in judged:
        if each.nearer is not None and not each.case.name.startswith("generated"):
            yield f"         {each.case}"


def _row(title: str, rows: list[Judgement]) -> str:
    identical = sum(not each.product for each in rows)
    unexplained = sum(each.unexplained for each in rows)
    nginx = sum(not each.nginx for each in rows)
    nearer = sum(each.nearer is not None for each in rows)
    return (
        f"{title:39}{len(rows):>10}{identical:>11}{len(rows) - identical - unexplained:>11}{unexplained:>12}"
        f"{nginx:>11}{len(rows) - nginx:>11}{nearer:>8}"
    )
