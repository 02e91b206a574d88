"""What an operator can do with records, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from idemproxy import records
from idemproxy.idempotency.messages import Answer
from idemproxy.idempotency.record import NO_TOKEN, OnUnknown, Reason, State, Tombstone
from idemproxy.idempotency.routes import KeySource, Match, PathScope, Rule
from idemproxy.records import ActRefused, AmbiguousId, AnswerInvalid, NoSuchRecord
from idemproxy.stores import semantics
from idemproxy.stores.base import (
    Claim,
    Claimed,
    Completion,
    Done,
    Found,
    MarkUnknown,
    Page,
    Release,
    TakeOver,
)
from tests.stores.memory import MemoryStore

LEASE = 30_000
TTL = 86_400_000
ONE = "a" * 64
TWO = "a" * 12 + "b" * 52
THREE = "c" * 64
TOKEN = b"0123456789abcdef"
ANSWER = Answer(200, b"200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: sid=secret\r\n", b"sensitive")


@dataclass
class Clock:
    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Scannable(MemoryStore):
    """With pages of two, so that cursors count. A state is matched as it is in the record."""

    async def scan(self, *, state: State | None, rule: str | None, limit: int, cursor: str | None) -> Page:
        at = int(cursor or 0)
        ids = sorted(self.slots)
        found = []
        for record_id in ids[at : at + 2]:
            fact = semantics.look(self.slots[record_id], int(self._clock() * 1000))
            if isinstance(fact, Found) and state in (None, fact.record.state) and rule in (None, fact.record.rule):
                found.append((record_id, fact))
        return Page(tuple(found[:limit]), str(at + 2) if at + 2 < len(ids) else None)


@dataclass
class World:
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.store = Scannable(self.clock)

    async def running(self, record_id: str, rule: str = "charges", token: bytes = TOKEN) -> None:
        claim = Claim(token, bytes(32), "raw", rule, OnUnknown.BLOCK, LEASE, TTL)
        assert isinstance(await self.store.claim(record_id, claim), Claimed)

    async def finished(self, record_id: str, answer: Answer | Tombstone = ANSWER) -> None:
        await self.running(record_id)
        assert isinstance(await self.store.complete(record_id, Completion(TOKEN, answer, TTL, None)), Done)

    async def unknown(self, record_id: str) -> None:
        await self.running(record_id)
        mark = MarkUnknown(TOKEN, Reason.CUT_BODY, TTL, None)
        assert isinstance(await self.store.mark_unknown(record_id, mark), Done)

    async def lapsed(self, record_id: str) -> None:
        await self.running(record_id)
        self.clock.seconds += LEASE / 1000 + 1


@pytest.fixture
def world() -> World:
    return World()


# -------------------------------------------------------------------------------------------------------------------- looking


async def test_a_lapsed_operation_is_listed_as_unknown_and_not_as_processing(world: World) -> None:
    await world.lapsed(ONE)
    await world.unknown(TWO)
    await world.running(THREE)
    unknown = await records.select(world.store, State.UNKNOWN, None, 10)
    assert sorted(seen.record_id for seen in unknown) == [ONE, TWO]
    assert {seen.state for seen in unknown} == {State.UNKNOWN}
    processing = await records.select(world.store, State.PROCESSING, None, 10)
    assert [seen.record_id for seen in processing] == [THREE]
    assert processing[0].lease_left > 0


async def test_a_list_is_as_long_as_asked_over_all_pages(world: World) -> None:
    for number in range(7):
        await world.finished(f"{number}" * 64)
    assert len(await records.select(world.store, None, None, 100)) == 7
    assert len(await records.select(world.store, State.COMPLETED, None, 3)) == 3
    assert await records.select(world.store, State.FAILED, None, 3) == []


async def test_a_list_is_of_one_rule(world: World) -> None:
    await world.running(ONE, "charges")
    await world.running(TWO, "refunds")
    assert [seen.record_id for seen in await records.select(world.store, None, "refunds", 9)] == [TWO]


async def test_a_released_operation_is_not_listed(world: World) -> None:
    await world.running(ONE)
    await world.store.release(ONE, Release(TOKEN, TTL))
    assert await records.select(world.store, None, None, 9) == []
    with pytest.raises(NoSuchRecord):
        await records.find(world.store, ONE)
    with pytest.raises(NoSuchRecord):
        await records.find(world.store, ONE[:12])


async def test_an_id_may_be_shortened_while_it_names_one_record(world: World) -> None:
    await world.finished(ONE)
    await world.finished(TWO)
    await world.finished(THREE)
    assert (await records.find(world.store, "CCCCCCCC")).record_id == THREE
    assert (await records.find(world.store, TWO[:13])).record_id == TWO
    with pytest.raises(AmbiguousId, match="2 records"):
        await records.find(world.store, "a" * 12)


@pytest.mark.parametrize("text", ["ccccccc", "", "zzzzzzzz", "c" * 65, "cccc cccc", "*" * 8])
async def test_what_is_no_id_is_told(world: World, text: str) -> None:
    await world.finished(THREE)
    with pytest.raises(AmbiguousId, match="8 to 64 hexadecimal"):
        await records.find(world.store, text)


# ------------------------------------------------------------------------------------------------------------------- settling


async def test_a_released_operation_may_be_claimed_with_the_next_attempt(world: World) -> None:
    await world.unknown(ONE)
    seen = await records.find(world.store, ONE)
    assert await records.release(world.store, seen, TTL) is State.RELEASED
    again = await world.store.claim(ONE, Claim(b"f" * 16, bytes(32), "raw", "charges", OnUnknown.BLOCK, LEASE, TTL))
    assert isinstance(again, Claimed)
    assert again.attempt == 2


async def test_a_completed_operation_has_the_operators_answer_and_no_owner(world: World) -> None:
    await world.lapsed(ONE)
    seen = await records.find(world.store, ONE)
    answer = records.answer_of(201, [("X-Note", "by hand")], b'{"id": 1}')
    assert await records.complete(world.store, seen, answer, TTL) is State.COMPLETED
    settled = await records.find(world.store, ONE)
    assert (settled.record.answer, settled.record.token) == (answer, NO_TOKEN)


async def test_a_deleted_record_is_gone(world: World) -> None:
    await world.finished(ONE)
    seen = await records.find(world.store, ONE)
    await records.delete(world.store, seen)
    with pytest.raises(NoSuchRecord):
        await records.find(world.store, ONE)


async def test_nothing_is_settled_while_an_owner_is_alive(world: World) -> None:
    await world.running(ONE)
    seen = await records.find(world.store, ONE)
    for act in (
        records.release(world.store, seen, TTL),
        records.complete(world.store, seen, ANSWER, TTL),
        records.delete(world.store, seen),
    ):
        with pytest.raises(ActRefused, match=r"owner is alive, and its lease runs 30\.0 s"):
            await act
    assert (await records.find(world.store, ONE)).state is State.PROCESSING


async def test_nothing_is_settled_that_changed_since_it_was_seen(world: World) -> None:
    await world.unknown(ONE)
    seen = await records.find(world.store, ONE)
    over = TakeOver(b"t" * 16, seen.record.token, seen.record.version, LEASE, TTL)
    assert isinstance(await world.store.take_over(ONE, over), Claimed)
    await world.store.mark_unknown(ONE, MarkUnknown(b"t" * 16, Reason.RESET, TTL, None))
    with pytest.raises(ActRefused, match=r"changed since it was read \(version 2, now 4\)"):
        await records.release(world.store, seen, TTL)
    now = await records.find(world.store, ONE)
    assert now.record.attempt == 2
    with pytest.raises(ActRefused, match=r"changed since it was read \(version 2, now 4\)"):
        records.still(now, 2)
    assert records.still(now, 4) is now


async def test_nothing_is_settled_that_is_anothers_at_the_same_version(world: World) -> None:
    await world.unknown(ONE)
    seen = await records.find(world.store, ONE)
    await records.delete(world.store, seen)
    await world.running(ONE, token=b"t" * 16)
    await world.store.mark_unknown(ONE, MarkUnknown(b"t" * 16, Reason.RESET, TTL, None))
    for act in (
        records.release(world.store, seen, TTL),
        records.complete(world.store, seen, ANSWER, TTL),
        records.delete(world.store, seen),
    ):
        with pytest.raises(ActRefused, match=r"changed since it was read \(version 2 is another's now\)"):
            await act
    assert (await records.find(world.store, ONE)).record.token == b"t" * 16


async def test_a_known_outcome_is_not_overwritten(world: World) -> None:
    await world.finished(ONE)
    seen = await records.find(world.store, ONE)
    with pytest.raises(ActRefused, match="is completed: only an unknown outcome"):
        await records.complete(world.store, seen, Answer(500, b"", b""), TTL)
    assert (await records.find(world.store, ONE)).record.answer == ANSWER


async def test_a_record_that_expired_meanwhile_cannot_be_settled(world: World) -> None:
    await world.unknown(ONE)
    seen = await records.find(world.store, ONE)
    world.clock.seconds += TTL / 1000 + 1
    with pytest.raises(NoSuchRecord):
        await records.release(world.store, seen, TTL)


# ------------------------------------------------------------------------------------------------------- an operator's answer


def test_an_answer_has_its_length_and_a_type() -> None:
    answer = records.answer_of(201, [], b'{"id": 1}')
    assert answer == Answer(
        201, b"201 Created\r\nContent-Type: application/json\r\nContent-Length: 9\r\n", b'{"id": 1}'
    )
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in records.answer_of(200, [], b"done").head


def test_an_answers_own_fields_stand_as_given_and_in_order() -> None:
    head = records.answer_of(
        200, [("content-type", " text/csv"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"a,b"
    ).head
    assert head == b"200 OK\r\ncontent-type: text/csv\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n"


def test_an_answer_without_a_body() -> None:
    assert records.answer_of(204, [], b"").head == b"204 No Content\r\n"
    assert records.answer_of(200, [], b"").head == b"200 OK\r\nContent-Length: 0\r\n"
    assert records.answer_of(599, [], b"").head == b"599\r\nContent-Length: 0\r\n"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (100, [], b""),
        (199, [], b""),
        (600, [], b""),
        (204, [], b"x"),
        (304, [], b"x"),
        (200, [("Content-Length", "3")], b""),
        (200, [("Transfer-Encoding", "chunked")], b""),
        (200, [("Connection", "close")], b""),
        (200, [("X Y", "1")], b""),
        (200, [("", "1")], b""),
        (200, [("X", "1\r\nSet-Cookie: a=1")], b""),
        (200, [("X", "1\x00")], b""),
        (200, [("X", "\u20ac")], b""),
    ],
)
def test_what_cannot_be_an_answer_is_refused(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    with pytest.raises(AnswerInvalid):
        records.answer_of(status, headers, body)


# ---------------------------------------------------------------------------------------------------------------- as plain data


async def test_a_record_is_told_without_token_body_or_credential(world: World) -> None:
    await world.finished(ONE)
    shown = records.plain(await records.find(world.store, ONE), show_body=False)
    assert shown["state"] == "completed"
    assert shown["answer"] == {
        "status": 200,
        "kept": True,
        "headers": [["Content-Type", "text/plain"], ["Set-Cookie", "(hidden)"]],
        "body_bytes": 9,
    }
    assert "sensitive" not in str(shown)
    assert TOKEN.hex() not in str(shown)


async def test_a_body_is_told_when_asked_for(world: World) -> None:
    await world.finished(ONE)
    await world.finished(TWO, Answer(200, b"200 OK\r\n", b"\xff\x00"))
    shown = records.plain(await records.find(world.store, ONE), show_body=True)["answer"]
    assert isinstance(shown, dict)
    assert (shown["body"], shown["headers"][1]) == ("sensitive", ["Set-Cookie", "sid=secret"])
    binary = records.plain(await records.find(world.store, TWO), show_body=True)["answer"]
    assert isinstance(binary, dict)
    assert binary["body_base64"] == "/wA="


async def test_why_an_outcome_is_unknown_is_told(world: World) -> None:
    await world.lapsed(ONE)
    await world.unknown(TWO)
    await world.finished(THREE, Tombstone(200))
    assert records.plain(await records.find(world.store, ONE), show_body=False)["reason"] == "owner gone"
    assert records.plain(await records.find(world.store, TWO), show_body=False)["reason"] == "cut body"
    kept = records.plain(await records.find(world.store, THREE), show_body=False)
    assert (kept["reason"], kept["answer"]) == (None, {"status": 200, "kept": False})


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (Rule("a", Match(frozenset(), "/")), True),
        (Rule("a", Match(frozenset(), "/"), scope=()), True),
        (Rule("a", Match(frozenset(), "/{id}"), scope=(PathScope("id"),)), False),
        (Rule("a", Match(frozenset(), "/"), key=KeySource(headers=())), False),
    ],
)
def test_which_rules_operations_a_key_and_headers_name(rule: Rule, named: bool) -> None:
    assert records.nameable(rule) is named
