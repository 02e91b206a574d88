"""A request from the arguments of curl (as its manual has them at 8.x), so that a command can be explained as it was pasted."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from idemproxy.idempotency.messages import Field
from idemproxy.requests_given.written import RequestUnreadable, Written, parted, written

Read = Callable[[str], bytes]
"""Gives what is in a file, or on standard input where its name is `-`."""

FORM: Final = b"application/x-www-form-urlencoded"
JSON: Final = b"application/json"

_LONG: Final = {
    "X": "request",
    "H": "header",
    "d": "data",
    "u": "user",
    "A": "user-agent",
    "b": "cookie",
    "e": "referer",
    "G": "get",
    "I": "head",
    "F": "form",
    "T": "upload-file",
    "data-ascii": "data",
}
_TAKING: Final = frozenset(
    {"request", "header", "data", "data-raw", "data-binary", "data-urlencode", "json", "user", "user-agent", "cookie"}
    | {"referer", "url", "form", "form-string", "upload-file", "oauth2-bearer"}
)
"""Options that have a value, and mean something here."""
_SWITCHES: Final = frozenset({"get", "head", "compressed", "path-as-is"})
_IDLE: Final = frozenset(
    {
        *"sSvikLfgNq#046",
        "silent",
        "show-error",
        "verbose",
        "include",
        "insecure",
        "location",
        "fail",
        "fail-with-body",
        "globoff",
    }
    | {
        "no-buffer",
        "http1.1",
        "http2",
        "http3",
        "ipv4",
        "ipv6",
        "basic",
        "tlsv1.2",
        "tlsv1.3",
        "no-progress-meter",
        "http1.0",
    }
    | {
        "progress-bar",
        "retry-all-errors",
        "retry-connrefused",
        "no-keepalive",
        "raw",
        "ssl-no-revoke",
        "location-trusted",
    }
)
"""Switches that change nothing of the request that is looked at."""
_IDLE_TAKING: Final = frozenset(
    {
        *"omwxcEDy",
        "output",
        "max-time",
        "write-out",
        "proxy",
        "cookie-jar",
        "cert",
        "key",
        "cacert",
        "capath",
        "connect-timeout",
    }
    | {
        "retry",
        "retry-delay",
        "retry-max-time",
        "resolve",
        "connect-to",
        "dump-header",
        "limit-rate",
        "unix-socket",
        "trace",
    }
    | {"trace-ascii", "stderr", "interface", "noproxy", "max-redirs", "keepalive-time"}
)
"""Options with a value that change nothing of it."""


@dataclass
class _Command:
    """What the options said so far."""

    urls: list[str] = field(default_factory=list)
    method: str | None = None
    headers: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    has_json: bool = False
    credential: bytes | None = None
    agent: str | None = None
    cookies: list[str] = field(default_factory=list)
    referer: str | None = None
    switches: set[str] = field(default_factory=set)


def read_curl(arguments: Sequence[str], read: Read) -> Written:
    """The request that `curl` sends for these arguments (its name not among them). `read` gives what is in a file. Raises
    RequestUnreadable, also for an option that is not understood: what would be left out could be what matters."""
    command = _Command()
    for option, value in _options(arguments):
        _take(command, option, value, read)
    if len(command.urls) != 1:
        raise RequestUnreadable(f"curl is given {len(command.urls) or 'no'} URLs: give one")
    return _request(command)


def data_of(option: str, value: str, read: Read) -> bytes:
    """The bytes that one of curl's options for data adds to a body."""
    match option:
        case "data" if value.startswith("@"):
            return read(value[1:]).translate(None, b"\r\n\0")
        case "data-binary" | "json" if value.startswith("@"):
            return read(value[1:])
        case "data-urlencode":
            return _urlencoded(value, read)
        case _:
            return os.fsencode(value)


def _urlencoded(value: str, read: Read) -> bytes:
    """curl(1), --data-urlencode: `content`, `=content`, `name=content`, `@file`, `name@file`."""
    at = next((position for position, each in enumerate(value) if each in "=@"), None)
    if at is None:
        return _escaped(os.fsencode(value))
    name, content = value[:at], value[at + 1 :]
    plain = read(content) if value[at] == "@" else os.fsencode(content)
    return b"%b=%b" % (os.fsencode(name), _escaped(plain)) if name else _escaped(plain)


def _escaped(plain: bytes) -> bytes:
    return quote_from_bytes(plain, safe=" -._~").replace(" ", "+").encode()


# ---------------------------------------------------------------------------------------------------------------- its options


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option by its long name, and its value; "url" for what is no option."""
    rest = iter(arguments)
    for each in rest:
        if each == "--":
            yield from (("url", url) for url in rest)
        elif each.startswith("--"):
            name = _LONG.get(each[2:], each[2:])
            yield name, _value(f"--{name}", rest) if _has_value(name, each) else ""
        elif each.startswith("-") and len(each) > 1:
            yield from _shorts(each, rest)
        else:
            yield "url", each


def _shorts(argument: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Letters behind one dash: the first that has a value takes what follows it."""
    for at, letter in enumerate(argument[1:], 2):
        name = _LONG.get(letter, letter)
        if _has_value(name, f"-{letter}"):
            yield name, argument[at:] or _value(f"-{letter}", rest)
            return
        yield name, ""


def _has_value(name: str, written_as: str) -> bool:
    if name in _TAKING or name in _IDLE_TAKING:
        return True
    if name in _SWITCHES or name in _IDLE:
        return False
    raise RequestUnreadable(
        f"curl's option {written_as} is not understood here: leave it out if it changes nothing of the request, or write the request "
        "to a file and see --request"
    )


def _value(option: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        raise RequestUnreadable(f"curl's option {option} lacks its value")
    return value


def _take(command: _Command, option: str, value: str, read: Read) -> None:
    match option:
        case "url":
            command.urls.append(value)
        case "request":
            command.method = value
        case "header" if value.startswith("@"):
            raise RequestUnreadable("curl's -H @FILE is not understood here: write the header fields themselves")
        case "header":
            command.headers.append(value)
        case "json":
            command.has_json = True
            command.data[-1:] = [b"".join([*command.data[-1:], data_of(option, value, read)])]
        case "data" | "data-raw" | "data-binary" | "data-urlencode":
            command.data.append(data_of(option, value, read))
        case "user" if ":" not in value:
            raise RequestUnreadable("curl would ask for a password: write -u USER:PASSWORD")
        case "user":
            command.credential = b"Basic " + base64.b64encode(os.fsencode(value))
        case "oauth2-bearer":
            command.credential = b"Bearer " + os.fsencode(value)
        case "user-agent":
            command.agent = value
        case "cookie" if "=" not in value:
            raise RequestUnreadable("curl would read cookies from a file: write -b 'NAME=VALUE'")
        case "cookie":
            command.cookies.append(value)
        case "referer":
            command.referer = value
        case "form" | "form-string" | "upload-file":
            raise RequestUnreadable(
                f"curl's --{option} is not understood here, since its body is curl's to make: write the request to a file and see "
                "--request"
            )
        case switch if switch in _SWITCHES:
            command.switches.add(switch)
        case _:
            pass


# ---------------------------------------------------------------------------------------------------------------- the request


def _request(command: _Command) -> Written:
    url = command.urls[0] if "://" in command.urls[0] else f"http://{command.urls[0]}"
    authority, target = parted(url)
    user, at, host = authority.rpartition(b"@")
    credential = command.credential
    if at and credential is None:
        credential = b"Basic " + base64.b64encode(unquote_to_bytes(user if b":" in user else user + b":"))
    if "path-as-is" not in command.switches:
        target = _without_dots(target)
    body = b"&".join(command.data) if command.data else None
    if body is not None and "get" in command.switches:
        target, body = target + (b"&" if b"?" in target else b"?") + body, None
    return written(_method(command, body), target, _fields(command, host, credential, body), body)


def _method(command: _Command, body: bytes | None) -> bytes:
    if command.method is not None:
        return os.fsencode(command.method)
    if "head" in command.switches:
        return b"HEAD"
    return b"GET" if body is None else b"POST"


def _fields(command: _Command, host: bytes, credential: bytes | None, body: bytes | None) -> tuple[Field, ...]:
    """curl's own fields, each of which a -H takes the place of, or takes away where it has no value; then the others."""
    own: list[Field] = [(b"Host", host)]
    if credential is not None:
        own.append((b"Authorization", credential))
    own.append((b"User-Agent", b"curl" if command.agent is None else os.fsencode(command.agent)))
    own.append((b"Accept", JSON if command.has_json else b"*/*"))
    if "compressed" in command.switches:
        own.append((b"Accept-Encoding", b"deflate, gzip"))
    if command.referer is not None:
        own.append((b"Referer", os.fsencode(command.referer)))
    if command.cookies:
        own.append((b"Cookie", os.fsencode(";".join(command.cookies))))
    if command.has_json or body is not None:
        own.append((b"Content-Type", JSON if command.has_json else FORM))
    replaced: set[bytes] = set()
    given: list[Field] = []
    for line in command.headers:
        said = os.fsencode(line)
        name, colon, value = said.partition(b":")
        if not colon and said.endswith(b";"):
            name, colon, value = said[:-1], b":", b" "
        if not colon:
            continue  # curl sends none of it
        replaced.add(name.strip().lower())
        if value:
            given.append((name.strip(), value.strip(b" \t")))
    return tuple([each for each in own if each[0].lower() not in replaced] + given)


def _without_dots(target: bytes) -> bytes:
    """The path without its dot segments, as curl asks for it (RFC 3986, section 5.2.4)."""
    path, mark, query = target.partition(b"?")
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for number, each in enumerate(segments, 1):
        if each in (b".", b".."):
            if each == b"..":
                del kept[-1:]
            if number == len(segments):
                kept.append(b"")
        else:
            kept.append(each)
    return b"/" + b"/".join(kept) + mark + query
