"""Where a Redis server is and how one logs in: `redis://`, `rediss://` and `unix://` addresses as redis-py reads them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

import hiredis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from idemproxy.errors import ConfigError, StoreError, StoreUnavailable
from idemproxy.stores.redis_errors import code_of, meaning
from idemproxy.stores.redis_wire import Wire, command

W = TypeVar("W", bound=Wire)


class Address:
    """A server to connect to. redis-py reads the address, with its query parameters; its connection objects are never connected.
    Raises ConfigError for an address that cannot be used."""

    def __init__(self, url: str, limit: float) -> None:
        self.limit = limit
        """Seconds for a connection to come about, and for each reply; a large one has longer."""
        self._tls: ssl.SSLContext | None = None
        try:
            members = dict(parse_url(url))
            make = members.pop("connection_class", Connection)
            self._server: Connection | UnixDomainSocketConnection = make(**members)  # type: ignore[operator]
            if isinstance(self._server, SSLConnection):
                self._tls = self._server.ssl_context.get()
        except TypeError as error:
            raise ConfigError(f"`store`: a query parameter of the address is not known: {_last_word(error)}") from None
        except (RedisError, ValueError):
            # What was raised may quote a piece of the password.
            raise ConfigError(
                "`store`: the address cannot be read: write redis://[user:password@]host[:port][/database], with special characters "
                "of the password percent-encoded, and query parameters as redis-py has them"
            ) from None
        except OSError as error:
            raise ConfigError(f"`store`: a TLS file of the address cannot be used: {_words(error)}") from error

    def __str__(self) -> str:
        """For messages: without user and password."""
        match self._server:
            case UnixDomainSocketConnection(path=path):
                return f"redis at {path}"
            case server:
                return f"redis at {server.host}:{server.port}"

    async def connect(self, make: Callable[[], W]) -> W:
        """A connection that is logged in, within the time limit. Raises StoreUnavailable."""
        wire: W | None = None
        try:
            async with asyncio.timeout(self.limit):
                wire = await self._open(make)
                await self._log_in(wire)
                return wire
        except BaseException as error:
            if wire is not None:
                await wire.close()
            match error:
                case TimeoutError():
                    raise StoreUnavailable(f"{self} cannot be reached: no connection within {self.limit:g} s") from None
                case OSError():
                    raise StoreUnavailable(f"{self} cannot be reached: {_words(error)}") from error
                case UnicodeError():
                    raise StoreUnavailable(f"{self} cannot be reached: that is no host name") from error
                case StoreUnavailable():
                    raise
                case StoreError():
                    raise StoreUnavailable(f"{self} cannot be used: {error}") from error
                case _:
                    raise

    async def _open(self, make: Callable[[], W]) -> W:
        loop = asyncio.get_running_loop()
        match self._server:
            case UnixDomainSocketConnection(path=path):
                _, wire = await loop.create_unix_connection(make, path)
            case server:
                _, wire = await loop.create_connection(make, server.host, server.port, ssl=self._tls)
        return wire

    async def _log_in(self, wire: Wire) -> None:
        server = self._server
        if server.username or server.password:
            names = [server.username] if server.username else []
            await self._ask(wire, "AUTH", *names, server.password or "")
        if server.db:
            await self._ask(wire, "SELECT", str(server.db))
        if server.client_name:
            await self._ask(wire, "CLIENT", "SETNAME", server.client_name)

    async def _ask(self, wire: Wire, *words: str) -> None:
        """The server's text may quote the command, with its password: only its code is passed on."""
        reply = await wire.ask(command(*(word.encode() for word in words)), self.limit)
        if not isinstance(reply, hiredis.ReplyError):
            return
        code = code_of(str(reply))
        error = meaning(str(self), str(reply))
        if isinstance(error, StoreUnavailable):
            raise error
        match words[0]:
            case "AUTH":
                raise StoreUnavailable(f"{self} refused the login ({code}): has its user a password, as `store` says?")
            case "SELECT":
                raise StoreUnavailable(f"{self} refused database {words[1]} ({code}): has it that many?")
            case name:
                raise StoreUnavailable(f"{self} refused {name} ({code})")


def _last_word(error: TypeError) -> str:
    return str(error).rpartition(" ")[2]


def _words(error: OSError) -> str:
    """asyncio collects the failures of several addresses into one text."""
    return error.strerror or str(error)
