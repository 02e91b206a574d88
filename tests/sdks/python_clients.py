"""One call a URL by a client library, as its documentation shows it: `python python_clients.py NAME URL ..` prints what was raised, as
a line of JSON each.

It runs in an environment of the libraries' own, and needs nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

KEY = "4c0b6b3e-5a9e-4a39-9b0e-6a1f0b7d2c11"


def stripe(url: str) -> object:
    client = import_module("stripe").StripeClient("sk_test_1", base_addresses={"api": url}, max_network_retries=2)
    return client.v1.charges.create(params={"amount": 500, "currency": "eur", "source": "tok_visa"})


def openai(url: str) -> object:
    client = import_module("openai").OpenAI(api_key="k", base_url=f"{url}/v1")
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])


def anthropic(url: str) -> object:
    client = import_module("anthropic").Anthropic(api_key="k", base_url=url)
    return client.messages.create(model="m", max_tokens=10, messages=[{"role": "user", "content": "hello"}])


def svix(url: str) -> object:
    api = import_module("svix.api")
    client = api.Svix("testsk_k.eu", api.SvixOptions(server_url=url))
    return client.message.create("app_1", api.MessageIn(event_type="paid", payload={"amount": 5}))


def workos(url: str) -> object:
    client = import_module("workos").WorkOSClient(api_key="k", client_id="c", base_url=f"{url}/")
    return client.organizations.create_organization(name="shop")


def increase(url: str) -> object:
    return import_module("increase").Increase(api_key="k", base_url=url).accounts.create(name="shop")


def modern_treasury(url: str) -> object:
    client = import_module("modern_treasury").ModernTreasury(organization_id="o", api_key="k", base_url=url)
    return client.counterparties.create(name="shop")


def square(url: str) -> object:
    client = import_module("square").Square(token="k", base_url=url)
    return client.payments.create(
        source_id="cnon:card-nonce-ok", idempotency_key=KEY, amount_money={"amount": 500, "currency": "USD"}
    )


def gocardless(url: str) -> object:
    client = import_module("gocardless_pro").Client(access_token="k", base_url=url)
    return client.customers.create(params={"email": "a@shop.example", "given_name": "A", "family_name": "B"})


def google(url: str) -> object:
    """What the libraries of Google's HTTP APIs are made of: the answer's exception, within their usual retry."""
    core, requests = import_module("google.api_core"), import_module("requests")
    exceptions, retry = import_module("google.api_core.exceptions"), import_module("google.api_core.retry")
    assert core is not None

    def call() -> object:
        answer = requests.post(f"{url}/v1/orders", json={"requestId": KEY}, timeout=60)
        if answer.status_code >= 400:
            raise exceptions.from_http_response(answer)
        return answer.json()

    return retry.Retry(initial=0.5, maximum=2.0, timeout=3.0)(call)()


def azure(url: str) -> object:
    """What the libraries of Azure's HTTP APIs are made of, with their usual policies."""
    core, rest = import_module("azure.core"), import_module("azure.core.rest")
    policies = import_module("azure.core.pipeline.policies")
    client = core.PipelineClient(base_url=url, policies=[policies.RetryPolicy()])
    asked = {"Repeatability-Request-ID": KEY, "Repeatability-First-Sent": "Wed, 25 Nov 2026 12:00:00 GMT"}
    answer = client.send_request(rest.HttpRequest("POST", f"{url}/messages", json={}, headers=asked))
    answer.raise_for_status()
    return answer.json()


def aws(url: str) -> object:
    session = import_module("botocore.session").Session()
    client = session.create_client(
        "ecs", region_name="eu-west-1", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s"
    )
    return client.create_service(serviceName="shop", clientToken=KEY)


CALLS: dict[str, Callable[[str], object]] = {
    "stripe": stripe,
    "openai": openai,
    "anthropic": anthropic,
    "svix": svix,
    "workos": workos,
    "increase": increase,
    "modern-treasury": modern_treasury,
    "squareup": square,
    "gocardless_pro": gocardless,
    "google-api-core": google,
    "azure-core": azure,
    "botocore": aws,
}


def told(call: Callable[[str], object], url: str) -> dict[str, Any]:
    """What a caller of the library meets: the exception's name, whether it is the library's own, and its text."""
    try:
        returned = call(url)
    except Exception as error:  # whatever it is, it is what the caller meets
        # the library's own, or one of what it is built on: then it did not understand the answer
        home = call.__name__ if call is not aws else "botocore"
        try:
            text = str(error)
        except TypeError:  # gocardless_pro, where the answer has no message
            text = ""
        return {"raised": type(error).__name__, "own": type(error).__module__.startswith(home), "text": text}
    return {"raised": None, "own": False, "text": repr(returned)}


if __name__ == "__main__":
    for url in sys.argv[2:]:
        print(json.dumps(told(CALLS[sys.argv[1]], url)), flush=True)
