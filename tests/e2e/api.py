"""An upstream that the tests hold and let go, and a client for one request."""

from __future__ import annotations

import http.client
import socket
import threading


class Upstream:
    """Answers 201 with the number of the request, after `delay` seconds; counts what it executed."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.executed = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.arrived = threading.Semaphore(0)
        self._go = threading.Event()
        self._stopped = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hold(self) -> None:
        """From now on no answer leaves before `let_go`."""
        self._go.clear()

    def let_go(self) -> None:
        self._go.set()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while (line := stream.readline()) and line.strip():
                    length = 0
                    while (field := stream.readline()).strip():
                        name, _, value = field.partition(b":")
                        if name.lower() == b"content-length":
                            length = int(value)
                    stream.read(length)
                    self.executed += 1
                    body = b'{"number": %d}' % self.executed
                    self.arrived.release()
                    self._go.wait()
                    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            except OSError:
                return

    def stop(self) -> None:
        self._stopped = True
        self._go.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


Answer = tuple[int, dict[str, str], bytes]


def request(
    port: int, method: str = "POST", path: str = "/v1/charges", key: str | None = "k1", body: bytes = b"{}"
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Idempotency-Key": key} if key else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()
