"""A request from an HTTP archive."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from idemproxy.http1.heads import RequestHead
from idemproxy.requests_given.har import read_har
from idemproxy.requests_given.written import RequestUnreadable

POST: dict[str, Any] = {
    "method": "POST",
    "url": "https://shop.test/v1/charges?a=1#top",
    "httpVersion": "HTTP/2",
    "headers": [
        {"name": ":authority", "value": "shop.test"},
        {"name": "content-type", "value": "application/json"},
        {"name": "content-length", "value": "999"},
        {"name": "x-name", "value": "J\u00fcrgen"},
    ],
    "postData": {"mimeType": "application/json", "text": '{"name":"J\u00fcrgen"}'},
}


def har(*requests: object) -> bytes:
    return json.dumps({"log": {"version": "1.2", "entries": [{"request": each} for each in requests]}}).encode()


def test_a_browsers_request() -> None:
    request = read_har(har(POST), None)
    assert isinstance(request.head, RequestHead)
    body = '{"name":"J\u00fcrgen"}'.encode()
    assert (request.head.method, request.head.target, request.body) == (b"POST", b"/v1/charges?a=1", body)
    assert request.head.fields == (
        (b"Host", b"shop.test"),
        (b"content-type", b"application/json"),
        (b"x-name", b"J\xfcrgen"),
        (b"Content-Length", b"%d" % len(body)),
    )
    assert request.notes == ()


@pytest.mark.parametrize(
    ("posted", "body"),
    [
        ({"mimeType": "a/b", "text": base64.b64encode(b"\0\xff").decode(), "encoding": "base64"}, b"\0\xff"),
        ({"mimeType": "text/plain; charset=iso-8859-1", "text": "\u00fc"}, b"\xfc"),
        ({"text": ""}, b""),
        (
            {
                "mimeType": "application/x-www-form-urlencoded",
                "params": [{"name": "a b", "value": "1&2"}, {"name": "c"}],
            },
            b"a+b=1%262&c=",
        ),
    ],
)
def test_bodies(posted: object, body: bytes) -> None:
    assert read_har(har({**POST, "postData": posted}), None).body == body


def test_an_entry_is_chosen() -> None:
    archive = har(POST, {"method": "GET", "url": "http://a/", "headers": [], "bodySize": 0})
    assert len(read_har(archive, None).notes) == 1
    second = read_har(archive, 2)
    assert isinstance(second.head, RequestHead)
    assert (second.head.method, second.body, second.notes) == (b"GET", b"", ())
    for number in (0, 3, -1):
        with pytest.raises(RequestUnreadable, match="2 entries"):
            read_har(archive, number)


WITHOUT_BODY = {name: value for name, value in POST.items() if name != "postData"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", "no JSON.*--request"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no log"),
        (b'{"log": {"entries": {}}}', "no entries that is an array"),
        (b'{"log": {"entries": []}}', "has no entries"),
        (b'{"log": {"entries": [1]}}', "entry 1 is no JSON object"),
        (b'{"log": {"entries": [{}]}}', "entry 1 has no request"),
        (har({"url": "http://a/", "headers": []}), "no method that is text"),
        (har({**POST, "url": "blob:1"}), "path that begins with /"),
        (har({**POST, "headers": [{"name": "a"}]}), "no value that is text"),
        (har({**POST, "headers": [{"name": "a", "value": "\ud800"}]}), "half a character"),
        (har({**POST, "headers": [{"name": "a", "value": "1\r\nb: 2"}]}), "line break"),
        (har(WITHOUT_BODY), "a body that is not in the file"),
        (har({**POST, "headers": [], "postData": None, "bodySize": 5}), "a body that is not in the file"),
        (har({**POST, "postData": {"mimeType": "multipart/form-data", "params": []}}), "not in the file as text"),
        (har({**POST, "postData": {"text": "%", "encoding": "base64"}}), "said to be base64"),
        (har({**POST, "postData": {"text": "\ud800"}}), "cannot be written"),
        (har({**POST, "postData": {"text": "a", "mimeType": "a/b; charset=nonsense"}}), "cannot be written"),
        (har({**POST, "postData": {"text": "a" * 99, "mimeType": "a/b; charset=idna"}}), "cannot be written"),
    ],
)
def test_another_shape_is_told(data: bytes, why: str) -> None:
    with pytest.raises(RequestUnreadable, match=why):
        read_har(data, None)
