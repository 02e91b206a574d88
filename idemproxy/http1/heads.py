"""Heads: the request line or status line, and the header fields (RFC 9112, sections 2 to 5).

Requests are read strictly: what could be read in two ways is refused, never guessed (FORWARDING.md, point 10). Answers are read
leniently where strictness would turn an executed operation into an unknown one (point 16); ambiguity of framing is not repaired."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from idemproxy.http1.connection import options
from idemproxy.http1.refusal import BadHead
from idemproxy.idempotency.messages import Fields, values

__all__ = [
    "MAX_HEAD",
    "MAX_TARGET",
    "AnswerHead",
    "BadHead",
    "Chunked",
    "Framing",
    "Length",
    "NoBody",
    "RequestHead",
    "UntilClose",
    "answer_end",
    "answer_framing",
    "parse_answer",
    "parse_request",
    "request_end",
    "skip_empty_lines",
]

MAX_HEAD: Final = 65_536
MAX_TARGET: Final = 16_384
MAX_LENGTH: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class NoBody:
    """Nothing follows the head."""


@dataclass(frozen=True, slots=True)
class Length:
    """That many octets follow."""

    octets: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """Chunks follow, and trailers."""


@dataclass(frozen=True, slots=True)
class UntilClose:
    """What follows ends with the connection."""


Framing = NoBody | Length | Chunked | UntilClose


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head. `target` and `fields` are as they came; `minor` is the version's second digit."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    framing: NoBody | Length | Chunked
    keep_alive: bool
    expects_continue: bool


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's head. `status_line` is what follows the version and a space, as it came."""

    minor: int
    status: int
    reason: bytes
    status_line: bytes
    fields: Fields
    keep_alive: bool


_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST: Final = re.compile(
    rb"(%b) ([^\x00-\x20\x7f]+) HTTP/1\.([01])\r\n((?:%b:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*)\r\n" % (_TOKEN, _TOKEN)
)
_REQUEST_LINE: Final = re.compile(rb"(%b) ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) (([1-9][0-9][0-9])(?: ([^\x00\r\n]*))?)")
_NAME: Final = re.compile(_TOKEN)
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]*)?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#\x00-\x20]+)", re.IGNORECASE)


def skip_empty_lines(buffer: bytearray) -> None:
    """Drop one empty line in front of a request line (RFC 9112, section 2.2)."""
    if buffer[:2] == b"\r\n":
        del buffer[:2]


def request_end(buffer: bytearray, start: int) -> int:
    """The index just past the head's empty line, or -1. `start` is where an earlier search ended."""
    at = buffer.find(b"\r\n\r\n", max(0, start - 3))
    return at + 4 if at >= 0 else -1


def answer_end(buffer: bytearray, start: int) -> int:
    """As `request_end`, also for lines that end with a bare LF."""
    found = _EMPTY_LINE.search(buffer, max(0, start - 3))
    return found.end() if found else -1


_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")


def parse_request(block: bytes) -> RequestHead:
    """Read a head, its empty line included. Raises BadHead."""
    found = _REQUEST.fullmatch(block)
    if found is None:
        raise _why(block)
    method, target, digit, lines = found.groups()
    minor = int(digit)
    if len(target) > MAX_TARGET:
        raise BadHead(414, f"The request's target is longer than {MAX_TARGET} bytes.")
    fields = _fields(lines)
    _check_target(method, target)
    _check_host(fields, minor)
    framing = _request_framing(fields, minor)
    listed = options(fields)
    keep_alive = b"close" not in listed and (minor == 1 or b"keep-alive" in listed)
    expects = minor == 1 and not isinstance(framing, NoBody) and [v.lower() for v in values(fields, b"expect")] == [b"100-continue"]
    return RequestHead(method, target, minor, fields, framing, keep_alive, expects)


def _fields(lines: bytes) -> Fields:
    pairs = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        pairs.append((name, value.strip(b" \t")))
    return tuple(pairs)


def _why(block: bytes) -> BadHead:
    """What is wrong with a head that the grammar does not match."""
    line, _, rest = block.partition(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return BadHead(400, "The request line is malformed.")
    if found[3] != b"1" or found[4] not in (b"0", b"1"):
        return BadHead(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    if len(found[2]) > MAX_TARGET:
        return BadHead(414, f"The request's target is longer than {MAX_TARGET} bytes.")
    for field in rest.split(b"\r\n")[:-2]:
        if field[:1] in (b" ", b"\t"):
            return BadHead(400, "A header field is folded over several lines.")
        name, colon, _ = field.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:
            return BadHead(400, "A header field's name is malformed.")
    return BadHead(400, "A header field holds a control character or a bare line ending.")


def _check_target(method: bytes, target: bytes) -> None:
    if method == b"CONNECT":
        raise BadHead(501, "CONNECT is not served here.")
    if target == b"*":
        if method != b"OPTIONS":
            raise BadHead(400, "Only OPTIONS may ask for `*`.")
        return
    if b"#" in target:
        raise BadHead(400, "The request's target holds a fragment.")
    if not target.startswith(b"/") and _ABSOLUTE.match(target) is None:
        raise BadHead(400, "The request's target is neither a path nor an http address.")


def _check_host(fields: Fields, minor: int) -> None:
    hosts = values(fields, b"host")
    if len(hosts) > 1:
        raise BadHead(400, "The request has more than one Host field.")
    if not hosts and minor == 1:
        raise BadHead(400, "The request has no Host field.")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise BadHead(400, "The Host field is malformed.")


def _request_framing(fields: Fields, minor: int) -> NoBody | Length | Chunked:
    codings = values(fields, b"transfer-encoding")
    lengths = values(fields, b"content-length")
    if codings:
        if lengths:
            raise BadHead(400, "The request has both Content-Length and Transfer-Encoding.")
        if minor == 0:
            raise BadHead(400, "HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead(400, "The request's Transfer-Encoding is not `chunked`.")
        return Chunked()
    if not lengths:
        return NoBody()
    if len(lengths) > 1:
        raise BadHead(400, "The request has more than one Content-Length.")
    octets = _length(lengths[0])
    if octets is None:
        raise BadHead(400, "The Content-Length is malformed.")
    return Length(octets)


def _length(value: bytes) -> int | None:
    if not value.isdigit() or len(value) > 19:
        return None
    octets = int(value)
    return octets if octets <= MAX_LENGTH else None


def parse_answer(block: bytes) -> AnswerHead:
    """Read a head, its empty line included; bare LF and folded lines are repaired. Raises BadHead(502)."""
    lines = [line.removesuffix(b"\r") for line in block.split(b"\n")]
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise BadHead(502, "The upstream's status line is malformed.")
    pairs: list[tuple[bytes, bytes]] = []
    for line in lines[1:-2]:
        if b"\0" in line or b"\r" in line:
            raise BadHead(502, "The upstream's header holds a control character.")
        if line[:1] in (b" ", b"\t"):
            if not pairs:
                raise BadHead(502, "The upstream's header begins with a folded line.")
            name, value = pairs[-1]
            pairs[-1] = (name, (value + b" " + line.strip(b" \t")).strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if not colon or _NAME.fullmatch(name) is None:
            raise BadHead(502, "The upstream's header is malformed.")
        pairs.append((name, value.strip(b" \t")))
    fields = tuple(pairs)
    minor = 0 if found[1] == b"0" else 1
    listed = options(fields)
    keep_alive = b"close" not in listed and (minor == 1 or b"keep-alive" in listed)
    return AnswerHead(minor, int(found[3]), found[4] or b"", found[2], fields, keep_alive)


def answer_framing(head: AnswerHead, method: bytes) -> Framing:
    """How the answer's body ends (RFC 9112, section 6.3). Raises BadHead(502) where that could be read in two ways."""
    codings = values(head.fields, b"transfer-encoding")
    lengths = values(head.fields, b"content-length")
    if method == b"HEAD" or head.status in (204, 304) or head.status < 200:
        return NoBody()
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadHead(502, "The upstream's answer is framed in two ways, or in a coding that is not known.")
        return Chunked()
    if not lengths:
        return UntilClose()
    octets = {_length(value) for value in lengths}
    (only,) = octets if len(octets) == 1 else (None,)
    if only is None:
        raise BadHead(502, "The upstream's Content-Length is malformed or given twice.")
    return Length(only)
