"""Signatures of webhooks, against what the senders themselves publish."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from idemproxy.idempotency.messages import Field, Fields
from idemproxy.idempotency.signatures import (
    SIGNED_FIELDS,
    Refusal,
    Refused,
    Scheme,
    Secret,
    Verification,
    Verified,
    WrongSecret,
    secret_of,
    verify,
)
from tests.unit.idempotency.examples import calmly


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender sent."""

    scheme: Scheme
    secret: str
    now: int
    fields: Fields
    body: bytes

    def told(
        self, *secrets: str, fields: Fields | None = None, body: bytes | None = None, now: float | None = None
    ) -> Verified | Refused:
        """What is said of the delivery, with some of it replaced."""
        keys = tuple(secret_of(self.scheme, each) for each in (secrets or (self.secret,)))
        return verify(
            Verification(self.scheme, keys),
            self.fields if fields is None else fields,
            self.body if body is None else body,
            self.now if now is None else now,
        )


STANDARD = Delivery(
    Scheme.STANDARD_WEBHOOKS,
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    1614265330,
    (
        (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        (b"webhook-timestamp", b"1614265330"),
        (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ),
    b'{"test": 2432232314}',
)
"""From the tests of the specification's own libraries."""

GITHUB = Delivery(
    Scheme.GITHUB,
    "It's a Secret to Everybody",
    0,
    ((b"X-Hub-Signature-256", b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),),
    b"Hello, World!",
)
"""From GitHub's documentation, *Testing the webhook payload validation*."""

SLACK = Delivery(
    Scheme.SLACK,
    "8f742231b10e8888abcd99yyyzzz85a5",
    1531420618,
    (
        (b"X-Slack-Request-Timestamp", b"1531420618"),
        (b"X-Slack-Signature", b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
    ),
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121."
    b"803a0bc887a14d10d2c447fce8b6703c",
)
"""From Slack's documentation, *Verifying requests from Slack*."""

SHOPIFY_SECRET = "hush"
SHOPIFY_BODY = b'{"id":820982911946154508,"note":"\xc3\xa9"}'
SHOPIFY = Delivery(
    Scheme.SHOPIFY,
    SHOPIFY_SECRET,
    0,
    (
        (
            b"X-Shopify-Hmac-Sha256",
            base64.b64encode(hmac.digest(SHOPIFY_SECRET.encode(), SHOPIFY_BODY, hashlib.sha256)),
        ),
    ),
    SHOPIFY_BODY,
)
"""By the rule in Shopify's documentation, which publishes no example with its secret."""

STRIPE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STRIPE_BODY = b'{"id":"evt_1","object":"event"}'


def stripes_own(time: int, body: bytes, secret: str = STRIPE_SECRET) -> bytes:
    """A signature as Stripe's library makes it."""
    return str(stripe.WebhookSignature._compute_signature(f"{time}.{body.decode()}", secret)).encode()


STRIPE = Delivery(
    Scheme.STRIPE,
    STRIPE_SECRET,
    1700000000,
    ((b"Stripe-Signature", b"t=1700000000,v1=%b,v0=6ffbb59b" % stripes_own(1700000000, STRIPE_BODY)),),
    STRIPE_BODY,
)

ALL = [STANDARD, STRIPE, GITHUB, SHOPIFY, SLACK]
TIMED = [STANDARD, STRIPE, SLACK]
every = pytest.mark.parametrize("sent", ALL, ids=lambda sent: sent.scheme.value)
timed = pytest.mark.parametrize("sent", TIMED, ids=lambda sent: sent.scheme.value)


def swapped(fields: Fields, name: bytes, value: bytes) -> Fields:
    return tuple((each, value if each.lower() == name else old) for each, old in fields)


def edited(fields: Fields, index: int, value: bytes) -> Fields:
    pairs: list[Field] = list(fields)
    pairs[index] = (pairs[index][0], value)
    return tuple(pairs)


@every
def test_what_the_sender_signed_is_verified(sent: Delivery) -> None:
    assert sent.told() == Verified()


@every
def test_fields_beside_the_signature_and_their_case_do_not_count(sent: Delivery) -> None:
    fields = ((b"Host", b"x"), *((name.upper(), value) for name, value in sent.fields), (b"X-Other", b"y"))
    assert sent.told(fields=fields) == Verified()


def test_stripes_library_and_this_agree() -> None:
    """Stripe's own library takes the header that is verified here."""
    header = STRIPE.fields[0][1].decode()
    assert stripe.WebhookSignature.verify_header(STRIPE_BODY.decode(), header, STRIPE_SECRET)
    assert STRIPE.told() == Verified()


@every
def test_any_of_several_secrets_may_have_signed(sent: Delivery) -> None:
    other = "whsec_" + base64.b64encode(b"another secret of some length").decode()
    assert sent.told(other, sent.secret) == Verified()
    assert sent.told(sent.secret, other) == Verified()
    assert sent.told(other) == Refused(Refusal.MISMATCH)


@every
@calmly
@given(at=st.integers(min_value=0), to=st.integers(min_value=1, max_value=255))
def test_a_changed_byte_of_the_body_is_refused(sent: Delivery, at: int, to: int) -> None:
    body = bytearray(sent.body)
    body[at % len(body)] ^= to
    assert sent.told(body=bytes(body)) == Refused(Refusal.MISMATCH)


@every
@calmly
@given(data=st.data())
def test_a_changed_byte_of_what_is_signed_or_of_the_signature_is_refused(sent: Delivery, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(sent.fields) - 1))
    value = bytearray(sent.fields[index][1])
    # Stripe's v0 is no part of what is verified
    length = value.index(b",v0=") if b",v0=" in value else len(value)
    value[data.draw(st.integers(0, length - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(sent.told(fields=edited(sent.fields, index, bytes(value))), Refused)


@every
@calmly
@given(data=st.data())
def test_nothing_that_a_field_can_hold_is_an_exception(sent: Delivery, data: st.DataObject) -> None:
    names = sorted(SIGNED_FIELDS[sent.scheme])
    value = st.one_of(st.binary(max_size=80), st.text(alphabet="tv01=,. s ha256-_", max_size=40).map(str.encode))
    fields = data.draw(st.lists(st.tuples(st.sampled_from(names), value), max_size=6))
    assert isinstance(sent.told(fields=tuple(fields), body=data.draw(st.binary(max_size=20))), Refused)


@every
def test_every_field_of_the_signature_must_be_there_once(sent: Delivery) -> None:
    for index in range(len(sent.fields)):
        without = sent.fields[:index] + sent.fields[index + 1 :]
        assert sent.told(fields=without) == Refused(Refusal.ABSENT)
        assert sent.told(fields=(*sent.fields, sent.fields[index])) == Refused(Refusal.REPEATED)
        assert isinstance(sent.told(fields=edited(sent.fields, index, b"")), Refused)


@every
def test_the_fields_that_are_read_are_named(sent: Delivery) -> None:
    assert {name.lower() for name, _ in sent.fields} <= SIGNED_FIELDS[sent.scheme]


@timed
def test_a_time_within_the_tolerance_counts(sent: Delivery) -> None:
    assert sent.told(now=sent.now + 300) == Verified()
    assert sent.told(now=sent.now - 300) == Verified()
    assert sent.told(now=sent.now + 300.5) == Refused(Refusal.TOO_OLD)
    assert sent.told(now=sent.now - 300.5) == Refused(Refusal.TOO_NEW)


@pytest.mark.parametrize("sent", [GITHUB, SHOPIFY], ids=lambda sent: sent.scheme.value)
def test_where_no_time_is_signed_none_counts(sent: Delivery) -> None:
    assert sent.told(now=10**10) == Verified()


@timed
@pytest.mark.parametrize(
    "time", [b"", b"-1", b"+1614265330", b" 1614265330", b"1e9", b"16142653.30", b"\xd9\xa1", b"9" * 400]
)
def test_a_time_that_is_not_whole_seconds_is_malformed(sent: Delivery, time: bytes) -> None:
    if sent.scheme is Scheme.STRIPE:
        fields = edited(sent.fields, 0, sent.fields[0][1].replace(b"t=1700000000", b"t=" + time))
    else:
        fields = swapped(swapped(sent.fields, b"webhook-timestamp", time), b"x-slack-request-timestamp", time)
    assert sent.told(fields=fields) == Refused(Refusal.MALFORMED)


def test_a_time_moved_into_the_window_does_not_help() -> None:
    fields = swapped(STANDARD.fields, b"webhook-timestamp", b"1614269999")
    assert STANDARD.told(fields=fields, now=1614269999) == Refused(Refusal.MISMATCH)


# ----------------------------------------------------------------------------------------------------------- several signatures


def test_one_of_several_signatures_is_enough() -> None:
    right = STANDARD.fields[2][1]
    listed = b"v1,bm9uZQ== v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5B %b v2,abc" % right
    assert STANDARD.told(fields=edited(STANDARD.fields, 2, listed)) == Verified()
    header = b"t=1700000000,v1=%b,v1=%b" % (b"0" * 64, stripes_own(1700000000, STRIPE_BODY))
    assert STRIPE.told(fields=edited(STRIPE.fields, 0, header)) == Verified()


def test_no_other_version_is_a_way_around() -> None:
    other = STANDARD.fields[2][1].replace(b"v1,", b"v1a,")
    assert STANDARD.told(fields=edited(STANDARD.fields, 2, other)) == Refused(Refusal.NO_VERSION)
    header = STRIPE.fields[0][1].replace(b"v1=", b"v0=")
    assert STRIPE.told(fields=edited(STRIPE.fields, 0, header)) == Refused(Refusal.NO_VERSION)
    sha1 = b"sha1=" + hmac.new(GITHUB.secret.encode(), GITHUB.body, hashlib.sha1).hexdigest().encode()
    assert GITHUB.told(fields=edited(GITHUB.fields, 0, sha1)) == Refused(Refusal.NO_VERSION)
    assert SLACK.told(fields=edited(SLACK.fields, 1, SLACK.fields[1][1].replace(b"v0", b"v1"))) == Refused(
        Refusal.NO_VERSION
    )


def test_several_times_in_one_header_are_malformed() -> None:
    header = STRIPE.fields[0][1] + b",t=1700000000"
    assert STRIPE.told(fields=edited(STRIPE.fields, 0, header)) == Refused(Refusal.MALFORMED)


@pytest.mark.parametrize("piece", [b"", b"v1", b"junk"])
def test_a_piece_that_is_no_signature_is_malformed(piece: bytes) -> None:
    listed = STANDARD.fields[2][1] + b" " + piece
    assert STANDARD.told(fields=edited(STANDARD.fields, 2, listed)) == Refused(Refusal.MALFORMED)
    header = STRIPE.fields[0][1] + b"," + piece
    assert STRIPE.told(fields=edited(STRIPE.fields, 0, header)) == Refused(Refusal.MALFORMED)


def test_more_signatures_than_a_sender_makes_are_malformed() -> None:
    listed = b" ".join([b"v1,AAAA"] * 100)
    assert STANDARD.told(fields=edited(STANDARD.fields, 2, listed)) == Refused(Refusal.MALFORMED)


# -------------------------------------------------------------------------------------------------------------------- Svix's names


def svix(fields: Fields) -> Fields:
    return tuple((name.replace(b"webhook-", b"svix-"), value) for name, value in fields)


def test_svix_calls_the_same_fields_by_other_names() -> None:
    assert STANDARD.told(fields=svix(STANDARD.fields)) == Verified()
    assert STANDARD.told(fields=STANDARD.fields + svix(STANDARD.fields)) == Verified()


@pytest.mark.parametrize("added", [(b"webhook-id", b"msg_other"), (b"Webhook-Timestamp", b"1614265331")])
def test_a_second_name_cannot_slip_in_what_was_not_signed(added: Field) -> None:
    assert STANDARD.told(fields=(*svix(STANDARD.fields), added)) == Refused(Refusal.REPEATED)


def test_an_id_cannot_take_the_time_into_itself() -> None:
    """`id.time.body` of another id, time and body is the same text."""
    signed = b"a.1614265330.1614265331.x"
    key = secret_of(Scheme.STANDARD_WEBHOOKS, STANDARD.secret).key
    signature = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    fields = ((b"webhook-id", b"a"), (b"webhook-timestamp", b"1614265330"), (b"webhook-signature", signature))
    assert STANDARD.told(fields=fields, body=b"1614265331.x") == Verified()
    moved = edited(edited(fields, 0, b"a.1614265330"), 1, b"1614265331")
    assert STANDARD.told(fields=moved, body=b"x") == Refused(Refusal.MALFORMED)


# ------------------------------------------------------------------------------------------------------------------------ secrets


def test_only_standard_webhooks_decodes_its_secrets() -> None:
    text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert secret_of(Scheme.STANDARD_WEBHOOKS, text) == secret_of(Scheme.STANDARD_WEBHOOKS, text[6:])
    assert len(secret_of(Scheme.STANDARD_WEBHOOKS, text).key) == 24
    for scheme in (Scheme.STRIPE, Scheme.GITHUB, Scheme.SHOPIFY, Scheme.SLACK):
        assert secret_of(scheme, text).key == text.encode()


def test_a_secret_without_its_padding_is_the_same() -> None:
    padded = "whsec_" + base64.b64encode(b"25 bytes of some secret...").decode()
    assert secret_of(Scheme.STANDARD_WEBHOOKS, padded.rstrip("=")) == secret_of(Scheme.STANDARD_WEBHOOKS, padded)


@pytest.mark.parametrize(
    "text", ["", " ", "whsec_", "whsec_=", "whsec_not base64", "whsec_SESAM", "whpk_MfKQ9r8G", "whsec_é"]
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(WrongSecret):
        secret_of(Scheme.STANDARD_WEBHOOKS, text)


@pytest.mark.parametrize("text", ["whsec_open sesame", "whpk_open sesame"])
def test_an_error_shows_nothing_of_a_secret(text: str) -> None:
    with pytest.raises(WrongSecret) as caught:
        secret_of(Scheme.STANDARD_WEBHOOKS, text)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_shows_a_secret() -> None:
    by = Verification(Scheme.GITHUB, (Secret(b"sesame"),))
    assert "sesame" not in repr(by)
    assert "sesame" not in repr(verify(by, GITHUB.fields, b"", 0))
