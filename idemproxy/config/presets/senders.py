"""Presets for webhooks and pushes: their senders deliver again until a delivery is acknowledged, so that only an acknowledging answer is
kept. A delivery is another one at another address: path and query are part of each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from idemproxy.config.presets.preset import Preset

_NONE: Final[Mapping[str, int]] = MappingProxyType({})
_NOT_ACKNOWLEDGED: Final = ["3xx", "4xx", "5xx"]
_LATER: Final = dict.fromkeys(
    ["key-in-flight", "outcome-unknown", "answer-not-kept", "key-expired", "key-reused", "request-too-large"], 503
)
"""For senders that take a status of 4xx for the end of a delivery."""


def _sender(
    about: str,
    source: str,
    key: Sequence[str],
    *,
    wait: str,
    ttl: str,
    scheme: str | None = None,
    statuses: Mapping[str, int] = _NONE,
    not_acknowledged: Sequence[str | int] = (),
    batches: Sequence[str] = (),
    shape: str | None = None,
) -> Preset:
    """`wait` is no longer than the sender's own patience, `ttl` no shorter than the time in which it delivers again."""
    return Preset(
        about,
        source,
        {
            "key": {
                "from": [f"{each} {{target}}" for each in key],
                "required": False,
                **({"batches": list(batches)} if batches else {}),
            },
            "scope": [],
            "fingerprint": {"headers": [], "query": True, "body": "none", "ignore": []},
            "guarantee": "at_least_once",
            "release_statuses": [*not_acknowledged, *_NOT_ACKNOWLEDGED],
            "unknown_statuses": [],
            "in_flight": "wait",
            "wait_timeout": wait,
            "ttl": ttl,
            **({"verify": {"scheme": scheme}} if scheme else {}),
            **({"problem_status": dict(statuses)} if statuses else {}),
            **({"problem_shape": shape} if shape else {}),
        },
    )


SENDERS: Final[Mapping[str, Preset]] = {
    "standard-webhooks": _sender(
        "Senders that follow Standard Webhooks.",
        "Standard Webhooks 1.0.0, Webhook metadata and Deliverability",
        ["{header:webhook-id}"],
        wait="15s",
        ttl="7d",
        scheme="standard-webhooks",
    ),
    "svix": _sender(
        "Senders that deliver by Svix, with its own header names or the standard's.",
        "Svix docs, Verifying payloads and Retries; svix 2.9",
        ["{header:svix-id}", "{header:webhook-id}"],
        wait="15s",
        ttl="7d",
        scheme="standard-webhooks",
    ),
    "stripe-events": _sender(
        "Stripe's webhook endpoints.",
        "Stripe docs, Receive Stripe events in your webhook endpoint",
        ["{json:/id}"],
        wait="10s",
        ttl="30d",
        scheme="stripe",
    ),
    "github": _sender(
        "GitHub's webhooks, of repositories, organisations and apps.",
        "GitHub docs, Webhook events and payloads (delivery headers); Redelivering webhooks",
        ["{header:X-GitHub-Delivery} {header:X-GitHub-Hook-ID}", "{header:X-GitHub-Delivery}"],
        wait="10s",
        ttl="7d",
        scheme="github",
    ),
    "shopify": _sender(
        "Shopify's webhooks over HTTPS.",
        "shopify.dev, Ignore duplicate webhooks; About webhooks (headers)",
        [
            "{header:X-Shopify-Event-Id} {header:X-Shopify-Topic}",
            "{header:X-Shopify-Webhook-Id} {header:X-Shopify-Topic}",
        ],
        wait="5s",
        ttl="7d",
        scheme="shopify",
    ),
    "slack": _sender(
        "Slack's Events API. What it sends once only (commands, interactions) passes.",
        "Slack docs, The Events API (Error handling, Delayed events)",
        ["{json:/event_id} {json:/api_app_id}", "{json:/event_id}"],
        wait="3s",
        ttl="2d",
        scheme="slack",
        shape="slack",
    ),
    "twilio": _sender(
        "Twilio's webhooks.",
        "Twilio docs, Webhooks connection overrides",
        ["{header:I-Twilio-Idempotency-Token}"],
        wait="15s",
        ttl="24h",
        statuses=_LATER,
    ),
    "cloudevents": _sender(
        "CloudEvents over HTTP, in binary mode and in structured mode as JSON.",
        "CloudEvents 1.0.2, HTTP protocol binding; HTTP 1.1 web hooks for event delivery",
        ["{header:ce-specversion} {header:ce-source} {header:ce-id}", "{json:/specversion} {json:/source} {json:/id}"],
        wait="10s",
        ttl="7d",
        statuses=_LATER,
        batches=["application/cloudevents-batch+json", "application/cloudevents-batch+protobuf"],
    ),
    "aws-sns": _sender(
        "Amazon SNS over HTTP and HTTPS, which drops a message on any status but 429 and 5xx.",
        "Amazon SNS developer guide, Message delivery retries; HTTP/HTTPS headers",
        [
            "{header:x-amz-sns-message-id} {header:x-amz-sns-subscription-arn}",
            "{header:x-amz-sns-message-id} {header:x-amz-sns-topic-arn}",
        ],
        wait="10s",
        ttl="24h",
        statuses={
            "key-missing": 503,
            "key-invalid": 503,
            "key-underivable": 503,
            **_LATER,
            "upstream-unreachable": 503,
            "upstream-failed": 503,
            "upstream-timeout": 503,
            "store-unavailable": 503,
            "credential-invalid": 503,
            "not-authorized": 503,
            "reauthorize-unavailable": 503,
            "shutting-down": 503,
        },
    ),
    "google-pubsub": _sender(
        "Google Cloud Pub/Sub push, wrapped, or unwrapped with its metadata written.",
        "Google Cloud docs, Push subscriptions; Payload unwrapping",
        [
            "{json:/message/messageId} {json:/subscription}",
            "{header:x-goog-pubsub-message-id} {header:x-goog-pubsub-subscription-name}",
        ],
        wait="10s",
        ttl="7d",
        # Success to everybody else, and no acknowledgement here.
        not_acknowledged=[203, 205, 206, 207, 208, 226],
    ),
}
