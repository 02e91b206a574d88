"""Presets for an API whose clients send keys of their own: they execute at most once, and a caller is whoever authenticates there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from idemproxy.config.presets.preset import Preset

_NOT_EXECUTED: Final = [401, 407, 421, 425, 428, 429]
"""Without 402, which is a declined card at payment APIs: the operation's outcome."""


def _completions(about: str, source: str, scope: list[str], largest: str, shape: str) -> Preset:
    """For SDKs made by Stainless: each of up to three attempts may take ten minutes, and two pauses two minutes."""
    return Preset(
        about,
        source,
        {
            "key": {
                "header": ["Idempotency-Key"],
                "retry_marker": {"header": "x-stainless-retry-count", "window": "30m"},
            },
            "scope": scope,
            "guarantee": "at_most_once",
            # These SDKs send the same again after each of them: there is no completion in such an answer.
            "release_statuses": [*_NOT_EXECUTED, 402, 408, 409, "5xx"],
            "unknown_statuses": [],
            "in_flight": "wait",
            "wait_timeout": "10m",
            "max_request_body": largest,
            "problem_shape": shape,
        },
    )


CALLERS: Final[Mapping[str, Preset]] = {
    "stripe": Preset(
        "Clients of Stripe's API and of those built like it.",
        "Stripe API reference, Idempotent requests; stripe-python 16.1",
        {
            "key": {"header": ["Idempotency-Key"]},
            "scope": ["header:Authorization", "header:Stripe-Account", "header:Stripe-Context"],
            "guarantee": "at_most_once",
            # A request that meets another one with its key is not executed there, and its client sends it again.
            "release_statuses": [*_NOT_EXECUTED, 409],
            "in_flight": "wait",
            "wait_timeout": "60s",
            "ttl": "24h",
            "problem_shape": "stripe",
        },
    ),
    "square": Preset(
        "Clients of Square's API, whose key is in the body.",
        "Square developer docs, Idempotency; squareup 46",
        {
            "key": {"from": ["{json:/idempotency_key}"]},
            "scope": ["header:Authorization"],
            "fingerprint": {"body": "json"},
            "guarantee": "at_most_once",
            "release_statuses": _NOT_EXECUTED,
            "in_flight": "wait",
            "wait_timeout": "45s",
            "problem_shape": "square",
        },
    ),
    "paypal": Preset(
        "Clients of PayPal's REST APIs.",
        "PayPal REST API reference, Idempotency",
        {
            "key": {"header": ["PayPal-Request-Id"]},
            "scope": ["header:Authorization", "header:PayPal-Auth-Assertion"],
            "guarantee": "at_most_once",
            "release_statuses": _NOT_EXECUTED,
            "in_flight": "wait",
            "wait_timeout": "30s",
            "ttl": "45d",
        },
    ),
    "adyen": Preset(
        "Clients of Adyen's APIs.",
        "Adyen docs, API idempotency",
        {
            "key": {"header": ["Idempotency-Key"], "max_length": 64},
            "scope": ["header:X-API-Key", "header:Authorization"],
            # What the drop-in says of its own state differs each time that a shopper's page is asked.
            "fingerprint": {"body": "json", "ignore": ["json:/paymentMethod/sdkData"]},
            "guarantee": "at_most_once",
            "release_statuses": _NOT_EXECUTED,
            "in_flight": "wait",
            "wait_timeout": "30s",
            "ttl": "31d",
        },
    ),
    "openai": _completions(
        "OpenAI's SDKs, which send no key, and clients of APIs like OpenAI's.",
        "openai 3.57 (retries, timeouts, x-stainless-retry-count); OpenAI API reference, Authentication and Error codes",
        ["header:Authorization", "header:api-key", "header:OpenAI-Organization", "header:OpenAI-Project"],
        "64MiB",
        "openai",
    ),
    "anthropic": _completions(
        "Anthropic's SDKs, which send no key.",
        "anthropic 2.14 (retries, timeouts, x-stainless-retry-count); Claude API reference, Errors",
        ["header:X-API-Key", "header:Authorization"],
        "32MiB",
        "anthropic",
    ),
    "aws": Preset(
        "AWS SDKs: the client token that they fill in, else the id that they give to a call and all its attempts.",
        "The service models in botocore 1.44 (idempotencyToken); AWS Signature Version 4",
        {
            "key": {
                "from": [
                    "{header:X-Amz-Client-Token}",
                    "{header:X-Amzn-Client-Token}",
                    "{json:/clientToken}",
                    "{json:/ClientToken}",
                    "{json:/clientRequestToken}",
                    "{json:/ClientRequestToken}",
                    "{json:/IdempotencyToken}",
                    "{query:clientToken}",
                    "{query:ClientRequestToken}",
                    "{form:ClientToken}",
                    "{form:ClientRequestToken}",
                    "{header:amz-sdk-invocation-id}",
                ]
            },
            "fingerprint": {"headers": ["Content-Type", "X-Amz-Target"]},
            # Signature and date differ in each attempt, the access key does not.
            "scope": [{"header": "Authorization", "pattern": "^AWS4-[A-Z0-9-]+ Credential=([^/, ]+)/"}],
            "guarantee": "at_most_once",
            # 400 carries throttling, 403 a clock that is off or a token that ran out: the SDK sends the same call again.
            "release_statuses": [400, 401, 402, 403, 407, 421, 425, 428, 429, 503],
            "unknown_statuses": [500, 502, 504],
            "in_flight": "wait",
            "wait_timeout": "50s",
            "problem_shape": "aws",
        },
    ),
    "azure": Preset(
        "Clients of Azure services that take repeatable requests.",
        "OASIS Repeatable Requests 1.0; Microsoft Azure REST API Guidelines",
        {
            "key": {"header": ["Repeatability-Request-ID"], "first_sent": "Repeatability-First-Sent"},
            # An HMAC signs the time of each attempt. Where it names no credential, the host stands for the caller.
            "scope": [
                {"header": "Authorization", "pattern": "^(HMAC-SHA256 (?:Credential=[^&, ]+)?)"},
                "header:Host",
                "header:Repeatability-Client-ID",
            ],
            "guarantee": "at_most_once",
            "in_flight": "wait",
            "wait_timeout": "30s",
            "problem_shape": "azure",
        },
    ),
    "google": Preset(
        "Clients of Google APIs whose requests have a request id.",
        "Google AIP-155, Request identification",
        {
            "key": {
                "from": ["{json:/requestId}", "{json:/request_id}", "{query:requestId}", "{query:request_id}"],
            },
            "scope": ["header:Authorization"],
            "fingerprint": {"body": "json"},
            "guarantee": "at_most_once",
            "in_flight": "wait",
            "wait_timeout": "30s",
            "problem_shape": "google",
        },
    ),
}
