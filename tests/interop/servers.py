"""Servers that are compared, each with a proxy of its own in front: real processes of real programs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import LISTENING, Process, proxy
from tests.interop import api
from tests.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODIFIED = 1_445_412_480
"""When the static files were last changed: 2015-10-21 07:28 UTC."""


@dataclass(frozen=True)
class Pair:
    """One server, by its own port and by the port of the proxy in front of it."""

    direct: int
    through: int


@dataclass(frozen=True)
class _Program:
    command: Callable[[int, Path], list[str]]
    ready: str


def _nginx(port: int, folder: Path) -> list[str]:
    """Static files with ranges and validators, compressed on demand."""
    _site(folder / "site")
    (folder / "nginx.conf").write_text(
        f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr notice;
events {{ worker_connections 512; }}
http {{
  access_log off; server_tokens off; keepalive_timeout 600s; keepalive_requests 100000;
  types {{ text/plain txt; text/html html; application/octet-stream bin; }}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  gzip on; gzip_types text/plain; gzip_min_length 100; absolute_redirect off;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/site;
    location = /none {{ return 204; }}
    location = /moved {{ return 301 /hello.txt; }}
    location = /twice {{ add_header X-Twice one; add_header X-Twice two; try_files /hello.txt =404; }}
  }}
}}
"""
    )
    return [_nginx_program(), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _nginx_program() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _site(site: Path) -> None:
    (site / "folder").mkdir(parents=True)
    files = {
        "hello.txt": b"hello\n",
        "text.txt": b"".join(b"line %d of a text that compresses well\n" % number for number in range(2_000)),
        "big.bin": bytes(range(251)) * 63_745,
        "folder/index.html": b"<p>index</p>",
    }
    for name, content in files.items():
        (site / name).write_bytes(content)
        os.utime(site / name, (MODIFIED, MODIFIED))


def _aiohttp(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.interop.api", str(port)]


def _gunicorn(port: int, folder: Path) -> list[str]:
    options = ["--worker-class", "gthread", "--threads", "16", "--keep-alive", "600", "--graceful-timeout", "1"]
    options += ["--no-control-socket", "--bind", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "gunicorn", *options, "tests.interop.apps:wsgi"]


def _uvicorn(port: int, folder: Path) -> list[str]:
    options = ["--http", "h11", "--timeout-keep-alive", "600", "--lifespan", "off", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *options, "--port", str(port), "tests.interop.apps:asgi"]


def _node(port: int, folder: Path) -> list[str]:
    return ["node", str(HERE / "server.mjs"), str(port)]


_PROGRAMS = {
    "nginx": _Program(_nginx, "nginx/"),
    "aiohttp": _Program(_aiohttp, api.READY),
    "gunicorn": _Program(_gunicorn, "Listening at"),
    "uvicorn": _Program(_uvicorn, "Uvicorn running on"),
    "node": _Program(_node, "node listening"),
}


@contextlib.contextmanager
def pairs(folder: Path) -> Iterator[dict[str, Pair]]:
    """Every server with its proxy, for as long as the block runs."""
    started: list[tuple[Process, str]] = []
    found = {}
    for name, program in _PROGRAMS.items():
        own = folder / name
        own.mkdir()
        pair = Pair(free_port(), free_port())
        environment = {"PYTHONPATH": str(ROOT)}
        server = Process(program.command(pair.direct, own), own / "server.log", environment=environment)
        config = f"""
listen: 127.0.0.1:{pair.through}
upstream: http://127.0.0.1:{pair.direct}
store: sqlite:{own}/store.db
routes: []
"""
        started += [(server, program.ready), (proxy(own, config), LISTENING)]
        found[name] = pair
    try:
        with ThreadPoolExecutor(len(started)) as pool:
            list(pool.map(lambda one: one[0].start(one[1]), started))
        yield found
    finally:
        _end([process for process, _ in started])


def _end(processes: list[Process]) -> None:
    """By SIGTERM first, so that a program with workers ends them too."""
    for process in processes:
        with contextlib.suppress(AssertionError):
            process.signal(signal.SIGTERM)
    for process in processes:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            process.wait()
        process.kill()
