"""HTTP clients of programs against real servers, by themselves and with the proxy in between: they see the same."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.clients import CLIENTS, PATIENCE, Ask, Saw, by_fetch
from tests.interop.servers import Pair

LARGE = bytes(range(256)) * 4_000

SITE = [
    Ask("GET", "/hello"),
    Ask("HEAD", "/hello"),
    Ask("GET", "/stream"),
    Ask("GET", "/big"),
    Ask("GET", "/cookies"),
    Ask("GET", "/none"),
    Ask("GET", "/unchanged", (("If-None-Match", '"v1"'),)),
    Ask("GET", "/redirect"),
    Ask("GET", "/teapot"),
    Ask("GET", "/echo/a%20b%2Fc?q=%C3%A4&r=&s", (("X-Case", "Kept"), ("Accept-Language", "de, en;q=0.5"))),
    Ask("POST", "/echo", (("Content-Type", "application/json"),), b'{"amount": 5}'),
    Ask("PUT", "/echo", (("Content-Type", "application/octet-stream"),), LARGE),
    Ask("POST", "/echo", (("Content-Type", "text/plain"),), pieces=(b"one", b"two" * 30_000, b"three")),
    Ask("PATCH", "/echo", (("Content-Type", "text/plain"),), b""),
    Ask("DELETE", "/echo/1"),
    Ask("OPTIONS", "/echo"),
    Ask("GET", "/hello"),
]
FILES = [
    Ask("GET", "/hello.txt"),
    Ask("HEAD", "/big.bin"),
    Ask("GET", "/text.txt", (("Accept-Encoding", "gzip"),)),
    Ask("GET", "/text.txt", (("Accept-Encoding", "identity"),)),
    Ask("GET", "/big.bin", (("Range", "bytes=1000-300000"),)),
    Ask("GET", "/big.bin", (("Range", "bytes=-7"),)),
    Ask("GET", "/big.bin", (("Range", "bytes=99999999-"),)),
    Ask("GET", "/hello.txt", (("If-Modified-Since", "Wed, 21 Oct 2015 07:28:00 GMT"),)),
    Ask("GET", "/none"),
    Ask("GET", "/moved"),
    Ask("GET", "/twice"),
    Ask("GET", "/nowhere"),
    Ask("POST", "/hello.txt", (), b"not allowed"),
    Ask("GET", "/folder/"),
]
API = [
    Ask("GET", "/hello"),
    Ask("GET", "/stream"),
    Ask("GET", "/compressed", (("Accept-Encoding", "gzip"),)),
    Ask("GET", "/cookies"),
    Ask("GET", "/status/299/Rather%20Good"),
    Ask("GET", "/status/204/Nothing"),
    Ask("GET", "/conditional", (("If-None-Match", '"v1"'),)),
    Ask("GET", "/basic", (("Authorization", "Basic YWxpY2U6b3BlbiBzZXNhbWU="),)),
    Ask("GET", "/basic"),
    *SITE[9:],
]
TRAILED = [*SITE, Ask("GET", "/trailers")]
HINTED = [*TRAILED, Ask("GET", "/hints"), Ask("GET", "/hello")]
TOURS = {"nginx": FILES, "aiohttp": API, "gunicorn": SITE, "uvicorn": SITE, "node": HINTED}
TAKE_103_FOR_THE_ANSWER = frozenset({"requests", "http.client"})
"""Clients that no server may send early hints to, with a proxy or without."""


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", TOURS)
async def test_a_client_sees_the_same(server: str, client: str, pairs: dict[str, Pair]) -> None:
    pair = pairs[server]
    asks = TRAILED if server == "node" and client in TAKE_103_FOR_THE_ANSWER else TOURS[server]
    direct = await CLIENTS[client](pair.direct, asks)
    through = await CLIENTS[client](pair.through, asks)
    assert _differing(asks, direct, through) == []


def test_fetch_of_node_sees_the_same(pairs: dict[str, Pair], tmp_path: Path) -> None:
    both = [(port, asks) for name, asks in TOURS.items() for port in (pairs[name].direct, pairs[name].through)]
    saw = by_fetch(both, tmp_path)
    for asks, direct, through in zip(TOURS.values(), saw[0::2], saw[1::2], strict=True):
        assert _differing(asks, direct, through) == []


def _differing(asks: list[Ask], direct: list[Saw], through: list[Saw]) -> list[tuple[Ask, Saw, Saw]]:
    assert len(direct) == len(asks)
    return [(ask, one, other) for ask, one, other in zip(asks, direct, through, strict=True) if one != other]


def _headers(body: bytes) -> dict[str, str]:
    fields: list[tuple[str, str]] = json.loads(body)["fields"]
    return {name.lower(): value for name, value in fields}


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn", "node", "aiohttp", "nginx"])
def test_many_requests_on_one_connection(server: str, pairs: dict[str, Pair]) -> None:
    """As Go's transport does: each answer is read to its end, and the connection is used again."""
    connection = http.client.HTTPConnection("127.0.0.1", pairs[server].through, timeout=PATIENCE)
    try:
        connection.connect()
        assert isinstance(connection.sock, socket.socket)
        own = connection.sock.getsockname()
        for number in range(60):
            body = b"n" * number * 100
            method = ("GET", "POST", "HEAD", "PUT")[number % 4] if server != "nginx" else ("GET", "HEAD")[number % 2]
            sent = body if method in ("POST", "PUT") else None
            target = "/hello.txt" if server == "nginx" else f"/echo/{number}"
            connection.request(method, target, sent, {"User-Agent": "Go-http-client/1.1", "X-Number": str(number)})
            answer = connection.getresponse()
            read = answer.read()
            assert answer.status == 200
            assert connection.sock is not None, "the connection was closed"
            assert connection.sock.getsockname() == own
            if server != "nginx" and method != "HEAD":
                assert _headers(read)["x-number"] == str(number)
                assert json.loads(read)["length"] == len(sent or b"")
    finally:
        connection.close()


@pytest.mark.parametrize("server", ["uvicorn", "node"])
def test_many_connections_at_once(server: str, pairs: dict[str, Pair]) -> None:
    """No answer goes to another's request."""

    def go(worker: int) -> list[str]:
        got = []
        connection = http.client.HTTPConnection("127.0.0.1", pairs[server].through, timeout=PATIENCE)
        try:
            for number in range(25):
                name = f"{worker}-{number}"
                connection.request(
                    "POST", f"/echo/{name}", name * worker, {"X-Name": name, "Content-Type": "text/plain"}
                )
                answer = connection.getresponse()
                read = answer.read()
                assert json.loads(read)["length"] == len(name) * worker
                got.append(_headers(read)["x-name"])
        finally:
            connection.close()
        return got

    with ThreadPoolExecutor(12) as pool:
        workers = range(12)
        assert list(pool.map(go, workers)) == [[f"{worker}-{number}" for number in range(25)] for worker in workers]
