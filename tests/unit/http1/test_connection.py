"""What one hop ends, and what goes on (FORWARDING.md, points 4 and 6)."""

from __future__ import annotations

import pytest

from idemproxy.http1.connection import check_options, forwardable, forwardable_trailers
from idemproxy.http1.heads import BadHead, RequestHead, parse_answer, parse_request
from idemproxy.idempotency.messages import Fields


def head(*lines: bytes) -> RequestHead:
    return parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"\r\n".join([*lines, b"", b""]))


def fields(*lines: bytes) -> Fields:
    return head(*lines).fields[1:]


def test_options_of_every_connection_field() -> None:
    assert head(b"A: b").options == frozenset()
    assert head(b"Connection:").options == frozenset()
    assert head(b"connection: Close , X-a,,\t", b"CONNECTION: te").options == {b"close", b"x-a", b"te"}


def test_what_does_not_concern_one_hop_goes_on_as_it_came() -> None:
    came = fields(
        b"b: 2",
        b"A: 1",
        b"B: 3",
        b"Trailer: X",
        b"Cookie: a",
        b"cookie: b",
        b"X-Te: 1",
        b"Connection-Id: 7",
        b"Via: 1.1 x",
    )
    assert forwardable(came) == came


def test_hop_by_hop_fields_end_here() -> None:
    came = fields(
        b"A: 1",
        b"cOnnection: close, X-Mine",
        b"X-MINE: 1",
        b"x-mine: 2",
        b"Close: not a field of the connection, but listed",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: gzip",
        b"Transfer-Encoding: chunked",
        b"Upgrade: websocket",
        b"Proxy-Authenticate: Basic",
        b"PROXY-AUTHORIZATION: Basic x",
        b"X-Mine-Too: 1",
    )
    assert forwardable(came) == ((b"A", b"1"), (b"X-Mine-Too", b"1"))


@pytest.mark.parametrize("value", [b"trailers", b"Trailers", b"gzip;q=0.5, trailers", b"trailers, deflate"])
@pytest.mark.parametrize("connection", [b"Connection: TE", b"Connection: close", b"X: y"])
def test_te_goes_on_with_trailers_only(value: bytes, connection: bytes) -> None:
    kept = forwardable(fields(b"A: 1", b"te: " + value, connection, b"B: 2"))
    assert [field for field in kept if field[0] != b"X"] == [(b"A", b"1"), (b"te", b"trailers"), (b"B", b"2")]


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Idempotency-Key", b"AUTHORIZATION", b"X-Rule"])
@pytest.mark.parametrize("listed", [b"%b", b"close, %b", b"%b,x", b"x\r\nConnection: %b"])
def test_fields_that_matter_are_not_made_to_vanish(name: bytes, listed: bytes) -> None:
    came = head(b"Connection: " + listed % name).options
    with pytest.raises(BadHead) as caught:
        check_options(came, frozenset({b"x-rule"}))
    assert caught.value.status == 400


def test_other_options_are_well() -> None:
    for came in (head(b"Connection: keep-alive, Upgrade, X-Mine, TE"), head(b"Connection:"), head(b"Hosts: x")):
        check_options(came.options, frozenset({b"x-rule"}))
    check_options(head(b"Connection: x-rule").options, frozenset())


def test_an_answers_length_stays_whatever_connection_lists() -> None:
    answer = parse_answer(
        b"HTTP/1.1 200 OK\r\nConnection: content-length, date\r\nContent-Length: 5\r\nDate: x\r\n\r\n"
    )
    assert forwardable(answer.fields) == ((b"Content-Length", b"5"),)


def test_trailers_that_go_on() -> None:
    came: Fields = ((b"Digest", b"x"), (b"grpc-status", b"0"), (b"Server-Timing", b"a"), (b"server-timing", b"b"))
    assert forwardable_trailers(came, frozenset({b"x-key"})) == came


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"transfer-encoding",
        b"Trailer",
        b"Content-Type",
        b"Content-Encoding",
        b"Host",
        b"Connection",
        b"Keep-Alive",
        b"Upgrade",
        b"TE",
        b"Expect",
        b"Authorization",
        b"Proxy-Authorization",
        b"Cookie",
        b"Set-Cookie",
        b"WWW-Authenticate",
        b"Forwarded",
        b"X-Forwarded-For",
        b"x-forwarded-host",
        b"IDEMPOTENCY-KEY",
        b"X-Key",
    ],
)
def test_trailers_that_do_not(name: bytes) -> None:
    assert forwardable_trailers(((b"A", b"1"), (name, b"x")), frozenset({b"x-key"})) == ((b"A", b"1"),)
