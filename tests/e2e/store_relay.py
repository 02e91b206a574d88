"""A relay between the proxy and its Redis that can lose replies, or hold them back: the command is applied, and nobody hears of it."""

from __future__ import annotations

import contextlib
import socket
import threading


class StoreRelay:
    """Listens on `port`, and relays to `target`. While `losing` is set, the first reply on a connection ends it instead of passing; while
    `flowing` is not, replies wait."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.losing = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()
        self.lost = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._open: set[socket.socket] = set()
        self._threads[0].start()

    def stop(self) -> None:
        self.flowing.set()
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
            thread = threading.Thread(target=self._carry, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open |= {client, server}
            up = threading.Thread(target=_copy, args=(client, server))
            up.start()
            try:
                while data := server.recv(65_536):
                    if self.losing.is_set():
                        self.lost += 1
                        return
                    self.flowing.wait()
                    client.sendall(data)
            finally:
                self._open -= {client, server}
                for end in (client, server):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                up.join(30)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
