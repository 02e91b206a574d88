"""Who is calling (scope) and which operation (key): together the record's id (DESIGN.md section 4, *Identity*)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

import msgspec

from idemproxy.idempotency.framing import framed
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.paths import split_target
from idemproxy.idempotency.routes import (
    CertificateScope,
    ClaimScope,
    CookieScope,
    HeaderScope,
    LiteralScope,
    PathScope,
    Rule,
    ScopePart,
)
from idemproxy.idempotency.template import cookies, segment

SHORT = 12


class Key(msgspec.Struct, frozen=True):
    """The string that names an operation. `derived`: no client wrote it, it was made of what the request says."""

    value: bytes
    derived: bool = False


@dataclass(frozen=True, slots=True)
class NoKey:
    """No field that the rule reads a key from is there."""


@dataclass(frozen=True, slots=True)
class BadKey:
    """A key that cannot be used; `detail` says why, and never what it is."""

    detail: str


class _Malformed(Exception):
    """The message is the detail."""


_PARAMETER = rb"""; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[^"\\]|\\["\\])*"|[^",; ]+))?"""
_QUOTED = re.compile(rb"""[ ]*"((?:[^"\\]|\\["\\])*)"(?:""" + _PARAMETER + rb""")*[ ]*(?:,|\Z)""")
_BARE = re.compile(rb"""[ ]*([^", ](?:[^",]*[^", ])?)[ ]*(?:,|\Z)""")
_ESCAPE = re.compile(rb"""\\(["\\])""")
_PRINTABLE = re.compile(rb"[ -~]*")
_SIMPLE = re.compile(rb"[!#-+\--~]+")
"""What nearly every key is: nothing in it could mean anything else."""


def read_key(rule: Rule, fields: Fields) -> Key | NoKey | BadKey:
    """The key of a request. A quoted string (RFC 8941, section 3.3.3; its parameters mean nothing here) and its bare form are one key.
    The same key several times, in several fields or joined by commas, is that key, since a hop may join or repeat fields; different
    ones are none, and so is a bare key with a comma in it, which cannot be told from two."""
    found = [value for name in rule.key.headers for value in values(fields, name)]
    if not found:
        return NoKey()
    try:
        keys = {found[0]} if len(found) == 1 and _SIMPLE.fullmatch(found[0]) else _all_keys(found)
    except _Malformed as error:
        return BadKey(f"{error} Nothing was executed.")
    if len(keys) > 1:
        return BadKey(
            "The request carries several different idempotency keys, or one with a comma in it: send one, in quotation marks. "
            "Nothing was executed."
        )
    (key,) = keys
    if not key:
        return BadKey("The idempotency key is empty. Nothing was executed.")
    if len(key) > rule.key.max_length:
        return BadKey(f"The idempotency key is longer than {rule.key.max_length} bytes. Nothing was executed.")
    if rule.key.pattern is not None and not rule.key.pattern.whole(key):
        return BadKey(f"The idempotency key is not of the format {rule.key.form}. Nothing was executed.")
    return Key(key)


def _all_keys(found: list[bytes]) -> set[bytes]:
    return {key for value in found for key in _keys(value)}


def _keys(value: bytes) -> Iterator[bytes]:
    """The keys that one field's value names: at least one."""
    if _SIMPLE.fullmatch(value):
        yield value
        return
    if not _PRINTABLE.fullmatch(value):
        raise _Malformed("The idempotency key holds a character that is not printable ASCII.")
    if not value.strip(b" "):
        yield b""
        return
    at, more = 0, True
    while more:
        member = _BARE.match(value, at)
        if member is not None:
            yield member[1]
        else:
            member = _QUOTED.match(value, at)
            if member is None:
                raise _Malformed(
                    "The idempotency key is malformed: send it bare, without quotation marks or commas in it, or as a quoted string."
                )
            yield _ESCAPE.sub(rb"\1", member[1])
        at, more = member.end(), member[0].endswith(b",")


_NO_CLAIMS: Mapping[str, bytes] = MappingProxyType({})


def scope_values(
    rule: Rule,
    fields: Fields,
    target: bytes = b"/",
    certificate: bytes | None = None,
    claims: Mapping[str, bytes] = _NO_CLAIMS,
) -> tuple[bytes | None, ...]:
    """What the key is unique within. An absent part is a value of its own: None. What a pattern found is told from a whole field, so
    that no caller can send another's group as a field that does not match. `certificate` is the client's, verified (DER); `claims` are
    its token's, verified, one for each ClaimScope."""
    return tuple([_scope_value(part, rule, fields, target, certificate, claims) for part in rule.scope])


def _scope_value(
    part: ScopePart,
    rule: Rule,
    fields: Fields,
    target: bytes,
    certificate: bytes | None,
    claims: Mapping[str, bytes],
) -> bytes | None:
    match part:
        case LiteralScope(text):
            return text
        case HeaderScope(name, pattern):
            found = values(fields, name)
            if not found:
                return None
            if pattern is not None and len(found) == 1 and (group := pattern.found(found[0])) is not None:
                return framed(b"group", group)
            return framed(b"whole", *found)
        case CookieScope(name):
            found = cookies(name, fields)
            return framed(b"cookie", *found) if found else None
        case PathScope(named):
            found = segment(named, rule.match.path, split_target(target)[1])
            return framed(b"path", *found) if found else None
        case CertificateScope():
            return None if certificate is None else framed(b"certificate", hashlib.sha256(certificate).digest())
        case ClaimScope(name):
            return framed(b"claim", name.encode(), claims[name])
        case other:
            assert_never(other)


def record_id(namespace: str, scope: tuple[bytes | None, ...], key: bytes) -> str:
    """SHA-256 over namespace, scope and key, framed so that no two of them can be mistaken for others: 64 hexadecimal digits."""
    parts = [b"absent" if value is None else framed(b"present", value) for value in scope]
    return hashlib.sha256(framed(b"idemproxy id 1", namespace.encode(), framed(*parts), key)).hexdigest()


def short_id(record_id: str) -> str:
    """The digits by which people and log lines name a record."""
    return record_id[:SHORT]
