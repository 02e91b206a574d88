"""What a target's path can mean to the service behind: security code, since a reading left out is a way past a rule.

Servers and frameworks disagree about one and the same path: which escapes they decode, and when; whether an escaped slash or a
backslash separates segments; whether dot segments, empty segments, `;parameters`, a last slash or upper case count. Nobody here
knows what runs behind, so that a path has every reading that some common server makes of it, and a request is protected if one of
them is (DESIGN.md section 4, *Which rule*). What is forwarded is the raw target."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

Segments = tuple[bytes, ...]
"""A path, cut at its slashes and without the last one, in lower case, nothing in it escaped."""


class Wild(Enum):
    """What a pattern leaves open: one segment, or any rest, also none."""

    SEGMENT = "{name}"
    REST = "**"


Pattern = tuple[bytes | Wild, ...]

_ROUNDS: Final = 3
"""How often escapes are decoded: by a gateway, the server and its router. An endless `%252525..` must not cost endless time."""

_MOST: Final = 256
"""Segments of an odd path that are worth reading: an honest path has fewer, and each reading costs time."""

_NAMING: Final = rb"[a-z0-9._~!$&'()*+,:=@-]*"
_PLAIN: Final = re.compile(rb"(?:/(?![./])%b(?:%%(?!2[5ef]|3b|5c)[0-9a-f]{2}%b)*)*" % (_NAMING, _NAMING))
"""A path in lower case that every server reads alike: its escapes are of characters that mean nothing in a path."""

_PARAMETERS: Final = re.compile(rb";[^/]*")
_ODD: Final = frozenset({b"", b".", b".."})


def split_target(target: bytes) -> tuple[bytes | None, bytes, bytes | None]:
    """A target's authority (absolute-form only), raw path, and query (None: no `?`), as they are forwarded: an absolute-form without a
    path asks for `/` (RFC 9112, section 3.2). The asterisk-form is the path `*`, which no rule has."""
    if target.startswith(b"/"):
        path, mark, query = target.partition(b"?")
        return None, path, query if mark else None
    authority, rest = None, target
    if not target.startswith(b"*"):
        after = target.partition(b"://")[2]
        end = min((at for at in (after.find(b"/"), after.find(b"?")) if at >= 0), default=len(after))
        authority, rest = after[:end].rpartition(b"@")[2], after[end:]
    path, mark, query = rest.partition(b"?")
    return authority, path or b"/", query if mark else None


def plain_reading(path: bytes) -> Segments | None:
    """The one reading of a request's raw path that is plain; None: it is odd."""
    lower = path.lower()
    if _PLAIN.fullmatch(lower) is None:
        return None
    if b"%" in lower:
        lower = _decoded(lower)
    return tuple(lower.rstrip(b"/").split(b"/")[1:])


def readings(path: bytes) -> Collection[Segments] | None:
    """Everything that a request's raw path can mean. A plain path has one reading. None: it may mean anything, for it is made up
    of more odd segments than are worth reading."""
    plain = plain_reading(path)
    if plain is not None:
        return (plain,)
    lower = path.lower()
    if not lower.startswith(b"/"):
        return ()
    decoded = _decoded(lower)
    if decoded.count(b"/") + decoded.count(b"\\") > _MOST:
        return None
    return {reading for spelling in _spellings(lower, decoded) for reading in _structures(spelling)}


def pattern_readings(path: str) -> set[Pattern]:
    """A rule's path in the form of readings. An escaped slash in it separates segments and does not, as in a request's path."""
    whole: list[bytes | Wild] = []
    cut: list[bytes | Wild] = []
    for segment in path.lower().encode().rstrip(b"/").split(b"/")[1:]:
        if segment == b"**" or segment.startswith(b"{"):
            wild = Wild.REST if segment == b"**" else Wild.SEGMENT
            whole.append(wild)
            cut.append(wild)
        else:
            literal = _decoded(segment)
            whole.append(literal)
            cut += literal.split(b"/")
    return {tuple(whole), tuple(cut)}


def _spellings(path: bytes, decoded: bytes) -> Iterator[bytes]:
    """What separates segments, where parameters end, and whether `//x/..` begins with a host, as URL parsers have it."""
    paths = {path}
    if decoded.count(b"/") > path.count(b"/") or b"\\" in decoded or b";" in decoded:
        paths.add(decoded)
        paths |= {each.replace(b"\\", b"/") for each in paths}
        paths |= {_PARAMETERS.sub(b"", each) for each in paths}
    for each in paths:
        yield each
        if each.startswith(b"//"):
            yield b"/" + each.lstrip(b"/").partition(b"/")[2]


def _structures(path: bytes) -> Iterator[Segments]:
    """Empty segments kept and merged, dot segments kept and removed, in either order: `/a//../b` is `/a/b` by RFC 3986, `/b` to nginx."""
    segments = _cut(path)
    yield segments
    if not _ODD.isdisjoint(segments):
        merged = _merged(segments)
        yield merged
        yield _merged(_without_dots(segments))
        yield _without_dots(merged)


def _cut(path: bytes) -> Segments:
    segments = path.rstrip(b"/").split(b"/")[1:]
    if b"%" in path:
        segments = [_decoded(each) for each in segments]
    return tuple(segments)


def _merged(segments: Segments) -> Segments:
    return tuple([each for each in segments if each])


def _without_dots(segments: Segments) -> Segments:
    """RFC 3986, section 5.2.4."""
    kept: list[bytes] = []
    for each in segments:
        if each == b"..":
            del kept[-1:]
        elif each != b".":
            kept.append(each)
    return tuple(kept)


def _decoded(text: bytes) -> bytes:
    """Every escape decoded, also those that come of decoding; what is in lower case stays so."""
    for _ in range(_ROUNDS):
        if b"%" not in text:
            break
        text = unquote_to_bytes(text).lower()
    return text
