"""Who is calling, by a verified token (DESIGN.md section 6, `jwt:`; RFC 7519, RFC 8725). A claim that nobody verified would hand one caller
another's answer: so a claim is only ever read from a token whose signature, times, issuer and audience hold."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NoReturn

from idemproxy.idempotency.messages import Fields, values

ALGORITHMS: Final = (
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Those that a token can be verified by. `none` has no place among them."""
SHARED: Final = frozenset({"HS256", "HS384", "HS512"})
"""Those whose key is a secret that two parties share."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key: the algorithms that it may be used with, its name in a JWKS (None: it has none), and whether, by an algorithm, it made
    what was signed this signature."""

    algorithms: frozenset[str]
    kid: str | None
    signs: Callable[[str, bytes, bytes], bool] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """`jwt:` of a configuration, without its keys. `issuer` and `audience` empty: not asked for. `leeway` is milliseconds that clocks may
    differ."""

    algorithms: frozenset[str]
    issuer: frozenset[str] = frozenset()
    audience: frozenset[str] = frozenset()
    leeway: int = 30_000


class Doubt(Enum):
    """Why a token shows nothing. The words hold nothing of it."""

    ABSENT = "there is no Bearer token in Authorization"
    REPEATED = "Authorization comes more than once"
    MALFORMED = "the token is malformed"
    ALGORITHM = "the token's algorithm is not one of those allowed"
    CRITICAL = "the token has a critical extension, which is not understood"
    UNKNOWN_KEY = "the token is signed by no key that is known"
    SIGNATURE = "the token's signature is wrong"
    EXPIRED = "the token has expired"
    NOT_YET = "the token is not valid yet"
    ISSUER = "the token is of another issuer"
    AUDIENCE = "the token is for another audience"
    CLAIM = "the token has no such claim, or none that is a text or a whole number"


@dataclass(frozen=True, slots=True)
class Doubted:
    """The token shows nothing about its bearer."""

    reason: Doubt


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    tree: dict[str, Any] = field(repr=False)

    def scope_value(self, name: str) -> bytes | Doubted:
        """The claim of that name, as a part of a scope: with the issuer, since a subject is unique only within one (RFC 7519, section
        4.1.2), and with its type, so that a text is never taken for a number."""
        found = self.tree.get(name)
        if not (isinstance(found, str) or type(found) is int) or found == "":
            return Doubted(Doubt.CLAIM)
        return json.dumps([self.tree.get("iss"), found]).encode()


_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.IGNORECASE)
_LONGEST: Final = 16 << 10
_LATEST: Final = 1 << 45
"""Seconds since 1970; a larger number could not be compared as a float."""


def verified(policy: TokenPolicy, keys: Sequence[TrustedKey], fields: Fields, now: float) -> Claims | Doubted:
    """The claims of the Bearer token in Authorization, once everything about it holds. `now` is seconds since 1970. UNKNOWN_KEY says that
    newer keys may tell more."""
    try:
        head, payload, signed, signature = _parsed(fields)
        _check_signature(policy, keys, head, signed, signature)
        claims = _json(payload)
        _check_times(claims, now, policy.leeway / 1_000)
        _check_parties(policy, claims)
    except _Doubting as doubting:
        return Doubted(doubting.reason)
    return Claims(claims)


class _Doubting(Exception):
    def __init__(self, reason: Doubt) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _parsed(fields: Fields) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Head, claims as bytes, what is signed, and the signature (RFC 7515, section 7.1)."""
    found = values(fields, b"authorization")
    if len(found) > 1:
        raise _Doubting(Doubt.REPEATED)
    if not found or not found[0].lower().startswith(b"bearer "):
        raise _Doubting(Doubt.ABSENT)
    token = _BEARER.fullmatch(found[0]) if len(found[0]) <= _LONGEST else None
    if token is None:
        raise _Doubting(Doubt.MALFORMED)
    head, payload, signature = token.groups()
    return _json(_decoded(head)), _decoded(payload), b"%b.%b" % (head, payload), _decoded(signature)


def _decoded(text: bytes) -> bytes:
    """Base64url without padding, in the one way to write it."""
    try:
        plain = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _Doubting(Doubt.MALFORMED) from None
    if base64.urlsafe_b64encode(plain).rstrip(b"=") != text:
        raise _Doubting(Doubt.MALFORMED)
    return plain


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are distinct: about one that has a name twice, two readers can disagree. Raises ValueError."""
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a name comes twice in one object")
    return tree


def _no_constant(_: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError("not JSON")


def _json(text: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(text.decode("utf-8"), object_pairs_hook=distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Doubting(Doubt.MALFORMED) from None
    if not isinstance(tree, dict):
        raise _Doubting(Doubt.MALFORMED)
    return tree


def _check_signature(
    policy: TokenPolicy, keys: Sequence[TrustedKey], head: dict[str, Any], signed: bytes, signature: bytes
) -> None:
    algorithm, kid = head.get("alg"), head.get("kid")
    if not isinstance(algorithm, str) or algorithm not in policy.algorithms or algorithm not in ALGORITHMS:
        raise _Doubting(Doubt.ALGORITHM)
    if "crit" in head:
        raise _Doubting(Doubt.CRITICAL)
    fitting = [each for each in keys if algorithm in each.algorithms and (kid is None or each.kid in (kid, None))]
    if any(each.signs(algorithm, signed, signature) for each in fitting):
        return
    named = kid is not None and any(each.kid == kid for each in fitting)
    raise _Doubting(Doubt.SIGNATURE if named else Doubt.UNKNOWN_KEY)


def _check_times(claims: dict[str, Any], now: float, leeway: float) -> None:
    expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is not None and now >= expires + leeway:
        raise _Doubting(Doubt.EXPIRED)
    if any(each is not None and each > now + leeway for each in (begins, issued)):
        raise _Doubting(Doubt.NOT_YET)


def _time(claims: dict[str, Any], name: str) -> int | float | None:
    """A NumericDate (RFC 7519, section 2)."""
    found: Any = claims.get(name)
    if name not in claims:
        return None
    if type(found) not in (int, float) or not abs(found) <= _LATEST:
        raise _Doubting(Doubt.MALFORMED)
    time: int | float = found
    return time


def _check_parties(policy: TokenPolicy, claims: dict[str, Any]) -> None:
    """An audience that is not ours is refused also where none is configured (RFC 7519, section 4.1.3): the upstream would refuse it, and a
    replay does not ask the upstream."""
    issuer = claims.get("iss")
    if policy.issuer and not (isinstance(issuer, str) and issuer in policy.issuer):
        raise _Doubting(Doubt.ISSUER)
    if "iss" in claims and not isinstance(issuer, str):
        raise _Doubting(Doubt.MALFORMED)
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    ours = [each for each in named if isinstance(each, str) and each in policy.audience]
    if (policy.audience or "aud" in claims) and not ours:
        raise _Doubting(Doubt.AUDIENCE)
