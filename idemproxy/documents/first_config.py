"""A first configuration out of a description: a rule for each POST and PATCH operation, and for each PUT and DELETE that declares a key,
with comments that say what was found and what was not. What the description does not say is left to idemproxy's defaults."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from idemproxy import config
from idemproxy.config import values
from idemproxy.config.kinds import WrongError
from idemproxy.config.settings import TcpAddress
from idemproxy.documents.declared import Callers, DeclaredKey, callers_of, key_of
from idemproxy.documents.description import Description, Operation
from idemproxy.errors import ConfigError, DescriptionError
from idemproxy.idempotency.paths import pattern_readings

_UNSAFE: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})
PLACEHOLDER: Final = "http://127.0.0.1:9000"
_MOST_OPERATIONS: Final = 2_000
"""A configuration holds no more than 20,000 values: about 3,000 rules, or fewer that differ much."""
_COMMON_HEADERS: Final = ("Idempotency-Key",)
_COMMON_LENGTH: Final = 255
_UUID_LENGTH: Final = 36
_COMMON_SCOPE: Final = ("header:Authorization",)
_Any = TypeVar("_Any")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule says of key and scope."""

    headers: tuple[str, ...] = _COMMON_HEADERS
    required: bool = False
    form: str = "any"
    max_length: int = _COMMON_LENGTH
    scope: tuple[str, ...] = _COMMON_SCOPE


@dataclass(frozen=True, slots=True)
class Draft:
    """A rule to be: `notes` become comments."""

    name: str
    method: str
    path: str
    terms: Terms
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An operation that no rule was made for, and why."""

    method: str
    path: str
    why: str


def first_config(description: Description) -> str:
    """The YAML text of a configuration that loads. Raises DescriptionError."""
    pairs = [(each, key_of(description, each)) for each in description.operations() if each.method in _UNSAFE]
    found = [(each, key) for each, key in pairs if each.method in ("POST", "PATCH") or key is not None]
    keys = [key for _, key in found]
    callers = [callers_of(description, each) for each, _ in found]
    common = _most([key.headers for key in keys if key is not None], _COMMON_HEADERS)
    scope = _most([each.scope for each in callers if each.scope], _COMMON_SCOPE)
    if len(found) > _MOST_OPERATIONS:
        raise DescriptionError(
            f"{description.document.name}: has {len(found)} operations, more than the {_MOST_OPERATIONS} that a configuration is made for; "
            "split the description"
        )
    drafts: list[Draft] = []
    left_out: list[LeftOut] = []
    declares = any(key is not None for key in keys)
    for (operation, key), who in zip(found, callers, strict=True):
        terms = _terms(key, who, common, scope)
        try:
            path = _path(description, operation)
        except WrongError as error:
            left_out.append(LeftOut(operation.method, operation.path, _words(error)))
            continue
        drafts.append(Draft("", operation.method, path, terms, tuple(_notes(operation, key, who, declares=declares))))
        drafts[-1] = _named(drafts[-1], operation)
    drafts, shadowed = _ordered(drafts)
    text = "\n".join(_lines(description, _distinct(drafts), left_out + shadowed, declares=declares)) + "\n"
    try:
        config.load_text(text, "the configuration", {})
    except ConfigError as error:
        first = str(error).partition("\n")[0]
        raise DescriptionError(
            f"{description.document.name}: no configuration can hold its {len(drafts)} operations ({first}); split the description"
        ) from None
    return text


def _most(found: list[_Any], otherwise: _Any) -> _Any:
    return Counter(found).most_common(1)[0][0] if found else otherwise


def _terms(key: DeclaredKey | None, who: Callers, headers: tuple[str, ...], scope: tuple[str, ...]) -> Terms:
    scope = who.scope or scope
    if key is None:
        return Terms(headers, scope=scope)
    length = key.max_length or _COMMON_LENGTH
    if key.uuid and length < _UUID_LENGTH:
        length = _COMMON_LENGTH
    return Terms(key.headers, key.required, "uuid" if key.uuid else "any", length, scope)


# ---------------------------------------------------------------------------------------------------------------------- paths

_SEGMENT: Final = re.compile(r"\{([^{}/]*)\}")


def _path(description: Description, operation: Operation) -> str:
    """The path as a rule has it. Raises WrongError for one that no rule can say."""
    servers = description.servers(operation)
    base = servers[0].base if servers else ""
    taken: dict[str, None] = {}
    segments = []
    for segment in (base + operation.path).split("/")[1:]:
        whole = _SEGMENT.fullmatch(segment)
        segments.append(_literal(segment) if whole is None else f"{{{_free(whole[1], taken)}}}")
    return values.path("/" + "/".join(segments))


def _literal(segment: str) -> str:
    if segment == "**":
        raise WrongError("with a {name} or * that is not a whole segment", values.PATH)
    return quote(segment, safe="!$&'()*+,:;=@~%{}?#\\\"<>^`| ")


def _free(name: str, taken: dict[str, None]) -> str:
    """A name of letters, digits and `_` that the path has not yet."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name) or "segment"
    clean = clean if re.match(r"[A-Za-z_]", clean) else f"_{clean}"
    number, free = 2, clean
    while free in taken:
        free, number = f"{clean}_{number}", number + 1
    taken[free] = None
    return free


def _words(error: WrongError) -> str:
    return f"no rule can say this path: it is one {error}"


def _ordered(drafts: list[Draft]) -> tuple[list[Draft], list[LeftOut]]:
    """Literal segments before {names}, since the first rule that matches counts; those of which another one takes all requests apart."""
    kept: list[Draft] = []
    apart: list[LeftOut] = []
    seen: dict[object, Draft] = {}
    for each in sorted(drafts, key=lambda each: (_rank(each.path), each.method != "POST")):
        reading = (each.method, frozenset(pattern_readings(each.path)))
        if reading in seen:
            apart.append(LeftOut(each.method, each.path, f"its requests meet the rule for {seen[reading].path}"))
        else:
            seen[reading] = each
            kept.append(each)
    return kept, apart


def _rank(path: str) -> tuple[tuple[bool, str], ...]:
    return tuple((part.startswith("{"), part.lower()) for part in path.split("/")[1:])


# ---------------------------------------------------------------------------------------------------------------------- names


def _named(draft: Draft, operation: Operation) -> Draft:
    said = operation.node.text("operationId") or f"{draft.method.lower()}{draft.path}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("._-")[:56].rstrip("._-")
    return Draft(name or "operation", draft.method, draft.path, draft.terms, draft.notes)


def _distinct(drafts: list[Draft]) -> list[Draft]:
    """Each name once; the later ones of the same name get a number."""
    taken: set[str] = set()
    named = []
    for each in drafts:
        number, name = 2, each.name
        while name in taken:
            name, number = f"{each.name}-{number}", number + 1
        taken.add(name)
        named.append(Draft(name, each.method, each.path, each.terms, each.notes))
    return named


# ---------------------------------------------------------------------------------------------------------------------- texts


def _notes(operation: Operation, key: DeclaredKey | None, who: Callers, *, declares: bool) -> Iterator[str]:
    summary = operation.node.text("summary") or ""
    if summary:
        yield _one_line(summary)
    if declares and key is None:
        yield "The description declares no key here."
    if who.open:
        yield "It asks for no credentials: callers without any share one scope."
    for words in who.unsayable:
        yield f"Callers also show {words}: is the scope below enough to tell them apart?"


def _one_line(text: str) -> str:
    """What a comment can hold."""
    line = " ".join(text[:400].split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _lines(description: Description, drafts: list[Draft], left_out: list[LeftOut], *, declares: bool) -> Iterator[str]:
    shared = Terms(
        _most([each.terms.headers for each in drafts], _COMMON_HEADERS),
        _most([each.terms.required for each in drafts], otherwise=False),
        _most([each.terms.form for each in drafts], "any"),
        _most([each.terms.max_length for each in drafts], _COMMON_LENGTH),
        _most([each.terms.scope for each in drafts], _COMMON_SCOPE),
    )
    yield from _head(description)
    yield from _addresses(description)
    yield ""
    yield _told("defaults:", "for every rule; a rule overrides them")
    yield from _shared(shared, declares=declares)
    yield ""
    yield from _routes(drafts, shared)
    if left_out:
        yield ""
        yield "# Not protected, since no rule was made for them:"
        yield from (f"#   {each.method} {_one_line(each.path)}: {_one_line(each.why)}" for each in left_out)
    if description.untold:
        yield ""
        yield "# References into other files were not followed; what they lead to is missing here:"
        yield from (f"#   {_one_line(what)} ({_one_line(place)})" for place, what in description.untold.items())


def _head(description: Description) -> Iterator[str]:
    title, version = description.root.text("info", "title"), description.root.text("info", "version")
    of = _one_line(" ".join(each for each in (title, version) if each)) or "this API"
    yield f"# A first configuration of idemproxy for {of},"
    yield f"# made of {_one_line(Path(description.document.name).name)} by `idemproxy init`: a rule for each POST and PATCH operation,"
    yield "# and for each PUT and DELETE that declares a key."
    yield "# Read it through, then `idemproxy check FILE` and `idemproxy run --config FILE`. config.example.yaml shows every setting."
    yield ""


def _addresses(description: Description) -> Iterator[str]:
    servers = description.servers()
    upstream, why = PLACEHOLDER, "a placeholder: write the address of the service itself"
    if servers and servers[0].origin:
        try:
            values.upstream(servers[0].origin)
            upstream, why = servers[0].origin, "the description's first server: write the address of the service itself"
        except WrongError:
            why = (
                f"a placeholder: the description's server ({_one_line(servers[0].origin)}) is no address of an upstream"
            )
    address = values.upstream(upstream).address
    port = 8081 if isinstance(address, TcpAddress) and address.port == 8080 else 8080
    yield _told(f"listen: 127.0.0.1:{port}", "where clients connect: host:port or unix:/path")
    yield _told(f"upstream: {_scalar(upstream)}", why)
    yield _told("store: sqlite:idemproxy.db", "for one machine; redis://host:6379/0 for several")
    others = [each.origin for each in servers[1:] if each.origin]
    if others:
        yield f"# Other servers of the description: {_one_line(', '.join(others))}"


def _shared(shared: Terms, *, declares: bool) -> Iterator[str]:
    said = "as the description declares it" if declares else "the description declares none; this is the usual one"
    yield "  key:"
    yield _told(f"    header: {_list(shared.headers)}", said)
    no_key = "no key: 400" if shared.required else "no key: forwarded untouched; true: refused (400)"
    yield _told(f"    required: {_flag(shared.required)}", no_key)
    if shared.form != "any":
        yield _told(
            f"    format: {shared.form}", "as declared; `idemproxy check` tells which common clients it refuses"
        )
    if shared.max_length != _COMMON_LENGTH:
        yield _told(f"    max_length: {shared.max_length}", "bytes, as declared")
    yield _told(f"  scope: {_list(shared.scope)}", "a key is unique within what its caller shows there")
    yield _told("  ttl: 24h", "how long an answer is remembered: longer than any client goes on trying")


def _routes(drafts: list[Draft], shared: Terms) -> Iterator[str]:
    if not drafts:
        yield _told("routes: []", "the description has no POST or PATCH operation that a rule could be made for")
        return
    yield _told("routes:", "the first rule that matches counts; no match: forwarded untouched")
    for draft in drafts:
        yield from (f"  # {note}" for note in draft.notes)
        yield f"  - name: {_scalar(draft.name)}"
        yield f"    match: {{methods: [{draft.method}], path: {_scalar(draft.path)}}}"
        yield from _own(draft.terms, shared)


def _own(terms: Terms, shared: Terms) -> Iterator[str]:
    """What a rule says otherwise than `defaults`."""
    key = []
    if terms.headers != shared.headers:
        key.append(f"header: {_list(terms.headers)}")
    if terms.required is not shared.required:
        key.append(f"required: {_flag(terms.required)}")
    if terms.form != shared.form:
        key.append(f"format: {terms.form}")
    if terms.max_length != shared.max_length:
        key.append(f"max_length: {terms.max_length}")
    if key:
        yield f"    key: {{{', '.join(key)}}}"
    if terms.scope != shared.scope:
        yield f"    scope: {_list(terms.scope)}"


def _told(line: str, comment: str) -> str:
    return f"{line:<33} # {comment}"


_SIMPLE: Final = re.compile(r"(?:https?://[A-Za-z0-9.-]+(?::[0-9]+)?|/?[A-Za-z][A-Za-z0-9_./-]*)")
_NOT_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def _scalar(text: str) -> str:
    """A text as YAML has it."""
    if _SIMPLE.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_scalar(each) for each in texts)}]"


def _flag(value: bool) -> str:
    return "true" if value else "false"
