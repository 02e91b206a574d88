"""Keys and tokens for tests. Tokens are put together by hand, so that they can be wrong in any way."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from idemproxy.idempotency.messages import Fields

SECRET = b"a secret of at least thirty-two bytes"
NOW = 1_800_000_000


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """A key; the same for the same number."""
    del number
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    """An Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: Private) -> bytes:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: Private) -> bytes:
    """The private half."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key: Private, kid: str | None, **more: object) -> dict[str, Any]:
    """The public half as a JWK."""
    public = key.public_key()
    match public:
        case rsa.RSAPublicKey():
            tree = RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePublicKey():
            tree = ECAlgorithm.to_jwk(public, as_dict=True)
        case _:
            tree = OKPAlgorithm.to_jwk(public, as_dict=True)
    tree.pop("key_ops", None)
    return {**tree, **({} if kid is None else {"kid": kid}), **more}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    """A JWK set."""
    return json.dumps({"keys": list(keys)}).encode()


def token(key: Any = SECRET, algorithm: str = "HS256", head: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """A token with these claims, signed by the key."""
    tree = {"sub": "ada", "exp": NOW + 600, **claims}
    return jwt.encode({name: each for name, each in tree.items() if each is not ...}, key, algorithm, dict(head or {}))


def by_hand(head: bytes, payload: bytes, key: Any = SECRET, algorithm: str = "HS256") -> str:
    """A token of any text, signed by the key; algorithm "": with an empty signature."""
    signed = f"{encoded(head)}.{encoded(payload)}"
    if not algorithm:
        return f"{signed}."
    method = jwt.get_algorithm_by_name(algorithm)
    return f"{signed}.{encoded(method.sign(signed.encode(), method.prepare_key(key)))}"


def encoded(text: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def bearing(text: str) -> Fields:
    """The header fields of a request that bears a token."""
    return ((b"Authorization", b"Bearer " + text.encode()),)
