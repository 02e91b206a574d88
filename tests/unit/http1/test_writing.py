"""Bytes to send."""

from __future__ import annotations

from idemproxy.http1.body import BodyReader
from idemproxy.http1.heads import Chunked
from idemproxy.http1.writing import chunk, field_lines, last_chunk


def test_field_lines() -> None:
    assert field_lines(()) == b""
    assert field_lines(((b"b", b"\xff %b%%"), (b"A", b""), (b"b", b"2"))) == b"b: \xff %b%%\r\nA: \r\nb: 2\r\n"


def test_chunks() -> None:
    assert chunk(b"hello") == b"5\r\nhello\r\n"
    assert chunk(b"x" * 0x1AB)[:5] == b"1ab\r\n"
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk(b"A: 1\r\n") == b"0\r\nA: 1\r\n\r\n"


def test_an_empty_piece_does_not_end_the_body() -> None:
    reader = BodyReader(Chunked())
    assert reader.feed(chunk(b"") + chunk(b"a") + chunk(b"") + chunk(b"b")) == [b"a", b"b"]
    assert not reader.complete
    reader.feed(last_chunk(field_lines(((b"A", b"1"),))) + b"rest")
    assert (reader.trailers, reader.rest) == (((b"A", b"1"),), b"rest")
