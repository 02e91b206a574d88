"""`jwt:` at the top, and `jwt:CLAIM` in a scope."""

from __future__ import annotations

from pathlib import Path

import pytest

from idemproxy.config.settings import JwtSettings, KeySetUrl
from idemproxy.idempotency.jwt_claims import TokenPolicy
from idemproxy.idempotency.jwt_keys import MOST_KEYS
from idemproxy.idempotency.routes import ClaimScope, HeaderScope, own_fields
from tests.unit.config.texts import UPSTREAM, problems, rule_problem, settings, top, top_problem
from tests.unit.idempotency.tokens import SECRET, ec_key, jwk, jwks, pem, private_pem, rsa_key

URL = "https://login.example.com/keys"


def jwt(members: str, **environ: str) -> JwtSettings:
    found = top(f"jwt: {members}", **environ).jwt
    assert found is not None
    return found


def test_without_it_there_is_none() -> None:
    assert settings(UPSTREAM).jwt is None


def test_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(rsa_key()))
    (tmp_path / "set.json").write_bytes(jwks(jwk(ec_key(), "one"), {"kty": "EC"}))
    files = f"{{pem: '{tmp_path / 'key.pem'}'}}, {{jwks: '{tmp_path / 'set.json'}'}}"
    keys = f"[{{secret: '${{SECRET}}'}}, {files}, {{jwks: '{URL}'}}]"
    found = jwt(
        f"{{keys: {keys}, algorithms: [HS256, RS256, ES256], issuer: me, audience: [a, b], leeway: 5s}}",
        SECRET=SECRET.decode(),
    )
    allowed = frozenset({"HS256", "RS256", "ES256"})
    assert found.policy == TokenPolicy(allowed, frozenset({"me"}), frozenset({"a", "b"}), 5_000)
    assert [each.algorithms & allowed for each in found.keys] == [{"HS256"}, {"RS256"}, {"ES256"}]
    assert [each.kid for each in found.keys] == [None, None, "one"]
    assert found.urls == (KeySetUrl(URL),)
    assert found.urls[0].number == 3
    assert SECRET.decode() not in repr(found)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ("{algorithms: [HS256]}", "jwt.keys: is missing"),
        ("{keys: [{secret: x}]}", "jwt.keys[0].secret: is of no use: it is shorter than 32 bytes"),
        ("{keys: [], algorithms: [HS256]}", "write at least one of keys"),
        ("{keys: [{}], algorithms: [HS256]}", "jwt.keys[0]: is not one key"),
        ("{keys: [{pem: a, jwks: b}], algorithms: [HS256]}", "jwt.keys[0]: is not one key"),
        ("{keys: [{pem: /nowhere}], algorithms: [RS256]}", "a file that cannot be read (No such file or directory)"),
        ("{keys: [{jwks: /nowhere}], algorithms: [RS256]}", "a file that cannot be read"),
        ("{keys: [{jwks: ftp://x/y}], algorithms: [RS256]}", "no http(s) URL without credentials"),
        ("{keys: [{jwks: 'https://me:pw@x/y'}], algorithms: [RS256]}", "no http(s) URL without credentials"),
        ("{keys: [{jwks: https://x/y}], algorithms: [none]}", "which would let anybody write a token"),
        ("{keys: [{jwks: https://x/y}], algorithms: [rs256]}", "did you mean RS256?"),
        ("{keys: [{jwks: https://x/y}], algorithms: [HS256]}", "has HS256, which no key here can verify"),
        ("{keys: [{jwks: https://x/y}], algorithms: []}", "write at least one of algorithms"),
        ("{keys: [{jwks: https://x/y}], algorithms: [RS256], leeway: 1h}", "out of bounds"),
        ("{keys: [{jwks: https://x/y}], algorithms: [RS256], issuer: ['']}", "write a text"),
    ],
)
def test_what_is_wrong(members: str, said: str) -> None:
    assert any(said in each for each in problems(f"{UPSTREAM}jwt: {members}\n"))


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"nonsense", "it is no public key or certificate in PEM"),
        (private_pem(rsa_key()), "it is a private key: give the public one"),
    ],
)
def test_a_file_that_is_no_public_key(tmp_path: Path, contents: bytes, said: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(contents)
    assert said in top_problem(f"jwt: {{keys: [{{pem: '{file}'}}], algorithms: [RS256]}}")


def test_a_set_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_bytes(jwks(*[{"kty": "EC"}] * (MOST_KEYS + 1)))
    assert "it is no JWK set of at most" in top_problem(f"jwt: {{keys: [{{jwks: '{file}'}}], algorithms: [RS256]}}")
    file.write_bytes(b" " * (300 << 10))
    assert "too large" in top_problem(f"jwt: {{keys: [{{jwks: '{file}'}}], algorithms: [RS256]}}")


def test_no_fault_shows_a_secret() -> None:
    said = top_problem("jwt: {keys: [{secret: sesame}], algorithms: [HS256]}")
    assert "sesame" not in said


def test_what_is_surprising() -> None:
    found = top("jwt: {keys: [{jwks: http://login.example.com/keys}], algorithms: [RS256], audience: api}")
    assert any("without TLS" in each for each in found.warnings)
    assert not any(
        "without TLS" in each for each in top("jwt: {keys: [{jwks: http://127.0.0.1/k}], algorithms: [RS256]}").warnings
    )
    assert any(
        "jwt has no audience" in each
        for each in top("jwt: {keys: [{jwks: https://x/k}], algorithms: [RS256]}").warnings
    )


def test_keys_that_no_scope_uses_are_told() -> None:
    text = f"{KEYS}routes: [{{match: {{path: /x}}, scope: ['%s:sub']}}]"
    assert settings(text % "jwt").warnings == ()
    (said,) = settings(text % "header").warnings
    assert "no rule's scope has jwt:CLAIM" in said


# ------------------------------------------------------------------------------------------------------------------------- the scope


KEYS = f"{UPSTREAM}jwt: {{keys: [{{jwks: {URL}}}], algorithms: [RS256], audience: api}}\n"


def test_a_claim_is_a_scope() -> None:
    (rule,) = settings(
        f"{KEYS}routes: [{{match: {{path: /x}}, scope: ['jwt:sub', 'header:X', 'jwt:https://x.example/t']}}]"
    ).rules
    assert rule.scope == (ClaimScope("sub"), HeaderScope(b"x"), ClaimScope("https://x.example/t"))
    assert b"authorization" in own_fields(rule)


def test_a_claim_needs_keys() -> None:
    said = rule_problem("scope: ['jwt:sub']")
    assert "routes[0].scope: has jwt:, and there is nothing to verify tokens with; write jwt:" in said


def test_a_claim_has_a_name() -> None:
    assert "without the name of a claim" in rule_problem("scope: ['jwt:']")
    assert "did you mean jwt:sub?" in rule_problem("scope: ['jwtt:sub']")


def test_keys_that_are_faulty_are_told_alone() -> None:
    (said,) = problems(
        f"{UPSTREAM}jwt: {{keys: [{{jwks: {URL}}}]}}\nroutes: [{{match: {{path: /x}}, scope: ['jwt:sub']}}]\n"
    )
    assert "jwt.algorithms: is missing" in said
