"""`verify:` in a rule, and `jwt:` at the top."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from idemproxy.config.faults import Faults
from idemproxy.config.kinds import SUBSTITUTED
from idemproxy.config.table import Field, Found, Table
from idemproxy.config.tokens import JWT, JwtSettings, jwt_settings, warn_jwt
from idemproxy.config.tree import grow
from idemproxy.config.verify import VERIFY, verification, warn_verify
from idemproxy.errors import ConfigError
from idemproxy.idempotency.jwt_claims import TokenPolicy
from idemproxy.idempotency.signatures import Scheme, Verification, secret_of
from tests.unit.idempotency.tokens import SECRET, ec_key, jwk, jwks, pem, private_pem, rsa_key

HOLDER = Table("", (Field("verify", VERIFY, "."), Field("jwt", JWT, ".")))
LONG = SECRET.decode()
JWKS_URL = "https://a.example:8443/jwks?x=1"


def read(text: str, **environ: str) -> Found:
    """What a text holds, merged; raises ConfigError."""
    faults = Faults("c.yaml")
    tree = grow(text, environ, faults)
    assert tree is not None
    found = HOLDER.read(tree, "", faults)
    assert isinstance(found, Found)
    if faults:
        raise faults.error()
    return HOLDER.merged(found)


def verify_of(text: str, **environ: str) -> Verification | None:
    faults = Faults("c.yaml")
    found = verification(read(f"verify: {text}", **environ), faults)
    if faults:
        raise faults.error()
    return found


def jwt_of(text: str, **environ: str) -> JwtSettings | None:
    faults = Faults("c.yaml")
    found = jwt_settings(read(f"jwt: {text}", **environ), faults)
    if faults:
        raise faults.error()
    return found


def problem(read: Callable[[str], object], text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


# --------------------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize("scheme", Scheme)
def test_every_scheme_by_its_name(scheme: Scheme) -> None:
    text = "whsec_" + base64.b64encode(b"x" * 24).decode()
    found = verify_of(f"{{scheme: {scheme.value}, secrets: [{text}]}}")
    assert found == Verification(scheme, (secret_of(scheme, text),), 300_000)


def test_several_secrets_and_a_tolerance() -> None:
    found = verify_of("{scheme: github, secrets: [$X, '${NEW}', '${OLD}'], tolerance: 90s}", NEW="n", OLD="o")
    assert found is not None
    assert [each.key for each in found.secrets] == [b"$X", b"n", b"o"]
    assert found.tolerance == 90_000


def test_one_secret_needs_no_list() -> None:
    found = verify_of("{scheme: slack, secrets: '${S}'}", S="123")
    assert found is not None
    assert [each.key for each in found.secrets] == [b"123"]


def test_without_it_nothing_is_verified() -> None:
    assert verification(read("{}"), Faults("c.yaml")) is None
    assert jwt_settings(read("{}"), Faults("c.yaml")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{scheme: github}", "verify.secrets: is missing"),
        ("{tolerance: 5m}", "verify.secrets: is missing"),
        ("{}", "verify.secrets: is missing"),
        ("{secrets: [a]}", "verify.secrets: is nothing without scheme"),
        ("{scheme: githup, secrets: [a]}", "did you mean github?"),
        ("{scheme: github, secrets: []}", "is an empty list"),
        ("{scheme: github, secrets: ''}", "verify.secrets: is empty"),
        ("{scheme: github, secrets: [a, '  ']}", "verify.secrets[1]: is empty"),
        ("{scheme: github, secrets: [[a]]}", "verify.secrets[0]: is no text"),
        ("{scheme: github, secrets: {a: b}}", "verify.secrets: is no text"),
        ("{scheme: github, secrets: null}", "verify.secrets: is empty"),
        ("{scheme: github, secrets: [a], tolerance: 0}", "write a time such as 5m"),
        ("{scheme: github, secrets: [a], secret: b}", "did you mean secrets?"),
        ("{scheme: standard-webhooks, secrets: [whsec_a]}", "verify.secrets[0]: is no secret of standard-webhooks"),
        ("{scheme: standard-webhooks, secrets: [whpk_AAAA]}", "only v1 is verified"),
    ],
)
def test_what_cannot_be(text: str, said: str) -> None:
    assert said in problem(verify_of, text)


@pytest.mark.parametrize("text", ["{scheme: github, secrets: [3141592653]}", "{scheme: github, secrets: 3141592653}"])
def test_a_secret_that_looks_like_a_number_is_put_in_quotes(text: str) -> None:
    said = problem(verify_of, text)
    assert "put it in quotation marks" in said
    assert "3141592653" not in said


@pytest.mark.parametrize(
    "text",
    [
        "{scheme: standard-webhooks, secrets: [whsec_sesame!]}",
        "{scheme: standard-webhooks, secrets: ['${S}']}",
        "{scheme: none-such, secrets: [sesame]}",
        "{secrets: [sesame, sesame]}",
        "{scheme: github, secrets: {sesame: sesame}}",
    ],
)
def test_no_error_shows_a_secret(text: str) -> None:
    assert "sesame" not in problem(lambda each: verify_of(each, S="whsec_sesame!"), text)


def test_nothing_that_was_read_shows_a_secret() -> None:
    text = "{verify: {scheme: github, secrets: [sesame]}, jwt: {keys: [{secret: LONG}], algorithms: [HS256]}}".replace(
        "LONG", LONG
    )
    found = read(text)
    assert "sesame" not in repr(found)
    assert LONG not in repr(found)
    assert "sesame" not in repr(verification(found, Faults("c")))
    assert LONG not in repr(jwt_settings(found, Faults("c")))


def test_a_secret_in_the_file_itself_is_warned_of() -> None:
    assert warn_verify(read("verify: {scheme: github, secrets: [a]}")) != []
    assert warn_verify(read("verify: {scheme: github, secrets: ['${S}']}", S="a")) == []
    assert warn_verify(read("{}")) == []


# ------------------------------------------------------------------------------------------------------------------------------ jwt


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "rsa.pem").write_bytes(pem(rsa_key()))
    (tmp_path / "ec.pem").write_bytes(pem(ec_key()))
    (tmp_path / "private.pem").write_bytes(private_pem(rsa_key()))
    (tmp_path / "keys.json").write_bytes(jwks(jwk(ec_key(), "a"), jwk(rsa_key(), "b")))
    (tmp_path / "html.json").write_bytes(b"<html>")
    (tmp_path / "huge.json").write_bytes(b" " * (300 << 10))
    return tmp_path


def test_everything_that_jwt_can_say(files: Path) -> None:
    found = jwt_of(
        f"{{keys: [{{secret: '${{S}}'}}, {{pem: {files}/rsa.pem}}, {{jwks: {files}/keys.json}}, {{jwks: '{JWKS_URL}'}}], "
        "algorithms: [HS256, RS256, ES256], issuer: https://a.example, audience: [shop, till], leeway: 0}",
        S=LONG,
    )
    assert found is not None
    assert found.policy == TokenPolicy(
        frozenset({"HS256", "RS256", "ES256"}), frozenset({"https://a.example"}), frozenset({"shop", "till"}), 0
    )
    assert [each.kid for each in found.keys] == [None, None, "a", "b"]
    assert [each.url for each in found.urls] == [JWKS_URL]
    assert warn_jwt(found) == []


def test_what_jwt_says_by_default() -> None:
    found = jwt_of("{keys: [{secret: LONG}], algorithms: HS256}".replace("LONG", LONG))
    assert found is not None
    assert found.policy == TokenPolicy(frozenset({"HS256"}), leeway=30_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{algorithms: [HS256]}", "jwt.keys: is missing"),
        ("{keys: [{secret: LONG}]}", "jwt.algorithms: is missing"),
        ("{keys: [], algorithms: [HS256]}", "jwt.keys: found a list, an empty one"),
        ("{keys: [{secret: LONG}], algorithms: []}", "jwt.algorithms: found a list, an empty one"),
        ("{keys: [{secret: LONG}], algorithms: [none]}", "which would let anybody write a token"),
        ("{keys: [{secret: LONG}], algorithms: [None, HS256]}", "which would let anybody write a token"),
        ("{keys: [{secret: LONG}], algorithms: [HS265]}", "did you mean HS256?"),
        ("{keys: [{}], algorithms: [HS256]}", "jwt.keys[0]: is not one key"),
        ("{keys: [{secret: LONG, pem: DIR/rsa.pem}], algorithms: [HS256]}", "jwt.keys[0]: is not one key"),
        ("{keys: [LONG], algorithms: [HS256]}", "write a mapping with secret, pem or jwks"),
        ("{keys: [{secret: short}], algorithms: [HS256]}", "shorter than 32 bytes"),
        ("{keys: [{secrets: LONG}], algorithms: [HS256]}", "did you mean secret?"),
        ("{keys: [{pem: DIR/rsa.pem}], algorithms: [HS256]}", "has HS256, which no key here can verify"),
        ("{keys: [{pem: DIR/rsa.pem}], algorithms: [HS256]}", "a key (0) that none of the algorithms uses"),
        ("{keys: [{pem: DIR/rsa.pem}], algorithms: [RS256, HS256]}", "has HS256, which no key here can verify"),
        ("{keys: [{jwks: 'https://a/k'}], algorithms: [HS256]}", "has HS256, which no key here can verify"),
        ("{keys: [{secret: LONG}], algorithms: [HS256, HS512]}", "HS512 needs a secret that is long enough"),
        ("{keys: [{secret: LONG}, {pem: DIR/ec.pem}], algorithms: [HS256]}", "it is for ES256"),
        ("{keys: [{pem: DIR/private.pem}], algorithms: [RS256]}", "it is a private key"),
        ("{keys: [{pem: DIR/keys.json}], algorithms: [RS256]}", "no public key or certificate"),
        ("{keys: [{pem: DIR/none.pem}], algorithms: [RS256]}", "cannot be read (No such file or directory)"),
        ("{keys: [{jwks: DIR/html.json}], algorithms: [RS256]}", "a file of no use: it is not JSON"),
        ("{keys: [{jwks: DIR/huge.json}], algorithms: [RS256]}", "too large"),
        ("{keys: [{jwks: 'ftp://a/k'}], algorithms: [RS256]}", "no http(s) URL without credentials"),
        ("{keys: [{jwks: 'https://u:sesame@a/k'}], algorithms: [RS256]}", "no http(s) URL without credentials"),
        ("{keys: [{jwks: 'https://a/k#x'}], algorithms: [RS256]}", "no http(s) URL"),
        ("{keys: [{secret: LONG}], algorithms: [HS256], leeway: 1h}", "from 1ms to 10m"),
        ("{keys: [{secret: LONG}], algorithms: [HS256], audience: ['']}", "write a text"),
    ],
)
def test_a_jwt_that_cannot_be(text: str, said: str, files: Path) -> None:
    told = problem(jwt_of, text.replace("LONG", LONG).replace("DIR", str(files)))
    assert said in told
    assert "sesame" not in told


def test_a_secret_is_not_shown_where_a_key_is_wrong() -> None:
    for text in ("[{secret: sesame}]", "[{secret: 31415}]", "[{secret: [sesame]}]"):
        said = problem(jwt_of, f"{{keys: {text}, algorithms: [HS256]}}")
        assert "sesame" not in said
        assert "31415" not in said


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://login.example/jwks", True),
        ("HTTP://login.example/jwks", True),
        ("https://login.example/jwks", False),
        ("http://127.0.0.1:9000/jwks", False),
        ("http://[::1]/jwks", False),
        ("http://localhost:9000/jwks", False),
        ("http://localhost.example/jwks", True),
    ],
)
def test_keys_without_tls_are_warned_of(url: str, warned: bool) -> None:
    found = jwt_of(f"{{keys: [{{jwks: '{url}'}}], algorithms: [RS256], audience: a}}")
    assert found is not None
    assert any("without TLS" in each for each in warn_jwt(found)) is warned


def test_no_audience_is_warned_of() -> None:
    found = jwt_of("{keys: [{secret: LONG}], algorithms: HS256}".replace("LONG", LONG))
    assert found is not None
    assert any("no audience" in each for each in warn_jwt(found))


def test_the_schema_says_the_same() -> None:
    schema = {**HOLDER.schema(), "$defs": {"substituted": SUBSTITUTED}}
    jsonschema.Draft202012Validator.check_schema(schema)
    right = {
        "verify": {"scheme": "github", "secrets": "${S}", "tolerance": "5m"},
        "jwt": {"keys": [{"jwks": "https://a/k"}], "algorithms": ["RS256"], "leeway": "30s", "audience": "x"},
    }
    jsonschema.validate(right, schema)
    for wrong in (
        {"verify": {"scheme": "github"}},
        {"jwt": {"keys": [{"pem": "a", "secret": "b"}], "algorithms": ["RS256"]}},
        {"jwt": {"keys": [{}], "algorithms": ["RS256"]}},
        {"jwt": {"keys": [{"pem": "a"}], "algorithms": ["none"]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
