"""What a case is sent to: an upstream itself, nginx in front of one, the product in front of one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from idemproxy.config import load_text
from idemproxy.observe.cells import own_cells
from idemproxy.observe.metrics import Metrics
from idemproxy.runtime import Service
from idemproxy.stores.opening import open_store
from tests.differential.client import Observed, observe
from tests.differential.corpus import Case
from tests.differential.origin import Origin
from tests.e2e.processes import LISTENING, Process, proxy, running, wait_for
from tests.ports import free_port
from tests.proxy.product import sqlite

_NGINX: Final = """
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    map $http_upgrade $upgrade_or_not {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        client_header_buffer_size 64k;
        large_client_header_buffers 4 64k;
        client_max_body_size 0;
        underscores_in_headers on;
        ignore_invalid_headers off;
        merge_slashes off;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $upgrade_or_not;
            proxy_set_header Upgrade $http_upgrade;
            proxy_pass_header Date;
            proxy_pass_header Server;
            proxy_pass_header X-Pad;
            proxy_pass_header X-Accel-Redirect;
            proxy_pass_header X-Accel-Expires;
            proxy_pass_header X-Accel-Limit-Rate;
            proxy_pass_header X-Accel-Buffering;
            proxy_pass_header X-Accel-Charset;
            proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
            proxy_request_buffering off;
            proxy_redirect off;
            proxy_next_upstream off;
        }}
    }}
}}
"""
"""As near to its upstream as nginx can be made by its own settings."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A port, and the upstream behind it."""

    port: int
    origin: Origin

    async def observe(self, case: Case) -> Observed:
        """What both ends saw of a case."""
        return await observe(case, self.port, self.origin)


@dataclass(frozen=True, slots=True)
class Subjects:
    """The three, each with an upstream of its own."""

    direct: Subject
    nginx: Subject
    product: Subject

    async def observe(self, case: Case) -> tuple[Observed, Observed, Observed]:
        """What was seen directly, through nginx, and through the product."""
        direct, nginx, product = await asyncio.gather(
            self.direct.observe(case), self.nginx.observe(case), self.product.observe(case)
        )
        return direct, nginx, product


def _listens(port: int, process: Process) -> bool | None:
    assert "[emerg]" not in process.output(), process.output()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return None


@contextlib.contextmanager
def _nginx(folder: Path, upstream: int) -> Iterator[int]:
    """Debian's nginx, listening."""
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(port=port, upstream=upstream))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    arguments = [program, "-p", f"{folder}/", "-e", str(folder / "error.log"), "-c", str(config)]
    with running(Process(arguments, folder / "output.log"), "") as process:
        wait_for("nginx listens", lambda: _listens(port, process))
        yield port


@contextlib.asynccontextmanager
async def _product(folder: Path, upstream: int) -> AsyncIterator[int]:
    """The product in this process, without rules."""
    text = f"listen: 127.0.0.1:0\nupstream: http://127.0.0.1:{upstream}\nstore: {sqlite(folder)}\nroutes: []\n"
    settings = load_text(text, "differential.yaml", {})
    store = await open_store(settings.store, namespace=settings.namespace, timeout_ms=settings.store_timeout)
    service = Service(settings, store, Metrics(own_cells()))
    try:
        await service.start()
        assert service.port is not None
        yield service.port
    finally:
        await service.close()
        await store.close()


@contextlib.asynccontextmanager
async def _process(folder: Path, upstream: int) -> AsyncIterator[int]:
    """The product as a process of its own, without rules."""
    port = free_port()
    text = f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{upstream}\nstore: {sqlite(folder)}\nroutes: []\n"
    with running(proxy(folder, text), LISTENING):
        yield port


class Run(Enum):
    """Where the product runs."""

    HERE = auto()
    """In this process, so that a defect of it is seen as it happens."""
    PROCESS = auto()
    """As its users run it."""


@contextlib.asynccontextmanager
async def subjects(folder: Path, run: Run) -> AsyncIterator[Subjects]:
    """The three, for as long as the block runs; their files are in `folder`."""
    origins = Origin(), Origin(), Origin()
    async with origins[0].listening() as direct, origins[1].listening() as second, origins[2].listening() as third:
        product = _product(folder, third.port) if run is Run.HERE else _process(folder, third.port)
        with _nginx(folder / "nginx", second.port) as port:
            async with product as own:
                yield Subjects(Subject(direct.port, direct), Subject(port, second), Subject(own, third))
