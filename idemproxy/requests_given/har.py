"""A request from an HTTP archive (HAR 1.2), as browsers and debugging proxies write it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from idemproxy.idempotency.messages import Field
from idemproxy.requests_given.written import RequestUnreadable, Written, parted, written

_CHARSET: Final = re.compile(r';[ \t]*charset="?([A-Za-z0-9._-]{1,40})', re.IGNORECASE)


def read_har(data: bytes, number: int | None) -> Written:
    """The request of the entry with that number, counted from 1; None: of the first. Raises RequestUnreadable."""
    entries = _entries(data)
    if not entries:
        raise RequestUnreadable("it has no entries")
    notes: tuple[str, ...] = ()
    if number is None:
        number = 1
        if len(entries) > 1:
            notes = (f"It has {len(entries)} entries, of which this is the first: see --entry.",)
    if not 1 <= number <= len(entries):
        raise RequestUnreadable(f"it has {len(entries)} entries, and none of number {number}")
    request = _member(_object(entries[number - 1], f"entry {number}"), "request", Mapping, f"entry {number}")
    return _request(request, f"entry {number}", notes)


def _entries(data: bytes) -> list[Any]:
    try:
        archive = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestUnreadable("it is no JSON, which a HAR is: see --request for a raw message") from None
    log = _member(_object(archive, "it"), "log", Mapping, "it")
    entries: list[Any] = _member(log, "entries", list, "its log")
    return entries


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RequestUnreadable(f"{where} is no JSON object: this is no HAR, or one of another shape")
    return value


def _member(of: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = of.get(name)
    if not isinstance(value, kind):
        said = "text" if kind is str else "an array" if kind is list else "an object"
        raise RequestUnreadable(f"{where} has no {name} that is {said}: this is no HAR, or one of another shape")
    return value


def _request(request: Mapping[str, Any], where: str, notes: tuple[str, ...]) -> Written:
    method, url = _member(request, "method", str, where), _member(request, "url", str, where)
    authority, target = parted(url)
    fields = _fields(_member(request, "headers", list, where), where)
    if not any(name.lower() == b"host" for name, _ in fields):
        fields = [(b"Host", authority), *fields]
    return written(_encoded(method, where), target, tuple(fields), _body(request, fields, where), notes)


def _fields(listed: list[Any], where: str) -> list[Field]:
    """The fields, in order. HTTP/2's pseudo-fields are none."""
    fields: list[Field] = []
    for each in listed:
        header = _object(each, f"a header of {where}")
        name, value = _member(header, "name", str, f"a header of {where}"), header.get("value")
        if not isinstance(value, str):
            raise RequestUnreadable(
                f"a header of {where} has no value that is text: this is no HAR, or one of another shape"
            )
        if not name.startswith(":"):
            fields.append((_encoded(name, where), _encoded(value, where)))
    return fields


def _encoded(text: str, where: str) -> bytes:
    """The bytes of a line: one a character, where that can be."""
    try:
        return text.encode("latin-1" if text.isascii() or all(ord(each) < 256 for each in text) else "utf-8")
    except UnicodeEncodeError:
        raise RequestUnreadable(f"{where} has half a character in its head") from None


def _body(request: Mapping[str, Any], fields: list[Field], where: str) -> bytes | None:
    posted = request.get("postData")
    if posted is None:
        if _declared(request, fields):
            raise RequestUnreadable(
                f"{where} had a body that is not in the file: save it with contents, or write the request to a file of its own"
            )
        return None
    posted = _object(posted, f"postData of {where}")
    text, params = posted.get("text"), posted.get("params")
    kind = posted.get("mimeType") or ""
    if not isinstance(text, str) or (not text and params):
        return _of_params(params, str(kind), where)
    if posted.get("encoding") == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise RequestUnreadable(f"the body of {where} is said to be base64, and is not") from None
    named = _CHARSET.search(str(kind))
    try:
        return text.encode(named[1] if named is not None else "utf-8")
    except (UnicodeError, LookupError):
        raise RequestUnreadable(f"the body of {where} cannot be written in the character set that it names") from None


def _of_params(params: object, kind: str, where: str) -> bytes:
    if not isinstance(params, list) or kind.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise RequestUnreadable(
            f"{where} has a body that is not in the file as text: write the request to a file of its own"
        )
    pairs: list[tuple[str, str]] = []
    for each in params:
        param = _object(each, f"a parameter of {where}")
        pairs.append((_member(param, "name", str, f"a parameter of {where}"), str(param.get("value") or "")))
    return urlencode(pairs, errors="surrogatepass").encode()


def _declared(request: Mapping[str, Any], fields: list[Field]) -> bool:
    """Whether the request says that it had a body."""
    size = request.get("bodySize")
    counted = [value for name, value in fields if name.lower() == b"content-length"]
    return (isinstance(size, int) and size > 0) or any(value.strip(b"0") for value in counted)
