"""TCP relays on loopback, and a bad network: one that cuts, resets and delays some connections, drawn from a seed."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

CUT: Final = 0.15
RESET: Final = 0.05
LATE: Final = 0.10
"""The part of all connections whose answers are cut short, that are reset at once, and whose answers come late."""

_RST: Final = struct.pack("ii", 1, 0)


Answers = Callable[[socket.socket, socket.socket], None]
"""Carries what the second of the two says to the first."""


class TcpRelay:
    """Listens on `port`, and relays each connection to `target` on 127.0.0.1 in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: set[socket.socket] = set()
        self._threads[0].start()

    def stop(self) -> None:
        """End every connection."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.accepted(client)

    def accepted(self, client: socket.socket) -> None:
        """What becomes of a connection. One after another, in the order in which they come."""
        raise NotImplementedError

    def carry(self, client: socket.socket, answers: Answers) -> None:
        """Relay it, with what comes back as `answers` does it."""
        thread = threading.Thread(target=self._relayed, args=(client, answers))
        self._threads.append(thread)
        thread.start()

    def _relayed(self, client: socket.socket, answers: Answers) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open |= {client, server}
            up = threading.Thread(target=_copy, args=(client, server))
            up.start()
            try:
                answers(client, server)
            finally:
                self._open -= {client, server}
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                up.join(30)


class Relay(TcpRelay):
    """A bad network, drawn from a seed."""

    def __init__(self, target: int, seed: int) -> None:
        self._random = random.Random(seed)
        super().__init__(target)

    def accepted(self, client: socket.socket) -> None:
        chance, keep = self._random.random(), self._random.randint(0, 300)
        if chance < RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            client.close()
            return
        kept = keep if chance < RESET + CUT else None
        late = 0.1 + keep / 1000 if RESET + CUT < chance < RESET + CUT + LATE else 0.0
        self.carry(client, partial(_badly, kept, late))


def _badly(kept: int | None, late: float, client: socket.socket, server: socket.socket) -> None:
    """Each answer `late` seconds late, and only `kept` bytes of them, where that is a number."""
    while data := server.recv(65_536):
        time.sleep(late)
        if kept is not None and len(data) >= kept:
            client.sendall(data[:kept])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            return
        kept = None if kept is None else kept - len(data)
        client.sendall(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
