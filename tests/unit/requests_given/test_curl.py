"""curl's arguments, held against curl itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from idemproxy.http1.heads import RequestHead
from idemproxy.requests_given.curl import read_curl
from idemproxy.requests_given.raw import read_raw
from idemproxy.requests_given.written import RequestUnreadable, Written

HOST = "api.test"
COMMANDS = [
    f"curl http://{HOST}",
    f"curl {HOST}/a?b#c",
    f"curl -X|DELETE|http://{HOST}/a/../b/./c/..",
    f"curl --path-as-is|http://{HOST}/a/../b",
    f"curl -XPUT|http://{HOST}/|-d|a=1",
    f"curl http://{HOST}/v1/charges|-d|a=1|-d|b=2 3|-H|Idempotency-Key: k1",
    f"curl http://{HOST}/|--data-raw|@a|--data-binary|@body.txt",
    f"curl http://{HOST}/|-d|@body.txt",
    f"curl http://{HOST}/|--data-ascii|x",
    f"curl http://{HOST}/|--data-urlencode|a=b c&d~e|--data-urlencode|=f/g|--data-urlencode|h i|--data-urlencode|n@body.txt",
    f'curl http://{HOST}/|--json|{{"a":|--json|1}}',
    f"curl http://{HOST}/|--json|@body.txt|-H|Accept: text/plain",
    f"curl -G|http://{HOST}/a?x=1|-d|b=2|-d|c=3",
    f"curl -G|http://{HOST}/a|-d|b=2",
    f"curl -I|http://{HOST}/",
    f"curl http://{HOST}/|-u|user:pass:word|-A|agent/1|-b|a=1; b=2|-b|c=3|-e|http://ref/",
    f"curl http://us%65r:pw@{HOST}/",
    f"curl http://{HOST}/|--oauth2-bearer|token",
    f"curl http://{HOST}/|-H|Accept:|-H|X-Empty;|-H|X-Gone:|-H|Host: other.test|-H|content-type: a/b|-d|1",
    f"curl -sSkLf|-XPATCH|http://{HOST}/|-d1|-m|20|--retry|0|-o|out.txt|-HX-A: 1",
    f"curl --url|http://{HOST}/|--compressed|-d|",
    f"curl --request|POST|http://{HOST}/",
]
FREE = frozenset({b"user-agent", b"accept-encoding"})
"""Fields whose values depend on how a curl was built."""


def sent(arguments: list[str], folder: Path) -> Written:
    """What curl itself sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        own = ["--connect-to", f"::127.0.0.1:{port}", "--http1.1", "-q"]
        got: list[bytes] = []

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.settimeout(60)
                data = b""
                while not complete(data):
                    data += client.recv(65_536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            got.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        subprocess.run(
            ["curl", *own[3:], *arguments, *own[:3]],
            cwd=folder,
            check=True,
            timeout=60,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        thread.join(60)
    return read_raw(got[0])


def complete(data: bytes) -> bool:
    try:
        return b"\r\n\r\n" in data and bool(read_raw(data))
    except RequestUnreadable:
        return False


def seen(request: Written) -> tuple[object, ...]:
    assert isinstance(request.head, RequestHead)
    fields = sorted(
        (name.lower(), b"" if name.lower() in FREE and value != b"agent/1" else value)
        for name, value in request.head.fields
    )
    return request.head.method, request.head.target, fields, request.body


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read_as_curl_reads_it(command: str, tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_bytes(b"one\r\ntwo & three\n")
    arguments = command.removeprefix("curl ").split("|")
    read = read_curl(arguments, lambda name: (tmp_path / name).read_bytes())
    assert seen(read) == seen(sent(arguments, tmp_path))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "no URLs"),
        ("http://a/|http://b/", "2 URLs"),
        ("http://a/|--aws-sigv4|x", "--aws-sigv4 is not understood"),
        ("http://a/|-sZ", "-Z is not understood"),
        ("http://a/|-F|a=1", "--form is not understood"),
        ("http://a/|-T|file", "--upload-file is not understood"),
        ("http://a/|-H", "--?H.* lacks its value"),
        ("http://a/|-H|@file", "@FILE"),
        ("http://a/|-u|user", "password"),
        ("http://a/|-b|jar.txt", "cookies from a file"),
        ("ftp://a/", "ftp"),
        ("http://", "names no host"),
    ],
)
def test_what_is_not_understood_is_told(command: str, why: str) -> None:
    with pytest.raises(RequestUnreadable, match=why):
        read_curl(command.split("|") if command else [], lambda _: b"")
