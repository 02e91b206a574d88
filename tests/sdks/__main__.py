"""`python -m tests.sdks` installs the client libraries that it tells of (from PyPI and npm, into .sdks), lets each meet every problem, and
Chromium too, and writes the tables of docs/clients.md. It takes some minutes, and needs Node, npm and Chromium."""

from __future__ import annotations

import http.server
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from idemproxy.idempotency.cors import Cors, readable
from idemproxy.idempotency.messages import Fields
from idemproxy.idempotency.problems import Problem, Slug, render
from idemproxy.idempotency.shapes import Shape
from tests.e2e.processes import LISTENING, proxy, running
from tests.ports import free_port
from tests.sdks import browser
from tests.sdks.browser import Ask, Shop, Sight
from tests.sdks.clients import DETAIL, LIBRARIES, WAIT, Seen, ask, install, title
from tests.sdks.document import row, write
from tests.sdks.stub import Stub, answering

AT_ONCE = 6
"""How many libraries are asked at the same time: they mostly wait."""


def main() -> None:
    install()
    jobs = [(each, shape) for each in LIBRARIES for shape in dict.fromkeys((Shape.PROBLEM, each.shape))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = dict(zip(jobs, pool.map(lambda job: ask(*job), jobs), strict=True))
    plain = [each for each in LIBRARIES if (each, Shape.PROBLEM) in seen]
    own = [each for each in LIBRARIES if each.shape is not Shape.PROBLEM]
    write("problem", _table([(title(each), seen[each, Shape.PROBLEM]) for each in plain]))
    write("shaped", _table([(f"{title(each)}: `{each.shape.value}`", seen[each, each.shape]) for each in own]))
    with browser.shop() as shop:
        write("browser", _browser(shop))
        write("process", _process(shop))


def _table(columns: list[tuple[str, dict[Slug, Seen]]]) -> list[str]:
    rows = [row("problem", *(name for name, _ in columns)), row(*["---"] * (len(columns) + 1))]
    return rows + [row(f"`{slug.value}`", *(seen[slug].cell for _, seen in columns)) for slug in Slug]


def _browser(shop: Shop) -> list[str]:
    """Every problem, from a server that gives it as the proxy would."""
    columns: list[list[Sight]] = []
    for cors in (None, Cors(frozenset({shop.origin.encode()}))):
        with ExitStack() as stack:
            stubs = [stack.enter_context(_readable(slug, cors)) for slug in Slug]
            columns.append(shop.visit([Ask(stub.url) for stub in stubs]))
    head = [row("problem", f"{browser.version()}, without `cors`", "with `cors`"), row("---", "---", "---")]
    return head + [
        row(f"`{slug.value}`", *(each.cell for each in cells))
        for slug, cells in zip(Slug, zip(*columns, strict=True), strict=True)
    ]


@contextmanager
def _readable(slug: Slug, cors: Cors | None) -> Iterator[Stub]:
    def answer(fields: Fields) -> Any:
        return render(Problem(slug, DETAIL, WAIT * 1000), further=readable(cors, fields))

    with answering(answer) as stub:
        yield stub


CONFIG = """
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{upstream}
store: sqlite:{folder}/store.db
routes:
  - match: {{methods: [POST], path: /paid}}
    key: {{required: true}}
    {cors}
"""


def _process(shop: Shop) -> list[str]:
    """A real process, between the browser and an upstream that answers preflights and lets the page read its answers."""
    columns = []
    for cors in ("", f'cors: {{origins: ["{shop.origin}"]}}'):
        port, upstream = free_port(), free_port()
        with tempfile.TemporaryDirectory() as folder, _upstream(upstream, shop.origin):
            config = CONFIG.format(port=port, upstream=upstream, folder=folder, cors=cors)
            with running(proxy(Path(folder), config), LISTENING):
                url = f"http://127.0.0.1:{port}/paid"
                columns.append(shop.visit([Ask(url), Ask(url), Ask(url, body='{"other": 1}'), Ask(url, key=None)]))
    asked = ["a first request", "the same again: a replay", "the same key, another body", "no key"]
    head = [row("request", "without `cors`", "with `cors`"), row("---", "---", "---")]
    cells = zip(asked, zip(*columns, strict=True), strict=True)
    return head + [row(name, *(each.cell for each in seen)) for name, seen in cells]


@contextmanager
def _upstream(port: int, origin: str) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.say(201)

        def do_OPTIONS(self) -> None:
            self.say(204)

        def say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Credentials", "true")
            self.send_header("Access-Control-Allow-Headers", "content-type, idempotency-key")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the base class)
            """Nothing is printed of what is wanted."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
