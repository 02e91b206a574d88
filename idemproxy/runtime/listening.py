"""Listening sockets: made before anybody serves on them, shared by workers, and given up without losing who is connecting."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from idemproxy.config.settings import Address, Settings, TcpAddress, UnixAddress
from idemproxy.errors import StartError

log = structlog.get_logger()

BACKLOG: Final = 1024

Sockets = tuple[socket.socket, ...]


@dataclass(frozen=True, slots=True)
class UnixFile:
    """The file of a unix socket, as this process made it."""

    path: str
    device: int
    inode: int

    def remove(self) -> None:
        """Nobody finds the socket any more. A file that somebody else has put there stays."""
        with contextlib.suppress(OSError):
            found = Path(self.path).stat()
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                Path(self.path).unlink()


@dataclass(frozen=True, slots=True)
class Bound:
    """What one process listens on. A TCP socket does not listen before it is served, so that no client comes to a process that
    does not start. Workers share the sockets of the admin port, and unix sockets; `files` are those of the unix sockets."""

    data: Sockets
    admin: Sockets
    files: tuple[UnixFile, ...]

    @property
    def port(self) -> int | None:
        """The data port's number, None for a unix socket."""
        made = self.data[0]
        return None if made.family == socket.AF_UNIX else int(made.getsockname()[1])

    def close(self) -> None:
        """Give the sockets back. Who waits in them for a process that has none of them any more is reset."""
        for each in (*self.data, *self.admin):
            each.close()


def bind(settings: Settings, workers: int = 1) -> tuple[Bound, ...]:
    """What each of the workers listens on: the same addresses. Raises StartError where one cannot be had."""
    admin: Sockets = ()
    data: tuple[Sockets, ...] = ()
    files: list[UnixFile] = []
    try:
        if settings.admin is not None:
            admin = _bind(settings.admin, "admin", 1, files)[0]
        data = _bind(settings.listen, "listen", workers, files)
    except StartError:
        close(admin)
        raise
    return tuple([Bound(each, admin, tuple(files)) for each in data])


def close(sockets: Iterable[socket.socket]) -> None:
    """Give them back."""
    for each in sockets:
        each.close()


def shown(address: Address, bound: int | None, scheme: str = "http") -> str:
    """An address for an operator to read; `bound` is the port where the system chose one."""
    match address:
        case TcpAddress(host, port):
            return f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound or port}"
        case UnixAddress(path):
            return f"unix:{path}"


def cannot_listen(address: Address, setting: str, error: OSError) -> StartError:
    """What an operator reads then."""
    what = error.strerror or str(error)
    return StartError(
        f"cannot listen on {shown(address, None)} (setting `{setting}`): {what}; choose another address, or end what uses it"
    )


# ----------------------------------------------------------------------------------------------------------------- making them


def _bind(address: Address, setting: str, workers: int, files: list[UnixFile]) -> tuple[Sockets, ...]:
    made: list[Sockets] = []
    try:
        match address:
            case TcpAddress(host, port):
                if port and _is_served(host, port):
                    log.warning(
                        "address shared",
                        address=shown(address, None),
                        setting=setting,
                        meaning="another process serves it too, and gets a part of the connections: unless it has the same store, "
                        "namespace and rules, a retry that comes to it executes again",
                    )
                for _ in range(workers):
                    made.append(_bind_tcp(host, port))
                    port = int(made[0][0].getsockname()[1])
            case UnixAddress(path):
                made = [_bind_unix(path)] * workers
                found = Path(path).stat()
                files.append(UnixFile(path, found.st_dev, found.st_ino))
    except OSError as error:
        for each in made:
            close(each)
        raise cannot_listen(address, setting, error) from error
    return tuple(made)


def _is_served(host: str, port: int) -> bool:
    """Whether a process listens there that would share the port: the version that this one replaces, or one that nobody meant."""
    for family, kind, protocol, _, place in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                alone.bind(place)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
    return False


def _bind_tcp(host: str, port: int) -> Sockets:
    """One socket for each address of the name. Addresses that this machine does not have are passed over, if it has any."""
    made: list[socket.socket] = []
    absent: OSError | None = None
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, place in dict.fromkeys(found):
        try:
            made.append(_bind_one(family, kind, protocol, (str(place[0]), port, *place[2:])))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                close(made)
                raise
            absent = error
        else:
            port = int(made[0].getsockname()[1])
    if not made:
        assert absent is not None, "a name has an address"
        raise absent
    return tuple(made)


def _bind_one(family: int, kind: int, protocol: int, place: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Workers, and the next version of this process before this one has ended, serve the same port.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


def _bind_unix(path: str) -> Sockets:
    """It listens at once: a file that nobody listens on counts as left behind."""
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.bind(path)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return (made,)


def _remove_stale(path: str) -> None:
    """A socket file that nobody listens on is what a killed process left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                Path(path).unlink()
        except OSError:
            pass


# ------------------------------------------------------------------------------------------------------------- giving them up

_SO_ATTACH_FILTER: Final = 26
"""Of Linux, and missing in Python's module."""

_NO_NEW_ONES: Final = (
    (0x30, 0, 0, 13),  # load the byte with the TCP flags
    (0x45, 1, 0, 0x02),  # if SYN is set, skip one
    (0x06, 0, 0, 0xFFFFFFFF),  # take the segment
    (0x06, 0, 0, 0),  # drop it
)
"""A classic BPF program (kernel.org, networking/filter): every segment passes but those that begin a connection."""


def refuse_new(listening: socket.socket) -> bool:
    """Let nobody begin to connect, while those who have begun still get through. Whoever comes now is not refused: its SYN is not
    answered, and when it is sent again, a second later, the kernel gives it to another socket that listens on the port. False where
    the kernel cannot do so.

    To close a socket that shares its port resets whoever the kernel has put into its queue by then."""
    if sys.platform != "linux" or listening.family == socket.AF_UNIX:
        return False
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_NEW_ONES)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(_NO_NEW_ONES), ctypes.addressof(held))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True


def waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Every connection that is in the socket's queue."""
    while True:
        try:
            connection, _ = listening.accept()
        except ConnectionAbortedError:
            continue
        except OSError:  # none is left; or there are no descriptors left, and then nothing can be done for them
            return
        connection.setblocking(False)
        yield connection
