"""Log lines: JSON for machines, text for people on a terminal. A line never holds a key, a credential or a body, so an exception
is told by its type and where it was raised; its message only where the product wrote it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, TextIO

import msgspec
import structlog

from idemproxy.errors import IdemproxyError

LEVELS: Final[Mapping[str, int]] = MappingProxyType(
    {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
)
LEVEL_VARIABLE: Final = "IDEMPROXY_LOG"

_FRAMES: Final = 12
"""Of a traceback, the innermost frames that a line tells."""


def set_up(stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
    """Write every later line to `stream`: text where it is a terminal, else JSON. The variable IDEMPROXY_LOG (debug, info or
    warning) sets the least level that is written; without it, info."""
    asked = environ.get(LEVEL_VARIABLE, "").strip().lower()
    structlog.configure(
        processors=[_head, _exception, _renderer(stream, environ)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(asked, logging.INFO)),
        logger_factory=lambda *_: Lines(stream),
        cache_logger_on_first_use=True,
    )
    _take_in_libraries()
    if asked and asked not in LEVELS:
        structlog.get_logger().warning(
            "configuration", warning=f"{LEVEL_VARIABLE} is none of {', '.join(LEVELS)}: info is used"
        )


class Libraries(logging.Handler):
    """What libraries say by the standard logging, in lines like all others. Only the first line of it: asyncio shows in further ones
    what its tasks and callbacks held."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            said = record.getMessage().partition("\n")[0]
        except (TypeError, ValueError):
            said = str(record.msg).partition("\n")[0]
        level = min(max(record.levelno, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger().log(level, "library", logger=record.name, said=said, exc_info=record.exc_info)


def _take_in_libraries() -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Libraries)]:
        root.removeHandler(handler)
    root.addHandler(Libraries(logging.WARNING))


class Lines:
    """Writes whole lines. A stream that cannot be written to is not a reason to fail a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg


def _renderer(stream: TextIO, environ: Mapping[str, str]) -> structlog.typing.Processor:
    if not stream.isatty():
        return structlog.processors.JSONRenderer(_json)
    return structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in environ and environ.get("TERM") != "dumb")


_encoder: Final = msgspec.json.Encoder(enc_hook=repr)


def _json(event: dict[str, Any], **_: object) -> str:
    """A line; nothing that is said may be the reason that it is not written."""
    try:
        return _encoder.encode(event).decode()
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return json.dumps(event, default=repr, separators=(",", ":"))


@lru_cache(maxsize=2)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def _head(_: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What every line begins with."""
    milliseconds = time.time_ns() // 1_000_000
    return {
        "timestamp": f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}Z",
        "level": "error" if level == "exception" else level,
        "event": event.pop("event", ""),
        **event,
    }


def _exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception by its type, its place and, where it is ours, its message: another's may quote what it failed on."""
    found = event.pop("exc_info", None)
    if not found:
        return event
    error = found if isinstance(found, BaseException) else _current(found)
    if error is None:
        return event
    event["exception"] = type(error).__name__
    if isinstance(error, IdemproxyError):
        event["message"] = str(error)
    elif isinstance(error, OSError) and error.strerror:
        event["message"] = error.strerror
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    event["at"] = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _current(found: object) -> BaseException | None:
    if isinstance(found, tuple):
        return found[1] if len(found) == 3 and isinstance(found[1], BaseException) else None
    return sys.exc_info()[1]
