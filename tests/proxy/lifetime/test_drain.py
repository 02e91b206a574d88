"""A drain of the serving process: who has connected by then is served, and told that it was the last time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from idemproxy.config import load_text
from idemproxy.runtime import Service, listening
from idemproxy.runtime import service as service_module
from tests.proxy.product import CREATED, Exchange, Product, post, serving, sqlite
from tests.proxy.wire import DEADLINE, Wire, eventually

NEVER = "drain_timeout: 1h\n"
SAYS_CLOSE = [b"close"]


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No test is to depend on how fast the machine is."""
    monkeypatch.setattr(service_module, "GRACE", 2 * DEADLINE)
    return monkeypatch


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Product]:
    """The product, with all the time that it wants for a drain."""
    async with serving(sqlite(tmp_path), more=NEVER) as product:
        yield product


@contextlib.asynccontextmanager
async def draining(product: Product) -> AsyncIterator[asyncio.Task[None]]:
    """A drain that began, and has to end by itself once the block is over."""
    task = asyncio.ensure_future(product.service.drain(asyncio.Event().wait()))
    try:
        await eventually(lambda: product.service._draining)
        yield task
        async with asyncio.timeout(DEADLINE):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_who_is_in_the_queue_is_served(patient: Product) -> None:
    """The loop has had no turn to accept them."""
    made = [socket.create_connection(("127.0.0.1", patient.port), timeout=DEADLINE) for _ in range(5)]
    async with draining(patient):
        for each in made:
            each.setblocking(False)
            async with Wire(each) as wire:
                await wire.send(post())
                reply = await wire.answer(b"POST")
                assert (reply.status, reply.values(b"connection")) == (201, SAYS_CLOSE)
                assert await wire.until_eof() == b""
                wire.close()
    assert len(patient.api.requests) == 1


async def test_who_comes_in_the_last_moment_is_served_where_the_kernel_could_not_hold_it_off(
    patient: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    stop = web.SockSite.stop

    async def stop_late(site: web.SockSite) -> None:
        made.append(socket.create_connection(("127.0.0.1", patient.port), timeout=DEADLINE))
        await stop(site)

    monkeypatch.setattr(listening, "refuse_new", lambda _: False)
    monkeypatch.setattr(web.SockSite, "stop", stop_late)
    async with draining(patient):
        await eventually(lambda: made)
        made[0].setblocking(False)
        async with Wire(made[0]) as wire:
            await wire.send(post())
            assert (await wire.answer(b"POST")).status == 201


async def test_a_kept_connection_is_served_once_more(patient: Product) -> None:
    async with await patient.connect() as wire:
        await wire.send(post("k1"))
        assert (await wire.answer(b"POST")).values(b"connection") == []
        async with draining(patient):
            await wire.send(post("k2"))
            assert (await wire.answer(b"POST")).values(b"connection") == SAYS_CLOSE
            assert await wire.until_eof() == b""
            wire.close()


async def test_a_connection_that_asks_for_nothing_does_not_hold_the_drain_up(
    patient: Product, grace: pytest.MonkeyPatch
) -> None:
    grace.setattr(service_module, "GRACE", 0.1)
    async with await patient.connect() as idle, await patient.connect() as used:
        await used.send(post())
        await used.answer(b"POST")
        await eventually(lambda: len(patient.service._port.connections.open) == 2)
        async with draining(patient):
            assert await idle.until_eof() == b""
            assert await used.until_eof() == b""


async def test_an_execution_whose_client_left_ends_before_the_drain_does(patient: Product) -> None:
    """Its request came while the drain was under way already."""
    go = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await exchange.send(CREATED)

    patient.api.respond = held
    async with await patient.connect() as wire:
        await wire.send(post()[:5])
        await eventually(lambda: len(patient.service._port.connections.open) == 1)
        async with draining(patient) as task:
            await eventually(lambda: not patient.service._data.sites)
            await asyncio.sleep(0.2)
            await wire.send(post()[5:])
            await patient.api.got(1)
            wire.reset()
            await eventually(lambda: not patient.service._port.connections.open)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not task.done()
            go.set()
    assert patient.service._plan.ownership._tasks == {}


async def test_a_second_request_to_stop_waits_for_nobody(tmp_path: Path) -> None:
    async def never(_: Exchange) -> None:
        await asyncio.Event().wait()

    async with serving(sqlite(tmp_path), more=NEVER) as product:
        product.api.respond = never
        async with await product.connect() as busy, await product.connect() as idle:
            await busy.send(post())
            await product.api.got(1)
            hurry = asyncio.Event()
            task = asyncio.ensure_future(product.service.drain(hurry.wait()))
            await eventually(lambda: product.service._draining)
            hurry.set()
            assert (await busy.answer(b"POST")).status == 503
            assert await idle.until_eof() == b""
            busy.close()
            await task


async def test_a_tls_handshake_that_has_begun_is_waited_for(tmp_path: Path) -> None:
    """Its connection is none yet for the loop. One is in the queue, the other was accepted."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    more = f"{NEVER}tls: {{listen: {{certificate: {certificate}, key: {key}}}}}\n"
    async with serving(sqlite(tmp_path), more=more) as product:
        accepted = await product.connect()
        await asyncio.sleep(0.05)
        queued = socket.create_connection(("127.0.0.1", product.port), timeout=DEADLINE)
        queued.setblocking(False)
        task = asyncio.ensure_future(product.service.drain(asyncio.Event().wait()))
        await asyncio.sleep(0.3)
        for each in (accepted.socket, queued):
            reader, writer = await asyncio.open_connection(sock=each, ssl=trusting, server_hostname="localhost")
            writer.write(post())
            async with asyncio.timeout(DEADLINE):
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert b"\r\nConnection: close\r\n" in answer
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        assert not task.done(), "the process would have ended by now"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_unix_sockets_file_goes_first_and_its_queue_is_served(tmp_path: Path, product: Product) -> None:
    path = tmp_path / "proxy.sock"
    text = f"listen: unix:{path}\nupstream: http://127.0.0.1:{product.api.port}\nroutes: []\n"
    service = Service(load_text(text, "test.yaml", {}), product.store, product.metrics)
    await service.start()
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    made.setblocking(False)
    task = asyncio.ensure_future(service.drain(asyncio.Event().wait()))
    async with Wire(made) as wire:
        await eventually(lambda: not path.exists())
        await wire.send(post())
        assert (await wire.answer(b"POST")).values(b"connection") == SAYS_CLOSE
    await task
    await service.close()
