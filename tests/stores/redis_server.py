"""A real redis-server of a test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.ports import free_port

_DEADLINE = 30.0
"""Seconds that only guard against hanging."""


class RedisServer:
    """A redis-server on 127.0.0.1 that runs inside `with`, or between start and stop. It can be started again: the port stays.
    `arguments` are added to its command line; its data, and its log `redis.log`, are in `folder`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers PING and has loaded its data."""
        if self._process is not None:
            raise RuntimeError("this server runs already")
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--logfile", str(self.folder / "redis.log"), "--save", "", "--appendonly", "no", *self._arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _DEADLINE
        while not self._answers():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis-server did not start (exit status {status}): {self._log()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """As an operator stops it. Nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash ends it."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It stands still: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A blocking client of this server, closed when the server stops."""
        if self._admin is None:
            self._admin = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=_DEADLINE)
        return self._admin

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError("this server does not run")
        os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            never = Retry(NoBackoff(), 0)
            with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, retry=never) as client:
                client.ping()
        except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError):
            return True
        except redis.exceptions.RedisError:
            return False
        return True

    def _log(self) -> str:
        try:
            return (self.folder / "redis.log").read_text(errors="replace")
        except OSError:
            return ""
