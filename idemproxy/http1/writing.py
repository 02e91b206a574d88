"""Field lines and chunks, written."""

from __future__ import annotations

from idemproxy.idempotency.messages import Fields


def field_lines(fields: Fields) -> bytes:
    """Each field as a line, with the name and value that came."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def chunk(piece: bytes) -> bytes:
    """A piece of a body as one chunk (RFC 9112, section 7.1). The empty piece would be the last chunk: it gives nothing."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body; `trailers` are field lines."""
    return b"0\r\n%b\r\n" % trailers
