"""The commands: they parse and print, and decide nothing. Exit status 0, 1 (failed) or 2 (usage or a bad configuration)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from idemproxy import cli_explain, cli_records, cli_report, config
from idemproxy.config.settings import Address, Settings, TcpAddress
from idemproxy.errors import ConfigError, IdemproxyError
from idemproxy.idempotency.routes import Mode, Rule

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and give its exit status. Raises SystemExit for --help, --version and wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.act(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISUSED
    except IdemproxyError as error:
        print(f"idemproxy: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("idemproxy: interrupted", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read the output has gone: what is still buffered has nowhere to go, and must not fail the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"idemproxy: {error.filename or 'the system'}: {error.strerror or type(error).__name__}", file=sys.stderr)
        return FAILED
    except Exception as error:  # a defect is told in a line, not in a traceback
        return _defect(error)
    return status


def _defect(error: Exception) -> int:
    from idemproxy.observe.logs import LEVEL_VARIABLE  # here: most commands log nothing

    if os.environ.get(LEVEL_VARIABLE, "").lower() == "debug":
        traceback.print_exc()
    print(
        f"idemproxy: a defect of idemproxy itself ({type(error).__name__}): {LEVEL_VARIABLE}=debug shows where; please report it",
        file=sys.stderr,
    )
    return FAILED


class _Parser(argparse.ArgumentParser):
    """Wrong usage is told in two lines, not in a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"{self.prog}: {message}\ntry: {self.prog} --help\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("idemproxy")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"idemproxy {version}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="idemproxy", description="A reverse proxy that makes any HTTP API safe to retry.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_run(commands)
    _add_check(commands)
    schema = commands.add_parser(
        "schema", help="print the JSON Schema of a configuration, for editors", allow_abbrev=False
    )
    schema.set_defaults(act=_schema)
    demo = commands.add_parser("demo", help="show the main job on a sample payments API", allow_abbrev=False)
    demo.set_defaults(act=_demo)
    cli_explain.add(commands)
    cli_records.add(commands)
    cli_report.add(commands)
    return parser


# ------------------------------------------------------------------------------------------------------------------------ run


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="serve",
        description="Serve until SIGTERM or SIGINT. Without a file, any unsafe method that carries an Idempotency-Key is protected.",
        allow_abbrev=False,
    )
    source = run.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", type=Path, help="a YAML configuration")
    source.add_argument(
        "--upstream", metavar="URL", help="the API to put the proxy before: http(s)://host:port or unix:/path"
    )
    run.add_argument("--listen", metavar="ADDRESS", help="host:port or unix:/path; default 127.0.0.1:8080")
    run.add_argument("--store", metavar="URL", help="default sqlite:idemproxy.db")
    run.add_argument("--admin", metavar="ADDRESS", help="health checks; default none")
    run.set_defaults(act=_run, parser=run)


def _run(arguments: argparse.Namespace) -> int:
    from idemproxy import runtime  # here: the other commands start without an event loop's libraries

    if arguments.config is None:
        settings = config.without_file(
            arguments.upstream, arguments.listen, arguments.store, arguments.admin, os.environ
        )
        return runtime.run(settings, None)
    for option in ("listen", "store", "admin"):
        if getattr(arguments, option) is not None:
            arguments.parser.error(f"argument --{option}: only with --upstream; with --config, write it in the file")

    def read() -> Settings:
        return config.load(arguments.config, os.environ)

    return runtime.run(read(), read)


# -------------------------------------------------------------------------------------------------------- check, schema, demo


def _add_check(commands: argparse._SubParsersAction[_Parser]) -> None:
    check = commands.add_parser("check", help="tell every mistake in a configuration", allow_abbrev=False)
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--strict", action="store_true", help="exit with status 1 if there are warnings")
    check.set_defaults(act=_check)


def _check(arguments: argparse.Namespace) -> int:
    settings = config.load(arguments.file, os.environ)
    print(f"{arguments.file}: OK: {_summary(settings)}")
    for warning in settings.warnings:
        print(f"{arguments.file}: warning: {warning}", file=sys.stderr)
    return FAILED if arguments.strict and settings.warnings else OK


def _summary(settings: Settings) -> str:
    names = ", ".join(_told(rule) for rule in settings.rules) or "none: everything is forwarded untouched"
    return (
        f"listens on {_shown(settings.listen)}, forwards to {settings.upstream.url}, remembers in {_store(settings.store)}; "
        f"rules: {names}"
    )


def _told(rule: Rule) -> str:
    return rule.name if rule.mode is Mode.ENFORCE else f"{rule.name} (only observes)"


def _shown(address: Address) -> str:
    if isinstance(address, TcpAddress):
        return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
    return f"unix:{address.path}"


def _store(url: str) -> str:
    """A store's URL without what may be a password."""
    if url.startswith("sqlite:"):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(config.schema(), indent=2))
    return OK


def _demo(_: argparse.Namespace) -> int:
    from idemproxy.demo import show  # here: only this command needs a client

    return show.main()
