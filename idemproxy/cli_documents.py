"""`idemproxy init` and `idemproxy docs`: a configuration out of a description, and documents out of a configuration."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from idemproxy import config
from idemproxy.errors import DescriptionError

Commands = Any
"""What `add_subparsers` gives: argparse has no public name for it."""


def add(commands: Commands) -> None:
    """Offer the commands."""
    _add_init(commands)
    _add_docs(commands)


def _add_init(commands: Commands) -> None:
    init = commands.add_parser(
        "init",
        help="write a first configuration from an OpenAPI description",
        description="Write a first configuration, with comments: a rule for each POST and PATCH operation of an OpenAPI 3.0 or 3.1 "
        "description (YAML or JSON).",
        allow_abbrev=False,
    )
    init.add_argument("--openapi", metavar="FILE", type=Path, required=True, help="the description")
    init.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help="the file to make; it must not exist yet; default: standard output",
    )
    init.set_defaults(act=_init)


def _add_docs(commands: Commands) -> None:
    docs = commands.add_parser(
        "docs",
        help="write what a configuration means to an API's users",
        description="Write what a configuration means to the users of an API, as Markdown: keys, lifetimes, answers, and loops that retry. "
        "With --openapi, write that description instead, in its own format, with the key's header and the answers of the proxy added to "
        "the operations that a rule protects; all else in it stays as it is.",
        allow_abbrev=False,
    )
    docs.add_argument("--config", metavar="FILE", type=Path, required=True, help="the configuration")
    docs.add_argument("--openapi", metavar="FILE", type=Path, help="an OpenAPI 3.0 or 3.1 description, in YAML or JSON")
    docs.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help="the file to write: the Markdown, or with --openapi the description; one that exists is replaced, and it may be the "
        "description itself; default: standard output",
    )
    docs.set_defaults(act=_docs)


def _init(arguments: argparse.Namespace) -> int:
    from idemproxy.documents.description import Description  # here: the other commands read no descriptions
    from idemproxy.documents.first_config import first_config

    if arguments.output is not None and arguments.output.exists():
        raise DescriptionError(f"{arguments.output}: exists already, and is not overwritten; name another file")
    description = Description.of_file(arguments.openapi)
    text = first_config(description)
    _tell_untold(description.untold)
    if arguments.output is None:
        _write(text.encode(), None)
        return 0
    try:
        with arguments.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DescriptionError(
            f"{arguments.output}: exists already, and is not overwritten; name another file"
        ) from None
    print(f"{arguments.output}: written; read it through, then: idemproxy check {arguments.output}")
    return 0


def _tell_untold(untold: dict[str, str]) -> None:
    for place, what in untold.items():
        print(f"{place}: warning: the reference into another file is not followed: {what}", file=sys.stderr)


def _docs(arguments: argparse.Namespace) -> int:
    from idemproxy.documents.additions import with_rules  # here: the other commands write no documents
    from idemproxy.documents.description import Description
    from idemproxy.documents.markdown import markdown

    settings = config.load(arguments.config, os.environ)
    if arguments.openapi is None:
        _write(markdown(settings).encode(), arguments.output)
        return 0
    description = Description.of_file(arguments.openapi)
    document, notes = with_rules(description, settings)
    _tell_untold(description.untold)
    for note in notes:
        print(f"{arguments.openapi}: warning: {note}", file=sys.stderr)
    _write(document, arguments.output)
    return 0


def _write(document: bytes, out: Path | None) -> None:
    """A file is there whole, or as it was."""
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(document)
        return
    if out.exists() and not out.is_file():
        out.write_bytes(document)
        return
    out = out.resolve()
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(document)
        Path(name).chmod(stat.S_IMODE(out.stat().st_mode) if out.exists() else 0o644)
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink()
        raise
    print(f"{out}: written")
