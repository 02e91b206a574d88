"""`idemproxy explain`: what the proxy would do with a request, and why. It looks at the store, and changes nothing in it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from idemproxy import config
from idemproxy.config.settings import Settings, TcpAddress
from idemproxy.idempotency.messages import Field
from idemproxy.idempotency.routes import Mode
from idemproxy.requests_given.curl import data_of, read_curl
from idemproxy.requests_given.har import read_har
from idemproxy.requests_given.raw import read_raw
from idemproxy.requests_given.written import MOST_BYTES, RequestUnreadable, Written, parted, written

PATIENCE: Final = 5_000
"""Milliseconds that the store may take at least: an operator waits longer than a request."""

Commands = Any
"""What `add_subparsers` gives: argparse has no public name for it."""


def add(commands: Commands) -> None:
    """Offer the command."""
    parser = commands.add_parser(
        "explain",
        help="tell what would be done with a request, and why",
        usage="%(prog)s --config FILE [--json] [--peer IP] [--against FILE]\n"
        "       (METHOD TARGET [-H 'NAME: VALUE']... [-d DATA]... | --request FILE | --har FILE [--entry N] | -- curl ...)",
        description="Which rule a request meets, its key, scope, fingerprint and record, and what would follow. Nothing is executed or "
        "recorded. FILE - is standard input.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="the configuration that the proxy runs with"
    )
    parser.add_argument("words", nargs="*", metavar="METHOD TARGET", help="or, behind --, a whole curl command")
    parser.add_argument("-H", "--header", metavar="'NAME: VALUE'", action="append", default=[], type=_header)
    for option in ("--data-binary", "--data-raw", "--data-urlencode"):
        parser.add_argument(option, metavar="DATA", dest="data", action=_Data, help=argparse.SUPPRESS)
    parser.add_argument(
        "-d", "--data", metavar="DATA", dest="data", action=_Data, help="the body; @FILE and --data-... as with curl"
    )
    parser.add_argument("--request", metavar="FILE", help="a raw HTTP/1.1 message")
    parser.add_argument("--har", metavar="FILE", help="an HTTP archive")
    parser.add_argument(
        "--entry", metavar="N", type=int, help="which of its entries, counted from 1; default the first"
    )
    parser.add_argument(
        "--against", metavar="FILE", help="compare with this request (a raw message, or a HAR by the name .har)"
    )
    parser.add_argument(
        "--peer", metavar="IP", type=_address, default="127.0.0.1", help="the client's address; default 127.0.0.1"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(act=_explain, parser=parser, data=[])


class _Data(argparse.Action):
    """Keeps which of curl's options a piece of the body came by."""

    def __call__(
        self, _: argparse.ArgumentParser, space: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        name = "data" if option == "-d" else str(option).removeprefix("--")
        space.data = [*space.data, (name, value)]


def _header(said: str) -> Field:
    name, colon, value = os.fsencode(said).partition(b":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("write 'Name: value'")
    return name.strip(), value.strip(b" \t")


def _address(said: str) -> str:
    try:
        return str(ip_address(said))
    except ValueError:
        raise argparse.ArgumentTypeError("write an IP address") from None


def _explain(arguments: argparse.Namespace) -> int:
    settings = config.load(arguments.config, os.environ)
    request = _request(arguments, settings)
    other = None if arguments.against is None else _from_file(arguments.against, None)
    shown = asyncio.run(_explained(settings, request, other, arguments.peer))
    if arguments.json:
        print(json.dumps(shown))
    else:
        _tell(shown)
    return 0


# ----------------------------------------------------------------------------------------------------------------- the request


def _request(arguments: argparse.Namespace, settings: Settings) -> Written:
    words: Sequence[str] = arguments.words
    ways = [bool(words), arguments.request is not None, arguments.har is not None]
    if sum(ways) != 1:
        arguments.parser.error(
            "give one request: METHOD TARGET, --request FILE, --har FILE, or a curl command behind --"
        )
    if arguments.entry is not None and arguments.har is None:
        arguments.parser.error("argument --entry: only with --har")
    whole = bool(words) and words[0] == "curl"
    if (arguments.header or arguments.data) and (not words or whole):
        arguments.parser.error("argument -H, -d: only with METHOD TARGET")
    if arguments.request is not None:
        return _from_file(arguments.request, None, har=False)
    if arguments.har is not None:
        return _from_file(arguments.har, arguments.entry, har=True)
    if whole:
        return read_curl(words[1:], _read)
    if len(words) != 2:
        arguments.parser.error("write METHOD TARGET, beside each other, such as: POST /v1/charges")
    return _composed(words[0], words[1], arguments, settings)


def _composed(method: str, url: str, arguments: argparse.Namespace, settings: Settings) -> Written:
    """The request of the command line, with no field but those that are given and a Host."""
    authority, target = parted(url)
    fields: list[Field] = list(arguments.header)
    if not any(name.lower() == b"host" for name, _ in fields):
        fields.insert(0, (b"Host", authority.rpartition(b"@")[2] or _own(settings)))
    pieces = [data_of(name, value, _read) for name, value in arguments.data]
    return written(os.fsencode(method), target, tuple(fields), b"&".join(pieces) if pieces else None)


def _own(settings: Settings) -> bytes:
    """What a client of the proxy itself would write."""
    match settings.listen:
        case TcpAddress(host, port):
            return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
        case _:
            return b"localhost"


def _from_file(name: str, entry: int | None, har: bool | None = None) -> Written:
    data = _read(name)
    try:
        return read_har(data, entry) if (name.endswith(".har") if har is None else har) else read_raw(data)
    except RequestUnreadable as error:
        raise RequestUnreadable(f"{'standard input' if name == '-' else name}: {error}") from error


def _read(name: str) -> bytes:
    if name == "-":
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise RequestUnreadable(f"{name}: it is larger than {MOST_BYTES >> 20} MiB")
    return data


# ------------------------------------------------------------------------------------------------------------------- the store


async def _explained(settings: Settings, request: Written, other: Written | None, peer: str) -> dict[str, Any]:
    # here: the other commands start without the proxy's and the stores' libraries
    from idemproxy.explaining.explainer import Explainer, OnlyLooks
    from idemproxy.explaining.plain import explained
    from idemproxy.jwks import KeySet, http_fetch
    from idemproxy.stores.opening import open_store
    from idemproxy.tokens import Tokens

    async with contextlib.AsyncExitStack() as opened:
        store = None
        if not _is_missing(settings.store):
            patience = max(settings.store_timeout, PATIENCE)
            store = await open_store(settings.store, namespace=settings.namespace, timeout_ms=patience)
            opened.push_async_callback(store.close)
        callers = None
        if (jwt := settings.jwt) is not None:
            sets = [KeySet(http_fetch(each.url), time.monotonic) for each in jwt.urls]
            callers = Tokens(jwt.policy, jwt.keys, sets)
            opened.push_async_callback(callers.close)
        explainer = Explainer(settings.rules, settings.namespace, OnlyLooks(store), callers)
        return await explained(explainer, request, other, peer, settings.docs_url)


def _is_missing(store: str) -> bool:
    """A file that is not there is not made to be looked at."""
    scheme, _, path = store.partition(":")
    if scheme != "sqlite" or (Path(path).exists() and Path(path).stat().st_size):
        return False
    print(f"idemproxy: {path}: there is no such store yet: nothing is known of any operation", file=sys.stderr)
    return True


# -------------------------------------------------------------------------------------------------------------------- printing

_WIDTH: Final = 13


def _tell(shown: dict[str, Any]) -> None:
    for note in shown["notes"]:
        _line("note", note)
    if "method" in shown:
        _line("request", f"{shown['method']} {shown['target']}")
    _line("rule", shown["rule"] or "none")
    if shown["mode"] == Mode.OBSERVE.value:
        _line("", "only observes: the request is passed on as it came, and what follows is what enforcing would do")
    for each in shown["not_matched"]:
        lacks = ", ".join(f"other {lack}" for lack in each["lacks"])
        _line("", f"not {each['rule']}: {lacks or 'an earlier rule took the request'}")
    if shown["id"] is not None:
        _tell_operation(shown)
    if shown["store_trouble"] is not None:
        _line("store", f"unknown: {shown['store_trouble']}")
    status = f" ({shown['status']})" if "status" in shown else ""
    _line("decision", f"{shown['decision']}{status}: {shown['detail']}")
    if "differs" in shown:
        _line("differs", ", ".join(shown["differs"]))
    if "against" in shown:
        _tell_comparison(shown["against"])


def _tell_operation(shown: dict[str, Any]) -> None:
    _line("key", f"{shown['key']}  from {shown['key_from']}")
    for number, part in enumerate(shown["scope"]):
        value = "absent: callers without it share one scope" if part["value"] is None else part["value"]
        _line("" if number else "scope", f"{part['part']}  {value}")
    if not shown["scope"]:
        _line("scope", "one for all callers")
    _line("fingerprint", shown["fingerprint"])
    for name, value in shown["fingerprint_parts"].items():
        _line("", f"{name}  {value}")
    _line("id", f"{shown['short_id']}  ({shown['id']})")
    record = shown["record"]
    if record is None:
        _line("record", "none" if shown["store_trouble"] is None else "unknown")
        return
    said = [str(record["state"])]
    if "age" in record:
        said += [f"{record['age'] / 1000:.1f} s old", f"attempt {record['attempt']}", f"of rule {record['rule']}"]
    if record["lease_left"]:
        said.append(f"lease for {record['lease_left'] / 1000:.1f} s")
    if record.get("reason"):
        said.append(str(record["reason"]))
    if record.get("answer") is not None:
        said.append(f"answered {record['answer']['status']}")
    _line("record", ", ".join(said))


_RELATIONS: Final = {
    "retry": "a retry: the same operation",
    "reuse": "the same key for another request: the later of the two is refused (422)",
    "other operation": "another operation: both are executed",
    "no operation": "one of the two asks for no operation",
}


def _tell_comparison(shown: dict[str, Any]) -> None:
    _line("against", _RELATIONS[shown["relation"]])
    if shown["explained"]["id"] is not None:
        _line("", f"its id: {shown['explained']['short_id']}")
    _line("", f"its decision: {shown['explained']['decision']}")
    for part in shown["parts"]:
        if part["equal"]:
            _line("", f"{part['part']}: equal")
        else:
            _line("", f"{part['part']}: differs")
            _line("", f"  this:  {_absent(part['this'])}")
            _line("", f"  other: {_absent(part['other'])}")
    if shown["json_differs"]:
        _line("", f"JSON differs at: {', '.join(shown['json_differs'])}")


def _absent(value: str | None) -> str:
    return "-" if value is None else value


def _line(name: str, said: object) -> None:
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(said))
    print(f"{name:<{_WIDTH}} {text}")
