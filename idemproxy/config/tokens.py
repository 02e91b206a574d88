"""The keys that `jwt:` scopes are verified with: `jwt:` at the top. No fault that is told here shows a piece of a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from idemproxy.config.faults import Faults, nearest, one_of
from idemproxy.config.kinds import (
    INVALID,
    Listing,
    Schema,
    Words,
    WrongError,
    timeout,
)
from idemproxy.config.settings import JwtSettings, KeySetUrl
from idemproxy.config.table import Field, Found, Table
from idemproxy.config.tree import Branch, Node
from idemproxy.config.verify import SecretText, Written
from idemproxy.idempotency.jwt_claims import ALGORITHMS, SHARED, TokenPolicy, TrustedKey
from idemproxy.idempotency.routes import Rule, claims_of

_LARGEST_FILE: Final = 256 << 10


_ALGORITHM: Final = f"write one of {', '.join(ALGORITHMS)}"
_KEY: Final = "write {secret: TEXT}, {pem: FILE} or {jwks: FILE or URL}"
_JWKS: Final = "write the path of a JWK set, or its URL, such as https://login.example.com/.well-known/jwks.json"
_TEXT: Final = "write a text"


def _algorithm(text: str) -> str:
    if text in ALGORITHMS:
        return text
    if text.lower() == "none":
        raise WrongError("which would let anybody write a token", _ALGORITHM)
    close = nearest(text, ALGORITHMS)
    raise WrongError("", _ALGORITHM, f"did you mean {close}?" if close else "")


def _contents(path: str, right: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no such name"
        raise WrongError(f"a file that cannot be read ({why})", right) from None
    if len(text) > _LARGEST_FILE:
        raise WrongError("a file that is too large for keys", right)
    return text


def _from_file(read: Callable[[bytes], tuple[TrustedKey, ...]], path: str, right: str) -> tuple[TrustedKey, ...]:
    from idemproxy.idempotency.jwt_keys import BadKey

    try:
        return read(_contents(path, right))
    except BadKey as bad:
        raise WrongError(f"a file of no use: {bad}", right) from None


_PEM: Final = "write the path of a public key or a certificate (PEM)"
_URL: Final = re.compile(
    r"https?://(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:/[!-\"$-~]*)?", re.IGNORECASE
)


def _pem(text: str) -> object:
    from idemproxy.idempotency.jwt_keys import pem_key

    return _from_file(lambda contents: (pem_key(contents),), text, _PEM)


def _jwks(text: str) -> object:
    if "://" not in text:
        from idemproxy.idempotency.jwt_keys import jwks_keys

        return _from_file(lambda contents: jwks_keys(contents, public_only=False), text, _JWKS)
    if not _URL.fullmatch(text):
        raise WrongError("no http(s) URL without credentials", _JWKS)
    return KeySetUrl(text)


_KEY_TABLE: Final = Table(
    "jwt.keys",
    (
        Field("secret", SecretText(), "A shared secret, for HS256, HS384 and HS512."),
        Field("pem", Words(_pem, _PEM, {"minLength": 1}), "A file with a public key or a certificate (PEM)."),
        Field("jwks", Words(_jwks, _JWKS, {"minLength": 1}), "A JWK set: a file, or a URL that is fetched again."),
    ),
)


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """One place that keys come from: a tuple of TrustedKey, or a KeySetUrl."""

    def read(self, node: Node, path: str, faults: Faults) -> object:
        if isinstance(node, Branch) and len(node.entries) != 1:
            faults.add(node.place, path, "is not one key", _KEY)
            return INVALID
        found = _KEY_TABLE.read(node, path, faults)
        assert isinstance(found, Found)
        values = [item.value for item in found.items.values()]
        if not values or values[0] is INVALID:
            return INVALID
        return _of_secret(values[0], faults) if isinstance(values[0], Written) else values[0]

    def schema(self) -> Schema:
        return {**_KEY_TABLE.schema(), "minProperties": 1, "maxProperties": 1}


def _of_secret(written: Written, faults: Faults) -> object:
    from idemproxy.idempotency.jwt_keys import BadKey, shared_key

    try:
        return (shared_key(written.text.encode("utf-8", "surrogateescape")),)
    except BadKey as bad:
        faults.add(written.place, written.path, f"is of no use: {bad}", "use the secret that signs the tokens")
        return INVALID


_TEXTS: Final = Listing(Words(lambda text: _some(text), _TEXT, {"minLength": 1}), "texts")


def _some(text: str) -> str:
    if not text:
        raise WrongError("empty", _TEXT)
    return text


JWT = Table(
    "jwt",
    (
        Field("keys", Listing(TokenKeys(), "keys", 1, alone=False), "What tokens are verified with.", required=True),
        Field(
            "algorithms",
            Listing(Words(_algorithm, _ALGORITHM, {"enum": list(ALGORITHMS)}), "algorithms", 1),
            "The algorithms that are allowed, as the issuer uses them.",
            required=True,
        ),
        Field("issuer", _TEXTS, "Whose tokens count (iss); [] is any issuer that has one of the keys.", []),
        Field("audience", _TEXTS, "Whom a token must be for (aud); [] takes only tokens that are for nobody.", []),
        Field("leeway", timeout("10m", "30s"), "How far clocks may differ.", "30s"),
    ),
)


def jwt_settings(top: Found, faults: Faults) -> JwtSettings | None:
    """`jwt:` of the merged top; None without it. Keys and algorithms that do not fit each other go to `faults`."""
    found = top.inner("jwt")
    keys, algorithms = found.get("keys", tuple), found.get("algorithms", tuple)
    issuer, audience, leeway = found.get("issuer", tuple), found.get("audience", tuple), found.get("leeway", int)
    if keys is None or algorithms is None or issuer is None or audience is None or leeway is None:
        return None
    for name, said, right in _misfits(keys, frozenset(algorithms)):
        item = found.items[name]
        if item.place is not None:
            faults.add(item.place, item.path, said, right)
    return JwtSettings(
        TokenPolicy(frozenset(algorithms), frozenset(issuer), frozenset(audience), leeway),
        tuple(key for each in keys if isinstance(each, tuple) for key in each),
        tuple(replace(each, number=number) for number, each in enumerate(keys) if isinstance(each, KeySetUrl)),
    )


def _misfits(keys: tuple[object, ...], algorithms: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """Setting, what is wrong, and what would be right: an algorithm without a key, and a key without an algorithm."""
    able = [_able(each) for each in keys]
    for name in sorted(algorithms.difference(*able)):
        kind = "a secret that is long enough" if name in SHARED else "a public key of its kind (pem or jwks)"
        yield "algorithms", f"has {name}, which no key here can verify", f"{name} needs {kind}"
    for index, each in enumerate(able):
        if not each & algorithms:
            yield "keys", f"has a key ({index}) that none of the algorithms uses", f"it is for {one_of(sorted(each))}"


def _able(source: object) -> frozenset[str]:
    """What the keys of one place can verify, as far as is known: nothing that a URL publishes is a shared secret."""
    if isinstance(source, tuple):
        return frozenset().union(*(key.algorithms for key in source))
    return frozenset(ALGORITHMS) - SHARED


_LOOPBACK: Final = re.compile(r"localhost|127\.[0-9.]+|\[::1\]", re.IGNORECASE)


def warn_jwt(jwt: JwtSettings, rules: Sequence[Rule]) -> list[str]:
    """What is allowed in `jwt:` and surprising."""
    said = []
    if rules and not any(claims_of(rule) for rule in rules):
        said.append(
            "jwt is there, and no rule's scope has jwt:CLAIM: no token is verified, and a retry with a renewed one is a new operation"
        )
    for each in jwt.urls:
        parts = _URL.fullmatch(each.url)
        if parts is not None and each.url[:5].lower() == "http:" and not _LOOPBACK.fullmatch(parts["host"]):
            said.append("jwt.keys fetches a JWKS without TLS: whoever is on the way can replace the keys")
    if not jwt.policy.audience:
        said.append("jwt has no audience: a token that names one is refused")
    return said
