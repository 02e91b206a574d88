"""`fetch` by a script in headless Chromium: what it can see of our answers, with `cors` in the rule and without."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ports import free_port

PROGRAM = os.environ.get("CHROMIUM", "chromium")
PAGE = Path(__file__).with_name("page.html")
LIMIT = 120
"""Seconds that the page may take for all that it asks."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One POST of the page's."""

    url: str
    key: str | None = "k1"
    body: str = "{}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What the script sees. `error` is the exception's, and then nothing else is there."""

    status: int | None
    slug: str | None
    retry: str | None
    retryAfter: str | None  # noqa: N815 (as the page writes it)
    replayed: str | None
    error: str | None

    @property
    def cell(self) -> str:
        """As the tables show it."""
        if self.error is not None:
            return self.error
        waited = f", `Retry-After: {self.retryAfter}`" if self.retryAfter is not None else ""
        told = f" {self.slug}, {self.retry}" if self.slug else ""
        again = f", `Idempotent-Replayed: {self.replayed}`" if self.replayed is not None else ""
        return f"{self.status}{told}{waited}{again}"


def version() -> str:
    """Chromium's."""
    shown = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    return " ".join(shown.split()[:2])


@contextmanager
def shop() -> Iterator[Shop]:
    """The page's own server, at an origin of its own."""
    served = Shop(free_port())
    server = ThreadingHTTPServer(("127.0.0.1", served.port), served.handler())
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Shop:
    """The origin of a page, and what its script saw."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self._asks: list[Ask] = []
        self._seen: list[dict[str, Any]] = []
        self._done = threading.Event()

    def visit(self, asks: list[Ask]) -> list[Sight]:
        """Let a new browser do all of them, in this order."""
        self._asks = asks
        self._done.clear()
        # Its children may still write there when it has ended.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            flags = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
            ]
            flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
            with subprocess.Popen(
                [PROGRAM, *flags, f"{self.origin}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as browser:
                came = self._done.wait(LIMIT)
                browser.terminate()
        if not came:
            raise RuntimeError(f"{PROGRAM} told nothing within {LIMIT} seconds")
        return [Sight(**each) for each in self._seen]

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The server's handler."""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asks = [{"url": each.url, "key": each.key, "body": each.body} for each in shop._asks]
                asked = self.path == "/asks"
                self.say(json.dumps(asks).encode() if asked else PAGE.read_bytes(), "json" if asked else "html")

            def do_POST(self) -> None:
                shop._seen = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.say(b"{}", "json")
                shop._done.set()

            def say(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if kind == "json" else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the base class)
                """Nothing is printed of what is wanted."""

        return Handler
