"""Ports for servers that tests start: below the range from which the kernel gives ports to outgoing connections, so that none of
those takes one between the choice and its use."""

from __future__ import annotations

import os
import random
import socket

_FIRST, _LAST = map(int, os.environ.get("IDEMPROXY_TEST_PORTS", "20000-29999").split("-"))
"""Test runs at the same time have ports of their own."""
_chance = random.Random(os.urandom(16))
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that can be bound now. Never the same one twice in a process."""
    for _ in range(1000):
        port = _chance.randint(_FIRST, _LAST)
        if port not in _given and _can_be_bound(port):
            _given.add(port)
            return port
    raise OSError(f"no free port on 127.0.0.1 between {_FIRST} and {_LAST}")


def _can_be_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
