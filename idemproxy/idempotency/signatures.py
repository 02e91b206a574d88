"""Signatures of webhooks (DESIGN.md section 6, `verify`): whether a request comes from the sender that holds a secret. It is asked before
a key is claimed, so that a forger cannot burn an event's key.

The rules are the senders' own: Standard Webhooks 1.0.0 (*Signature scheme*), Stripe (*Verify manually*), GitHub (*Validating webhook
deliveries*), Shopify (*Verify webhook deliveries*), Slack (*Verifying requests from Slack*). All of them are an HMAC-SHA256 over the body
as it was sent. Where this is stricter than a sender's own library, it refuses what that sender never sends."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, assert_never

from idemproxy.idempotency.messages import Fields, values


class Scheme(Enum):
    """How a sender signs."""

    STANDARD_WEBHOOKS = "standard-webhooks"
    STRIPE = "stripe"
    GITHUB = "github"
    SHOPIFY = "shopify"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class Secret:
    """The key of an HMAC. Nothing shows it."""

    key: bytes = field(repr=False)


class WrongSecret(ValueError):
    """A text that is no secret of its scheme. The message says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Verification:
    """`verify:` of a rule. Any of the secrets may have signed. `tolerance` is milliseconds that a signed time may be off, either way."""

    scheme: Scheme
    secrets: tuple[Secret, ...]
    tolerance: int = 300_000


@dataclass(frozen=True, slots=True)
class Verified:
    """One of the secrets signed this request."""


class Refusal(Enum):
    """Why a request is not taken for the sender's. The words hold nothing of the request or of a secret."""

    ABSENT = "a header field of the signature is absent"
    REPEATED = "a header field of the signature comes more than once, or twice with different values"
    MALFORMED = "a header field of the signature is malformed"
    NO_VERSION = "there is no signature of the version that is verified"
    TOO_OLD = "the time that it was signed at is too long ago"
    TOO_NEW = "the time that it was signed at is too far in the future"
    MISMATCH = "no signature matches"


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not shown to be the sender's."""

    reason: Refusal


_STRIPE: Final = b"stripe-signature"
_GITHUB: Final = b"x-hub-signature-256"
_SHOPIFY: Final = b"x-shopify-hmac-sha256"
_SLACK: Final = b"x-slack-signature"
_SLACK_TIME: Final = b"x-slack-request-timestamp"
_ID: Final = (b"webhook-id", b"svix-id")
_TIME: Final = (b"webhook-timestamp", b"svix-timestamp")
_SIGNATURE: Final = (b"webhook-signature", b"svix-signature")

SIGNED_FIELDS: Final[Mapping[Scheme, frozenset[bytes]]] = MappingProxyType(
    {
        Scheme.STANDARD_WEBHOOKS: frozenset({*_ID, *_TIME, *_SIGNATURE}),
        Scheme.STRIPE: frozenset({_STRIPE}),
        Scheme.GITHUB: frozenset({_GITHUB}),
        Scheme.SHOPIFY: frozenset({_SHOPIFY}),
        Scheme.SLACK: frozenset({_SLACK, _SLACK_TIME}),
    }
)
"""The header fields that each scheme reads, in lower case."""

_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_IDENTIFIER: Final = re.compile(rb"[!-\-/-~]{1,255}")
"""Printable and without a full stop: with one in it, the end of the id could be taken for the time (the specification says so)."""
_MOST_SIGNATURES: Final = 32
_PREFIX: Final = "whsec_"


def secret_of(scheme: Scheme, text: str) -> Secret:
    """The key that a secret, as the sender shows it, stands for. Raises WrongSecret."""
    if not text.strip():
        raise WrongSecret("it is empty")
    if scheme is not Scheme.STANDARD_WEBHOOKS:
        return Secret(text.encode("utf-8", "surrogateescape"))
    if text.startswith(("whsk_", "whpk_")):
        raise WrongSecret("it is an asymmetric key (v1a), and only v1 is verified")
    encoded = text.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongSecret(f"it is not {_PREFIX} and base64") from None
    if not key:
        raise WrongSecret("it is empty")
    return Secret(key)


def verify(by: Verification, fields: Fields, body: bytes, now: float) -> Verified | Refused:
    """Whether one of the secrets signed these fields and this body. `now` is seconds since 1970, by the wall clock."""
    try:
        match by.scheme:
            case Scheme.STANDARD_WEBHOOKS:
                signed, signatures, encode = _standard(by, fields, now)
            case Scheme.STRIPE:
                signed, signatures, encode = _stripe(by, fields, now)
            case Scheme.GITHUB:
                signed, signatures, encode = b"", [_after(b"sha256=", _only(fields, _GITHUB))], _hex
            case Scheme.SHOPIFY:
                signed, signatures, encode = b"", [_only(fields, _SHOPIFY)], _base64
            case Scheme.SLACK:
                signed, signatures, encode = _slack(by, fields, now)
            case other:
                assert_never(other)
    except _Refuse as refuse:
        return Refused(refuse.reason)
    expected = [encode(_hmac(secret, signed, body)) for secret in by.secrets]
    return Verified() if _any_equal(expected, signatures) else Refused(Refusal.MISMATCH)


Parts = tuple[bytes, Sequence[bytes], Callable[[bytes], bytes]]
"""What is signed before the body, the signatures that came, and how a digest is written as one of them."""


class _Refuse(Exception):
    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _standard(by: Verification, fields: Fields, now: float) -> Parts:
    identifier, time, listed = (_only(fields, *names) for names in (_ID, _TIME, _SIGNATURE))
    if _IDENTIFIER.fullmatch(identifier) is None:
        raise _Refuse(Refusal.MALFORMED)
    _check_time(time, now, by.tolerance)
    pairs = [each.partition(b",") for each in _split(listed, b" ")]
    if any(not comma for _, comma, _ in pairs):
        raise _Refuse(Refusal.MALFORMED)
    return b"%b.%b." % (identifier, time), _of_version(b"v1", pairs), _base64


def _stripe(by: Verification, fields: Fields, now: float) -> Parts:
    pairs = [each.partition(b"=") for each in _split(_only(fields, _STRIPE), b",")]
    times = [value for name, _, value in pairs if name == b"t"]
    if any(not equals for _, equals, _ in pairs) or len(times) != 1:
        raise _Refuse(Refusal.MALFORMED)
    _check_time(times[0], now, by.tolerance)
    return times[0] + b".", _of_version(b"v1", pairs), _hex


def _slack(by: Verification, fields: Fields, now: float) -> Parts:
    time = _only(fields, _SLACK_TIME)
    signature = _after(b"v0=", _only(fields, _SLACK))
    _check_time(time, now, by.tolerance)
    return b"v0:%b:" % time, [signature], _hex


def _only(fields: Fields, *names: bytes) -> bytes:
    """The value of a field that may come once, under any of its names. Under several of them it says the same each time, so that a key
    is never read from a name that was not verified."""
    found = [values(fields, name) for name in names]
    if any(len(each) > 1 for each in found):
        raise _Refuse(Refusal.REPEATED)
    different = {value for each in found for value in each}
    if len(different) > 1:
        raise _Refuse(Refusal.REPEATED)
    if not different:
        raise _Refuse(Refusal.ABSENT)
    return different.pop()


def _split(text: bytes, separator: bytes) -> list[bytes]:
    pieces = text.split(separator, _MOST_SIGNATURES)
    if len(pieces) > _MOST_SIGNATURES:
        raise _Refuse(Refusal.MALFORMED)
    return pieces


def _of_version(version: bytes, pairs: list[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    """The signatures of the only version that is safe: no other one is ever a way around it."""
    found = [value for name, _, value in pairs if name == version]
    if not found:
        raise _Refuse(Refusal.NO_VERSION)
    return found


def _after(prefix: bytes, text: bytes) -> bytes:
    if not text.startswith(prefix):
        raise _Refuse(Refusal.NO_VERSION)
    return text[len(prefix) :]


def _check_time(text: bytes, now: float, tolerance: int) -> None:
    if _SECONDS.fullmatch(text) is None:
        raise _Refuse(Refusal.MALFORMED)
    ahead = int(text) - now
    if ahead * 1_000 < -tolerance:
        raise _Refuse(Refusal.TOO_OLD)
    if ahead * 1_000 > tolerance:
        raise _Refuse(Refusal.TOO_NEW)


def _hmac(secret: Secret, signed: bytes, body: bytes) -> bytes:
    mac = hmac.new(secret.key, signed, "sha256")
    mac.update(body)
    return mac.digest()


def _hex(digest: bytes) -> bytes:
    return digest.hex().encode()


def _base64(digest: bytes) -> bytes:
    return base64.b64encode(digest)


def _any_equal(expected: Sequence[bytes], signatures: Sequence[bytes]) -> bool:
    """Every pair is compared, each in constant time: how long it takes says nothing about which one matched, or how far."""
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in signatures]
    return any(matches)
