"""A request as a file that holds its very bytes."""

from __future__ import annotations

import re
from typing import Final

from idemproxy.http1.body import BadBody, BodyReader
from idemproxy.http1.heads import BadHead, NoBody, request_end
from idemproxy.requests_given.written import RequestUnreadable, Written, head_of

_LINE: Final = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/[0-9]")
BARE: Final = "Its lines end with a line feed alone, and were read as if they ended with CRLF: sent as they are, the proxy refuses them."


def read_raw(data: bytes) -> Written:
    """The request. A line break behind its body that an editor put there is not its. Raises RequestUnreadable."""
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if not _LINE.match(data):
        raise RequestUnreadable(
            "it does not begin as an HTTP/1.1 request does (POST /v1/charges HTTP/1.1): write the whole message, or see --har"
        )
    end = request_end(bytearray(data), 0)
    if end < 0:
        data, end = data.rstrip(b"\r\n") + b"\r\n\r\n", -1
    block, rest = (data, b"") if end < 0 else (data[:end], data[end:])
    notes: tuple[str, ...] = ()
    if b"\r" not in block.rstrip(b"\r\n"):
        block, notes = re.sub(rb"\r?\n", b"\r\n", block), (BARE,)
    head = head_of(block)
    if isinstance(head, BadHead):
        return Written(head, b"", notes=notes)
    if isinstance(head.framing, NoBody):
        if rest.strip(b"\r\n"):
            raise RequestUnreadable(
                f"{len(rest)} bytes stand behind its head, which has no Content-Length: write Content-Length: {len(rest)} in it"
            )
        return Written(head, b"", notes=notes)
    reader = BodyReader(head.framing)
    try:
        body = b"".join(reader.feed(rest))
    except BadBody as error:
        raise RequestUnreadable(f"its body cannot be read: {error}") from error
    if not reader.complete:
        raise RequestUnreadable(
            f"its body ends after {len(body)} bytes, before the end that its head names: count Content-Length again"
        )
    if reader.rest.strip(b"\r\n"):
        raise RequestUnreadable(
            f"{len(reader.rest)} bytes stand behind its body: count Content-Length again, and give one request a file"
        )
    return Written(head, body, reader.trailers, notes)
