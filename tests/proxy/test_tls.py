"""Point 22: TLS on both sides, with certificates of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from idemproxy.config import load_text
from idemproxy.errors import StartError
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import Service
from idemproxy.runtime.plan import prepare
from idemproxy.stores.opening import open_store
from tests.proxy.product import CREATED, sqlite
from tests.proxy.wire import Wire


class Files:
    """An authority, and what it issued, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, file: str) -> tuple[Path, Path]:
        """The paths of a certificate chain for that name, and of its key."""
        issued = self.authority.issue_cert(name)
        certificate, key = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        certificate.unlink(missing_ok=True)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(certificate, append=True)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextlib.asynccontextmanager
async def service(folder: Path, text: str) -> AsyncIterator[Service]:
    settings = load_text(f"listen: 127.0.0.1:0\nstore: {sqlite(folder)}\nroutes: []\n{text}", "test.yaml", {})
    store = await open_store(settings.store, namespace="x", timeout_ms=1000)
    running = None
    try:
        running = Service(settings, store, Metrics(own_cells()))
        await running.start()
        yield running
    finally:
        if running is not None:
            await running.close()
        await store.close()


@contextlib.asynccontextmanager
async def upstream(context: ssl.SSLContext | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(CREATED)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def ask(port: int, context: ssl.SSLContext | None = None, name: str = "") -> bytes:
    """The status line of an answer to a GET."""
    async with asyncio.timeout(25):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or None)
        try:
            writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return (await reader.read()).split(b"\r\n")[0]
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_the_listener_speaks_tls_and_reads_its_certificate_again(files: Files, tmp_path: Path) -> None:
    certificate, key = files.issue("one.test", "listen")
    trusting = ssl.create_default_context(cafile=str(files.ca))
    text = f"tls: {{listen: {{certificate: {certificate}, key: {key}}}}}\n"
    async with upstream(None) as (port, _), service(tmp_path, f"upstream: http://127.0.0.1:{port}\n{text}") as running:
        assert running.port is not None
        assert await ask(running.port, trusting, "one.test") == b"HTTP/1.1 201 Created"
        files.issue("two.test", "listen")
        running.take_over(prepare(running.settings))
        assert await ask(running.port, trusting, "two.test") == b"HTTP/1.1 201 Created"
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(running.port, trusting, "one.test")
        certificate.write_text("no certificate")
        with pytest.raises(StartError):
            running.take_over(prepare(running.settings))
        assert await ask(running.port, trusting, "two.test") == b"HTTP/1.1 201 Created", "the one in use stays"


async def test_an_https_upstream_is_verified(files: Files, tmp_path: Path) -> None:
    context = server_context(*files.issue("api.test", "api"))
    async with upstream(context) as (port, seen):
        url = f"upstream: https://127.0.0.1:{port}\n"
        trusted = f"{url}tls: {{upstream: {{ca: {files.ca}, server_name: api.test}}}}\n"
        async with service(tmp_path, trusted) as running:
            assert running.port is not None
            assert await ask(running.port) == b"HTTP/1.1 201 Created"
        for text in (url, f"{url}tls: {{upstream: {{ca: {files.ca}, server_name: other.test}}}}\n"):
            async with service(tmp_path, text) as running:
                assert running.port is not None
                assert await ask(running.port) == b"HTTP/1.1 502 Bad Gateway"
        assert len(seen) == 1, "nothing is sent to an upstream that is not verified"


async def test_the_proxys_own_certificate_for_the_upstream(files: Files, tmp_path: Path) -> None:
    context = server_context(*files.issue("api.test", "api"))
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = files.issue("proxy.test", "client")
    async with upstream(context) as (port, _):
        more = f"ca: {files.ca}, server_name: api.test"
        url = f"upstream: https://127.0.0.1:{port}\n"
        async with service(
            tmp_path, f"{url}tls: {{upstream: {{{more}, certificate: {certificate}, key: {key}}}}}\n"
        ) as running:
            assert running.port is not None
            assert await ask(running.port) == b"HTTP/1.1 201 Created"
        async with service(tmp_path, f"{url}tls: {{upstream: {{{more}}}}}\n") as running:
            assert running.port is not None
            assert await ask(running.port) == b"HTTP/1.1 502 Bad Gateway"


@pytest.mark.parametrize("which", ["listen", "ca", "upstream"])
async def test_files_that_cannot_be_used_are_told_at_start(files: Files, tmp_path: Path, which: str) -> None:
    certificate, key = files.issue("one.test", "good")
    absent = tmp_path / "absent.pem"
    text = {
        "listen": f"upstream: http://127.0.0.1:1\ntls: {{listen: {{certificate: {absent}, key: {key}}}}}\n",
        "ca": f"upstream: https://127.0.0.1:1\ntls: {{upstream: {{ca: {absent}}}}}\n",
        "upstream": f"upstream: https://127.0.0.1:1\ntls: {{upstream: {{certificate: {certificate}, key: {absent}}}}}\n",
    }[which]
    with pytest.raises(StartError, match=r"absent\.pem.* cannot be used"):
        async with service(tmp_path, text):
            pass


@pytest.mark.parametrize("path", ["/plain", "/v1/charges"])
async def test_a_large_body_over_tls_arrives_whole_and_its_connection_is_not_used_again(
    files: Files, tmp_path: Path, path: str
) -> None:
    """What is unsent on an encrypted connection cannot be seen: another request must not queue up behind it."""
    body = bytes(range(256)) * 8192
    connections = 0
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.05)
                got.append(await reader.readexactly(len(body)))
                writer.write(CREATED)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(*files.issue("api.test", "api")))
    port = server.sockets[0].getsockname()[1]
    settings = f"upstream: https://127.0.0.1:{port}\ntls: {{upstream: {{ca: {files.ca}, server_name: api.test}}}}\n"
    rules = "routes: [{match: {path: /v1/charges}}]\n"
    text = f"listen: 127.0.0.1:0\nstore: {sqlite(tmp_path)}\n{rules}{settings}"
    loaded = load_text(text, "test.yaml", {})
    store = await open_store(loaded.store, namespace="x", timeout_ms=5000)
    running = Service(loaded, store, Metrics(own_cells()))
    try:
        await running.start()
        assert running.port is not None
        for number in range(2):
            async with await Wire.connect(running.port) as wire:
                head = f"POST {path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {number}\r\nContent-Length: {len(body)}\r\n\r\n"
                await wire.send(head.encode() + body)
                assert (await wire.answer(b"POST")).status == 201
    finally:
        await running.close()
        await store.close()
        server.close()
    assert got == [body, body]
    assert connections == 2
