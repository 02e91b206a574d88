"""Single settings: what each takes, as what it is read, and what it refuses."""

from __future__ import annotations

import pytest

from idemproxy.config.settings import Address, TcpAddress, UnixAddress, UpstreamTimeouts
from tests.unit.config.texts import UPSTREAM, problem, rule, rule_problem, rule_text, settings, top, top_problem


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("localhost:65535", TcpAddress("localhost", 65535)),
        ('"[::1]:80"', TcpAddress("::1", 80)),
        ("unix:/run/i.sock", UnixAddress("/run/i.sock")),
        ("unix:///run/i.sock", UnixAddress("/run/i.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert top(f"listen: {text}").listen == address
    assert top(f"admin: {text}\nlisten: 127.0.0.2:8081").admin == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8080", "without a port; write host:port"),
        ("':8080'", "without a host"),
        ("localhost", "without a port"),
        ("'localhost:'", "without a port from 0 to 65535"),
        ("localhost:65536", "without a port from 0 to 65535"),
        ("localhost:http", "without a port from 0 to 65535"),
        ("256.0.0.1:80", "not an IPv4 address"),
        ("'::1:80'", "with several colons; an IPv6 address stands in brackets"),
        ("'[::1]'", "without a port"),
        ("'[::x]:80'", "not an IPv6 address in its brackets"),
        ("'a b:80'", "not a host's name"),
        ("'*:80'", "not a host's name"),
        ("http://h:80", "a URL, not an address"),
        ("unix:run.sock", "without the absolute path of a socket"),
        ("unix:/", "without the absolute path of a socket"),
        ("unix://run/i.sock", "without the absolute path of a socket"),
        (f"unix:/{'x' * 110}", "a path of more than 107 bytes"),
    ],
)
def test_what_is_no_address(text: str, words: str) -> None:
    assert words in top_problem(f"listen: {text}")


@pytest.mark.parametrize(
    ("text", "address", "tls", "base", "authority"),
    [
        ("http://h", TcpAddress("h", 80), False, b"", b"h"),
        ("http://h:80/", TcpAddress("h", 80), False, b"", b"h"),
        ("HTTP://H:9000/v1/", TcpAddress("H", 9000), False, b"/v1", b"H:9000"),
        ("https://h", TcpAddress("h", 443), True, b"", b"h"),
        ("https://h:80/a%20b", TcpAddress("h", 80), True, b"/a%20b", b"h:80"),
        ("http://[::1]:9000", TcpAddress("::1", 9000), False, b"", b"[::1]:9000"),
        ("unix:/run/up.sock", UnixAddress("/run/up.sock"), False, b"", b"localhost"),
    ],
)
def test_upstreams(text: str, address: Address, tls: bool, base: bytes, authority: bytes) -> None:
    found = settings(f"upstream: {text}\n").upstream
    assert (found.address, found.tls, found.base, found.authority, found.url) == (address, tls, base, authority, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "localhost:9000",
            "without http:// or https://; write http://host:port, https://host or unix:/path; did you mean http://localhost:9000?",
        ),
        ("ftp://h", "without http:// or https://"),
        ("http://", "without a host"),
        ("http://h:0", "without a port from 1 to 65535"),
        ("http://h:", "without a port from 1 to 65535"),
        ("http://u:p@h", "with credentials, which are never sent"),
        ("http://h/?a=b", "with a query or fragment"),
        ("http://h#a", "with a query or fragment"),
        ("http://h/a b", "with a base path that is not one"),
        ("http://h/ä", "with a base path that is not one"),
        ("http://h/a//b", "with a base path that is not one"),
        ("unix:up.sock", "without the absolute path of a socket"),
    ],
)
def test_what_is_no_upstream(text: str, words: str) -> None:
    assert words in problem(f"upstream: '{text}'\n")


@pytest.mark.parametrize(
    "text",
    [
        "redis://localhost:6379/0",
        "redis://localhost",
        "rediss://user:pa%40ss@h:6380/15?ssl_cert_reqs=none",
        "redis://:pass@[::1]:6379",
        "unix:///run/redis.sock?db=1",
        "unix://user:pass@/run/redis.sock",
        "sqlite:idemproxy.db",
        "sqlite:/var/lib/i.db",
    ],
)
def test_stores(text: str) -> None:
    assert top(f"store: '{text}'").store == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis+sentinel://h/0", "it comes later: not built yet"),
        ("redis+cluster://h", "it comes later: not built yet"),
        ("postgresql://h/db", "it comes later: not built yet"),
        ("memcached://h", "not a store that is known; write redis://host:6379/0"),
        ("redis", "not of the form redis://"),
        ("sqlite", "not a store that is known"),
        ("redis:h", "not of the form redis://"),
        ("redis://h/zero", "not of the form redis://"),
        ("redis://h:0", "without a port from 1 to 65535"),
        ("redis:///0", "without a host"),
        ("unix:/run/redis.sock", "without the // of a URL"),
        ("unix://run/redis.sock", "without the absolute path of a socket"),
        ("sqlite:", "without the path of a file"),
        ("sqlite::memory:", "without the path of a file"),
        ("sqlite:///abs.db", "without the path of a file"),
        ("sqlite:dir/", "without the path of a file"),
    ],
)
def test_what_is_no_store(text: str, words: str) -> None:
    assert words in top_problem(f"store: '{text}'")


@pytest.mark.parametrize(
    ("text", "ms"),
    [("100ms", 100), ("5s", 5_000), ("10m", 600_000), ("24h", 86_400_000), ("7d", 604_800_000), ("'90s'", 90_000)],
)
def test_times(text: str, ms: int) -> None:
    assert rule(f"ttl: {text}").ttl == ms


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0s",
        "5",
        "5 s",
        "5sec",
        "5S",
        "1.5s",
        "1h30m",
        "-5s",
        "s",
        "99ms",
        "401d",
        "99999999999999999d",
        "[5s]",
        "",
        "forever",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert "write a time such as 24h, from 100ms to 400d" in rule_problem(f"ttl: {text}")


def test_zero_turns_off_an_upstream_timeout_only() -> None:
    assert top("upstream_timeouts: {connect: 0, response: 90s}").upstream_timeouts == UpstreamTimeouts(
        0, 90_000, 60_000
    )
    assert "or 0 to turn it off" in top_problem("upstream_timeouts: {idle: 0s}")
    for name in ("store_timeout", "drain_timeout"):
        assert f"{name}: found `0`" in top_problem(f"{name}: 0")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512", 512),
        ("1B", 1),
        ("64KiB", 65_536),
        ("8MiB", 8 << 20),
        ("1GiB", 1 << 30),
        ("1KB", 1_000),
        ("2MB", 2_000_000),
        ("1GB", 10**9),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert rule(f"max_request_body: {text}").max_request_body == count


@pytest.mark.parametrize("text", ["0", "-1", "8M", "8mb", "8 MiB", "1.5MiB", "2GiB", "big", "~"])
def test_what_is_no_size(text: str) -> None:
    assert "write a size such as 8MiB, from 1B to 1GiB" in rule_problem(f"max_request_body: {text}")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/charges",
        "/v1/charges/",
        "/v1/{id}/refunds/{rid}",
        "/**",
        "/hooks/**",
        "/a%20b",
        "/a:b;c=1,2@~'()",
    ],
)
def test_paths(path: str) -> None:
    quoted = path.replace("'", "''")
    assert settings(rule_text("", f"{{path: '{quoted}'}}")).rules[0].match.path == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "found an empty text, not beginning with /"),
        ("v1", "not beginning with /"),
        ("/a/**/b", "with ** before its end"),
        ("/a*", "with a {name} or * that is not a whole segment"),
        ("/a-{id}", "with a {name} or * that is not a whole segment"),
        ("/{}", "with a {name} or * that is not a whole segment"),
        ("/{a}/{a}", "with the same {name} twice"),
        ("/a//b", "with // in it"),
        ("/a/../b", "with a dot segment"),
        ("/a?b=c", "with a query or fragment"),
        ("/a b", "with a character that no path can hold"),
        ("/ä", "with a character that no path can hold"),
        ("/a%2", "with a character that no path can hold"),
        ("/%41", "with an escape of a letter"),
    ],
)
def test_what_is_no_path(path: str, words: str) -> None:
    assert words in problem(rule_text("", f"{{path: '{path}'}}"))


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("{methods: [post]", "not in upper case; write a method such as POST; did you mean POST?"),
        ("{methods: [P OST]", "not a method"),
        ("{methods: [CONNECT]", "a method that is refused before the rules"),
        ("{methods: [POST, POST]", "found `POST` a second time"),
        ("{hosts: ['api.example.com:443']", "not a host's name"),
        ("{hosts: ['*.example.com']", "not a host's name"),
        ("{headers: {'a b': c}", "not a header's name"),
        ("{headers: {Connection: c}", "a header of the connection"),
        ("{headers: {a: 2}", 'which YAML reads as a number; quote it: "2"'),
        ("{headers: {a: ' b'}", "with control characters or spaces around it"),
        ("{headers: {a: b, A: c}", "found `A` a second time"),
        ("{headers: [a]", "found a list; write a mapping of header names and values"),
        ("{header: {a: b}", "did you mean headers?"),
    ],
)
def test_what_matches_nothing(match: str, words: str) -> None:
    assert words in problem(rule_text("", f"{match}, path: /x}}"))


def test_a_match_is_read() -> None:
    match = (
        settings(
            rule_text("", "{path: /x, methods: [BREW, GET], hosts: [API.Example.com., '[::1]'], headers: {X-A: b c}}")
        )
        .rules[0]
        .match
    )
    assert match.methods == {b"BREW", b"GET"}
    assert match.hosts == {b"api.example.com", b"[::1]"}
    assert match.headers == ((b"x-a", b"b c"),)
    assert settings(rule_text("", "{path: /x, methods: []}")).rules[0].match.methods == frozenset()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("namespace: ''", "found an empty text; write letters, digits"),
        ("namespace: a b", "write letters, digits"),
        (f"namespace: {'n' * 65}", "longer than 64 characters"),
        ("docs_url: example.com", "write an http(s) URL without a fragment"),
        ("docs_url: https://h/#a", "write an http(s) URL without a fragment"),
        ("store_timeout: 2m", "from 1ms to 1m"),
        ("admin: https://h", "a URL, not an address"),
        ("upstream_timeouts: 5s", "write a mapping with connect, response or idle"),
        ("upstream_timeouts: {conect: 5s}", "did you mean connect?"),
        ("drain-timeout: 5s", "did you mean drain_timeout?"),
        ("Listen: 127.0.0.1:1", "did you mean listen?"),
    ],
)
def test_other_settings_at_the_top(line: str, words: str) -> None:
    assert words in top_problem(line)


def test_the_top_is_read() -> None:
    found = settings(
        f"{UPSTREAM}namespace: shop\nstore_timeout: 2s\ndrain_timeout: 1m\ndocs_url: https://h/docs?a=b\nadmin: null\n"
    )
    assert (found.namespace, found.store_timeout, found.drain_timeout, found.docs_url) == (
        "shop",
        2_000,
        60_000,
        "https://h/docs?a=b",
    )
    assert found.admin is None
