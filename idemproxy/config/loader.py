"""Where a configuration comes from: a file, a text, or the command line alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from idemproxy.config.build import build
from idemproxy.config.faults import COMMAND_LINE, Faults, Place
from idemproxy.config.files import contents
from idemproxy.config.settings import Settings
from idemproxy.config.tree import Branch, Entry, grow, natural, typed
from idemproxy.errors import ConfigError

_LARGEST = 1 << 20


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of a YAML file. Raises ConfigError, whose message has every problem, one a line."""
    raw = contents(path, _LARGEST, "a YAML file", ConfigError)
    return load_text(_decoded(raw, str(path)), str(path), environ)


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        faults = Faults(name)
        faults.add(
            Place(before.count(b"\n") + 1, column), "", "found a byte that is not UTF-8", "save the file as UTF-8"
        )
        raise faults.error() from None


def load_text(text: str, name: str, environ: Mapping[str, str]) -> Settings:
    """The settings of a YAML text; `name` is what errors call it. Raises ConfigError, whose message has every problem."""
    faults = Faults(name)
    return build(grow(text.removeprefix("\ufeff"), environ, faults), faults)


_ANY_UNSAFE_METHOD = {
    "name": "any-unsafe-method",
    "match": {"methods": ["POST", "PUT", "PATCH", "DELETE"], "path": "/**"},
    "key": {"header": ["Idempotency-Key"], "required": False},
}


def without_file(
    upstream: str, listen: str | None, store: str | None, admin: str | None, environ: Mapping[str, str]
) -> Settings:
    """The settings of a run without a file: one rule, for any unsafe method that carries a key, on every path. Raises ConfigError,
    whose message names the options of the command line."""
    faults = Faults("command line")
    given = {"upstream": upstream, "listen": listen, "store": store, "admin": admin}
    options = [
        Entry(COMMAND_LINE, name, typed(text, environ, name, faults))
        for name, text in given.items()
        if text is not None
    ]
    routes = Entry(COMMAND_LINE, "routes", natural([_ANY_UNSAFE_METHOD]))
    return build(Branch(COMMAND_LINE, (*options, routes)), faults)
