"""Point 23: the upstream's name is resolved for each connection, and all of its addresses are tried."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from idemproxy.config import load_text
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import Service
from idemproxy.stores.opening import open_store
from tests.proxy.product import Api, Product, sqlite
from tests.proxy.wire import Reply

GET = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


def at(host: str, port: int) -> Found:
    """What a resolver says of a name that has that address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return [(family, socket.SOCK_STREAM, 6, "", (host, port))]


async def ask_twice(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: list[Found]) -> list[Reply]:
    """Two requests to an upstream called api.test, whose name resolves to the next of `answers` each time."""
    left = list(answers)

    async def resolve(host: str, port: int, **_: object) -> Found:
        assert host == "api.test"
        return left.pop(0)

    settings = load_text("listen: 127.0.0.1:0\nupstream: http://api.test:1\nroutes: []\n", "test.yaml", {})
    store = await open_store(sqlite(folder), namespace="x", timeout_ms=1000)
    metrics = Metrics(own_cells())
    service = Service(settings, store, metrics)
    try:
        await service.start()
        assert service.port is not None
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        product = Product(service.port, Api(), store, service, metrics)
        return [await product.ask(GET) for _ in range(2)]
    finally:
        await service.close()
        await store.close()


async def test_point_23_a_service_that_moves_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Api(), Api()
    for api in (first, second):
        await api.start()
    first.respond = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    answers = [at("127.0.0.1", first.port), at("127.0.0.1", second.port)]
    replies = await ask_twice(tmp_path, monkeypatch, answers)
    assert [reply.status for reply in replies] == [200, 201]
    assert (len(first.requests), len(second.requests)) == (1, 1)
    for api in (first, second):
        await api.stop()


async def test_point_23_every_address_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()
    await api.start()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = at("127.0.0.1", nobody.getsockname()[1])
        replies = await ask_twice(tmp_path, monkeypatch, [closed + at("::1", 1) + at("127.0.0.1", api.port)])
    assert [reply.status for reply in replies] == [201, 201]
    await api.stop()


async def test_point_23_a_name_that_does_not_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> Found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    settings = load_text("listen: 127.0.0.1:0\nupstream: http://api.invalid:1\nroutes: []\n", "test.yaml", {})
    store = await open_store(sqlite(tmp_path), namespace="x", timeout_ms=1000)
    metrics = Metrics(own_cells())
    service = Service(settings, store, metrics)
    try:
        await service.start()
        assert service.port is not None
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        reply = await Product(service.port, Api(), store, service, metrics).ask(GET)
        assert reply.status == 502
        assert b"upstream-unreachable" in reply.body
    finally:
        await service.close()
        await store.close()
