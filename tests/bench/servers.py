"""The programs of the bench: an upstream, the peers, Redis and idemproxy, each on the core that it belongs on."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.e2e.processes import LISTENING, Process, running, wait_for
from tests.ports import free_port
from tests.stores.redis_server import RedisServer

HERE: Final = Path(__file__).parent
BODY: Final = '{"id":"ch_1"}'
CORES: Final = sorted(os.sched_getaffinity(0))
MEASURED, OTHERS = CORES[0], CORES[-1]
"""The core of what is measured, and that of everything else."""

_LUA_MODULES: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")
_MODULES: Final = Path("/usr/lib/nginx/modules")
_LUA_REDIS: Final = Path("/usr/share/lua/5.1/nginx/redis.lua")

NEEDED: Final = {"wrk": "wrk", "nginx": "nginx-light", "redis-server": "redis-server", "taskset": "util-linux"}
"""Programs, and the Debian packages that have them."""

_NGINX: Final = """
{modules}
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{rest}
}}
"""
_UPSTREAM: Final = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 201 '{body}'; }}
    location /v1/held {{ proxy_pass http://127.0.0.1:{silent}; proxy_read_timeout 1h; }}
  }}
"""
_PASSING: Final = """
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }}
  }}
"""
_LUA: Final = """
  lua_package_path "/usr/share/lua/5.1/?.lua;;";
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_body_buffer_size 8m; client_max_body_size 8m;
    location / {{ set $redis_port {redis}; content_by_lua_file {script}; }}
    location /service/ {{
      internal; rewrite ^/service(/.*)$ $1 break;
      proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_read_timeout 1h;
    }}
    location @service {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }}
  }}
"""
RULES: Final = """
  - name: charges
    match: {methods: [POST], path: /v1/charges}
  - name: held
    match: {methods: [POST], path: /v1/held}
    in_flight: reject
"""


def missing() -> list[str]:
    """The Debian packages that have to be installed first."""
    lacking = [
        package
        for program, package in NEEDED.items()
        if shutil.which(program) is None and not Path(f"/usr/sbin/{program}").exists()
    ]
    if not all((_MODULES / name).exists() for name in _LUA_MODULES):
        lacking.append("libnginx-mod-http-lua")
    if not _LUA_REDIS.exists():
        lacking.append("lua-nginx-redis")
    return lacking


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """A service that answers at once, and on /v1/held never. Its port."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rest = _UPSTREAM.format(port=port, body=BODY, silent=silent.getsockname()[1])
        with _nginx(folder / "upstream", OTHERS, rest, port):
            yield port


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[RedisServer]:
    """One that saves nothing, on the core of the others."""
    with RedisServer(folder) as server:
        os.sched_setaffinity(int(server.client().info("server")["process_id"]), {OTHERS})
        yield server


@contextlib.contextmanager
def passing(folder: Path, behind: int) -> Iterator[tuple[int, int]]:
    """nginx that only passes on: its port, and its process's id."""
    port = free_port()
    with _nginx(folder / "passing", MEASURED, _PASSING.format(port=port, upstream=behind), port) as process:
        yield port, process.pid


@contextlib.contextmanager
def peer(folder: Path, behind: int, store: int) -> Iterator[tuple[int, int]]:
    """nginx with peer.lua, on the Redis at port `store`: its port, and its process's id."""
    port = free_port()
    rest = _LUA.format(port=port, upstream=behind, redis=store, script=HERE / "peer.lua")
    modules = "\n".join(f"load_module {_MODULES / name};" for name in _LUA_MODULES)
    with _nginx(folder / "peer", MEASURED, rest, port, modules) as process:
        yield port, process.pid


@contextlib.contextmanager
def _nginx(folder: Path, core: int, rest: str, port: int, modules: str = "") -> Iterator[Process]:
    folder.mkdir()
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, rest=rest, modules=modules))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = Process([*pinned(core), program, "-e", f"{folder}/error.log", "-c", str(file)], folder / "log")
    with running(process, ""):
        wait_for("nginx listens", lambda: _listens(port) or None)
        yield process


@contextlib.contextmanager
def idemproxy(
    folder: Path, code: Path, behind: int, store: str, rules: str, more: str = ""
) -> Iterator[tuple[int, int]]:
    """Its port and its process's id; the code is that in `code`. Every default is on."""
    folder.mkdir()
    port = free_port()
    file = folder / "idemproxy.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{behind}\nstore: {store}\n{more}routes:{rules}"
    )
    run = [*pinned(MEASURED), sys.executable, "-P", "-m", "idemproxy", "run", "--config", str(file)]
    with running(Process(run, folder / "log", environment={"PYTHONPATH": str(code.resolve())}), LISTENING) as process:
        yield port, process.pid


def pinned(core: int) -> list[str]:
    """The beginning of a command that runs on that core."""
    return ["taskset", "--cpu-list", str(core)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
