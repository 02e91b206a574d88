"""Clients of a proxy: one request, one in a thread, and one that insists."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.e2e.processes import wait_for

PATIENCE: Final = 90.0
"""Seconds that a client waits for an answer: longer than any rule of these tests lets it wait."""


@dataclass(frozen=True)
class Answer:
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found.lower() == name.lower()]

    @property
    def replayed(self) -> bool:
        return self.values("Idempotent-Replayed") == ["true"]

    @property
    def told(self) -> tuple[int, bytes]:
        """What all answers to one operation have in common."""
        return self.status, self.body

    @property
    def problem(self) -> str:
        """Which problem of the proxy it is; empty for an answer of the upstream."""
        if self.values("Content-Type") != ["application/problem+json"]:
            return ""
        return str(json.loads(self.body)["type"]).rpartition(":")[2]


def ask(
    port: int, path: str, key: str | None, *, body: bytes = b"{}", fields: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """One POST on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in (*((("Idempotency-Key", key),) if key else ()), *fields):
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        got = connection.getresponse()
        return Answer(got.status, tuple(got.getheaders()), got.read())
    finally:
        connection.close()


class Asking:
    """A request in a thread of its own."""

    def __init__(self, asked: Callable[[], Answer]) -> None:
        self._asked = asked
        self._got: list[Answer | Exception] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._got.append(self._asked())
        except (OSError, http.client.HTTPException) as error:
            self._got.append(error)

    @property
    def over(self) -> bool:
        """Whether it got what it gets."""
        return bool(self._got)

    def answer(self) -> Answer:
        self._thread.join(PATIENCE)
        assert self._got, "no answer came"
        found = self._got[0]
        assert isinstance(found, Answer), found
        return found

    def lost(self) -> None:
        """It got no answer."""
        self._thread.join(PATIENCE)
        assert isinstance(self._got[0], Exception)


def insist(asked: Callable[[], Answer], wanted: Callable[[Answer], bool], what: str) -> Answer:
    """Ask until the answer is `wanted`."""

    def once() -> Answer | None:
        answer = asked()
        return answer if wanted(answer) else None

    return wait_for(what, once)
