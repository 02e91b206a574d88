"""The suite's sixth part, for every backend: which operation is the newest that a retry marker can mean. Whoever names another one says
what he saw named, so that nothing that is delivered late undoes what was named since."""

from __future__ import annotations

import asyncio
import random

import pytest

from idemproxy.stores import semantics
from idemproxy.stores.base import Missing, NameNewest, Newest, Store
from idemproxy.stores.semantics import EMPTY
from tests.stores.asking import SHORT, TTL, A, B, C, claim, new_id, until
from tests.stores.conftest import Opener


def naming(nonce: bytes = A, expected: bytes | None = None, window: int = TTL) -> NameNewest:
    return NameNewest(expected, nonce, window)


async def test_the_first_is_named_and_found_by_every_process(store: Store, another: Opener) -> None:
    marker = new_id()
    assert await store.name_newest(marker, naming(A)) == Newest(A)
    assert await (await another()).name_newest(marker, naming(B)) == Newest(A)


async def test_who_names_again_what_is_named_changes_nothing(store: Store) -> None:
    marker = new_id()
    assert await store.name_newest(marker, naming(A)) == Newest(A)
    assert await store.name_newest(marker, naming(A)) == Newest(A)


async def test_another_is_named_over_the_one_that_was_seen(store: Store) -> None:
    marker = new_id()
    await store.name_newest(marker, naming(A))
    assert await store.name_newest(marker, naming(B, A)) == Newest(B)
    assert await store.name_newest(marker, naming(C)) == Newest(B)


async def test_what_is_delivered_late_changes_nothing_that_was_named_since(store: Store) -> None:
    marker = new_id()
    await store.name_newest(marker, naming(B))
    assert await store.name_newest(marker, naming(A)) == Newest(B)  # sent when nothing was named
    await store.name_newest(marker, naming(C, B))
    assert await store.name_newest(marker, naming(A, B)) == Newest(C)  # sent when B was


async def test_a_name_is_forgotten_after_its_window(store: Store) -> None:
    marker = new_id()
    await store.name_newest(marker, naming(A, window=SHORT))
    gone = await until(lambda: store.name_newest(marker, naming(C, B)), lambda fact: fact != Newest(A))
    assert gone == Newest(None), "nothing is named, so nothing is named over it"
    assert await store.name_newest(marker, naming(B)) == Newest(B)


async def test_markers_are_told_apart_and_are_no_operations(store: Store) -> None:
    marker, other = new_id(), new_id()
    await store.name_newest(marker, naming(A))
    assert await store.name_newest(other, naming(B)) == Newest(B)
    assert await store.get(marker) == Missing()
    await store.claim(new_id(), claim())
    assert marker not in dict((await store.scan(state=None, rule=None, limit=10, cursor=None)).found)


async def test_of_many_at_once_one_is_named(store: Store, another: Opener) -> None:
    marker, stores = new_id(), [store, await another()]
    nonces = [bytes([number]) * 16 for number in range(40)]
    facts = await asyncio.gather(
        *(stores[number % 2].name_newest(marker, naming(nonce)) for number, nonce in enumerate(nonces))
    )
    assert len({fact.nonce for fact in facts}) == 1
    assert facts[0].nonce in nonces


@pytest.mark.parametrize("seed", range(3))
async def test_a_store_does_what_the_semantics_say(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    marker, slot = new_id(), EMPTY
    for _ in range(40):
        asked = naming(chance.choice([A, B, C]), chance.choice([None, A, B, C]))
        slot, expected = semantics.name_newest(slot, asked, 0)
        assert await store.name_newest(marker, asked) == expected
