"""Real clients with their own retries, unchanged, through the proxy to an API that charges on every request it sees, while
connections on both sides of the proxy are cut, reset and delayed: every payment is charged once or reported, none twice."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import stripe
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from idemproxy.demo.payments_api import READY
from tests.e2e.processes import LISTENING, Process, proxy, running
from tests.e2e.relay import Relay
from tests.ports import free_port

SEED = 20_261_125

Pay = Callable[[str], str | None]
"""Pay with that key: the charge's id, or None where the client was told that it is not known to have been made."""


@dataclass(frozen=True)
class Shop:
    """The proxy's address over a bad network, the API's own, and the seed of its faults."""

    url: str
    api: str

    def ledger(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self.api}/ledger", timeout=60) as answer:
            entries: list[dict[str, str]] = json.load(answer)
        return entries


@pytest.fixture(params=["sqlite", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    store = f"sqlite:{tmp_path / 'store.db'}" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    port, api_port = free_port(), free_port()
    config = f"""
listen: 127.0.0.1:{port}
upstream: http://127.0.0.1:{api_port}
store: {store}
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    key: {{required: true}}
"""
    module = [sys.executable, "-m", "idemproxy.demo.payments_api", "--port", str(api_port), "--faults", str(SEED)]
    with running(Process(module, tmp_path / "api.log"), READY), running(proxy(tmp_path, config), LISTENING):
        relay = Relay(port, SEED)
        try:
            yield Shop(f"http://127.0.0.1:{relay.port}", f"http://127.0.0.1:{api_port}")
        finally:
            relay.stop()


def check(shop: Shop, pay: Pay, count: int) -> None:
    """Pay `count` times, several at once, and compare with what the API says that it charged."""
    keys = [f"payment-{number}" for number in range(count)]
    with ThreadPoolExecutor(12) as pool:
        paid = dict(zip(keys, pool.map(pay, keys), strict=True))
    ledger = shop.ledger()
    charges = Counter(entry["key"] for entry in ledger)
    ids = {entry["key"]: entry["id"] for entry in ledger}
    answered = [key for key in keys if paid[key] is not None]
    reported = [key for key in keys if paid[key] is None]
    charged_anyway = sum(charges[key] for key in reported)
    print(
        f"{count} payments: {len(answered)} charged and answered, {charged_anyway} reported and charged, "
        f"{len(reported) - charged_anyway} reported and not charged"
    )
    assert [key for key, times in charges.items() if times > 1] == [], "charged twice"
    assert [key for key in answered if ids.get(key) != paid[key]] == [], "answered with a charge that was not made"
    assert answered, "no payment came through"
    assert reported, "no fault was met: the test shows nothing"


def test_the_stripe_sdk(shop: Shop) -> None:
    client = stripe.StripeClient("sk_test_1", base_addresses={"api": shop.url}, max_network_retries=3)

    def pay(key: str) -> str | None:
        try:
            charge = client.v1.charges.create(
                params={"amount": 500, "currency": "eur", "source": "tok_visa"}, options={"idempotency_key": key}
            )
        except stripe.StripeError:
            return None
        return charge.id

    check(shop, pay, 200)


def test_requests_with_urllib3s_retry(shop: Shop) -> None:
    retry = Retry(4, backoff_factor=0.1, allowed_methods=None, status_forcelist=[502, 503, 504], raise_on_status=False)

    def pay(key: str) -> str | None:
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(max_retries=retry))
            try:
                answer = session.post(
                    f"{shop.url}/v1/charges",
                    data={"amount": "500", "currency": "eur"},
                    headers={"Idempotency-Key": key},
                    timeout=60,
                )
                return str(answer.json()["id"]) if answer.status_code == 200 else None
            except requests.RequestException:
                return None

    check(shop, pay, 200)


def test_without_the_proxy_the_same_faults_charge_twice(tmp_path: Path) -> None:
    """The control: what the other tests would see if the proxy did nothing."""
    api_port = free_port()
    module = [sys.executable, "-m", "idemproxy.demo.payments_api", "--port", str(api_port), "--faults", str(SEED)]
    with running(Process(module, tmp_path / "api.log"), READY):
        relay = Relay(api_port, SEED)
        try:
            direct = Shop(f"http://127.0.0.1:{relay.port}", f"http://127.0.0.1:{api_port}")
            client = stripe.StripeClient("sk_test_1", base_addresses={"api": direct.url}, max_network_retries=3)
            with ThreadPoolExecutor(12) as pool:
                for number in range(60):
                    pool.submit(
                        client.v1.charges.create,
                        params={"amount": 500, "currency": "eur"},
                        options={"idempotency_key": f"payment-{number}"},
                    )
            charges = Counter(entry["key"] for entry in direct.ledger())
        finally:
            relay.stop()
    assert max(charges.values()) > 1


def test_curl_with_retry(shop: Shop) -> None:
    def pay(key: str) -> str | None:
        command = [
            "curl",
            "-sS",
            "--fail",
            "--retry",
            "4",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "--max-time",
            "60",
        ]
        command += ["-H", f"Idempotency-Key: {key}", "-d", "amount=500", "-d", "currency=eur", f"{shop.url}/v1/charges"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        try:
            return str(json.loads(ended.stdout)["id"]) if ended.returncode == 0 else None
        except ValueError:
            return None

    check(shop, pay, 60)
