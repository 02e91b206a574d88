"""Which answers to an operation go to its client as they come, and not once they are recorded (DESIGN.md section 4, *Streamed*)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from idemproxy.execution import _streamed
from idemproxy.http1.heads import answer_framing, parse_answer
from idemproxy.idempotency.routes import Match, Rule
from idemproxy.proxy.answering import Answering

RULE = Rule("charges", Match(frozenset({b"POST"}), "/v1/charges"), max_response_body=10)


@pytest.mark.parametrize(
    ("lines", "streamed"),
    [
        (b"Content-Length: 2\r\n", False),
        (b"Content-Type: application/json\r\nContent-Length: 10\r\n", False),
        (b"Content-Length: 11\r\n", True),
        (b"Transfer-Encoding: chunked\r\n", False),
        (b"", False),
        (b"Content-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n", True),
        (b"content-type: application/x-ndjson\r\nContent-Length: 2\r\n", True),
        (b"Content-Type: application/json\r\nX-Accel-Buffering: No\r\nContent-Length: 2\r\n", True),
        (b"x-accel-buffering: no\r\nContent-Length: 2\r\n", True),
        (b"X-Accel-Buffering: yes\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n", True),
        (b"X-Accel-Buffering: yes\r\nContent-Length: 2\r\n", False),
    ],
)
def test_which_answers_go_as_they_come(lines: bytes, streamed: bool) -> None:
    head = parse_answer(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")
    answering = cast(Answering, SimpleNamespace(head=head, framing=answer_framing(head, b"POST")))
    assert _streamed(answering, RULE) is streamed


def test_what_has_no_body_is_whole_with_its_head() -> None:
    head = parse_answer(b"HTTP/1.1 204 No Content\r\nContent-Type: text/event-stream\r\n\r\n")
    answering = cast(Answering, SimpleNamespace(head=head, framing=answer_framing(head, b"POST")))
    assert not _streamed(answering, RULE)
