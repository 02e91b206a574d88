"""Answers' heads: what is read and repaired, what is refused, and how the body behind is framed (FORWARDING.md, points 11 to 16)."""

from __future__ import annotations

import pytest

from idemproxy.http1.heads import (
    MAX_HEAD,
    BadHead,
    Chunked,
    Length,
    NoBody,
    UntilClose,
    answer_end,
    answer_framing,
    parse_answer,
)

OK = b"HTTP/1.1 200 OK\r\n"


def refused(block: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        parse_answer(block)
    assert caught.value.status == 502
    assert "s3cret" not in str(caught.value)


def test_everything_is_kept_as_it_came() -> None:
    head = parse_answer(
        b"HTTP/1.1 299 \xc3\xa9  All \t right \r\nsErver:x\r\n"
        b"Set-Cookie: a=1\r\nset-cookie: b=2;  c\t\r\nX-Empty:\r\nX-Raw: \xff\x1b\x7f\r\n\r\n"
    )
    assert (head.minor, head.status, head.keep_alive) == (1, 299, True)
    assert head.reason == b"\xc3\xa9  All \t right "
    assert head.status_line == b"299 \xc3\xa9  All \t right "
    assert head.fields == (
        (b"sErver", b"x"),
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2;  c"),
        (b"X-Empty", b""),
        (b"X-Raw", b"\xff\x1b\x7f"),
    )


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"200", 200, b""),
        (b"200 ", 200, b""),
        (b"200  ", 200, b" "),
        (b"100 Continue", 100, b"Continue"),
        (b"599 x", 599, b"x"),
        (b"999 200 OK", 999, b"200 OK"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes) -> None:
    head = parse_answer(b"HTTP/1.1 " + line + b"\r\n\r\n")
    assert (head.status, head.reason, head.status_line) == (status, reason, line)


@pytest.mark.parametrize(
    ("version", "minor", "connection", "kept"),
    [
        (b"1.1", 1, b"", True),
        (b"1.1", 1, b"Connection: close\r\n", False),
        (b"1.0", 0, b"", False),
        (b"1.0", 0, b"Connection: keep-alive\r\n", True),
        (b"1.2", 1, b"", True),
    ],
)
def test_versions(version: bytes, minor: int, connection: bytes, kept: bool) -> None:
    head = parse_answer(b"HTTP/%b 200 OK\r\n%b\r\n" % (version, connection))
    assert (head.minor, head.keep_alive) == (minor, kept)


REPAIRED = ((b"A", b"1"), (b"B", b"2 3"), (b"C", b""))


@pytest.mark.parametrize(
    "block",
    [
        OK + b"A: 1\r\nB: 2 3\r\nC:\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: 1\nB: 2 3\nC:\n\n",
        OK + b"A: 1\nB: 2 3\r\nC:\r\n\n",
        OK + b"A: 1\r\nB: 2\r\n 3\r\nC:\r\n\r\n",
        OK + b"A: 1\r\nB: 2 \t\r\n\t  3\r\nC:\r\n\r\n",
        OK + b"A:\r\n 1\nB: 2\n 3\nC:\n \n\n",
        OK + b"A : 1\r\nB\t: 2 3\r\nC :\r\n\r\n",
    ],
)
def test_repairs(block: bytes) -> None:
    head = parse_answer(block)
    assert (head.status_line, head.fields) == (b"200 OK", REPAIRED)


@pytest.mark.parametrize(
    "block",
    [
        b"\r\n\r\n",
        b"s3cret\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"\r\n" + OK + b"\r\n",
        b" " + OK + b"\r\n",
        OK + b" s3cret: 1\r\n\r\n",
        OK + b"s3cret\r\n\r\n",
        OK + b": s3cret\r\n\r\n",
        OK + b"X Y: s3cret\r\n\r\n",
        OK + b"X(: s3cret\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: a\rb\r\n\r\n",
        OK + b"X: a\r\r\n\r\n",
        OK + b"X: a\r\n\r\nY: b\r\n\r\n",
        OK + b"X: " + b"x" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_junk(block: bytes) -> None:
    refused(block)


@pytest.mark.parametrize("field", [b"Content-Length", b"content-length", b"Transfer-Encoding", b"TRANSFER-ENCODING"])
@pytest.mark.parametrize(
    "rest", [b" : 5\r\n", b"\t: 5\r\n", b":\r\n 5\r\n", b": 5\r\n 5\r\n", b": 5\n\t\n", b": chunked\n x\n"]
)
def test_a_framing_field_is_not_repaired(field: bytes, rest: bytes) -> None:
    refused(OK + field + rest + b"\r\n")
    refused(OK + b"X: y\n" + field + rest + b"\r\n")


def test_the_end_is_found_wherever_the_pieces_are_cut() -> None:
    for head in (
        OK + b"X: y\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n\n",
        b"HTTP/1.1 200\nX: y\n \n\r\n",
    ):
        for first in range(len(head)):
            buffer = bytearray(head[:first])
            assert answer_end(buffer, 0) == -1
            searched = len(buffer)
            buffer += head[first:] + b"body\n\n"
            assert answer_end(buffer, searched) == len(head)


# ---------------------------------------------------------------------------------------------------------------- framing

LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("method", "status", "fields", "framing"),
    [
        (b"GET", 200, b"", UntilClose()),
        (b"GET", 200, LENGTH, Length(5)),
        (b"GET", 200, b"Content-Length: 0\r\n", Length(0)),
        (b"GET", 200, b"Transfer-Encoding: Chunked\r\n", Chunked()),
        (b"GET", 404, LENGTH, Length(5)),
        (b"head", 200, LENGTH, Length(5)),
        (b"HEAD", 200, LENGTH, NoBody()),
        (b"HEAD", 200, CHUNKED, NoBody()),
        (b"HEAD", 200, b"", NoBody()),
        (b"GET", 204, LENGTH, NoBody()),
        (b"GET", 304, LENGTH, NoBody()),
        (b"GET", 304, CHUNKED, NoBody()),
        (b"GET", 103, LENGTH, NoBody()),
        (b"GET", 101, b"", NoBody()),
        (b"GET", 205, b"", UntilClose()),
    ],
)
def test_framing(method: bytes, status: int, fields: bytes, framing: object) -> None:
    head = parse_answer(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, fields))
    assert answer_framing(head, method) == framing
    if status in (200, 304) and fields == LENGTH:
        assert head.fields == ((b"Content-Length", b"5"),)


@pytest.mark.parametrize(
    "fields",
    [
        LENGTH + CHUNKED,
        CHUNKED + LENGTH,
        LENGTH + b"content-length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: 5,\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length: x\r\nContent-Length: x\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\r\n",
        CHUNKED + CHUNKED,
    ],
)
def test_ambiguous_framing(fields: bytes) -> None:
    head = parse_answer(OK + fields + b"\r\n")
    with pytest.raises(BadHead) as caught:
        answer_framing(head, b"GET")
    assert caught.value.status == 502
    assert answer_framing(head, b"HEAD") == NoBody()


def test_chunked_in_http_1_0_is_ambiguous() -> None:
    head = parse_answer(b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n")
    with pytest.raises(BadHead):
        answer_framing(head, b"GET")


@pytest.mark.parametrize(
    "fields",
    [
        b"A: 1\r\nContent-length: 5\r\nB: 2\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
        b"A: 1\r\nContent-length: 5, 5\r\nB: 2\r\n",
        b"A: 1\r\nContent-length: 5 ,\t5\r\nB: 2\r\nContent-Length: 5\r\n",
    ],
)
def test_equal_lengths_go_on_as_one(fields: bytes) -> None:
    head = parse_answer(OK + fields + b"\r\n")
    assert head.fields == ((b"A", b"1"), (b"Content-length", b"5"), (b"B", b"2"))
    assert answer_framing(head, b"GET") == Length(5)
