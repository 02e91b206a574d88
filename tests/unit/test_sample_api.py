"""The sample payments API: careless on purpose, and faulty by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from idemproxy.demo.faults import CHANCES, Fault, Faults
from idemproxy.demo.payments_api import Ledger, Payments

Client = TestClient[web.Request, web.Application]
FORM = {"amount": "2000", "currency": "EUR", "source": "tok_visa", "metadata[order]": "7"}


class Always(Faults):
    """The same fault for every request."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(None)
        self.fault = fault

    def draw(self) -> tuple[Fault, float]:
        return self.fault, 0.0


@pytest.fixture
def faults() -> Always:
    return Always(Fault.NONE)


@pytest.fixture
async def client(faults: Always, tmp_path: Path) -> AsyncIterator[Client]:
    payments = Payments(Ledger(tmp_path / "ledger"), faults)
    async with TestClient(TestServer(payments.application())) as client:
        yield client


async def charge(client: Client, **form: str) -> tuple[int, dict[str, Any]]:
    async with client.post("/v1/charges", data=FORM | form, headers={"Idempotency-Key": "k"}) as answer:
        return answer.status, await answer.json()


async def ledger(client: Client) -> list[dict[str, Any]]:
    async with client.get("/ledger") as answer:
        charges: list[dict[str, Any]] = await answer.json()
        return charges


async def test_every_request_is_a_charge_whatever_its_key(client: Client) -> None:
    (status, first), (_, second) = await charge(client), await charge(client)
    assert status == 200
    assert (first["object"], first["amount"], first["currency"]) == ("charge", 2000, "eur")
    assert first["metadata"] == {"order": "7"}
    assert first["id"] != second["id"]
    assert await ledger(client) == [{"key": "k"} | first, {"key": "k"} | second]
    async with client.get(f"/v1/charges/{second['id']}") as answer:
        assert await answer.json() == second


async def test_what_cannot_be_charged_is_refused(client: Client) -> None:
    assert (await charge(client, amount="-1"))[0] == 400
    assert (await charge(client, currency=""))[1]["error"]["param"] == "currency"
    assert (await charge(client, source="tok_chargeDeclined"))[0] == 402
    async with client.get("/v1/charges/ch_none") as answer:
        assert answer.status == 404
    assert await ledger(client) == []


async def test_a_ledger_outlives_its_process(client: Client, tmp_path: Path) -> None:
    _, made = await charge(client)
    assert [entry["charge"] for entry in Ledger(tmp_path / "ledger").entries] == [made]


@pytest.mark.parametrize(("fault", "charged"), [(Fault.RESET_BEFORE, 0), (Fault.RESET_AFTER, 1), (Fault.CUT, 1)])
async def test_a_fault_loses_the_answer(client: Client, faults: Always, fault: Fault, charged: int) -> None:
    faults.fault = fault
    with pytest.raises(aiohttp.ClientError):
        await charge(client)
    assert len(await ledger(client)) == charged


async def test_a_late_answer_comes(client: Client, faults: Always) -> None:
    faults.fault = Fault.LATE
    assert (await charge(client))[0] == 200


def test_a_seed_gives_the_same_faults_and_each_about_as_often_as_stated() -> None:
    first, second = Faults(7), Faults(7)
    drawn = [first.draw() for _ in range(4000)]
    assert drawn == [second.draw() for _ in range(4000)]
    counted = Counter(fault for fault, _ in drawn)
    for fault, chance in CHANCES.items():
        assert chance * 0.7 < counted[fault] / 4000 < chance * 1.3
    assert {Faults(None).draw()[0] for _ in range(100)} == {Fault.NONE}
