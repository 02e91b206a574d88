"""An upstream that is the proxy itself, found by what its name resolves to."""

from __future__ import annotations

import socket

import pytest

from idemproxy.config import load_text
from idemproxy.errors import StartError
from idemproxy.startup import refuse_loop


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`me.test` is this machine, `other.test` (a documentation address, RFC 5737) is not."""
    known = {"me.test": "127.0.0.1", "other.test": "192.0.2.1"}

    def resolve(host: str, port: object, **more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known.get(host, host), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def check(listen: str, upstream: str) -> None:
    refuse_loop(load_text(f"listen: {listen}\nupstream: {upstream}\nroutes: []\n", "test.yaml", {}))


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "0.0.0.0:8080"])
def test_a_name_of_this_machine_at_the_same_port_is_refused(names: None, listen: str) -> None:
    with pytest.raises(StartError, match="own `listen` address"):
        check(listen, "http://me.test:8080")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1:8080", "http://me.test:9000"),
        ("0.0.0.0:8080", "http://other.test:8080"),
        ("127.0.0.1:8080", "http://other.test:8080"),
        ("127.0.0.1:8080", "unix:/tmp/api.sock"),
        ("unix:/tmp/proxy.sock", "unix:/tmp/api.sock"),
    ],
)
def test_what_is_elsewhere_is_not(names: None, listen: str, upstream: str) -> None:
    check(listen, upstream)
