"""Deliveries of webhooks and pushes, as their senders make them. A redelivery differs from the delivery in what that sender changes:
the time, the signature, a counter. Shapes are those of the senders' documentation; the signatures are made here, by their rules."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

KEY = b"0123456789abcdef01234567"
STANDARD_SECRET = "whsec_" + base64.b64encode(KEY).decode()
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"


@dataclass(frozen=True, slots=True)
class Sender:
    """`first` and `again` are a delivery and its redelivery; `others` are other deliveries, which must not be taken for it. `passes` is
    what the sender sends that names no event. `secret` is what it signs with."""

    first: bytes
    again: bytes
    others: tuple[bytes, ...]
    passes: bytes | None = None
    secret: str = ""


def sent(body: bytes, *lines: str, target: str = "/hooks/a", kind: str = "application/json") -> bytes:
    """A POST with these header lines."""
    head = "".join(f"{line}\r\n" for line in (f"Content-Type: {kind}", *lines))
    return f"POST {target} HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def written(value: object) -> bytes:
    return json.dumps(value).encode()


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def standard(prefix: str) -> Callable[..., bytes]:
    """A sender of Standard Webhooks, by its headers' prefix."""

    def made(name: str, late: int = 0, target: str = "/hooks/a") -> bytes:
        at, body = int(time.time()) - 60 + late, written({"type": "invoice.paid", "data": {"id": "in_1"}})
        signature = base64.b64encode(_mac(KEY, f"{name}.{at}.".encode() + body)).decode()
        fields = (("id", name), ("timestamp", str(at)), ("signature", f"v1,{signature}"))
        return sent(body, *(f"{prefix}-{field}: {value}" for field, value in fields), target=target)

    return made


def stripe(event: str, late: int = 0, target: str = "/hooks/a") -> bytes:
    """The attempt shows in `pending_webhooks`, and each is signed anew."""
    at = int(time.time()) - 60 + late
    body = written({"id": event, "object": "event", "type": "charge.succeeded", "pending_webhooks": 2 - late})
    signature = _mac(SECRET.encode(), b"%d." % at + body).hex()
    return sent(body, f"Stripe-Signature: t={at},v1={signature},v0=00", "User-Agent: Stripe/1.0", target=target)


def github(delivery: str, hook: str = "292430182", action: str = "opened") -> bytes:
    body = written({"action": action, "issue": {"number": 1}})
    return sent(
        body,
        f"X-GitHub-Delivery: {delivery}",
        f"X-GitHub-Hook-ID: {hook}",
        "X-GitHub-Event: issues",
        f"X-Hub-Signature-256: sha256={_mac(SECRET.encode(), body).hex()}",
        "User-Agent: GitHub-Hookshot/044aadd",
    )


def shopify(event: str, topic: str = "orders/create", webhook: str = "b54557e4", target: str = "/hooks/a") -> bytes:
    body = written({"id": 820982911946154508, "total_price": "10.00"})
    signature = base64.b64encode(_mac(SECRET.encode(), body)).decode()
    lines = [f"X-Shopify-Topic: {topic}", f"X-Shopify-Webhook-Id: {webhook}", f"X-Shopify-Hmac-Sha256: {signature}"]
    named = [f"X-Shopify-Event-Id: {event}"] if event else []
    return sent(body, *named, *lines, "X-Shopify-Shop-Domain: a.myshopify.com", target=target)


def slack(value: object, retry: int = 0) -> bytes:
    at, body = int(time.time()) - 60 + retry, written(value)
    signature = _mac(SECRET.encode(), b"v0:%d:" % at + body).hex()
    again = [f"X-Slack-Retry-Num: {retry}", "X-Slack-Retry-Reason: http_timeout"] if retry else []
    return sent(body, f"X-Slack-Request-Timestamp: {at}", f"X-Slack-Signature: v0={signature}", *again)


def slack_event(event: str, app: str = "A0", retry: int = 0) -> bytes:
    return slack(
        {"type": "event_callback", "event_id": event, "api_app_id": app, "event": {"type": "app_mention"}}, retry
    )


def twilio(token: str, attempt: int = 1, target: str = "/hooks/a") -> bytes:
    form = "application/x-www-form-urlencoded; charset=UTF-8"
    lines = (
        f"I-Twilio-Idempotency-Token: {token}",
        "X-Twilio-Signature: 0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
        f"X-N: {attempt}",
    )
    return sent(b"MessageSid=SM1&MessageStatus=delivered", *lines, target=target, kind=form)


def binary(source: str, name: str, trace: str = "1") -> bytes:
    lines = ("ce-specversion: 1.0", "ce-type: com.example.paid", f"ce-source: {source}", f"ce-id: {name}")
    return sent(b'{"amount":5}', *lines, f"traceparent: 00-{trace * 32}-{trace * 16}-01")


def structured(source: str, name: str, attempt: int = 1) -> bytes:
    event = {"specversion": "1.0", "type": "com.example.paid", "source": source, "id": name, "attempt": attempt}
    return sent(written(event), kind="application/cloudevents+json; charset=UTF-8")


ARN = "arn:aws:sns:us-west-2:123456789012:MyTopic"


def sns(message: str, subscription: str = "2bcfbf39", signature: str = "EXAMPLE") -> bytes:
    body = written({"Type": "Notification", "MessageId": message, "TopicArn": ARN, "Signature": signature})
    return sent(
        body,
        "x-amz-sns-message-type: Notification",
        f"x-amz-sns-message-id: {message}",
        f"x-amz-sns-topic-arn: {ARN}",
        f"x-amz-sns-subscription-arn: {ARN}:{subscription}",
        kind="text/plain; charset=UTF-8",
    )


def sns_handshake(message: str) -> bytes:
    lines = ("x-amz-sns-message-type: SubscriptionConfirmation", f"x-amz-sns-message-id: {message}")
    return sent(written({"Token": "2336"}), *lines, f"x-amz-sns-topic-arn: {ARN}", kind="text/plain; charset=UTF-8")


def pubsub(message: str, subscription: str = "s", attempt: int = 1) -> bytes:
    inner = {"data": "aGk=", "messageId": message, "message_id": message, "publishTime": "2026-11-25T12:00:00Z"}
    body = {"message": inner, "subscription": f"projects/p/subscriptions/{subscription}", "deliveryAttempt": attempt}
    return sent(written(body), f"Authorization: Bearer oidc-{attempt}")


def unwrapped(message: str, subscription: str = "s", attempt: int = 1) -> bytes:
    lines = (f"x-goog-pubsub-message-id: {message}", f"x-goog-pubsub-delivery-attempt: {attempt}")
    return sent(b"hi", *lines, f"x-goog-pubsub-subscription-name: projects/p/subscriptions/{subscription}")


_standard, _svix = standard("webhook"), standard("svix")

SENDERS: dict[str, dict[str, Sender]] = {
    "standard-webhooks": {
        "": Sender(
            _standard("msg_1"),
            _standard("msg_1", late=5),
            (_standard("msg_2"), _standard("msg_1", target="/hooks/b")),
            sent(b"{}", "User-Agent: probe"),
            STANDARD_SECRET,
        )
    },
    "svix": {
        "own names": Sender(_svix("msg_1"), _svix("msg_1", late=5), (_svix("msg_2"),), None, STANDARD_SECRET),
        "the standard's": Sender(_standard("m1"), _standard("m1", late=5), (_standard("m2"),), None, STANDARD_SECRET),
    },
    "stripe-events": {
        "": Sender(
            stripe("evt_1"),
            stripe("evt_1", late=1),
            (stripe("evt_2"), stripe("evt_1", target="/hooks/connect")),
            None,
            SECRET,
        )
    },
    "github": {
        "": Sender(
            github("72d3162e"),
            github("72d3162e"),
            (github("82d3162e"), github("72d3162e", hook="292430183", action="edited")),
            None,
            SECRET,
        )
    },
    "shopify": {
        "event id": Sender(
            shopify("98880550"),
            shopify("98880550", webhook="c54557e4"),
            (shopify("98880551"), shopify("98880550", "orders/paid"), shopify("98880550", target="/hooks/b")),
            None,
            SECRET,
        ),
        "webhook id": Sender(
            shopify(""), shopify(""), (shopify("", "orders/paid"), shopify("", webhook="c54557e4")), None, SECRET
        ),
    },
    "slack": {
        "": Sender(
            slack_event("Ev1"),
            slack_event("Ev1", retry=1),
            (slack_event("Ev2"), slack_event("Ev1", app="A1")),
            slack({"type": "url_verification", "challenge": "3eZbrw1a"}),
            SECRET,
        )
    },
    "twilio": {
        "": Sender(
            twilio("t1"),
            twilio("t1", attempt=2),
            (twilio("t2"), twilio("t1", target="/hooks/fallback")),
            sent(b"MessageSid=SM1", kind="application/x-www-form-urlencoded"),
        )
    },
    "cloudevents": {
        "binary": Sender(binary("/a", "1"), binary("/a", "1", "2"), (binary("/b", "1"), binary("/a", "2"))),
        "structured": Sender(
            structured("/a", "1"),
            structured("/a", "1", attempt=2),
            (structured("/b", "1"), structured("/a", "2")),
            sent(b'{"id":"1","source":"/a"}'),
        ),
    },
    "aws-sns": {
        "": Sender(
            sns("165545c9"), sns("165545c9", signature="ANOTHER"), (sns("265545c9"), sns("165545c9", "3bcfbf39"))
        ),
        "handshake": Sender(sns_handshake("1"), sns_handshake("1"), (sns_handshake("2"),), sent(b"{}")),
    },
    "google-pubsub": {
        "wrapped": Sender(pubsub("1"), pubsub("1", attempt=2), (pubsub("2"), pubsub("1", "t")), sent(b"{}")),
        "unwrapped": Sender(unwrapped("1"), unwrapped("1", attempt=2), (unwrapped("2"), unwrapped("1", "t"))),
    },
}
