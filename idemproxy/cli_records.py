"""`idemproxy records`: the operator's commands. They work on the store itself, so that they also work while no proxy runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from idemproxy import config, records
from idemproxy.errors import ConfigError
from idemproxy.idempotency.identity import short_id
from idemproxy.idempotency.record import State
from idemproxy.idempotency.routes import Rule
from idemproxy.records import AmbiguousId, NoSuchRecord, Seen
from idemproxy.stores.base import Store

DEFAULT_TTL: Final = 86_400_000
"""Milliseconds that a settled record is kept whose rule is not known."""
PATIENCE: Final = 5_000
"""Milliseconds that the store may take at least: an operator waits longer than a request."""

Commands = Any
"""What `add_subparsers` gives: argparse has no public name for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records are, and the rules that made them, as far as they are known. `timeout` is milliseconds."""

    store: str
    namespace: str
    timeout: int
    rules: tuple[Rule, ...]


def add(commands: Commands) -> None:
    """Offer the commands."""
    parser = commands.add_parser("records", help="look at records, settle unknown outcomes", allow_abbrev=False)
    acts = parser.add_subparsers(title="acts", metavar="ACT", required=True, parser_class=type(parser))
    place = argparse.ArgumentParser(add_help=False)
    source = place.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", type=Path, help="the configuration that the proxy runs with")
    source.add_argument("--store", metavar="URL", help="the store itself")
    place.add_argument("--namespace", metavar="NAME", help="with --store; default: default")
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("id", metavar="ID", help="a record's id, or its first digits (eight or more)")
    seen = argparse.ArgumentParser(add_help=False)
    seen.add_argument(
        "--seen", metavar="VERSION", type=int, help="refuse if the record's version is another one by now"
    )
    _add_list(acts, place)
    _add_show(acts, place)
    _add_resolve(acts, [place, one, seen])
    delete = acts.add_parser(
        "delete", parents=[place, one, seen], help="forget a record: the next request executes", allow_abbrev=False
    )
    delete.set_defaults(act=_act(_delete), parser=delete)


def _add_list(acts: Commands, place: argparse.ArgumentParser) -> None:
    listing = acts.add_parser("list", parents=[place], help="list records", allow_abbrev=False)
    listing.add_argument("--state", choices=[state.name.lower() for state in records.STATES])
    listing.add_argument("--rule", metavar="NAME")
    listing.add_argument("--limit", metavar="N", type=_positive, default=50, help="default 50")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(act=_act(_list), parser=listing)


def _add_show(acts: Commands, place: argparse.ArgumentParser) -> None:
    show = acts.add_parser("show", parents=[place], help="show one record", allow_abbrev=False)
    which = show.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="a record's id, or its first digits (eight or more)")
    which.add_argument("--key", metavar="KEY", help="the key that the client sent")
    scope = "with --key: what the client sent in the header field of the rule's scope; again for each further one"
    show.add_argument("--scope", metavar="VALUE", action="append", default=[], help=scope)
    show.add_argument(
        "--show-body", action="store_true", help="show the answer's body, and fields that are credentials"
    )
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(act=_act(_show), parser=show)


def _add_resolve(acts: Commands, parents: list[argparse.ArgumentParser]) -> None:
    resolve = acts.add_parser(
        "resolve",
        parents=parents,
        help="settle an unknown outcome",
        description="Say what became of an operation, after looking at the service. Refused while it is being executed.",
        allow_abbrev=False,
    )
    what = resolve.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--release", action="store_true", help="it did not happen: the next request with the key executes"
    )
    what.add_argument(
        "--complete", metavar="STATUS", type=int, help="it happened: retries get an answer with this status"
    )
    resolve.add_argument(
        "--header", metavar="'NAME: VALUE'", action="append", default=[], type=_header, help="of that answer"
    )
    body = resolve.add_mutually_exclusive_group()
    body.add_argument("--body", metavar="TEXT", help="of that answer")
    body.add_argument("--body-file", metavar="FILE", type=Path, help="a file that holds it; - is standard input")
    resolve.set_defaults(act=_act(_resolve), parser=resolve)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("write 'Name: value'")
    return name, value


# ------------------------------------------------------------------------------------------------------------------- the store

Act = Callable[[argparse.Namespace, Store, Place], Awaitable[int]]


def _act(act: Act) -> Callable[[argparse.Namespace], int]:
    return lambda arguments: asyncio.run(_on_store(act, arguments))


async def _on_store(act: Act, arguments: argparse.Namespace) -> int:
    from idemproxy.stores.opening import open_store  # here: the other commands start without the stores' libraries

    place = _place(arguments)
    store = await open_store(place.store, namespace=place.namespace, timeout_ms=place.timeout)
    try:
        return await act(arguments, store, place)
    finally:
        await store.close()


def _place(arguments: argparse.Namespace) -> Place:
    if arguments.config is None:
        settings = config.without_file("http://upstream.invalid", None, arguments.store, None, os.environ)
        place = Place(settings.store, arguments.namespace or "default", PATIENCE, settings.rules)
    elif arguments.namespace is not None:
        arguments.parser.error("argument --namespace: only with --store; with --config, it is the file's")
    else:
        settings = config.load(arguments.config, os.environ)
        place = Place(settings.store, settings.namespace, max(settings.store_timeout, PATIENCE), settings.rules)
    scheme, _, path = place.store.partition(":")
    if scheme == "sqlite" and not Path(path).exists():
        raise ConfigError(f"{path}: there is no such store; it is made by the first `idemproxy run` that names it")
    return place


# -------------------------------------------------------------------------------------------------------------------- the acts


async def _list(arguments: argparse.Namespace, store: Store, _: Place) -> int:
    state = None if arguments.state is None else State[arguments.state.upper()]
    found = await records.select(store, state, arguments.rule, arguments.limit + 1)
    shown = found[: arguments.limit]
    if arguments.json:
        for seen in shown:
            print(json.dumps(records.plain(seen, show_body=False)))
    else:
        _table([("ID", "STATE", "RULE", "ATTEMPT", "STATUS", "UPDATED", "WHY"), *map(_row, shown)] if shown else [])
    if len(found) > arguments.limit:
        print(f"there are more than {arguments.limit}: see --limit, --state, --rule", file=sys.stderr)
    if not shown:
        print("no records", file=sys.stderr)
    return 0


async def _show(arguments: argparse.Namespace, store: Store, place: Place) -> int:
    if arguments.key is None:
        seen = await records.find(store, arguments.id)
    else:
        seen = await _by_key(arguments, store, place)
    shown = records.plain(seen, show_body=arguments.show_body)
    if arguments.json:
        print(json.dumps(shown))
        return 0
    answer = shown.pop("answer")
    for name, value in shown.items():
        print(f"{name:<12}  {_told(name, value)}")
    if isinstance(answer, dict):
        _show_answer(answer)
    return 0


async def _by_key(arguments: argparse.Namespace, store: Store, place: Place) -> Seen:
    """The record of the operation that a client names so, under whichever rule."""
    key, scope = os.fsencode(arguments.key), [os.fsencode(value) for value in arguments.scope]
    rules = [rule for rule in place.rules if records.nameable(rule)]
    if place.rules and not rules:
        raise AmbiguousId("no rule has a key and a scope that header fields alone give: find the record by its id")
    for record_id in {records.id_of(rule, place.namespace, key, scope): None for rule in rules}:
        with contextlib.suppress(NoSuchRecord):
            return await records.look(store, record_id)
    raise NoSuchRecord("there is no record of that key in that scope (see --scope), or it has expired or was released")


async def _resolve(arguments: argparse.Namespace, store: Store, place: Place) -> int:
    if arguments.release and (arguments.header or arguments.body is not None or arguments.body_file is not None):
        arguments.parser.error("argument --header, --body, --body-file: only with --complete")
    seen = await _seen(arguments, store)
    ttl = next((rule.ttl for rule in place.rules if rule.name == seen.record.rule), DEFAULT_TTL)
    if arguments.release:
        await records.release(store, seen, ttl)
        print(f"{short_id(seen.record_id)} released: the next request with its key executes")
        return 0
    answer = records.answer_of(arguments.complete, arguments.header, _body(arguments))
    state = await records.complete(store, seen, answer, ttl)
    print(f"{short_id(seen.record_id)} {state.name.lower()} with {answer.status}: every retry gets this answer")
    return 0


async def _delete(arguments: argparse.Namespace, store: Store, _: Place) -> int:
    seen = await _seen(arguments, store)
    await records.delete(store, seen)
    print(f"{short_id(seen.record_id)} deleted: the next request with its key executes")
    return 0


async def _seen(arguments: argparse.Namespace, store: Store) -> Seen:
    seen = await records.find(store, arguments.id)
    return seen if arguments.seen is None else records.still(seen, arguments.seen)


def _body(arguments: argparse.Namespace) -> bytes:
    if arguments.body_file is None:
        return (arguments.body or "").encode()
    if str(arguments.body_file) == "-":
        return sys.stdin.buffer.read()
    file: Path = arguments.body_file
    return file.read_bytes()


# -------------------------------------------------------------------------------------------------------------------- printing


def _row(seen: Seen) -> tuple[str, ...]:
    record, shown = seen.record, records.plain(seen, show_body=False)
    status = "-" if record.answer is None else str(record.answer.status)
    why = shown["reason"] or "-"
    state = seen.state.name.lower()
    return (
        short_id(seen.record_id),
        state,
        record.rule,
        str(record.attempt),
        status,
        _time(record.updated_at),
        str(why),
    )


def _table(rows: list[tuple[str, ...]]) -> None:
    rows = [tuple(_printable(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _told(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, int):
        return _time(value)
    if name == "lease_left" and isinstance(value, int):
        return f"{value / 1000:.1f} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else _printable(str(value))


def _show_answer(answer: dict[str, Any]) -> None:
    print(f"{'answer':<12}  {answer['status']}" + ("" if answer["kept"] else ", too large to keep"))
    for name, value in answer.get("headers", ()):
        print(f"{'':<12}  {_printable(name)}: {_printable(value)}")
    if "body_bytes" in answer:
        hidden = "" if "body" in answer or "body_base64" in answer else " (hidden: see --show-body)"
        print(f"{'body':<12}  {answer['body_bytes']} bytes{hidden}")
    if "body" in answer:
        print("\n".join(map(_printable, answer["body"].split("\n"))))
    elif "body_base64" in answer:
        print(answer["body_base64"])


_WALL: Final = 1_000_000_000_000
"""Milliseconds from which a store's clock can only be one that counts from 1970."""


def _time(milliseconds: int) -> str:
    if milliseconds < _WALL:
        return f"{milliseconds / 1000:.3f} s of the store's clock"
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    )


def _printable(text: str) -> str:
    """What a store holds must not steer a terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
