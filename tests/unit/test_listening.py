"""Listening sockets: bound for several workers, and given up without losing who is connecting."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from idemproxy.config import load_text
from idemproxy.config.settings import Settings
from idemproxy.errors import StartError
from idemproxy.runtime import listening
from idemproxy.runtime.listening import BACKLOG, Bound
from tests.ports import free_port


def settings(listen: str, admin: str | None = None) -> Settings:
    more = f"admin: {admin}\n" if admin else ""
    return load_text(f"listen: {listen}\nupstream: http://127.0.0.1:9\nroutes: []\n{more}", "test.yaml", {})


@contextlib.contextmanager
def bound(listen: str, admin: str | None = None, workers: int = 1) -> Iterator[tuple[Bound, ...]]:
    made = listening.bind(settings(listen, admin), workers)
    try:
        yield made
    finally:
        for each in made:
            each.close()
            for file in each.files:
                file.remove()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_every_worker_has_a_socket_of_its_own_on_one_port_and_all_share_the_admin_port() -> None:
    with bound("127.0.0.1:0", "127.0.0.1:0", 3) as made:
        assert len({each.data[0].fileno() for each in made}) == 3
        assert len({each.port for each in made}) == 1
        assert len({each.admin[0].fileno() for each in made}) == 1
        assert made[0].admin[0].getsockname()[1] != made[0].port


def test_nobody_can_connect_before_a_socket_is_served() -> None:
    """Else who came would be reset where the start fails."""
    with bound("127.0.0.1:0") as ((one,)):
        assert one.port is not None
        with pytest.raises(ConnectionRefusedError):
            connected(one.port)


def test_an_address_that_another_process_serves_is_told() -> None:
    """Two that nobody meant to run side by side would share retries between two stores."""
    with bound("127.0.0.1:0") as ((before,)):
        before.data[0].listen(BACKLOG)
        with capture_logs() as told, bound(f"127.0.0.1:{before.port}"):
            pass
        assert [line["event"] for line in told] == ["address shared"]
    with capture_logs() as told, bound(f"127.0.0.1:{free_port()}", workers=3):
        pass
    assert told == []


def test_the_next_version_of_a_process_can_have_the_same_port() -> None:
    with bound("127.0.0.1:0") as ((before,)):
        before.data[0].listen(BACKLOG)
        with bound(f"127.0.0.1:{before.port}") as ((after,)):
            assert after.port == before.port


def test_a_name_is_listened_on_at_each_of_its_addresses_and_at_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """192.0.2.1 (RFC 5737) is no address of this machine: it is passed over."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.2", "192.0.2.1", "127.0.0.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with bound("me.test:0", workers=2) as made:
        names = [each.getsockname() for one in made for each in one.data]
    assert [host for host, _ in names] == ["127.0.0.2", "127.0.0.3"] * 2
    assert len({port for _, port in names}) == 1


def test_an_address_that_cannot_be_had_is_told_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=rf"cannot listen on http://127\.0\.0\.1:{port} \(setting `listen`\).*in use"
        ):
            listening.bind(settings(f"127.0.0.1:{port}", "127.0.0.1:0"), 2)
    with pytest.raises(StartError, match="setting `admin`"):
        listening.bind(settings("127.0.0.1:0", "192.0.2.1:1"))


# -------------------------------------------------------------------------------------------------------------- unix sockets


def test_a_unix_socket_is_shared_and_its_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}", workers=2) as made:
        assert made[0].data[0] is made[1].data[0]
        assert made[0].port is None
        assert path.is_socket()
        for file in made[0].files:
            file.remove()
        assert not path.exists()


def test_what_a_killed_process_left_is_replaced_and_what_somebody_listens_on_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listening.bind(settings(f"unix:{path}"))[0].close()
    assert path.is_socket()
    with bound(f"unix:{path}"), pytest.raises(StartError, match=r"cannot listen on unix:.*in use"):
        listening.bind(settings(f"unix:{path}"))


def test_the_file_of_another_process_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = listening.bind(settings(f"unix:{path}"))[0]
    path.unlink()
    with bound(f"unix:{path}"):
        before.files[0].remove()
        assert path.is_socket()
    before.close()


# -------------------------------------------------------------------------------------------------------------- giving them up


def test_whoever_waits_in_the_queue_is_found() -> None:
    with bound("127.0.0.1:0") as ((one,)):
        (made,) = one.data
        made.listen(BACKLOG)
        assert one.port is not None
        clients = [connected(one.port) for _ in range(3)]
        clients[1].sendall(b"here")
        found = list(listening.waiting(made))
        assert len(found) == 3
        assert list(listening.waiting(made)) == []
        found[1].settimeout(60)
        assert found[1].recv(10) == b"here"
        for each in (*clients, *found):
            each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is of Linux")
def test_who_comes_when_a_socket_is_given_up_gets_to_another_one_on_the_port() -> None:
    """Without an error, and also where the kernel had chosen the first one for it."""
    with bound(f"127.0.0.1:{free_port()}") as ((before,)):
        (old,) = before.data
        old.listen(BACKLOG)
        assert before.port is not None
        in_time = connected(before.port)
        assert listening.refuse_new(old)
        with bound(f"127.0.0.1:{before.port}") as ((after,)):
            late = socket.socket()
            late.setblocking(False)
            assert late.connect_ex(("127.0.0.1", before.port)) != 0, "nobody answers yet"
            found = list(listening.waiting(old))
            assert len(found) == 1, "only who came in time"
            (new,) = after.data
            new.listen(BACKLOG)
            old.close()
            new.setblocking(True)
            new.settimeout(60)
            accepted, _ = new.accept()
            assert accepted.getpeername() == late.getsockname()
            for each in (in_time, late, accepted, *found):
                each.close()
