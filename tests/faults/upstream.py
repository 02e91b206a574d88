"""An upstream that keeps a ledger by key, and does to each key what its test says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

DEADLINE: Final = 120.0
"""Seconds after which what should have come never will."""


@dataclass(frozen=True)
class Exchange:
    """One request, and the means to answer it. `number` counts the executions of its key, this one included."""

    key: str
    number: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    connection: socket.socket

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def cut(self, data: bytes) -> None:
        """Send that, and end the connection."""
        self.connection.sendall(data)
        self.connection.shutdown(socket.SHUT_RDWR)

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found.lower() == name.lower()]


Behave = Callable[[Exchange], None]


def answer(status: str, body: bytes, *fields: str) -> bytes:
    """The bytes of an answer of known length."""
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def created(exchange: Exchange) -> None:
    """What happens to a key of which nothing was said. The body tells a second execution from the first."""
    body = json.dumps({"key": exchange.key, "number": exchange.number}).encode()
    exchange.send(answer("201 Created", body))


class Hold:
    """A behaviour that waits until it is let go."""

    def __init__(self, then: Behave = created) -> None:
        self._then = then
        self._go = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        assert self._go.wait(DEADLINE), f"{exchange.key} was never let go"
        self._then(exchange)

    def let_go(self) -> None:
        self._go.set()


class Upstream:
    """Listens on `port`, with TLS. `behave` says what is done to a key; what was executed is in `exchanges`."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.behave: dict[str, Behave] = {}
        self.exchanges: dict[str, list[Exchange]] = defaultdict(list)
        self.most_at_once: Counter[str] = Counter()
        self._at_once: Counter[str] = Counter()
        self._came = threading.Condition()
        self._tls = tls
        self._hands = threading.Event()
        self._hands.set()
        self._knocking = 0
        self._unheard = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def executed(self, key: str) -> int:
        """How often the operation was executed."""
        with self._came:
            return len(self.exchanges[key])

    def wait_for(self, key: str, count: int = 1) -> Exchange:
        """The execution of that number, once it has begun."""
        with self._came:
            came = self._came.wait_for(lambda: len(self.exchanges[key]) >= count, DEADLINE)
            assert came, f"execution {count} of {key} never came"
            return self.exchanges[key][count - 1]

    # ------------------------------------------------------------------------------------------------------------- its door

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """Whoever connects meanwhile is connected, but his greeting stays without an answer."""
        self._hands.clear()
        try:
            yield
        finally:
            self._hands.set()

    @property
    def knocking(self) -> int:
        """Connections whose greeting has no answer yet."""
        with self._came:
            return self._knocking

    @property
    def unheard(self) -> int:
        """Connections that ended without a byte of a request."""
        with self._came:
            return self._unheard

    # ------------------------------------------------------------------------------------------------------------- serving

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._shake_hands, args=(connection,), daemon=True).start()

    def _shake_hands(self, connection: socket.socket) -> None:
        heard = False
        with contextlib.suppress(OSError), connection:
            connection.recv(1, socket.MSG_PEEK)
            with self._came:
                self._knocking += 1
            self._hands.wait(DEADLINE)
            with self._came:
                self._knocking -= 1
            with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                heard = self._serve(wrapped)
        with self._came:
            self._unheard += not heard

    def _serve(self, connection: socket.socket) -> bool:
        """Whether anything was asked on the connection."""
        heard = False
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                heard = True
                self._execute(line.decode("latin-1"), stream.readline, stream.read, connection)
        return heard

    def _execute(
        self, line: str, readline: Callable[[], bytes], read: Callable[[int], bytes], connection: socket.socket
    ) -> None:
        fields = []
        while (field := readline().decode("latin-1")).strip():
            name, _, value = field.partition(":")
            fields.append((name, value.strip()))
        sent = {name.lower(): value for name, value in fields}
        body = read(int(sent.get("content-length", "0")))
        key = sent.get("idempotency-key", line.split(" ")[1]).strip('"')
        with self._came:
            exchange = Exchange(key, len(self.exchanges[key]) + 1, tuple(fields), body, connection)
            self.exchanges[key].append(exchange)
            self._at_once[key] += 1
            self.most_at_once[key] = max(self.most_at_once[key], self._at_once[key])
            behave = self.behave.get(key, created)
            self._came.notify_all()
        try:
            behave(exchange)
        finally:
            with self._came:
                self._at_once[key] -= 1

    def stop(self) -> None:
        """Take no more connections. Those that are there end with their other side."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._listening.close()
