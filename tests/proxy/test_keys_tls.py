"""The client's TLS certificate as a key's scope."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.proxy.product import Product, post, serving, sqlite

RULES = """
  - name: partners
    match: {path: /x}
    scope: [client_cert]
"""


class Partners:
    """An authority, and clients with certificates of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.certificate, self.key = self._files(self.authority, "proxy.test", "proxy")

    def _files(self, authority: trustme.CA, name: str, file: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(name)
        certificate, key = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(certificate, append=True)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def client(self, name: str | None, authority: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if name is not None:
            context.load_cert_chain(*self._files(authority or self.authority, name, name))
        return context


@pytest.fixture
def partners(tmp_path: Path) -> Partners:
    return Partners(tmp_path)


@contextlib.asynccontextmanager
async def product(partners: Partners, folder: Path) -> AsyncIterator[Product]:
    listen = f"{{certificate: {partners.certificate}, key: {partners.key}, client_ca: {partners.ca}}}"
    async with serving(sqlite(folder), rules=RULES, more=f"tls: {{listen: {listen}}}\n") as running:
        yield running


async def ask(port: int, context: ssl.SSLContext) -> bytes:
    """All that comes back for one request."""
    async with asyncio.timeout(25):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="proxy.test")
        try:
            writer.write(post("k", path="/x", more="Connection: close\r\n"))
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def test_a_key_is_its_certificates_own(partners: Partners, tmp_path: Path) -> None:
    one, other = partners.client("one.test"), partners.client("other.test")
    async with product(partners, tmp_path) as running:
        answers = [await ask(running.port, each) for each in (one, other, one, other)]
        assert [b"Idempotent-Replayed: true" in each for each in answers] == [False, False, True, True]
        assert all(each.startswith(b"HTTP/1.1 201 ") for each in answers)
        assert len(running.api.requests) == 2


async def test_without_a_certificate_of_the_authority_nothing_is_executed(partners: Partners, tmp_path: Path) -> None:
    async with product(partners, tmp_path) as running:
        for context in (partners.client(None), partners.client("foreign.test", trustme.CA())):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await ask(running.port, context) == b""
        assert running.api.requests == []
