"""The Redis store on servers of different kinds: logins, TLS, rights, full memory, replicas; and what it tells an operator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trustme

from idemproxy.errors import ConfigError, StoreAmbiguous, StoreError, StoreUnavailable
from idemproxy.idempotency.record import Reason, State
from idemproxy.stores import redis as redis_store
from idemproxy.stores.base import Claimed, Dead, Done, Found, MarkUnknown, Missing, Page, Release, TakeBack
from idemproxy.stores.redis import RedisStore
from tests.ports import free_port
from tests.stores.redis_cases import HOUR, TOKEN, claim, completion, eventually, record_id, store_at, until
from tests.stores.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def run(server: RedisServer, *words: str) -> object:
    return cast(object, server.client().execute_command(*words))  # type: ignore[no-untyped-call]


async def works(store: RedisStore) -> None:
    assert await store.claim(record_id(1), claim()) == Claimed(1, 1)
    assert isinstance(await store.complete(record_id(1), completion(b"body")), Done)
    assert isinstance(await store.get(record_id(1)), Found)


# ---------------------------------------------------------------------------------------------------------------- connecting


async def test_a_database_number(server: RedisServer) -> None:
    async with store_at(f"redis://127.0.0.1:{server.port}/3") as store:
        await works(store)
    assert set(server.client().info("keyspace")) == {"db3"}
    async with store_at(f"redis://127.0.0.1:{server.port}/99") as store:
        with pytest.raises(StoreUnavailable, match="refused database 99"):
            await store.get(record_id(1))


async def test_keys_are_of_one_slot_and_of_the_namespace(server: RedisServer) -> None:
    async with store_at(server.url, namespace="shop") as store:
        await store.claim(record_id(1), claim())
    keys = server.client().keys()
    assert sorted(keys) == [f"shop:{{{record_id(1)}}}:{end}".encode() for end in ("lock", "record")]


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with RedisServer(tmp_path, "--unixsocket", str(path)):
        async with store_at(f"unix://{path}?db=2") as store:
            await works(store)
    async with store_at(f"unix://{path}") as store:
        with pytest.raises(StoreUnavailable, match=f"redis at {path} cannot be reached"):
            await store.get(record_id(1))


async def test_a_host_name_that_cannot_be_one() -> None:
    async with store_at("redis://a..b:1") as store:
        with pytest.raises(StoreUnavailable, match="no host name"):
            await store.get(record_id(1))


@pytest.mark.parametrize("user", ["", "default"])
async def test_a_password(tmp_path: Path, user: str) -> None:
    with RedisServer(tmp_path, "--requirepass", "p@ss/word") as server:
        address = f"127.0.0.1:{server.port}"
        async with store_at(f"redis://{user}:p%40ss%2Fword@{address}") as store:
            await works(store)
        async with store_at(f"redis://{user}:wrongsecret@{address}") as store:
            with pytest.raises(StoreUnavailable, match="refuses the user name or the password") as raised:
                await store.get(record_id(1))
            assert "secret" not in str(raised.value)
        async with store_at(f"redis://{address}") as store:
            with pytest.raises(StoreUnavailable, match="asks for a password"):
                await store.get(record_id(1))


async def test_a_password_that_nobody_asked_for(server: RedisServer) -> None:
    async with store_at(f"redis://:secret@127.0.0.1:{server.port}") as store:
        with pytest.raises(StoreUnavailable, match="refused the login") as raised:
            await store.get(record_id(1))
        assert "secret" not in str(raised.value)


async def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    trusted, chain, private = tmp_path / "ca.pem", tmp_path / "chain.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(trusted)
    private.write_bytes(certificate.private_key_pem.bytes())
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    port = free_port()
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(private), "--tls-ca-cert-file", str(trusted))
    with RedisServer(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *files):
        async with store_at(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={trusted}") as store:
            await works(store)
            ear = asyncio.ensure_future(store.watch(lambda _: None, lambda: None))
            await asyncio.sleep(0.05)
            ear.cancel()
            await asyncio.gather(ear, return_exceptions=True)
        async with store_at(f"rediss://127.0.0.1:{port}/0") as store:
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await store.get(record_id(1))
        async with store_at(f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none") as store:
            assert isinstance(await store.get(record_id(1)), Found)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:6379", "cannot be read"),
        ("redis://:secret/x@127.0.0.1:6379", "percent-encoded"),
        ("redis://:secret@127.0.0.1:port", "percent-encoded"),
        ("redis://:secret@127.0.0.1:6379?speed=fast", "'speed'"),
        ("redis://:secret@127.0.0.1:6379?db=one", "cannot be read"),
        ("rediss://:secret@127.0.0.1:6379?ssl_ca_certs=/nowhere.pem", "TLS file"),
    ],
)
async def test_addresses_that_cannot_be_used(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as raised:
        RedisStore(url, namespace="shop", timeout_ms=1000)
    assert "secret" not in str(raised.value)


# -------------------------------------------------------------------------------------------------------------------- rights


def documented_rights() -> list[str]:
    """The ACL that the documentation of the store gives."""
    found = re.search(r"ACL SETUSER NAME (.*?)\n\n", redis_store.__doc__ or "", re.DOTALL)
    assert found is not None
    return found[1].replace("PASSWORD", "word").split()


async def test_the_documented_rights_are_enough(server: RedisServer) -> None:
    run(server, "ACL", "SETUSER", "proxy", *documented_rights())
    async with store_at(f"redis://proxy:word@127.0.0.1:{server.port}") as store:
        told: list[str | None] = []
        ear = asyncio.ensure_future(store.watch(told.append, lambda: told.append(None)))
        await until(lambda: told == [None] or ear.done())
        await works(store)
        await store.claim(record_id(2), claim())
        assert await store.release(record_id(2), Release(TOKEN, HOUR)) == Done(State.RELEASED)
        await until(lambda: told == [None, record_id(1), record_id(2)] or ear.done())
        assert not ear.done()
        await store.take_back(record_id(3), TakeBack(TOKEN, HOUR))
        assert await store.claim(record_id(3), claim()) == Dead()
        ear.cancel()
        await asyncio.gather(ear, return_exceptions=True)
        assert len((await store.scan(state=None, rule=None, limit=10, cursor=None)).found) == 1
        check = await store.check()
        assert "not checked" in check.description
        assert check.warnings == ()
    assert run(server, "ACL", "LOG") != [], "the check at start tried INFO"
    async with store_at(f"redis://proxy:word@127.0.0.1:{server.port}", namespace="other") as store:
        with pytest.raises(StoreUnavailable, match="ACL"):
            await store.claim(record_id(1), claim())


async def test_a_right_that_is_missing_half_way_is_ambiguous(server: RedisServer) -> None:
    run(server, "ACL", "SETUSER", "proxy", *documented_rights(), "-del")
    async with store_at(f"redis://proxy:word@127.0.0.1:{server.port}") as store:
        await store.claim(record_id(1), claim())
        with pytest.raises(StoreAmbiguous, match="in part"):
            await store.complete(record_id(1), completion(b"body"))
        fact = await store.get(record_id(1))
        assert isinstance(fact, Found)
        assert fact.record.state is State.COMPLETED, "the record is written before the lock"


async def test_notices_that_may_not_be_sent_are_no_failure(server: RedisServer) -> None:
    run(server, "ACL", "SETUSER", "proxy", *documented_rights(), "-publish")
    async with store_at(f"redis://proxy:word@127.0.0.1:{server.port}") as store:
        await works(store)


# ---------------------------------------------------------------------------------------------- servers that refuse to write


async def test_full_memory(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        await works(store)
        await store.claim(record_id(2), claim())
        server.client().config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await store.claim(record_id(3), claim())
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await store.complete(record_id(2), completion(b"body"))
        assert isinstance(await store.claim(record_id(1), claim(b"u" * 16)), Found), "a replay needs no memory"
        fact = await store.get(record_id(2))
        assert isinstance(fact, Found)
        assert (fact.record.state, fact.lease_left > 0) == (State.PROCESSING, True)
        server.client().config_set("maxmemory", 0)
        assert await store.get(record_id(3)) == Missing()
        assert server.client().exists(f"shop:{{{record_id(3)}}}:lock") == 0
        assert await store.complete(record_id(2), completion(b"body")) == Done(State.COMPLETED)


async def test_a_server_that_became_a_replica(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        await store.claim(record_id(1), claim())
        run(server, "REPLICAOF", "127.0.0.1", str(free_port()))
        before = {client["id"] for client in server.client().client_list()}
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            await store.claim(record_id(2), claim())
        assert any("replica" in warning for warning in (await store.check()).warnings)
        after = {client["id"] for client in server.client().client_list()}
        assert after - before, "behind the name there may be another server by now"
        run(server, "REPLICAOF", "NO", "ONE")
        assert await eventually(lambda: store.claim(record_id(2), claim())) == Claimed(1, 1)


# --------------------------------------------------------------------------------------------------------------------- check


async def test_what_an_operator_should_know(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--maxmemory-policy", "volatile-lru") as server:
        async with store_at(server.url) as store:
            check = await store.check()
            assert f"redis at 127.0.0.1:{server.port}, version " in check.description
            evicts, forgets = check.warnings
            assert "volatile-lru" in evicts
            assert "saves nothing" in forgets
            server.client().config_set("maxmemory-policy", "noeviction")
            server.client().config_set("save", "60 1000")
            assert (await store.check()).warnings == ()
    async with store_at(server.url) as store:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.check()


async def test_an_append_only_file_is_persistence(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--appendonly", "yes") as server:
        async with store_at(server.url) as store:
            assert (await store.check()).warnings == ()
            run(server, "ACL", "SETUSER", "proxy", *documented_rights(), "+info")
        async with store_at(f"redis://proxy:word@127.0.0.1:{server.port}") as store:
            assert "not checked" not in (await store.check()).description


# ---------------------------------------------------------------------------------------------------------------------- scan


async def pages(store: RedisStore, limit: int, state: State | None = None, rule: str | None = None) -> list[Page]:
    given, cursor = [], None
    while True:
        page = await store.scan(state=state, rule=rule, limit=limit, cursor=cursor)
        assert len(page.found) <= limit
        given.append(page)
        cursor = page.cursor
        if cursor is None:
            return given


def ids(given: list[Page]) -> list[str]:
    return sorted(record_id for page in given for record_id, _ in page.found)


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_scan(server: RedisServer, limit: int) -> None:
    async with store_at(server.url) as store, store_at(server.url, namespace="other") as other:
        for number in range(40):
            await store.claim(record_id(number), claim(rule="even" if number % 2 == 0 else "odd"))
            server.client().set(f"of another program {number}", "x")
        await other.claim(record_id(99), claim())
        await store.complete(record_id(1), completion(b"body"))
        await store.complete(record_id(3), completion(b"body", status=500))
        await store.mark_unknown(record_id(5), MarkUnknown(TOKEN, Reason.RESET, HOUR, None))
        await store.release(record_id(7), Release(TOKEN, HOUR))
        server.client().delete(f"shop:{{{record_id(9)}}}:lock")
        given = await pages(store, limit)
        assert ids(given) == [record_id(number) for number in range(40) if number != 7]
        for page in given:
            for found_id, found in page.found:
                fact = await store.get(found_id)
                assert isinstance(fact, Found)
                assert (found.record, found.lease_left > 0) == (fact.record, fact.lease_left > 0)
        assert ids(await pages(store, limit, rule="odd")) == [record_id(n) for n in range(1, 40, 2) if n != 7]
        assert ids(await pages(store, limit, State.COMPLETED)) == [record_id(1)]
        assert ids(await pages(store, limit, State.FAILED)) == [record_id(3)]
        assert ids(await pages(store, limit, State.UNKNOWN, "odd")) == [record_id(5)]
        assert ids(await pages(store, limit, State.UNKNOWN, "even")) == []


async def test_scan_of_large_answers_gives_short_pages(server: RedisServer) -> None:
    body = bytes(6 * 2**20)
    async with store_at(server.url) as store:
        for number in range(7):
            await store.claim(record_id(number), claim())
            await store.complete(record_id(number), completion(body))
        given = await pages(store, 100)
    assert ids(given) == [record_id(number) for number in range(7)]
    assert [len(page.found) for page in given] == [3, 3, 1]


async def test_scan_tells_of_a_record_that_it_cannot_read(server: RedisServer) -> None:
    server.client().set(f"shop:{{{record_id(5)}}}:record", b"I\x07 of a later version")
    async with store_at(server.url) as store:
        with pytest.raises(StoreError, match=record_id(5)):
            await store.scan(state=None, rule=None, limit=10, cursor=None)


async def test_scan_refuses_a_cursor_of_somebody_else(server: RedisServer) -> None:
    async with store_at(server.url) as store:
        with pytest.raises(StoreError, match="cursor"):
            await store.scan(state=None, rule=None, limit=10, cursor="'; --")
