"""`preset:` in a rule: what each sets, what goes before what, and how faults and warnings of it are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from idemproxy.config.faults import Faults
from idemproxy.config.layers import merged_rule
from idemproxy.config.model import RULE
from idemproxy.config.presets import PRESETS, set_by
from idemproxy.config.presets.callers import CALLERS
from idemproxy.config.presets.senders import SENDERS
from idemproxy.config.table import Found
from idemproxy.config.tree import natural
from idemproxy.idempotency.identity import scope_values
from idemproxy.idempotency.problems import TABLE as PROBLEMS
from idemproxy.idempotency.problems import Problem as Told
from idemproxy.idempotency.problems import Slug, status_of
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    AT_LEAST_ONCE_RELEASES,
    AT_MOST_ONCE_RELEASES,
    BodyRecipe,
    Guarantee,
    HeaderScope,
    InFlight,
    OnStoreFailure,
    Rule,
)
from idemproxy.idempotency.shapes import Shape
from tests.unit.config.texts import UPSTREAM, problem, problems, rule_problem, rule_text, settings

CONTRACT = {
    *("stripe", "square", "paypal", "adyen", "openai", "anthropic", "aws", "azure", "google"),
    *("standard-webhooks", "svix", "stripe-events", "github", "shopify", "slack", "twilio", "cloudevents"),
    *("aws-sns", "google-pubsub"),
}


def of(preset: str, lines: str = "", defaults: str = "{}") -> Rule:
    """The rule of that preset with these lines of its own."""
    text = rule_text(f"preset: {preset}\n{lines}")
    return settings(f"defaults: {defaults}\n{text}").rules[0]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    if isinstance(value, Mapping):
        return [leaf for name, each in value.items() for leaf in _leaves(each, (*path, str(name)))]
    return [(path, value)]


def _at(found: Found, path: tuple[str, ...]) -> object:
    for name in path[:-1]:
        found = found.inner(name)
    return found.items[path[-1]].value


def test_the_names_of_the_contract_are_there() -> None:
    assert set(PRESETS) == CONTRACT


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_sets_is_valid_and_is_what_its_rule_has(name: str) -> None:
    faults = Faults("preset")
    read = RULE.shared().read(natural(dict(set_by(name))), "preset", faults)
    assert not faults, faults.error()
    assert isinstance(read, Found)
    own = RULE.read(natural({"match": {"path": "/x"}, "preset": name}), "rule", faults)
    assert isinstance(own, Found)
    merged = merged_rule(own, Found({}))
    wholes = ("problem_status",)
    for path, _ in _leaves({key: each for key, each in set_by(name).items() if key not in wholes}):
        if path[-1:] != ("scope",):
            assert _at(merged, path) == _at(read, path), path
    assert merged.items["scope"].value == read.items["scope"].value
    assert of(name).preset == name


WEAK = ("aws", "azure")
SIGNED = tuple(name for name in PRESETS if "verify" in set_by(name))


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in (*WEAK, *SIGNED)])
def test_a_preset_alone_is_told_nothing_against(name: str) -> None:
    assert settings(rule_text(f"preset: {name}")).warnings == ()


@pytest.mark.parametrize("name", WEAK)
def test_a_scope_that_nobody_has_verified_is_told_though_a_preset_chose_it(name: str) -> None:
    said = settings(rule_text(f"preset: {name}")).warnings
    assert any("matched against what nobody has verified" in each for each in said)
    assert any("with a natural key is weak" in each for each in said) is (name == "aws")
    assert settings(rule_text(f"preset: {name}\nreauthorize: {{path: /me}}")).warnings == ()


@pytest.mark.parametrize("name", SIGNED)
def test_a_sender_that_signs_while_there_are_no_secrets_is_told(name: str) -> None:
    (said,) = settings(rule_text(f"preset: {name}")).warnings
    assert "verify.secrets is missing: nothing is verified" in said
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert settings(rule_text(f'preset: {name}\nverify: {{secrets: ["${{S}}"]}}'), S=secret).warnings == ()


def test_signed_requests_of_azure_are_told_apart_where_they_name_a_credential() -> None:
    def scope(authorization: bytes) -> object:
        return scope_values(of("azure"), ((b"Authorization", authorization), (b"Host", b"a")))

    one = b"HMAC-SHA256 Credential=one&SignedHeaders=x-ms-date&Signature="
    other = b"HMAC-SHA256 Credential=other&SignedHeaders=x-ms-date&Signature="
    assert scope(one + b"1") == scope(one + b"2") != scope(other + b"1")
    unnamed = b"HMAC-SHA256 SignedHeaders=x-ms-date&Signature="
    assert scope(unnamed + b"1") == scope(unnamed + b"2") != scope(b"Bearer x")


def test_only_a_signature_of_aws_names_an_access_key() -> None:
    def scope(authorization: bytes) -> object:
        return scope_values(of("aws"), ((b"Authorization", authorization),))

    signed = b"AWS4-HMAC-SHA256 Credential=AK1/20261125/eu/ec2/aws4_request, SignedHeaders=host, Signature="
    assert scope(signed + b"1") == scope(signed + b"2") != scope(signed.replace(b"AK1", b"AK2"))
    assert scope(signed + b"1") != scope(b"Nonsense Credential=AK1/")


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_told_of_a_preset_is_one_line_each(name: str) -> None:
    preset = PRESETS[name]
    for text in (preset.about, preset.source):
        assert text
        assert "\n" not in text


def test_nobody_can_change_a_preset() -> None:
    given: Any = set_by("github")
    given["key"]["from"].append("{body}")
    assert set_by("github") != given


@pytest.mark.parametrize("name", SENDERS)
def test_a_senders_preset_delivers_again_rather_than_never(name: str) -> None:
    rule = of(name)
    assert (rule.guarantee, rule.on_unknown, rule.on_store_failure) == (
        Guarantee.AT_LEAST_ONCE,
        OnUnknown.RETRY,
        OnStoreFailure.FAIL_OPEN,
    )
    assert rule.scope == ()
    assert rule.fingerprint.body is BodyRecipe.NONE
    assert rule.fingerprint.headers == ()
    assert not rule.key.required
    assert rule.in_flight is InFlight.WAIT
    assert rule.release_statuses >= frozenset(range(300, 600)), "only an acknowledgement is kept"


@pytest.mark.parametrize("name", CALLERS)
def test_a_callers_preset_executes_at_most_once(name: str) -> None:
    rule = of(name, defaults="{guarantee: at_least_once}")
    assert (rule.guarantee, rule.on_unknown, rule.on_store_failure) == (
        Guarantee.AT_MOST_ONCE,
        OnUnknown.BLOCK,
        OnStoreFailure.FAIL_CLOSED,
    )
    assert rule.in_flight is InFlight.WAIT
    assert rule.scope != ()


def _knative(status: int) -> bool:
    return status >= 500 or status in (404, 408, 409, 429)


def _sns(status: int) -> bool:
    return status >= 500 or status == 429


def _not_2xx(status: int) -> bool:
    return not 200 <= status < 300


def _5xx(status: int) -> bool:
    return status >= 500


DELIVERS_AGAIN = {
    **dict.fromkeys(("standard-webhooks", "svix", "stripe-events", "github", "shopify", "slack"), _not_2xx),
    "google-pubsub": lambda status: status not in (102, 200, 201, 202, 204),
    "twilio": _5xx,
    "cloudevents": _knative,
    "aws-sns": _sns,
}
"""What each sender takes for "not delivered, try again"; Twilio as with `rp=5xx`, CloudEvents as Knative does."""

NO_DELIVERY = {Slug.SIGNATURE_INVALID, Slug.NOT_HTTP}
"""A forgery, and what is no request."""
NEVER_FOR = {
    "twilio": {Slug.KEY_MISSING, Slug.KEY_INVALID, Slug.KEY_UNDERIVABLE, Slug.CREDENTIAL_INVALID, Slug.NOT_AUTHORIZED},
    "cloudevents": {
        Slug.KEY_MISSING,
        Slug.KEY_INVALID,
        Slug.KEY_UNDERIVABLE,
        Slug.CREDENTIAL_INVALID,
        Slug.NOT_AUTHORIZED,
    },
}
"""What no genuine delivery meets under the preset, or what another one would meet again, such as a batch."""


@pytest.mark.parametrize(
    ("name", "slug"),
    [(name, slug) for name in SENDERS for slug in Slug if slug not in NO_DELIVERY | NEVER_FOR.get(name, set())],
)
def test_none_of_our_answers_makes_a_sender_drop_a_message(name: str, slug: Slug) -> None:
    status = status_of(Told(slug, ""), of(name).problem_status)
    assert DELIVERS_AGAIN[name](status), status


def test_a_forger_is_told_as_such_by_sns_too() -> None:
    assert Slug.SIGNATURE_INVALID not in of("aws-sns").problem_status
    assert set(of("aws-sns").problem_status) == set(PROBLEMS) - NO_DELIVERY
    assert set(of("aws-sns").problem_status.values()) == {503}


# ------------------------------------------------------------------------------------------------------- what goes before what


def test_a_rules_own_settings_go_before_its_presets_and_those_before_defaults() -> None:
    rule = of("github", "ttl: 1h\nkey: {required: true}", "{ttl: 2h, wait_timeout: 7s, lease: 9s}")
    assert (rule.ttl, rule.wait_timeout, rule.lease) == (3_600_000, 10_000, 9_000)
    assert rule.key.required
    assert rule.key.natural == of("github").key.natural


def test_defaults_do_not_say_where_a_presets_key_is_but_how_it_looks() -> None:
    defaults = "{key: {header: X-Key, from: '{body}', first_sent: X-Time, required: true, max_length: 99, retry_marker: {header: X-N}}}"
    stripe = of("stripe", defaults=defaults).key
    assert stripe.headers == (b"idempotency-key",)
    assert (stripe.natural, stripe.age, stripe.marker) == ((), None, None)
    assert (stripe.required, stripe.max_length) == (True, 99)
    square = of("square", defaults=defaults).key
    assert square.headers == ()
    assert len(square.natural) == 1


def test_a_header_beside_a_presets_natural_key_is_read_first() -> None:
    key = of("github", "key: {header: X-Delivery}").key
    assert key.headers == (b"x-delivery",)
    assert key.natural == of("github").key.natural


def test_a_natural_key_of_the_rule_is_the_fallback_of_a_presets_header() -> None:
    key = of("paypal", "key: {from: '{json:/invoice_id}'}").key
    assert key.headers == (b"paypal-request-id",)
    assert len(key.natural) == 1


def test_what_follows_from_a_presets_guarantee_is_not_taken_from_defaults() -> None:
    rule = of("slack", defaults="{on_unknown: block, on_store_failure: fail_closed, release_statuses: [429]}")
    assert rule.on_unknown is OnUnknown.RETRY
    assert rule.on_store_failure is OnStoreFailure.FAIL_OPEN
    assert 500 in rule.release_statuses


def test_another_guarantee_brings_what_follows_from_it() -> None:
    rule = of("github", "guarantee: at_most_once")
    assert rule.on_unknown is OnUnknown.BLOCK
    assert rule.on_store_failure is OnStoreFailure.FAIL_CLOSED
    assert rule.release_statuses == AT_MOST_ONCE_RELEASES
    assert of("aws", "guarantee: at_least_once").release_statuses == AT_LEAST_ONCE_RELEASES
    assert of("github", "guarantee: at_most_once", "{on_unknown: retry}").on_unknown is OnUnknown.RETRY
    assert 302 in of("github", "guarantee: at_least_once").release_statuses, "the same as the preset's"


def test_a_status_means_what_the_rule_says_and_not_what_its_preset_says() -> None:
    github = of("github", "unknown_statuses: [502, 504]")
    assert github.unknown_statuses == {502, 504}
    assert {502, 504}.isdisjoint(github.release_statuses)
    assert 503 in github.release_statuses
    aws = of("aws", "release_statuses: [500]")
    assert aws.release_statuses == {500}
    assert aws.unknown_statuses == {502, 504}


def test_every_kind_of_setting_can_be_overridden() -> None:
    rule = of("aws-sns", "scope: ['header:X-Tenant']\nproblem_status: {}\nfingerprint: {body: raw}\nin_flight: reject")
    assert rule.scope == (HeaderScope(b"x-tenant"),)
    assert rule.problem_status == {}
    assert (rule.fingerprint.body, rule.fingerprint.headers) == (BodyRecipe.RAW, ())
    assert rule.in_flight is InFlight.REJECT


def test_without_a_preset_nothing_is_set() -> None:
    assert settings(rule_text("preset: null")).rules == settings(rule_text("")).rules


# ---------------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        *(("standard-webhooks", "standard-webhooks"), ("svix", "standard-webhooks"), ("stripe-events", "stripe")),
        *(("github", "github"), ("shopify", "shopify"), ("slack", "slack")),
    ],
)
def test_a_senders_scheme_needs_only_the_secret(name: str, scheme: str) -> None:
    assert of(name).verify is None
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    found = of(name, f"verify: {{secrets: ['{secret}']}}").verify
    assert found is not None
    assert found.scheme.value == scheme


def test_a_sender_that_does_not_sign_so_needs_a_scheme() -> None:
    assert "verify.secrets: is nothing without scheme" in rule_problem("preset: twilio\nverify: {secrets: [a]}")


# ----------------------------------------------------------------------------------------------------------- faults and warnings


def test_a_misspelt_preset_is_the_only_fault() -> None:
    said = rule_problem("preset: githup\nverify: {secrets: [a]}")
    assert said.startswith("c.yaml:4:13: routes[0].preset: found `githup`; write ")
    assert said.endswith("did you mean github?")


def test_a_preset_is_a_rules_own() -> None:
    said = problem(f"{UPSTREAM}defaults: {{preset: github}}\n")
    assert said == "c.yaml:2:12: defaults.preset: is each rule's own; write it in the rule"


def test_a_fault_of_preset_and_rule_together_leads_to_the_preset() -> None:
    said = rule_problem("preset: adyen\nfingerprint: {body: form}")
    assert said.startswith("c.yaml:4:13: routes[0].preset.fingerprint.ignore: has a json: part")


def test_faults_of_the_rule_itself_lead_to_their_own_lines() -> None:
    said = problems(rule_text("preset: github\nttl: 5\nattempt_header: X-GitHub-Delivery"))
    assert [each.partition(" ")[0] for each in said] == ["c.yaml:5:10:", "c.yaml:6:21:"]


def test_what_the_rule_chose_itself_is_warned_of() -> None:
    said = "\n".join(settings(rule_text("preset: github\nscope: ['header:X-Hub-Signature-256']")).warnings)
    assert "differs in each attempt" in said
    said = "\n".join(settings(rule_text("preset: square\nscope: [{header: Authorization, pattern: '(a)'}]")).warnings)
    assert "a scope's pattern with a natural key is weak" in said
    (said,) = settings(rule_text("preset: stripe\nwait_timeout: 2m")).warnings
    assert "longer than a minute" in said


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_the_window_covers_every_attempt_of_an_sdk(name: str) -> None:
    """Two attempts that time out after ten minutes each, and two pauses that an answer makes two minutes long."""
    rule = of(name)
    assert rule.key.headers == (b"idempotency-key",)
    assert rule.key.marker is not None
    assert rule.key.marker.window >= 2 * (600_000 + 120_000)
    assert rule.ttl >= rule.key.marker.window
    assert rule.wait_timeout == 600_000


def test_a_window_of_the_rule_goes_before_its_presets() -> None:
    marker = of("openai", "key: {retry_marker: {header: x-stainless-retry-count, window: 5m}}").key.marker
    assert marker is not None
    assert marker.window == 300_000


def test_the_shapes_of_answers_are_those_of_the_apis() -> None:
    shapes = {name: of(name).problem_shape for name in PRESETS}
    other = {name: shape.value for name, shape in shapes.items() if shape is not Shape.PROBLEM}
    assert other == {
        each: each for each in ("stripe", "square", "openai", "anthropic", "aws", "azure", "google", "slack")
    }
    assert of("stripe", "problem_shape: problem").problem_shape is Shape.PROBLEM
