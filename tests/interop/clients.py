"""HTTP clients as programs use them: each asks the same of an address, in order and over its usual connections, and says what it
saw."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import requests
from yarl import URL

PATIENCE = 60.0
"""Seconds after which a client is hanging."""
NOT_COMPARED = frozenset({"date", "connection", "keep-alive"})
"""Fields that change from answer to answer, or are for one hop."""


@dataclass(frozen=True)
class Ask:
    """A request. A body in `pieces` is sent chunked."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    pieces: tuple[bytes, ...] | None = None


@dataclass(frozen=True)
class Saw:
    """An answer as the client gave it to its program."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes


Client = Callable[[int, list[Ask]], Awaitable[list[Saw]]]


def _saw(port: int, status: int, reason: str, fields: Iterable[tuple[str, str]], body: bytes) -> Saw:
    """The port is the only thing that the client chose differently; it comes back where a request is echoed."""
    kept = [(name, value) for name, value in fields if name.lower() not in NOT_COMPARED]
    # Each hop makes its own Transfer-Encoding, so its place among the fields says nothing.
    kept.sort(key=lambda field: field[0].lower() == "transfer-encoding")
    return Saw(status, reason, tuple(kept), re.sub(rb"127\.0\.0\.1:%d\b" % port, b"127.0.0.1:PORT", body))


def _body(ask: Ask) -> bytes | Iterator[bytes] | None:
    return iter(ask.pieces) if ask.pieces is not None else ask.body


async def by_requests(port: int, asks: list[Ask]) -> list[Saw]:
    """One session."""
    saw = []
    with requests.Session() as session:
        session.trust_env = False
        for ask in asks:
            answer = session.request(
                ask.method,
                f"http://127.0.0.1:{port}{ask.target}",
                headers=dict(ask.fields),
                data=_body(ask),
                allow_redirects=False,
                timeout=PATIENCE,
            )
            saw.append(_saw(port, answer.status_code, answer.reason, answer.raw.headers.items(), answer.content))
    return saw


async def by_httpx(port: int, asks: list[Ask]) -> list[Saw]:
    """One asynchronous client."""
    saw = []
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        for ask in asks:
            pieces = None if ask.pieces is None else _pieces(ask.pieces)
            answer = await client.request(
                ask.method,
                f"http://127.0.0.1:{port}{ask.target}",
                headers=list(ask.fields),
                content=ask.body if pieces is None else pieces,
            )
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]
            saw.append(_saw(port, answer.status_code, answer.reason_phrase, fields, answer.content))
    return saw


async def _pieces(pieces: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def by_aiohttp(port: int, asks: list[Ask]) -> list[Saw]:
    """One session."""
    saw = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session:
        for ask in asks:
            async with session.request(
                ask.method,
                URL(f"http://127.0.0.1:{port}{ask.target}", encoded=True),
                headers=list(ask.fields),
                data=ask.body if ask.pieces is None else _pieces(ask.pieces),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
                saw.append(_saw(port, answer.status, answer.reason or "", fields, body))
    return saw


async def by_http_client(port: int, asks: list[Ask]) -> list[Saw]:
    """One connection of the standard library, which opens a new one only where the server closed it."""
    saw = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        for ask in asks:
            connection.request(
                ask.method, ask.target, _body(ask), dict(ask.fields), encode_chunked=ask.pieces is not None
            )
            answer = connection.getresponse()
            body = answer.read()
            saw.append(_saw(port, answer.status, answer.reason, answer.getheaders(), body))
    finally:
        connection.close()
    return saw


def by_fetch(tours: list[tuple[int, list[Ask]]], folder: Path) -> list[list[Saw]]:
    """Node's fetch: several tours in one process, since a process is slow to start."""

    def text(raw: bytes | None) -> str | None:
        return None if raw is None else base64.b64encode(raw).decode()

    def listed(ask: Ask) -> dict[str, object]:
        pieces = None if ask.pieces is None else [text(piece) for piece in ask.pieces]
        return {
            "method": ask.method,
            "target": ask.target,
            "fields": ask.fields,
            "body": text(ask.body),
            "pieces": pieces,
        }

    file = folder / "tours.json"
    jobs = [{"base": f"http://127.0.0.1:{port}", "asks": [listed(ask) for ask in asks]} for port, asks in tours]
    file.write_text(json.dumps(jobs))
    command = ["node", str(Path(__file__).with_name("fetch.mjs")), str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return [
        [
            _saw(
                port,
                one["status"],
                one["reason"],
                [(name, value) for name, value in one["fields"]],
                base64.b64decode(one["body"]),
            )
            for one in answers
        ]
        for (port, _), answers in zip(tours, json.loads(ended.stdout), strict=True)
    ]


CLIENTS: dict[str, Client] = {
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
    "http.client": by_http_client,
}
