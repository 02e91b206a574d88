"""The servers that the corpus is sent to, each a process of its own that writes down the requests that it sees."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Final

from tests.ports import free_port

DEADLINE: Final = 30.0
SERVERS: Final = Path(__file__).parent / "servers"
TRIES: Final = 3
"""Another process may take a port between its choice and its use."""

NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format seen escape=none '$request';
  access_log {log} seen;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  keepalive_timeout 600; keepalive_requests 1000000; client_max_body_size 0; client_body_timeout 600;
  ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; large_client_header_buffers 8 80k;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 $request_uri; }} }}
}}
"""

Command = Callable[[Path, int, Path], list[str]]
"""The program and its arguments, from a folder of its own, its port, and where it writes the requests down."""


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    assert found is not None, f"{name} is not installed, and these tests send requests through the proxy to it"
    return found


def _nginx(folder: Path, port: int, log: Path) -> list[str]:
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, log=log))
    return [_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def _python(script: str, *more: str) -> Command:
    return lambda _, port, log: [sys.executable, str(SERVERS / script), str(port), str(log), *more]


def _node(*options: str) -> Command:
    return lambda _, port, log: [_program("node"), *options, str(SERVERS / "node_server.mjs"), str(port), str(log)]


COMMANDS: Final[dict[str, Command]] = {
    "nginx": _nginx,
    "aiohttp": _python("aiohttp_server.py"),
    "gunicorn": _python("gunicorn_server.py", "sync"),
    "gunicorn-kept-alive": _python("gunicorn_server.py", "gthread"),
    "node": _node(),
    "node-lenient": _node("--insecure-http-parser"),
}
"""By name."""
VARIANTS: Final = frozenset({"gunicorn-kept-alive", "node-lenient"})
"""Two of them with settings that attackers like better: connections that are used again, and a parser that takes nearly anything."""


class Upstream:
    """A server, running."""

    def __init__(self, name: str, port: int, log: FileIO) -> None:
        self.name = name
        self.port = port
        self._log = log
        self._begun = b""
        self._seen: list[bytes] = []

    def seen(self) -> list[bytes]:
        """Every request that it wrote down so far, as `METHOD TARGET`; `? ?` is one that it could not read."""
        if more := self._log.read():
            *whole, self._begun = (self._begun + more).split(b"\n")
            self._seen += [line.removesuffix(b" HTTP/1.1") for line in whole]
        return self._seen


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Upstream]:
    """The server of that name, for as long as the block runs."""
    for attempt in range(TRIES):
        port, own = free_port(), folder / str(attempt)
        own.mkdir()
        log, output = own / "seen.log", own / "output.log"
        log.touch()
        command = COMMANDS[name](own, port, log)
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            with log.open("rb", buffering=0) as notes:
                upstream = Upstream(name, port, notes)
                if _ready(process, upstream):
                    yield upstream
                    return
        finally:
            _end(process)
    raise AssertionError(f"{name} does not start:\n{output.read_text(errors='replace')}")


def _ready(process: subprocess.Popen[bytes], upstream: Upstream) -> bool:
    """Wait until it writes a request down; False where it ended instead."""
    until = time.monotonic() + DEADLINE
    while process.poll() is None:
        assert time.monotonic() < until, f"{upstream.name} does not answer"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", upstream.port), timeout=1) as asking:
            asking.sendall(b"GET /ready HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
            while asking.recv(4096):
                pass
        if b"GET /ready" in upstream.seen():
            return True
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """By its own id; politely first, so that it ends its own workers."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
