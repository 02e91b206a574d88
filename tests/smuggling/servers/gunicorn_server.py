"""gunicorn_server.py PORT LOG WORKER: gunicorn with one worker, `sync` (a request a connection) or `gthread` (kept alive); answers each
request with its target, once its body came."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]
from gunicorn.workers.sync import SyncWorker  # type: ignore[import-untyped]


def note(line: str) -> None:
    os.write(LOG, line.encode("latin-1") + b"\n")


class Sync(SyncWorker):  # type: ignore[misc]
    """The worker of that name, but for the note of what it cannot read."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if req is None:
            note("? ?")
        super().handle_error(req, client, addr, exc)


class Threads(ThreadWorker):  # type: ignore[misc]
    """The worker of that name, but for the note of what it cannot read."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if req is None:
            note("? ?")
        super().handle_error(req, client, addr, exc)


def answer(environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    target = environ["RAW_URI"].encode("latin-1")
    start("200 OK", [("Content-Length", str(len(target)))])
    return [target]


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, told by this program instead of a file."""

    def load_config(self) -> None:
        for name, value in {
            "bind": f"127.0.0.1:{sys.argv[1]}",
            "worker_class": {"sync": Sync, "gthread": Threads}[sys.argv[3]],
            "threads": {"sync": 1, "gthread": 4}[sys.argv[3]],
            "keepalive": 600,
            "graceful_timeout": 1,
            "control_socket_disable": True,
            "pre_request": lambda _, request: note(f"{request.method} {request.uri}"),
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Callable[..., Iterable[bytes]]:
        return answer


if __name__ == "__main__":
    LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    Server().run()
