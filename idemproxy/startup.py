"""What is checked before a process serves."""

from __future__ import annotations

import socket
from pathlib import Path

from idemproxy.config.settings import Settings, TcpAddress, UnixAddress
from idemproxy.errors import StartError


def refuse_loop(settings: Settings) -> None:
    """An upstream that is the proxy itself would forward each request to itself. Raises StartError."""
    listen, upstream = settings.listen, settings.upstream.address
    match listen, upstream:
        case UnixAddress(path), UnixAddress(other):
            loops = Path(path).resolve() == Path(other).resolve()
        case TcpAddress(host, port), TcpAddress(upstream_host, upstream_port):
            loops = port == upstream_port and _reaches(host, upstream_host)
        case _:
            loops = False
    if loops:
        raise StartError(
            f"upstream {settings.upstream.url} is this proxy's own `listen` address: name the API behind it"
        )


def _reaches(listen: str, upstream: str) -> bool:
    """Whether a connection to `upstream` could end at a socket that is bound to `listen`."""
    bound, asked = _addresses(listen), _addresses(upstream)
    if bound & asked:
        return True
    return bool(bound & {"0.0.0.0", "::"}) and any(_is_local(address) for address in asked)


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _is_local(address: str) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
