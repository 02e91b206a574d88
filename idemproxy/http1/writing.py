"""Bytes to send: field lines, and the chunked coding (RFC 9112, section 7.1)."""

from __future__ import annotations

from idemproxy.idempotency.messages import Fields


def field_lines(fields: Fields) -> bytes:
    """Fields as lines, each ended by CRLF; names and values as they came."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def chunk(piece: bytes) -> bytes:
    """One chunk. Nothing for an empty piece: a chunk of no octets would end the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body. `trailers` are field lines, each ended by CRLF."""
    return b"0\r\n%b\r\n" % trailers
