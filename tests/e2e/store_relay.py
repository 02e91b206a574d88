"""A relay between the proxy and its Redis that can lose replies: the command is applied, and nobody hears of it."""

from __future__ import annotations

import socket
import threading

from tests.e2e.relay import TcpRelay


class StoreRelay(TcpRelay):
    """While `losing` is set, the first reply on a connection ends it instead of passing."""

    def __init__(self, target: int) -> None:
        self.losing = threading.Event()
        self.lost = 0
        super().__init__(target)

    def accepted(self, client: socket.socket) -> None:
        self.carry(client, self._answers)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        while data := server.recv(65_536):
            if self.losing.is_set():
                self.lost += 1
                return
            client.sendall(data)
