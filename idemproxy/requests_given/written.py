"""A request as it was given, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from idemproxy.errors import IdemproxyError
from idemproxy.http1.heads import BadHead, RequestHead, parse_request
from idemproxy.idempotency.messages import Fields, values

MOST_BYTES: Final = 64 << 20
"""Of a file that is read."""


class RequestUnreadable(IdemproxyError):
    """What was given is no request. The message says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """A request. `head` is BadHead where the proxy would refuse it. `notes` are sentences about what had to be assumed."""

    head: RequestHead | BadHead
    body: bytes
    trailers: Fields = ()
    notes: tuple[str, ...] = ()


def written(method: bytes, target: bytes, fields: Fields, body: bytes | None, notes: tuple[str, ...] = ()) -> Written:
    """The request that a client would send for that: a body (None: there is none) is counted, unless a field frames it already. Raises
    RequestUnreadable for what cannot be put into lines."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % field for field in fields)]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise RequestUnreadable("the request has a line break in its method, its target or a header field")
    if values(fields, b"transfer-encoding"):
        notes = (*notes, "Transfer-Encoding was left out: the body is taken as it is.")
        lines = [line for line in lines if not line.lower().startswith(b"transfer-encoding:")]
    if values(fields, b"content-length"):
        lines = [line for line in lines if not line.lower().startswith(b"content-length:")]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return Written(head_of(b"\r\n".join(lines) + b"\r\n\r\n"), body or b"", notes=notes)


def head_of(block: bytes) -> RequestHead | BadHead:
    """The head that a block of lines is, or what the proxy would have against it."""
    try:
        return parse_request(block)
    except BadHead as error:
        return error


def parted(url: str) -> tuple[bytes, bytes]:
    """The authority of a URL (empty where it is only a path) and the target that a client asks for. Raises RequestUnreadable."""
    rest = url.partition("#")[0]
    scheme, mark, after = rest.partition("://")
    if not mark or "/" in scheme or "?" in scheme:
        if not rest.startswith("/") and rest != "*":
            raise RequestUnreadable(
                "write the target as a path that begins with /, or as a whole http:// or https:// URL"
            )
        return b"", rest.encode("utf-8", "surrogateescape")
    if scheme.lower() not in ("http", "https"):
        raise RequestUnreadable(f"a URL of {scheme}: is none that this proxy serves: write http:// or https://")
    end = min((at for at in (after.find("/"), after.find("?")) if at >= 0), default=len(after))
    authority, target = after[:end], after[end:]
    if not authority:
        raise RequestUnreadable("the URL names no host")
    target = target if target.startswith("/") else f"/{target}"
    return authority.encode("utf-8", "surrogateescape"), target.encode("utf-8", "surrogateescape")
