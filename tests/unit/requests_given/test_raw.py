"""A request in a file, as its bytes."""

from __future__ import annotations

import pytest

from idemproxy.http1.heads import BadHead, RequestHead
from idemproxy.requests_given.raw import BARE, read_raw
from idemproxy.requests_given.written import RequestUnreadable, parted, written

HEAD = b"POST /v1/charges?a=1 HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\n"
COUNTED = HEAD + b"Content-Length: 4\r\n\r\nbody"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nSum: 1\r\n\r\n"


@pytest.mark.parametrize(
    "data", [COUNTED, COUNTED + b"\n", COUNTED + b"\r\n\r\n", b"\xef\xbb\xbf" + COUNTED, b"\r\n" + COUNTED, CHUNKED]
)
def test_a_message(data: bytes) -> None:
    request = read_raw(data)
    assert isinstance(request.head, RequestHead)
    assert (request.head.method, request.head.target) == (b"POST", b"/v1/charges?a=1")
    assert (b"X-One", b"1") in request.head.fields
    assert (request.body, request.notes) == (b"body", ())
    assert request.trailers == (((b"Sum", b"1"),) if data is CHUNKED else ())


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\n"])
def test_a_message_without_a_body(end: bytes) -> None:
    request = read_raw(b"GET / HTTP/1.1\r\nHost: a.test" + end)
    assert isinstance(request.head, RequestHead)
    assert request.body == b""


def test_lines_that_an_editor_ended() -> None:
    request = read_raw(COUNTED.replace(b"\r\n", b"\n") + b"\n")
    assert isinstance(request.head, RequestHead)
    assert request.head.fields[0] == (b"Host", b"a.test")
    assert (request.body, request.notes) == (b"body", (BARE,))


def test_what_the_proxy_would_refuse_is_no_error() -> None:
    request = read_raw(b"POST / HTTP/1.1\r\nNo-Host: 1\r\n\r\n")
    assert isinstance(request.head, BadHead)
    assert request.head.status == 400


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin as"),
        (b'{"log": {}}', "does not begin as"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "does not begin as"),
        (b"POST /v1/charges\r\nHost: a\r\n\r\n", "does not begin as"),
        (HEAD + b"\r\nbody", "Content-Length: 4"),
        (COUNTED[:-1], "ends after 3 bytes"),
        (COUNTED + b"more", "4 bytes stand behind"),
        (CHUNKED[:-9], "before the end"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", "cannot be read"),
    ],
)
def test_what_is_no_message_is_told(data: bytes, why: str) -> None:
    with pytest.raises(RequestUnreadable, match=why):
        read_raw(data)


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("/a?b#c", b"", b"/a?b"),
        ("http://h", b"h", b"/"),
        ("HTTPS://u@h:1?q", b"u@h:1", b"/?q"),
        ("/a?u=http://x/", b"", b"/a?u=http://x/"),
        ("*", b"", b"*"),
    ],
)
def test_a_url_is_parted(url: str, authority: bytes, target: bytes) -> None:
    assert parted(url) == (authority, target)


@pytest.mark.parametrize(
    ("url", "why"), [("v1/charges", "begins with /"), ("ftp://h/", "ftp:"), ("http:///a", "no host")]
)
def test_what_is_no_url_is_told(url: str, why: str) -> None:
    with pytest.raises(RequestUnreadable, match=why):
        parted(url)


def test_a_request_is_put_together() -> None:
    fields = ((b"Host", b"a"), (b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked"))
    request = written(b"POST", b"/", fields, b"body")
    assert isinstance(request.head, RequestHead)
    assert request.head.fields == ((b"Host", b"a"), (b"Content-Length", b"4"))
    assert len(request.notes) == 1


@pytest.mark.parametrize("field", [(b"A", b"1\r\nB: 2"), (b"A\n", b"1")])
def test_no_line_is_slipped_in(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(RequestUnreadable, match="line break"):
        written(b"POST", b"/", (field,), None)
