"""Who is calling (scope) and which operation (key): together the record's id (DESIGN.md section 4, *Identity*)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.routes import HeaderScope, LiteralScope, Rule

SHORT = 12


@dataclass(frozen=True, slots=True)
class Key:
    """The string that names an operation."""

    value: bytes


@dataclass(frozen=True, slots=True)
class NoKey:
    """No field that the rule reads a key from is there."""


@dataclass(frozen=True, slots=True)
class BadKey:
    """A key that cannot be used; `detail` says why, and never what it is."""

    detail: str


class _Malformed(Exception):
    """The message is the detail."""


def read_key(rule: Rule, fields: Fields) -> Key | NoKey | BadKey:
    """The key of a request. A quoted string (RFC 8941, section 3.3.3) and its bare form are one key; the same key given several
    times, in several fields or joined by commas, is that key."""
    found = [value for name in rule.key.headers for value in values(fields, name)]
    if not found:
        return NoKey()
    try:
        keys = {key for value in found for key in _keys(value)}
    except _Malformed as error:
        return BadKey(f"{error} Nothing was executed.")
    if len(keys) > 1:
        return BadKey("The request carries several different idempotency keys. Nothing was executed.")
    (key,) = keys
    if not key:
        return BadKey("The idempotency key is empty. Nothing was executed.")
    if len(key) > rule.key.max_length:
        return BadKey(f"The idempotency key is longer than {rule.key.max_length} bytes. Nothing was executed.")
    if rule.key.pattern is not None and rule.key.pattern.fullmatch(key) is None:
        return BadKey(f"The idempotency key is not of the format {rule.key.form}. Nothing was executed.")
    return Key(key)


def _keys(value: bytes) -> Iterable[bytes]:
    """The keys that one field's value names: a list where a hop joined repeated fields."""
    if any(byte < 0x20 or byte > 0x7E for byte in value):
        raise _Malformed("The idempotency key holds a character that is not printable ASCII.")
    rest = value
    while True:
        if rest.startswith(b'"'):
            key, rest = _quoted(rest)
        else:
            bare, comma, after = rest.partition(b",")
            key, rest = bare.strip(), comma + after
            if b'"' in key:
                raise _Malformed("The idempotency key has a quotation mark inside: send it as a quoted string.")
        yield key
        if not rest:
            return
        rest = rest[1:].lstrip()


def _quoted(value: bytes) -> tuple[bytes, bytes]:
    """The string that `value` begins with, unescaped, and what follows it and its parameters: nothing, or a comma."""
    key, at = bytearray(), 1
    while at < len(value) and value[at : at + 1] != b'"':
        if value[at : at + 1] == b"\\":
            at += 1
            if value[at : at + 1] not in (b'"', b"\\"):
                raise _Malformed("The idempotency key is a malformed quoted string.")
        key += value[at : at + 1]
        at += 1
    if at >= len(value):
        raise _Malformed("The idempotency key is a malformed quoted string.")
    parameters, comma, after = value[at + 1 :].partition(b",")
    if parameters.strip() and not parameters.lstrip().startswith(b";"):
        raise _Malformed("The idempotency key is a malformed quoted string.")
    return bytes(key), comma + after


def scope_values(rule: Rule, fields: Fields) -> tuple[bytes | None, ...]:
    """What the key is unique within. An absent field is a value of its own: None."""
    return tuple(_scope_value(part, fields) for part in rule.scope)


def _scope_value(part: HeaderScope | LiteralScope, fields: Fields) -> bytes | None:
    match part:
        case LiteralScope(text):
            return text
        case HeaderScope(name, pattern):
            found = values(fields, name)
            if not found:
                return None
            if pattern is not None and len(found) == 1 and (matched := pattern.search(found[0])) is not None:
                return framed(b"group", matched[1] if pattern.groups else matched[0])
            return framed(b"whole", *found)
        case other:
            assert_never(other)


def record_id(namespace: str, scope: tuple[bytes | None, ...], key: bytes) -> str:
    """SHA-256 over namespace, scope and key, framed so that no two of them can be mistaken for others: 64 hexadecimal digits."""
    parts = [b"absent" if value is None else framed(b"present", value) for value in scope]
    return hashlib.sha256(framed(b"idemproxy id 1", namespace.encode(), framed(*parts), key)).hexdigest()


def short_id(record_id: str) -> str:
    """The digits by which people and log lines name a record."""
    return record_id[:SHORT]


def framed(*parts: bytes) -> bytes:
    """The parts, each behind its length: injective."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
