"""The heads of HTTP/1.1 messages (RFC 9112, sections 2 to 6): read, checked and framed.

Requests are read strictly: where two readers could disagree about a head, it is refused, since the one that matters is the upstream
behind (FORWARDING.md, point 10). Answers come from the operator's own service and are read leniently, but for their framing (point 16)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from idemproxy.errors import IdemproxyError
from idemproxy.idempotency.messages import Field, Fields, values

MAX_HEAD: Final = 65_536
"""Octets of a whole head, its empty line included."""

MAX_TARGET: Final = 16_384
"""Octets of a request's target."""

MAX_LENGTH: Final = (1 << 63) - 1
"""The largest Content-Length: what a signed 64-bit reader further on can hold."""

_MAX_DIGITS: Final = 19


class BadHead(IdemproxyError):
    """A head that is refused with `status`; `detail` is a sentence for its sender and holds nothing of what was sent."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class NoBody:
    """Nothing follows the head."""


class Length(msgspec.Struct, frozen=True):
    """A body of exactly so many octets, perhaps 0."""

    octets: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A body in the chunked coding, its end marked by itself."""


@dataclass(frozen=True, slots=True)
class UntilClose:
    """A body that ends where the connection does."""


Framing = NoBody | Length | Chunked | UntilClose


class RequestHead(msgspec.Struct, frozen=True):
    """A request's head. `method` and `target` are raw; `minor` is 0 or 1; `fields` are as they came. `keep_alive`: the connection may
    serve another request. `expects_continue`: the client waits for a 100 before it sends the body. `options` is what Connection lists,
    in lower case."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    framing: NoBody | Length | Chunked
    keep_alive: bool
    expects_continue: bool
    options: frozenset[bytes]


class AnswerHead(msgspec.Struct, frozen=True):
    """An answer's head. `status_line` is what came behind `HTTP/1.x `: the code, and mostly a space and the reason. `keep_alive` is what
    version and Connection say; whether the framing allows it is another matter. `names` are those of the fields, in lower case."""

    minor: int
    status: int
    reason: bytes
    status_line: bytes
    fields: Fields
    keep_alive: bool
    names: frozenset[bytes]


_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HOST: Final = rb"(?:\[[0-9A-Za-z:.%_~\-]+\]|[0-9A-Za-z._~!$&'()*+,;=%\-]+)(?::[0-9]{0,5})?"

_REQUEST: Final = re.compile(
    rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])\r\n"
    rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
_REQUEST_LINE: Final = re.compile(_TOKEN + rb" [\x21-\x7e\x80-\xff]+ HTTP/([0-9])\.([0-9])")
_ANSWER: Final = re.compile(
    rb"HTTP/1\.([0-9]) (([1-9][0-9]{2})(?: ([^\0\r\n]*))?)\r\n(?:" + _TOKEN + rb":[^\0\r\n]*\r\n)*\r\n"
)
_FIELD: Final = re.compile(rb"([^:]+):[ \t]*([^\r]*)\r\n")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_HOST_VALUE: Final = re.compile(rb"(?:" + _HOST + rb")?")
_ABSOLUTE: Final = re.compile(rb"https?://" + _HOST + rb"(?:[/?].*)?", re.IGNORECASE | re.DOTALL)

_NONE: Final[frozenset[bytes]] = frozenset()
_WATCHED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


def skip_empty_lines(buffer: bytearray) -> None:
    """Drop one CRLF from before a request line: some clients send one after a body (RFC 9112, section 2.2). To be called before each
    search for a head's end."""
    if buffer.startswith(b"\r\n"):
        del buffer[:2]


def request_end(buffer: bytearray, start: int) -> int:
    """The index just past a request's head, or -1. `start` is how far earlier searches went. A head that ends in bare LFs is found too,
    so that `parse_request` refuses it at once and its client need not wait."""
    return _end(buffer, start)


def answer_end(buffer: bytearray, start: int) -> int:
    """The index just past an answer's head, ended by CRLF or bare LF, or -1. `start` is how far earlier searches went."""
    return _end(buffer, start)


def _end(buffer: bytearray, start: int) -> int:
    found = _HEAD_END.search(buffer, max(0, start - 2))
    return -1 if found is None else found.end()


def parse_request(block: bytes) -> RequestHead:
    """Read a request's head, its empty line included. Raises BadHead: 400, 414, 431, 501 (CONNECT) or 505."""
    if len(block) > MAX_HEAD:
        raise _oversized(block)
    found = _REQUEST.fullmatch(block)
    if found is None:
        raise _fault(block)
    method, target, digit = found.groups()
    minor = 1 if digit == b"1" else 0
    if target[0] != 0x2F or len(target) > MAX_TARGET or method == b"CONNECT":
        _check_target(method, target)
    fields = _fields(block, found.end(3) + 2)
    watched: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        kind = name.lower()
        if kind in _WATCHED:
            watched.setdefault(kind, []).append(value)
    _check_host(watched.get(b"host", ()), minor)
    return RequestHead(
        method,
        target,
        minor,
        fields,
        _request_framing(watched.get(b"content-length", ()), watched.get(b"transfer-encoding", ()), minor),
        _keep_alive(watched.get(b"connection", ()), minor),
        minor == 1 and b"expect" in watched and b"100-continue" in members(watched[b"expect"]),
        options(watched[b"connection"]) if b"connection" in watched else _NONE,
    )


def parse_answer(block: bytes) -> AnswerHead:
    """Read an answer's head, its empty line included. Bare LF, obs-fold and blanks before a colon are repaired (RFC 9112, sections 2.2,
    5.1, 5.2), and control characters other than NUL kept (RFC 9110, section 5.5). Raises BadHead(502)."""
    if len(block) > MAX_HEAD:
        raise BadHead(502, f"The upstream's answer has a head of more than {MAX_HEAD} bytes.")
    found = _ANSWER.fullmatch(block)
    if found is None:
        block = _repaired(block)
        found = _ANSWER.fullmatch(block)
    if found is None:
        raise BadHead(502, "The upstream's answer is not HTTP/1.1.")
    digit, status_line, status, reason = found.groups()
    minor = 0 if digit == b"0" else 1
    fields = _fields(block, found.end(2) + 2)
    names = [name.lower() for name, _ in fields]
    if b"content-length" in names and (
        names.count(b"content-length") > 1 or b"," in fields[names.index(b"content-length")][1]
    ):
        fields = _one_length(fields)
    keep_alive = _keep_alive(values(fields, b"connection") if b"connection" in names else (), minor)
    return AnswerHead(minor, int(status), reason or b"", status_line, fields, keep_alive, frozenset(names))


def answer_framing(head: AnswerHead, method: bytes) -> Framing:
    """How the body of an answer to `method` is framed (RFC 9112, section 6.3). Raises BadHead(502) where readers could disagree."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return NoBody()
    lengths = values(head.fields, b"content-length") if b"content-length" in head.names else ()
    codings = values(head.fields, b"transfer-encoding") if b"transfer-encoding" in head.names else ()
    if codings:
        if lengths:
            raise BadHead(502, "The upstream's answer has both Content-Length and Transfer-Encoding.")
        if head.minor == 0 or not _exactly_chunked(codings):
            raise BadHead(502, "The upstream's answer has a Transfer-Encoding other than chunked.")
        return Chunked()
    if not lengths:
        return UntilClose()
    octets = _length(lengths)
    if octets is None:
        raise BadHead(502, "The upstream's answer has a malformed Content-Length, or several.")
    return Length(octets)


def members(listed: Sequence[bytes]) -> frozenset[bytes]:
    """The members, in lower case, of a comma-separated list in one or more values (RFC 9110, section 5.6.1)."""
    return frozenset([part.strip(b" \t").lower() for value in listed for part in value.split(b",")])


def field_section(block: bytes) -> Fields | None:
    """Field lines of a trailer section, its empty line included, read as strictly as a request's; None where they are malformed."""
    return _fields(block, 0) if _SECTION.fullmatch(block) else None


_SECTION: Final = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


def _fields(block: bytes, start: int) -> Fields:
    found: list[Field] = _FIELD.findall(block, start)
    if b" \r\n" in block or b"\t\r\n" in block:
        return tuple([(name, value.rstrip(b" \t")) for name, value in found])
    return tuple(found)


def _oversized(head: bytes) -> BadHead:
    """Why a head of more than MAX_HEAD octets is refused: 414 where its first line fills it, else 431."""
    if len(head.split(b"\r\n", 1)[0]) > MAX_TARGET:
        return BadHead(414, f"The request's target is longer than the {MAX_TARGET} bytes that are allowed.")
    return BadHead(431, f"The request's head is longer than the {MAX_HEAD} bytes that are allowed.")


def _fault(block: bytes) -> BadHead:
    """What is wrong with a request's head that the whole pattern refused."""
    if _BARE.search(block):
        return BadHead(400, "A line of the request's head has a CR or an LF that stands alone.")
    line, _, rest = block.partition(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return BadHead(400, "The request line is not a method, a target and a version with one space between them.")
    if found.groups() not in ((b"1", b"0"), (b"1", b"1")):
        return BadHead(505, "The request's version is neither HTTP/1.1 nor HTTP/1.0.")
    if b"#" in line.split(b" ")[1]:
        return BadHead(400, "The request's target has a fragment.")
    if rest.startswith((b" ", b"\t")) or b"\r\n " in rest or b"\r\n\t" in rest:
        return BadHead(400, "A header field of the request is folded over several lines.")
    return BadHead(
        400, "A header field of the request has a name that is no token, or a control character in its value."
    )


def _check_target(method: bytes, target: bytes) -> None:
    """RFC 9112, section 3.2. A fragment is refused with the pattern: readers that drop it see another path than those that keep it."""
    if len(target) > MAX_TARGET:
        raise BadHead(414, f"The request's target is longer than the {MAX_TARGET} bytes that are allowed.")
    if method == b"CONNECT":
        raise BadHead(501, "CONNECT is not supported.")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    if not _ABSOLUTE.fullmatch(target):
        raise BadHead(400, "The request's target is neither a path nor a URL of http or https.")


def _check_host(hosts: Sequence[bytes], minor: int) -> None:
    """RFC 9112, section 3.2: one, and none only in HTTP/1.0. An empty one is valid by the grammar and names no host."""
    if len(hosts) != 1:
        if not hosts and minor == 0:
            return
        raise BadHead(400, "The request has no Host, or several.")
    if not _HOST_VALUE.fullmatch(hosts[0]):
        raise BadHead(400, "The request's Host is malformed.")


def _request_framing(lengths: Sequence[bytes], codings: Sequence[bytes], minor: int) -> NoBody | Length | Chunked:
    """RFC 9112, section 6.3. Equal lengths given twice are refused too: the RFC leaves it open, so readers differ."""
    if codings:
        if lengths:
            raise BadHead(400, "The request has both Content-Length and Transfer-Encoding.")
        if minor == 0 or not _exactly_chunked(codings):
            raise BadHead(400, "The request has a Transfer-Encoding other than chunked in HTTP/1.1.")
        return Chunked()
    if not lengths:
        return NoBody()
    octets = _length(lengths)
    if octets is None:
        raise BadHead(400, "The request has a malformed Content-Length, or several.")
    return Length(octets)


def _exactly_chunked(codings: Sequence[bytes]) -> bool:
    return len(codings) == 1 and codings[0].lower() == b"chunked"


def _length(lengths: Sequence[bytes]) -> int | None:
    if len(lengths) != 1 or len(lengths[0]) > _MAX_DIGITS or not lengths[0].isdigit():
        return None
    octets = int(lengths[0])
    return octets if octets <= MAX_LENGTH else None


def options(connections: Sequence[bytes]) -> frozenset[bytes]:
    """What Connection fields of these values list, in lower case."""
    return members(connections) - {b""}


def _keep_alive(connections: Sequence[bytes], minor: int) -> bool:
    """RFC 9112, section 9.3."""
    if not connections:
        return minor == 1
    if len(connections) == 1 and connections[0] in (b"keep-alive", b"Keep-Alive"):
        return True
    options = members(connections)
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def _one_length(fields: Fields) -> Fields:
    """Equal repeats of an answer's length made one, as they must be before it goes on (RFC 9110, section 8.6); others stay."""
    parts = members(values(fields, b"content-length"))
    if len(parts) != 1:
        return fields
    first = next(index for index, (name, _) in enumerate(fields) if name.lower() == b"content-length")
    kept: list[Field] = []
    for index, (name, value) in enumerate(fields):
        if index == first:
            kept.append((name, next(iter(parts))))
        elif name.lower() != b"content-length":
            kept.append((name, value))
    return tuple(kept)


_FRAMING_IN_DOUBT: Final = re.compile(
    rb"\r\n(?:content-length|transfer-encoding)(?:[ \t]+:|[^\r\n]*\r\n[ \t])", re.IGNORECASE
)
_FOLD: Final = re.compile(rb"[ \t]*\r\n[ \t]+")
_BLANK_BEFORE_COLON: Final = re.compile(rb"(\r\n" + _TOKEN + rb")[ \t]+:")


def _repaired(block: bytes) -> bytes:
    """An answer's head with what is unclear but harmless made plain. In a framing field nothing is harmless."""
    block = re.sub(rb"\r?\n", b"\r\n", block)
    if _FRAMING_IN_DOUBT.search(block):
        raise BadHead(502, "The upstream's answer has a folded or malformed Content-Length or Transfer-Encoding.")
    line, _, rest = block.partition(b"\r\n")
    return _BLANK_BEFORE_COLON.sub(rb"\1:", line + b"\r\n" + _FOLD.sub(b" ", rest))
