"""A sample payments API in the shape of Stripe's charges: `python -m idemproxy.demo.payments_api --port 9000`.

It is as careless as an API can be: it ignores idempotency keys, and each request that it carries out is a charge. What it has
charged is at `GET /ledger`, in the order of charging, each with the key that came with it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import secrets
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypedDict, assert_never

from aiohttp import web

from idemproxy.demo.faults import Fault, Faults

READY: Final = "payments API listening on"
DELAY_HEADER: Final = "X-Demo-Delay"
"""Seconds of work before the charge is made."""
LONGEST_DELAY: Final = 60.0


class Charge(TypedDict):
    """A charge as Stripe shows it, as far as clients look at it."""

    id: str
    object: str
    amount: int
    amount_captured: int
    amount_refunded: int
    captured: bool
    created: int
    currency: str
    description: str | None
    livemode: bool
    metadata: dict[str, str]
    paid: bool
    refunded: bool
    status: str


class Entry(TypedDict):
    """A line of the ledger."""

    key: str | None
    charge: Charge


class Ledger:
    """Every charge ever made; with a file, also those of earlier processes."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.entries: list[Entry] = []
        if file is not None and file.exists():
            self.entries = [json.loads(line) for line in file.read_text().splitlines()]

    def charge(self, key: str | None, form: Mapping[str, str]) -> Charge:
        """Charge, whatever was charged before."""
        amount = int(form["amount"])
        charge = Charge(
            id=f"ch_{secrets.token_hex(12)}",
            object="charge",
            amount=amount,
            amount_captured=amount,
            amount_refunded=0,
            captured=True,
            created=int(time.time()),
            currency=form["currency"].lower(),
            description=form.get("description"),
            livemode=False,
            metadata=_metadata(form),
            paid=True,
            refunded=False,
            status="succeeded",
        )
        entry = Entry(key=key, charge=charge)
        self.entries.append(entry)
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return charge

    def find(self, charge_id: str) -> Charge | None:
        """The charge with that id."""
        return next((entry["charge"] for entry in self.entries if entry["charge"]["id"] == charge_id), None)


_METADATA = re.compile(r"metadata\[([^\]]+)\]")


def _metadata(form: Mapping[str, str]) -> dict[str, str]:
    found = ((_METADATA.fullmatch(name), value) for name, value in form.items())
    return {match[1]: value for match, value in found if match}


class Payments:
    """The routes."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._faults = faults
        self._running: Counter[str] = Counter()

    def application(self) -> web.Application:
        """As aiohttp serves it."""
        application = web.Application()
        application.router.add_post("/v1/charges", self.create)
        application.router.add_get("/v1/charges/{id}", self.retrieve)
        application.router.add_get("/ledger", self.ledger)
        application.router.add_get("/running", self.running)
        return application

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/charges`, form-encoded: amount, currency, source."""
        fault, late = self._faults.draw()
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        if (wrong := _wrong(form)) is not None:
            return wrong
        key = request.headers.get("Idempotency-Key")
        with self._at_work(key):
            await asyncio.sleep(_delay(request))
            if fault is Fault.RESET_BEFORE:
                return _reset(request)
            answer = _json(self._ledger.charge(key, form))
            match fault:
                case Fault.NONE:
                    return answer
                case Fault.RESET_AFTER:
                    return _reset(request)
                case Fault.CUT:
                    return await _cut(request, answer)
                case Fault.LATE:
                    await asyncio.sleep(late)
                    return answer
                case other:
                    assert_never(other)

    @contextlib.contextmanager
    def _at_work(self, key: str | None) -> Iterator[None]:
        name = key or ""
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1

    async def retrieve(self, request: web.Request) -> web.Response:
        """`GET /v1/charges/{id}`."""
        charge = self._ledger.find(request.match_info["id"])
        if charge is None:
            return _error(404, "invalid_request_error", f"No such charge: '{request.match_info['id']}'", "id")
        return _json(charge)

    async def ledger(self, _: web.Request) -> web.Response:
        """`GET /ledger`: every charge that was made, with the key that came with it."""
        return web.json_response([{"key": entry["key"], **entry["charge"]} for entry in self._ledger.entries])

    async def running(self, _: web.Request) -> web.Response:
        """`GET /running`: the keys of the charges that are being worked on."""
        return web.json_response(sorted(self._running.elements()))


def _wrong(form: Mapping[str, str]) -> web.Response | None:
    for name in ("amount", "currency"):
        if not form.get(name):
            return _error(400, "invalid_request_error", f"Missing required param: {name}.", name)
    if (
        not form["amount"].isascii()
        or not form["amount"].isdigit()
        or len(form["amount"]) > 8
        or int(form["amount"]) < 1
    ):
        return _error(400, "invalid_request_error", f"Invalid integer: {form['amount'][:40]}", "amount")
    if form.get("source") == "tok_chargeDeclined":
        return _error(402, "card_error", "Your card was declined.", "")
    return None


def _delay(request: web.Request) -> float:
    try:
        return min(max(float(request.headers.get(DELAY_HEADER, "0")), 0.0), LONGEST_DELAY)
    except ValueError:
        return 0.0


def _json(charge: Charge) -> web.Response:
    return web.json_response(charge, headers={"Request-Id": f"req_{secrets.token_hex(7)}"})


def _error(status: int, kind: str, message: str, param: str) -> web.Response:
    error = {"type": kind, "message": message} | ({"param": param} if param else {})
    return web.json_response({"error": error}, status=status, headers={"Request-Id": f"req_{secrets.token_hex(7)}"})


def _reset(request: web.Request) -> web.Response:
    """Nothing is answered: the client sees a reset."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _cut(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Half the body that the head promised, then the end of the connection."""
    body = answer.body
    assert isinstance(body, bytes)
    cut = web.StreamResponse(
        status=answer.status, headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return cut


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    application = Payments(Ledger(arguments.ledger), Faults(arguments.faults)).application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.host, arguments.port).start()
        print(f"{READY} http://{arguments.host}:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Serve until SIGTERM or SIGINT. Gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="payments_api", description="A sample payments API that ignores idempotency keys."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0: any free one; default 9000")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="where charges are kept; default: in memory")
    parser.add_argument(
        "--faults", type=int, metavar="SEED", help="cut, reset or delay some answers at random, by this seed"
    )
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        print(f"payments_api: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
