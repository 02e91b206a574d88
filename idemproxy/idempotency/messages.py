"""Request and Answer as the protocol sees them: end-to-end header fields as raw pairs, in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

Field = tuple[bytes, bytes]
"""A header field: its name with its own case, and its value without the white space around it."""

Fields = tuple[Field, ...]


def values(fields: Fields, name: bytes) -> list[bytes]:
    """The values of every field called `name` (given in lower case), in order."""
    size = len(name)
    return [value for found, value in fields if len(found) == size and found.lower() == name]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for: raw method and target, every header field as it came."""

    method: bytes
    target: bytes
    fields: Fields


class Answer(msgspec.Struct, frozen=True):
    """What an upstream answered, whole. `head` is the status code, a space, the reason and the end-to-end field lines as
    they came, each line ended by CRLF, without the empty line: what is replayed byte for byte. `trailers` are the lines after
    a chunked body, in the same form. A head without Content-Length came chunked or until the close, and goes out chunked."""

    status: int
    head: bytes
    body: bytes
    trailers: bytes = b""
