"""Claims of verified tokens. Tokens are made by PyJWT itself, or by hand where it would not make them."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.jwt_claims import Claims, Doubt, Doubted, TokenPolicy, TrustedKey, verified
from idemproxy.idempotency.jwt_keys import BadKey, jwks_keys, pem_key, shared_key
from tests.unit.idempotency.examples import calmly
from tests.unit.idempotency.tokens import (
    NOW,
    SECRET,
    bearing,
    by_hand,
    ec_key,
    ed_key,
    encoded,
    jwk,
    jwks,
    pem,
    private_pem,
    rsa_key,
    token,
)

HS256 = TokenPolicy(frozenset({"HS256"}))
EVERY = TokenPolicy(frozenset({"HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"}))


def told(text: str, *keys: TrustedKey, policy: TokenPolicy = HS256, now: float = NOW) -> Claims | Doubt:
    """What is said of a request that bears this token."""
    found = verified(policy, keys or (shared_key(SECRET),), bearing(text), now)
    return found.reason if isinstance(found, Doubted) else found


def claim(found: Claims | Doubt, name: str = "sub") -> bytes:
    assert isinstance(found, Claims), found
    value = found.scope_value(name)
    assert isinstance(value, bytes)
    return value


# ------------------------------------------------------------------------------------------------------------------ who signed it


@pytest.mark.parametrize(
    ("algorithm", "signer", "key"),
    [
        ("HS256", SECRET, shared_key(SECRET)),
        ("HS512", SECRET * 2, shared_key(SECRET * 2)),
        ("RS256", rsa_key(), pem_key(pem(rsa_key()))),
        ("PS256", rsa_key(), pem_key(pem(rsa_key()))),
        ("ES256", ec_key(), pem_key(pem(ec_key()))),
        ("EdDSA", ed_key(), pem_key(pem(ed_key()))),
    ],
)
def test_a_token_of_a_key_that_is_trusted(algorithm: str, signer: Any, key: TrustedKey) -> None:
    assert json.loads(claim(told(token(signer, algorithm), key, policy=EVERY))) == [None, "ada"]


def test_the_example_of_the_standard() -> None:
    """RFC 7515, appendix A.1: a token of another author, with line ends in its texts."""
    key = jwks_keys(
        jwks(
            {
                "kty": "oct",
                "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            }
        ),
        public_only=False,
    )
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    found = told(text, *key, now=1_300_819_379)
    assert isinstance(found, Claims)
    assert found.scope_value("iss") == b'["joe", "joe"]'
    assert found.scope_value("http://example.com/is_root") == Doubted(Doubt.CLAIM)
    assert told(text, *key, now=1_300_819_380 + 30) is Doubt.EXPIRED


def test_a_wrong_key() -> None:
    assert told(token(SECRET[::-1])) is Doubt.UNKNOWN_KEY
    assert told(token(rsa_key(1), "RS256"), pem_key(pem(rsa_key())), policy=EVERY) is Doubt.UNKNOWN_KEY
    assert told(token(), pem_key(pem(rsa_key())), policy=EVERY) is Doubt.UNKNOWN_KEY


def test_an_algorithm_that_is_not_listed() -> None:
    assert told(token(SECRET * 2, "HS384"), shared_key(SECRET * 2)) is Doubt.ALGORITHM


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS256 ", "hs256"])
@pytest.mark.parametrize("policy", [HS256, TokenPolicy(frozenset({"none", "None", "HS256"}))])
def test_no_signature_is_none(name: str, policy: TokenPolicy) -> None:
    payload = json.dumps({"sub": "ada"}).encode()
    head = json.dumps({"alg": name}).encode()
    assert told(by_hand(head, payload, algorithm=""), policy=policy) is Doubt.MALFORMED
    assert told(by_hand(head, payload, algorithm="") + "AA", policy=policy) is Doubt.ALGORITHM


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    """The confusion attack: HS256 with the text of the public key, which anybody has, as its secret."""
    text = pem(rsa_key())
    head, payload = encoded(b'{"alg":"HS256"}'), encoded(b'{"sub":"ada"}')
    signature = encoded(hmac.digest(text, f"{head}.{payload}".encode(), hashlib.sha256))
    assert told(f"{head}.{payload}.{signature}", pem_key(text), policy=EVERY) is Doubt.UNKNOWN_KEY
    with pytest.raises(BadKey):
        shared_key(text)


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_the_token_itself_brings_counts_for_nothing(member: str) -> None:
    brought = jwk(rsa_key(1), None) if member == "jwk" else "https://evil.example/keys"
    text = by_hand(json.dumps({"alg": "RS256", member: brought}).encode(), b'{"sub":"ada"}', rsa_key(1), "RS256")
    assert told(text, pem_key(pem(rsa_key())), policy=EVERY) is Doubt.UNKNOWN_KEY


def test_a_critical_extension_is_not_understood() -> None:
    text = by_hand(b'{"alg":"HS256","crit":["b64"],"b64":false}', b'{"sub":"ada"}')
    assert told(text) is Doubt.CRITICAL


def test_the_named_key_verifies_and_no_other() -> None:
    keys = jwks_keys(jwks(jwk(rsa_key(0), "a"), jwk(rsa_key(1), "b")), public_only=True)
    policy = TokenPolicy(frozenset({"RS256"}))
    assert isinstance(told(token(rsa_key(1), "RS256", {"kid": "b"}), *keys, policy=policy), Claims)
    assert told(token(rsa_key(1), "RS256", {"kid": "a"}), *keys, policy=policy) is Doubt.SIGNATURE
    assert told(token(rsa_key(1), "RS256", {"kid": "c"}), *keys, policy=policy) is Doubt.UNKNOWN_KEY
    assert isinstance(told(token(rsa_key(1), "RS256"), *keys, policy=policy), Claims)
    assert isinstance(told(token(rsa_key(1), "RS256", {"kid": "c"}), pem_key(pem(rsa_key(1))), policy=policy), Claims)


@calmly
@given(at=st.integers(min_value=0), to=st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_refused(at: int, to: int) -> None:
    text = bytearray(TOKEN.encode())
    text[at % len(text)] ^= to
    fields = ((b"Authorization", b"Bearer " + bytes(text)),)
    assert isinstance(verified(HS256, (shared_key(SECRET),), fields, NOW), Doubted)


TOKEN = token(role="clerk")


@calmly
@given(st.text(alphabet="aA0.-_= {}", max_size=60) | st.text(max_size=30))
def test_nothing_that_a_token_can_be_is_an_exception(text: str) -> None:
    assert not isinstance(told(text), Claims)


def test_there_is_one_way_to_write_a_signature() -> None:
    """The last letter of 32 bytes in base64 has two bits that say nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(TOKEN[-1])
    assert told(TOKEN[:-1] + alphabet[last ^ 1]) is Doubt.MALFORMED


# ----------------------------------------------------------------------------------------------------------------- what it looks like


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ((), Doubt.ABSENT),
        (((b"Authorization", b"Basic YTpi"),), Doubt.ABSENT),
        (((b"Authorization", b"Bearer"),), Doubt.ABSENT),
        (((b"Authorization", b"Bearer x"),), Doubt.MALFORMED),
        (((b"Authorization", b"Bearer %b, Bearer %b" % (TOKEN.encode(), TOKEN.encode())),), Doubt.MALFORMED),
        (bearing(TOKEN) + bearing(TOKEN), Doubt.REPEATED),
        (((b"X-Authorization", b"Bearer " + TOKEN.encode()),), Doubt.ABSENT),
    ],
)
def test_the_token_is_the_only_bearer_in_authorization(fields: Any, doubt: Doubt) -> None:
    assert verified(HS256, (shared_key(SECRET),), fields, NOW) == Doubted(doubt)


def test_the_name_of_the_scheme_has_no_case() -> None:
    fields = ((b"authorization", b"bEARER  " + TOKEN.encode()),)
    assert isinstance(verified(HS256, (shared_key(SECRET),), fields, NOW), Claims)


@pytest.mark.parametrize(
    "text",
    [
        f"{TOKEN}.x",
        f"{TOKEN}=",
        TOKEN.rpartition(".")[0],
        by_hand(b"[]", b"{}"),
        by_hand(b"{", b"{}"),
        by_hand(b'{"alg":"HS256"}', b"x"),
        by_hand(b'{"alg":"HS256"}', b"[]"),
        by_hand(b'{"alg":"HS256"}', b'{"sub":"\xff"}'),
        by_hand(b'{"alg":"HS256","alg":"none"}', b'{"sub":"ada"}'),
        by_hand(b'{"alg":"HS256"}', b'{"sub":"ada","sub":"bob"}'),
        by_hand(b'{"alg":"HS256"}', b'{"sub":"ada","exp":NaN}'),
        by_hand(b'{"alg":"HS256"}', b'{"sub":"ada","limit":Infinity}'),
        by_hand(b'{"alg":"HS256"}', b'{"a":' * 3_000 + b"1" + b"}" * 3_000),
        by_hand(b'{"alg":"HS256"}', b'{"a":' + b"9" * 8_000 + b"}"),
        token(filler="x" * 20_000),
    ],
)
def test_what_is_not_quite_a_token(text: str) -> None:
    assert told(text) is Doubt.MALFORMED


# --------------------------------------------------------------------------------------------------------------------- what it says


def test_times() -> None:
    assert isinstance(told(token(exp=NOW - 29)), Claims)
    assert told(token(exp=NOW - 30)) is Doubt.EXPIRED
    assert told(token(exp=NOW), policy=TokenPolicy(frozenset({"HS256"}), leeway=0)) is Doubt.EXPIRED
    assert isinstance(told(token(nbf=NOW + 30)), Claims)
    assert told(token(nbf=NOW + 31)) is Doubt.NOT_YET
    assert told(token(iat=NOW + 31)) is Doubt.NOT_YET
    assert isinstance(told(token(exp=...)), Claims)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [b'"1800000000"', b"null", b"true", b"[]", b"1e400", b"1" + b"0" * 400])
def test_a_time_that_is_no_number_is_malformed(name: str, value: bytes) -> None:
    text = by_hand(b'{"alg":"HS256"}', b'{"sub":"ada","%b":%b}' % (name.encode(), value))
    assert told(text) is Doubt.MALFORMED


def test_the_issuer() -> None:
    policy = TokenPolicy(frozenset({"HS256"}), issuer=frozenset({"https://a", "https://b"}))
    assert claim(told(token(iss="https://b"), policy=policy)) == b'["https://b", "ada"]'
    assert told(token(iss="https://c"), policy=policy) is Doubt.ISSUER
    assert told(token(), policy=policy) is Doubt.ISSUER
    assert told(by_hand(b'{"alg":"HS256"}', b'{"iss":["https://a"]}'), policy=policy) is Doubt.ISSUER


def test_the_audience() -> None:
    policy = TokenPolicy(frozenset({"HS256"}), audience=frozenset({"shop"}))
    assert isinstance(told(token(aud="shop"), policy=policy), Claims)
    assert isinstance(told(token(aud=["bank", "shop"]), policy=policy), Claims)
    assert told(token(aud="bank"), policy=policy) is Doubt.AUDIENCE
    assert told(token(aud="shopping"), policy=policy) is Doubt.AUDIENCE
    assert told(token(), policy=policy) is Doubt.AUDIENCE
    assert told(by_hand(b'{"alg":"HS256"}', b'{"aud":{"shop":1}}'), policy=policy) is Doubt.AUDIENCE


def test_a_token_for_somebody_is_refused_by_nobody_in_particular() -> None:
    assert told(token(aud="bank")) is Doubt.AUDIENCE


@pytest.mark.parametrize("value", [..., None, "", True, 1.5, ["ada"], {"id": "ada"}])
def test_a_claim_that_names_nobody(value: Any) -> None:
    found = told(token(uid=value))
    assert isinstance(found, Claims)
    assert found.scope_value("uid") == Doubted(Doubt.CLAIM)


def test_callers_are_told_apart() -> None:
    texts = [
        token(uid="1"),
        token(uid=1),
        token(uid="1", iss="a"),
        token(uid="1", iss="b"),
        token(uid='a", "1', iss="b"),
        token(uid="é"),
        token(uid="\\u00e9"),
    ]
    assert len({claim(told(each), "uid") for each in texts}) == len(texts)


def test_a_lone_surrogate_is_a_name_like_another() -> None:
    assert claim(told(by_hand(b'{"alg":"HS256"}', rb'{"sub":"\ud800"}'))) == rb'[null, "\ud800"]'


def test_nothing_shows_a_token_or_a_key() -> None:
    found = told(token(uid="sesame"))
    assert "sesame" not in repr(found)
    assert "secret" not in repr(shared_key(SECRET))


# ----------------------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: shared_key(b"short"), "shorter than 32 bytes"),
        (lambda: shared_key(pem(rsa_key())), "a PEM key, not a secret"),
        (lambda: pem_key(private_pem(rsa_key())), "a private key"),
        (lambda: pem_key(b"x"), "no public key"),
        (lambda: pem_key(pem(ec_key())[:80]), "no public key"),
        (lambda: jwks_keys(b"x", public_only=True), "not JSON"),
        (lambda: jwks_keys(b"[" * 100_000, public_only=True), "not JSON"),
        (lambda: jwks_keys(b"[]", public_only=True), "no JWK set"),
        (lambda: jwks_keys(b'{"keys":{}}', public_only=True), "no JWK set"),
        (lambda: jwks_keys(jwks(*[{}] * 101), public_only=True), "no JWK set"),
        (lambda: jwks_keys(b'{"keys":[]}', public_only=True), "no key that can verify"),
        (lambda: jwks_keys(jwks({"kty": "oct", "k": encoded(SECRET)}), public_only=True), "no key that can verify"),
    ],
)
def test_keys_that_are_of_no_use(read: Any, said: str) -> None:
    with pytest.raises(BadKey, match=said):
        read()


def test_a_certificate_is_as_good_as_its_key() -> None:
    authority = trustme.CA()
    assert pem_key(authority.cert_pem.bytes()).algorithms


def test_what_is_of_no_use_in_a_set_is_passed_over() -> None:
    odd: list[Any] = [
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 1, "e": None},
        {"kty": ["RSA"]},
        {"kty": "X"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
        {"kty": "OKP", "crv": "X25519", "x": encoded(b"x" * 32)},
        {"kty": "EC", "crv": "secp256k1", "x": encoded(b"x" * 32), "y": encoded(b"x" * 32)},
        "x",
        None,
        jwk(rsa_key(), "enc", use="enc"),
        jwk(rsa_key(), "sign", key_ops=["sign"]),
        jwk(rsa_key(), "ops", key_ops=5),
        jwk(rsa_key(), "alg", alg="RSA-OAEP"),
        jwk(rsa_key(), "alg", alg=["RS256"]),
    ]
    found = jwks_keys(jwks(*odd, jwk(ec_key(), "good"), jwk(ed_key(), "too")), public_only=True)
    assert [(each.kid, set(each.algorithms)) for each in found] == [("good", {"ES256"}), ("too", {"EdDSA"})]


def test_a_key_that_names_its_algorithm_is_for_no_other() -> None:
    (key,) = jwks_keys(jwks(jwk(rsa_key(), None, alg="RS256")), public_only=True)
    assert told(token(rsa_key(), "PS256"), key, policy=EVERY) is Doubt.UNKNOWN_KEY
    assert isinstance(told(token(rsa_key(), "RS256"), key, policy=EVERY), Claims)


def test_a_secret_is_for_the_algorithms_that_it_is_long_enough_for() -> None:
    assert shared_key(b"x" * 32).algorithms == {"HS256"}
    assert shared_key(b"x" * 64).algorithms == {"HS256", "HS384", "HS512"}
