"""`verify:` in a rule."""

from __future__ import annotations

import base64
from collections.abc import Callable

import jsonschema
import pytest

from idemproxy.config.faults import Faults
from idemproxy.config.kinds import SUBSTITUTED
from idemproxy.config.table import Field, Found, Table
from idemproxy.config.tree import grow
from idemproxy.config.verify import VERIFY, verification, warn_verify
from idemproxy.errors import ConfigError
from idemproxy.idempotency.signatures import Scheme, Verification, secret_of

HOLDER = Table("", (Field("verify", VERIFY, "."),))


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
    found = read("{verify: {scheme: github, secrets: [sesame]}}")
    assert "sesame" not in repr(found)
    assert "sesame" not in repr(verification(found, Faults("c")))


def test_a_secret_in_the_file_itself_is_warned_of() -> None:
    assert warn_verify(read("verify: {scheme: github, secrets: [a]}")) != []
    assert warn_verify(read("verify: {scheme: github, secrets: ['${S}']}", S="a")) == []
    assert warn_verify(read("{}")) == []


def test_the_schema_says_the_same() -> None:
    schema = {**HOLDER.schema(), "$defs": {"substituted": SUBSTITUTED}}
    jsonschema.Draft202012Validator.check_schema(schema)
    right = {"verify": {"scheme": "github", "secrets": "${S}", "tolerance": "5m"}}
    jsonschema.validate(right, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"verify": {"scheme": "github"}}, schema)
