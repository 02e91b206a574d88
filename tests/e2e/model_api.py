"""An upstream that answers as OpenAI's chat completions and Anthropic's messages do, whole and streamed, and counts its executions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.e2e.http_server import served

WORDS = [f"word-{number} " for number in range(12)]


class Executions:
    """How often a model was asked. Each answer begins with the number of its execution."""

    def __init__(self) -> None:
        self.count = 0
        self.port = 0
        self._lock = threading.Lock()

    def begin(self) -> str:
        with self._lock:
            self.count += 1
            return f"answer-{self.count} "


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    executions: ClassVar[Executions]

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = [self.executions.begin(), *WORDS]
        of_openai = self.path == "/v1/chat/completions"
        if not asked.get("stream"):
            whole = _completion("".join(words)) if of_openai else _message("".join(words))
            body = json.dumps(whole).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in _chunks(words) if of_openai else _events(words):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def _message(text: str, **more: object) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    content = [{"type": "text", "text": text}] if text else []
    plain = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage}
    return {**plain, "stop_reason": "end_turn", "stop_sequence": None, **more}


def _chunks(words: list[str]) -> Iterator[bytes]:
    for word in words:
        choice = {"index": 0, "finish_reason": None, "delta": {"content": word}}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        yield b"data: %b\n\n" % json.dumps(chunk).encode()
    yield b"data: [DONE]\n\n"


def _events(words: list[str]) -> Iterator[bytes]:
    def event(kind: str, **members: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **members}).encode())

    yield event("message_start", message=_message("", stop_reason=None))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in words:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1})
    yield event("message_stop")


@contextmanager
def model_api() -> Iterator[Executions]:
    """The upstream, for as long as the block runs."""
    executions = Executions()
    with served(type("Handler", (_Handler,), {"executions": executions})) as executions.port:
        yield executions
