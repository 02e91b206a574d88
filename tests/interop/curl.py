"""curl as a user runs it, and what such a user sees."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOST = "http://api.test"
"""The name that curl is given, whichever port it connects to: so the request is the same."""
VOLATILE = frozenset({b"date"})
OF_ONE_HOP = frozenset({b"connection", b"keep-alive"})
PATIENCE = 100
"""Seconds after which curl is hanging."""


@dataclass(frozen=True)
class Seen:
    """What a run of curl gave: `heads` are those of all answers, interim ones too, each a status line and field lines in order;
    `facts` is one line for each transfer; `files` are those that it wrote."""

    exit_status: int
    heads: tuple[tuple[bytes, ...], ...]
    body: bytes
    facts: str
    files: tuple[tuple[str, bytes], ...]


FACTS = "%{http_code} connects=%{num_connects} redirects=%{num_redirects} up=%{size_upload} HTTP/%{http_version}"


def curl(port: int, arguments: list[str], folder: Path) -> Seen:
    """Run curl with those arguments in a folder of its own that starts as a copy of `folder`'s files, connecting to that port."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as own:
        for file in folder.iterdir():
            (Path(own) / file.name).write_bytes(file.read_bytes())
        ended = subprocess.run(
            _command(port, arguments),
            cwd=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE + 10,
            check=False,
        )
        files = {file.name: file.read_bytes() for file in sorted(Path(own).iterdir())}
        heads = [head for number in range(len(arguments)) for head in _heads(files.pop(f"heads{number}", b""))]
        facts = re.sub(r":\d{2,5}\b", ":PORT", ended.stderr.decode())
        return Seen(ended.returncode, tuple(heads), ended.stdout, facts, tuple(files.items()))


def _command(port: int, arguments: list[str]) -> list[str]:
    """What every run has in common; `--next` begins anew, so it is put there again."""
    common = ["--http1.1", "--noproxy", "*", "--connect-to", f"::127.0.0.1:{port}", "--max-time", str(PATIENCE)]
    common += ["-w", f"%{{stderr}}{FACTS}\n"]
    command = ["curl", "-q", "-sS", "--no-progress-meter", *common, "-D", "heads0"]
    for number, argument in enumerate(arguments):
        command += [argument, *common, "-D", f"heads{number}"] if argument == "--next" else [argument]
    return command


def _heads(raw: bytes) -> tuple[tuple[bytes, ...], ...]:
    """Each head without what differs from answer to answer and what is for one hop. Each hop makes its own Transfer-Encoding, so
    its place among the fields says nothing (RFC 9112, section 6.1): it is put last."""
    heads = []
    for head in raw.split(b"\r\n\r\n"):
        first, *lines = head.split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in VOLATILE | OF_ONE_HOP]
        heads.append((first, *sorted(kept, key=lambda line: line.lower().startswith(b"transfer-encoding:"))))
    return tuple(heads[:-1]) if heads[-1] == (b"",) else tuple(heads)


def without_chunks(raw: bytes) -> tuple[bytes, bytes]:
    """The content of a chunked body as it was on the wire, and its trailer lines (RFC 9112, section 7.1)."""
    content = b""
    while True:
        size, _, raw = raw.partition(b"\r\n")
        if not (length := int(size, 16)):
            return content, raw
        content, raw = content + raw[:length], raw[length + 2 :]
