"""What a log line has, and what it never has."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from idemproxy.errors import StoreUnavailable
from idemproxy.observe import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs.Libraries)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_time_level_and_event_first() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    structlog.get_logger().info("decision", rule="charges", status=200, ms=1.5)
    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "rule", "status", "ms"]
    assert (line["level"], line["event"], line["rule"], line["status"]) == ("info", "decision", "charges", 200)
    written = datetime.fromisoformat(str(line["timestamp"]))
    assert written.utcoffset() == timedelta(0)


def test_what_json_cannot_say_is_written_all_the_same() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    structlog.get_logger().info("odd", lone="\ud800", many=1 << 70, kind=timedelta, bits=b"\xff")
    (line,) = lines(stream)
    assert line["event"] == "odd"
    assert "timedelta" in str(line["kind"])


def test_a_terminal_gets_text() -> None:
    stream = Terminal()
    logs.set_up(stream, {"NO_COLOR": "1"})
    structlog.get_logger().warning("store not reached", store="redis")
    text = stream.getvalue()
    assert "store not reached" in text
    assert "store=redis" in text
    assert not text.startswith("{")
    assert "\x1b" not in text


def test_a_terminal_gets_colour_unless_it_says_no() -> None:
    stream = Terminal()
    logs.set_up(stream, {"TERM": "xterm"})
    structlog.get_logger().info("decision")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("", ["info", "warning", "error"]),
        (" WARNING ", ["warning", "error"]),
    ],
)
def test_the_level_comes_from_the_environment(level: str, written: list[str]) -> None:
    stream = io.StringIO()
    logs.set_up(stream, {"IDEMPROXY_LOG": level})
    log = structlog.get_logger()
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line["level"] for line in lines(stream)] == written


def test_a_level_that_does_not_exist_is_told_and_info_is_used() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {"IDEMPROXY_LOG": "loud"})
    structlog.get_logger().info("decision")
    assert [line["level"] for line in lines(stream)] == ["warning", "info"]
    assert "debug, info, warning" in str(lines(stream)[0]["warning"])


def test_an_exception_is_told_by_type_and_place_but_not_by_what_it_quotes() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    try:
        int("sk_live_secret")
    except ValueError as error:
        structlog.get_logger().error("request failed", exc_info=error)
        structlog.get_logger().exception("again")
    first, second = lines(stream)
    assert "sk_live_secret" not in stream.getvalue()
    assert first["exception"] == second["exception"] == "ValueError"
    assert second["level"] == "error"
    assert any("test_logs.py" in str(frame) for frame in first["at"])  # type: ignore[attr-defined]


def test_what_the_product_itself_says_of_an_exception_is_told() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    structlog.get_logger().error("failed", exc_info=StoreUnavailable("redis at db:6379 refused the connection"))
    assert lines(stream)[0]["message"] == "redis at db:6379 refused the connection"


def test_a_stream_that_is_gone_fails_nothing() -> None:
    logs.set_up(Gone(), {})
    structlog.get_logger().info("decision")
    closed = io.StringIO()
    logs.set_up(closed, {})
    closed.close()
    structlog.get_logger().info("decision")


def test_a_line_stays_one_line() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    structlog.get_logger().info("decision", rule="a\nb\u2028\ud800", value=b"\xff")
    assert len(stream.getvalue().splitlines()) == 1


def test_what_libraries_say_is_a_line_too_without_what_they_held() -> None:
    stream = io.StringIO()
    logs.set_up(stream, {})
    logs.set_up(stream, {})
    try:
        int("sk_live_secret")
    except ValueError:
        logging.getLogger("asyncio").exception(
            "Task exception was never retrieved\nfuture: <Task %s>", "sk_live_secret"
        )
    logging.getLogger("asyncio").info("Using selector")
    (line,) = lines(stream)
    assert (line["level"], line["event"], line["logger"]) == ("error", "library", "asyncio")
    assert (line["said"], line["exception"]) == ("Task exception was never retrieved", "ValueError")
    assert "sk_live_secret" not in stream.getvalue()
