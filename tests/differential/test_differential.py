"""The gate's part of the differential: every exchange made by hand and some generated ones. And that the differential itself sees what
a bad proxy would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from tests.differential.client import Observed
from tests.differential.corpus import Case, End, case, chunked, chunked_answer, get
from tests.differential.explained import BY_CHANCE, TABLE
from tests.differential.generated import generated
from tests.differential.handmade import CASES
from tests.differential.judging import NGINX_NEARER, Judgement, judge
from tests.differential.reading import Ended, SeenRequest, read_answers, read_request
from tests.differential.subjects import Run, subjects

GENERATED: Final = 150
PROVED: Final = frozenset(range(1, 21)) - {15, 17}
"""The points that the bytes of one exchange can show. Streaming, the pool, and points 21 to 23 have tests of their own."""


async def _judged(cases: Iterable[Case], folder: Path) -> list[Judgement]:
    async with subjects(folder, Run.HERE) as three:
        return [judge(case, *await three.observe(case)) for case in cases]


async def test_every_exchange_made_by_hand_is_the_same_or_explained(tmp_path: Path) -> None:
    judged = await _judged(CASES, tmp_path)
    assert [fault for each in judged for fault in each.faults] == []
    used = {row.name for each in judged for _, row in each.product if row is not None}
    assert {row.name for row in TABLE} - used <= BY_CHANCE, "a row that explains nothing"


async def test_generated_exchanges_are_the_same_or_explained(tmp_path: Path) -> None:
    judged = await _judged(generated("gate", GENERATED), tmp_path)
    assert [fault for each in judged for fault in each.faults] == []
    assert sum(not each.product for each in judged) > GENERATED // 4, (
        "too little of what is generated has to stay as it is"
    )


def test_the_corpus_is_large_and_shows_every_point_that_it_can() -> None:
    assert len(CASES) >= 150
    assert [name for name, count in Counter(str(each) for each in CASES).items() if count > 1] == []
    assert {each.point for each in CASES} == PROVED
    assert {row.name for row in TABLE} >= NGINX_NEARER.keys() | BY_CHANCE


# ------------------------------------------------------------------------------------------- what the differential would not let by

REQUEST: Final = (
    b"POST /a%2Fb//c?x=%20 HTTP/1.1\r\nHost: api.test\r\nX-A: 1\r\nx-a: 2\r\nCookie: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
)
ANSWER: Final = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 299 Quite Fine\r\nDate: x\r\nSet-Cookie: a\r\nX: 1\r\nset-cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
)
PROBLEM: Final = b"HTTP/1.1 %b\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}"


def _observed(sent: bytes, answered: bytes, method: bytes = b"POST") -> Observed:
    requests: list[SeenRequest] = []
    while sent and (read := read_request(sent, ended=Ended.CLOSED)) is not None:
        requests.append(read[0])
        sent = sent[read[1] :]
    answers = read_answers(answered, [method], ended=Ended.CLOSED)
    return Observed(tuple(requests), answers.seen, answers.rest, b"127.0.0.1:1")


def _faults(case: Case, sent: bytes, answered: bytes) -> tuple[str, ...]:
    exchange = case.exchanges[0]
    direct = _observed(exchange.request, exchange.script.answer, exchange.method)
    proxied = _observed(sent, answered, exchange.method)
    return judge(case, direct, proxied, proxied).faults


PLAIN: Final = case(0, "plain", REQUEST, ANSWER)


def test_the_same_bytes_are_no_fault() -> None:
    assert _faults(PLAIN, REQUEST, ANSWER) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"%2F", b"/"),
        (b"%20", b" "),
        (b"//c", b"/c"),
        (b"POST", b"post"),
        (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"),
        (b"X-A", b"x-a"),
        (b"X-A: 1\r\nx-a: 2\r\n", b"X-A: 1, 2\r\n"),
        (b"X-A: 1\r\nx-a: 2\r\n", b"x-a: 2\r\nX-A: 1\r\n"),
        (b"X-A: 1", b"X-A:  1"),
        (b"X-A: 1\r\n", b""),
        (b"Cookie: b", b"Cookie: c"),
        (b"api.test", b"127.0.0.1:1"),
        (b"Host: api.test\r\n", b"Host: api.test\r\nX-Forwarded-For: 127.0.0.1\r\n"),
        (b"Cookie: b\r\n", b"Cookie: b\r\nConnection: keep-alive\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (b"3\r\nabc\r\n", b"2\r\nab\r\n"),
        (b"X-Sum: 1\r\n", b""),
        (b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-More: 1\r\n"),
        (b"0\r\nX-Sum: 1\r\n\r\n", b""),
        (REQUEST, b""),
        (REQUEST, REQUEST + REQUEST),
        (REQUEST, REQUEST + get()),
    ],
)
def test_a_request_that_was_changed_is_a_fault(old: bytes, new: bytes) -> None:
    assert old in REQUEST
    assert _faults(PLAIN, REQUEST.replace(old, new), ANSWER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"299 Quite Fine", b"299 "),
        (b"299 Quite Fine", b"200 OK"),
        (b"HTTP/1.1 299", b"HTTP/1.0 299"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b""),
        (b"</a>", b"</b>"),
        (b"Date: x", b"Date: y"),
        (b"Date: x\r\n", b"Date: x\r\nServer: y\r\n"),
        (b"set-cookie", b"Set-Cookie"),
        (b"Set-Cookie: a\r\nX: 1\r\nset-cookie: b\r\n", b"Set-Cookie: a\r\nset-cookie: b\r\nX: 1\r\n"),
        (b"X: 1\r\n", b""),
        (b"X: 1\r\n", b"X: 1\r\nConnection: close\r\n"),
        (b"X: 1\r\n", b"X: 1\r\nConnection: keep-alive\r\n"),
        (b"3\r\nabc\r\n", b"2\r\nab\r\n"),
        (b"X-Sum: 1\r\n", b""),
        (b"0\r\nX-Sum: 1\r\n\r\n", b""),
        (b"0\r\nX-Sum: 1\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\nmore"),
        (ANSWER, b""),
        (ANSWER, PROBLEM % b"502 Bad Gateway"),
        (ANSWER, PROBLEM % b"400 Bad Request"),
    ],
)
def test_an_answer_that_was_changed_is_a_fault(old: bytes, new: bytes) -> None:
    assert old in ANSWER
    assert _faults(PLAIN, REQUEST, ANSWER.replace(old, new))


def test_a_body_cut_short_and_passed_off_as_whole_is_a_fault() -> None:
    cut = case(14, "cut", get(), chunked_answer(b"3\r\nabc\r\n"), end=End.CLOSE)
    assert _faults(cut, get(), chunked_answer(b"3\r\nabc\r\n")) == ()
    assert _faults(cut, get(), chunked_answer(b"3\r\nabc\r\n0\r\n\r\n"))
    assert _faults(cut, get(), chunked_answer(b"3\r\nabd\r\n"))


def test_what_must_be_refused_and_is_not_is_a_fault() -> None:
    twice = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
    refused = case(10, "refused", twice, refused=400)
    answered = refused.exchanges[0].script.answer
    assert _faults(refused, b"", PROBLEM % b"400 Bad Request") == ()
    assert _faults(refused, twice, answered)
    assert _faults(refused, twice, PROBLEM % b"400 Bad Request"), "it reached the upstream all the same"
    assert _faults(refused, b"", PROBLEM % b"502 Bad Gateway")
    assert _faults(refused, b"", (PROBLEM % b"400 Bad Request") + answered)


def test_hop_by_hop_fields_must_go_and_no_others() -> None:
    kept = b"Connection: X-Hop, Host\r\nX-Hop: 1\r\nX-Kept: 1\r\n"
    request = case(4, "hop-by-hop", get(fields=kept))
    answered = request.exchanges[0].script.answer
    assert _faults(request, get(fields=b"X-Kept: 1\r\n"), answered) == ()
    assert _faults(request, get(), answered)
    assert _faults(request, get(fields=b"X-Hop: 1\r\nX-Kept: 1\r\n"), answered)
    assert _faults(request, request.exchanges[0].request, answered), "what ends at a hop was passed on"
    assert _faults(request, get(fields=b"X-Kept: 1\r\n").replace(b"Host: api.test\r\n", b""), answered)


def test_trailers_that_no_trailer_may_be_must_go_and_no_others() -> None:
    barred = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: a\r\n\r\n"
    request = case(6, "trailers", chunked(barred))
    answered = request.exchanges[0].script.answer
    assert _faults(request, chunked(barred.replace(b"Host: a\r\n", b"")), answered) == ()
    assert _faults(request, chunked(barred.replace(b"X-Sum: 1\r\n", b"")), answered)
    assert _faults(request, chunked(barred), answered), "what no trailer may be was passed on"
