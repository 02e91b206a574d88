"""Keys that tokens are verified with (RFC 7517, RFC 7518). What a key may verify is decided by what it is, never by what a token says:
no public key is ever taken for a shared secret.

This loads a library of some megabytes: import it where there are tokens to verify."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import (
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    RSAPSSAlgorithm,
)
from jwt.exceptions import PyJWTError

from idemproxy.idempotency.jwt_claims import TrustedKey, distinct

Verifier = HMACAlgorithm | RSAAlgorithm | ECAlgorithm | OKPAlgorithm

VERIFIERS: Final[Mapping[str, Verifier]] = MappingProxyType(
    {
        "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
        "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
        "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
        "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
        "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
        "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
        "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
        "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
        "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
        "ES256": ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1),
        "ES384": ECAlgorithm(ECAlgorithm.SHA384, ec.SECP384R1),
        "ES512": ECAlgorithm(ECAlgorithm.SHA512, ec.SECP521R1),
        "EdDSA": OKPAlgorithm(),
    }
)
"""What each algorithm's name means."""

_HMAC_BYTES: Final = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""The shortest secret of each (RFC 7518, section 3.2)."""
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = MappingProxyType({"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"})
_SHORTEST_RSA: Final = 2048
MOST_KEYS: Final = 100


class BadKey(ValueError):
    """Not a key that a token can be verified with. The message says why, and holds nothing of it."""


def _trusted(algorithms: frozenset[str], kid: str | None, material: Any) -> TrustedKey:
    def signs(algorithm: str, signed: bytes, signature: bytes) -> bool:
        try:
            return VERIFIERS[algorithm].verify(signed, material, signature)
        except ValueError:
            # Some of the library's back ends say so of a signature of a wrong length.
            return False

    return TrustedKey(algorithms, kid, signs)


def shared_key(secret: bytes) -> TrustedKey:
    """The key of a secret text. Raises BadKey."""
    if b"-----BEGIN " in secret:
        raise BadKey("it is a PEM key, not a secret")
    return _shared(secret, None)


def _shared(secret: bytes, kid: str | None) -> TrustedKey:
    algorithms = frozenset(name for name, least in _HMAC_BYTES.items() if len(secret) >= least)
    if not algorithms:
        raise BadKey("it is shorter than 32 bytes, which HS256 needs (RFC 7518, section 3.2)")
    return _trusted(algorithms, kid, secret)


def pem_key(text: bytes) -> TrustedKey:
    """The public key of a PEM text: a public key or a certificate. Raises BadKey."""
    try:
        if b"-----BEGIN CERTIFICATE-----" in text:
            return _public(load_pem_x509_certificate(text).public_key(), None)
        return _public(load_pem_public_key(text), None)
    except BadKey:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if _is_private(text):
            raise BadKey("it is a private key: give the public one") from None
        raise BadKey("it is no public key or certificate in PEM") from None


def _is_private(text: bytes) -> bool:
    try:
        load_pem_private_key(text, None)
    except TypeError:
        return True  # it is encrypted
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _public(key: object, kid: str | None) -> TrustedKey:
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < _SHORTEST_RSA:
                raise BadKey(f"it is an RSA key of fewer than {_SHORTEST_RSA} bits")
            return _trusted(_RSA, kid, key)
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return _trusted(frozenset({_CURVES[key.curve.name]}), kid, key)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return _trusted(frozenset({"EdDSA"}), kid, key)
        case _:
            raise BadKey("it is none of RSA, P-256, P-384, P-521, Ed25519 and Ed448")


def jwks_keys(text: bytes, *, public_only: bool) -> tuple[TrustedKey, ...]:
    """The keys of a JWK set (RFC 7517, section 5) that can verify; others in it are passed over, as it asks. `public_only`: shared secrets
    are too, since nothing that is published is secret. Raises BadKey where none is left."""
    try:
        tree = json.loads(text, object_pairs_hook=distinct)
    except (ValueError, RecursionError):
        raise BadKey("it is not JSON") from None
    listed = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise BadKey(f"it is no JWK set of at most {MOST_KEYS} keys")
    keys = [key for each in listed if (key := _jwk(each, public_only)) is not None]
    if not keys:
        raise BadKey("it has no key that can verify a token")
    return tuple(keys)


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Any]]] = MappingProxyType(
    {
        "RSA": RSAAlgorithm.from_jwk,
        "EC": ECAlgorithm.from_jwk,
        "OKP": OKPAlgorithm.from_jwk,
        "oct": HMACAlgorithm.from_jwk,
    }
)
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


def _jwk(tree: Any, public_only: bool) -> TrustedKey | None:
    """The key that an entry of a JWK set describes, or None where it is of no use here."""
    if not isinstance(tree, dict) or tree.get("use", "sig") != "sig":
        return None
    operations = tree.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kind, kid, only = tree.get("kty"), tree.get("kid"), tree.get("alg")
    if not isinstance(kind, str) or kind not in _READERS or (kind == "oct" and public_only):
        return None
    try:
        material = _READERS[kind]({name: value for name, value in tree.items() if name not in _PRIVATE})
        name = kid if isinstance(kid, str) else None
        key = _shared(material, name) if kind == "oct" else _public(material, name)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    algorithms = key.algorithms if only is None else key.algorithms & {only} if isinstance(only, str) else frozenset()
    return replace(key, algorithms=algorithms) if algorithms else None
