"""The same small site for gunicorn (`wsgi`) and uvicorn (`asgi`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

OF_ONE_HOP = frozenset({"connection", "keep-alive", "te", "transfer-encoding"})
PIECES = [b"piece %d\n" % number * 100 for number in range(20)]
BIG = bytes(range(256)) * 8_192

Fields = list[tuple[str, str]]


def _page(method: str, path: str, fields: Fields, body: bytes) -> tuple[str, Fields, list[bytes]]:
    """Status, fields and the body's pieces; more than one piece is streamed."""
    match path:
        case "/hello":
            return "200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-CaSe", "kept")], [b"hello"]
        case "/stream":
            return "200 OK", [("Content-Type", "text/plain")], PIECES
        case "/big":
            return "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(BIG)))], [BIG]
        case "/cookies":
            set_cookies = [("Set-Cookie", "first=1; Path=/"), ("Set-Cookie", "second=2; Path=/; HttpOnly")]
            return "200 OK", [*set_cookies, ("Content-Length", "3")], [b"set"]
        case "/none":
            return "204 No Content", [("X-Empty", "")], []
        case "/unchanged":
            return "304 Not Modified", [("ETag", '"v1"')], []
        case "/redirect":
            return "303 See Other", [("Location", "/hello"), ("Content-Length", "0")], []
        case "/teapot":
            return "418 I'm a teapot", [("Content-Length", "6")], [b"short\n"]
        case _:
            seen = {
                "method": method,
                "path": path,
                "fields": [field for field in fields if field[0].lower() not in OF_ONE_HOP],
                "length": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
            echoed = json.dumps(seen).encode()
            return "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(echoed)))], [echoed]


def wsgi(environ: dict[str, Any], start_response: Callable[[str, Fields], object]) -> Iterable[bytes]:
    """For gunicorn."""
    body = environ["wsgi.input"].read()
    fields = [(name, value) for name, value in sorted(environ.items()) if name.startswith(("HTTP_", "CONTENT_"))]
    kept = [(name.removeprefix("HTTP_").replace("_", "-").lower(), value) for name, value in fields]
    status, answered, pieces = _page(environ["REQUEST_METHOD"], environ["PATH_INFO"], kept, body)
    start_response(status, answered)
    return pieces


Message = MutableMapping[str, Any]


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """For uvicorn. The method may be any token."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    status, answered, pieces = _page(scope["method"], scope["path"], fields, body)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered]
    await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": raw})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
