"""The demo's transcript: a sample payments API that charges on every request that reaches it, the proxy in front of it, and what a
client sees. Every step says how many charges the API really made, and fails the demo where that is not what was promised."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

import aiohttp

from idemproxy.demo import payments_api
from idemproxy.demo.children import LOOK_AGAIN, PATIENCE, Child, Failed

T = TypeVar("T")

LISTENING: Final = "idemproxy listening on"
LEASE: Final = 3
"""Seconds after which a killed owner counts as gone: the demo has to wait for that."""
AT_ONCE: Final = 10

CONFIG: Final = """\
listen: {listen}
upstream: {upstream}
store: sqlite:{store}
drain_timeout: 1s
routes:
  - name: charges
    match: {{methods: [POST], path: /v1/charges}}
    key: {{required: true}}
    lease: {lease}s
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got."""

    status: int
    replayed: bool
    body: bytes

    @property
    def members(self) -> dict[str, Any]:
        """Its JSON."""
        members: dict[str, Any] = json.loads(self.body)
        return members

    @property
    def problem(self) -> str:
        """The problem's name, where it is one."""
        return str(self.members.get("type", "")).rpartition(":")[2]

    @property
    def retry(self) -> str:
        """What a client is told to do about a problem."""
        return str(self.members.get("retry", ""))

    def __str__(self) -> str:
        marker = "  Idempotent-Replayed: true" if self.replayed else ""
        if self.problem:
            return f"{self.status}  {self.problem}, retry: {self.retry}{marker}"
        return f"{self.status}  {self.members.get('id')}  amount {self.members.get('amount')}{marker}"


class Transcript:
    """What people read; coloured on a terminal only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._steps = 0

    def say(self, text: str = "", code: str = "") -> None:
        """One line."""
        self._stream.write(f"\x1b[{code}m{text}\x1b[0m\n" if code and self._colour else f"{text}\n")
        self._stream.flush()

    def step(self, title: str) -> None:
        """A new step."""
        self._steps += 1
        self.say(f"\n{self._steps}. {title}", "1")

    def did(self, text: str) -> None:
        """What somebody does."""
        self.say(f"   {text}")

    def got(self, text: str) -> None:
        """What came of it."""
        self.say(f"     {text}", "36")

    def charges(self, count: int) -> None:
        """What the API really did."""
        self.say(f"   charges made by the API: {count}", "32")


class Demo:
    """The steps, in order."""

    def __init__(self, transcript: Transcript, folder: Path, session: aiohttp.ClientSession) -> None:
        self._told = transcript
        self._folder = folder
        self._session = session
        self._config = folder / "idemproxy.yaml"
        self._api = Child(
            folder, "payments-api", "idemproxy.demo.payments_api", "--port", "0", "--ledger", str(folder / "ledger")
        )
        self._proxy = Child(folder, "idemproxy", "idemproxy", "run", "--config", str(self._config))
        self._command: Child | None = None
        self._api_url = self._proxy_url = ""
        self._sent = 0

    async def show(self) -> None:
        """Every step. Raises Failed."""
        await self._begin()
        await self._first_charge()
        await self._answer_lost()
        await self._all_at_once()
        await self._another_amount()
        await self._no_key()
        await self._killed()
        await self._settled()

    def end(self) -> None:
        """End every process."""
        for child in (self._command, self._proxy, self._api):
            if child is not None:
                child.end()

    async def _begin(self) -> None:
        self._told.say(
            "A payments API that charges on every request that reaches it, and idemproxy in front of it.", "1"
        )
        self._api_url = (await self._api.start().line(payments_api.READY)).removeprefix(payments_api.READY).strip()
        self._proxy_url = await self._start_proxy("127.0.0.1:0")
        self._told.say()
        self._told.did(f"payments API  {self._api_url}  ignores idempotency keys")
        self._told.did(f"idemproxy     {self._proxy_url}  remembers in a SQLite file")

    async def _start_proxy(self, listen: str) -> str:
        store = self._folder / "idemproxy.db"
        self._config.write_text(CONFIG.format(listen=listen, upstream=self._api_url, store=store, lease=LEASE))
        line = await self._proxy.start().line(LISTENING)
        return line.removeprefix(LISTENING).split(",")[0].strip()

    # --------------------------------------------------------------------------------------------------------------- the steps

    async def _first_charge(self) -> None:
        self._told.step("A first charge")
        reply = await self._charge("order-1001", 2000)
        _expect(reply.status == 200 and not reply.replayed, f"a first answer, not {reply}")
        await self._count(1)

    async def _answer_lost(self) -> None:
        self._told.step("The answer is lost, and the client tries again")
        lost = asyncio.create_task(self._post("order-1002", 3500, delay=0.6))
        try:
            self._told.did(_request("order-1002", 3500))
            await self._until("the API at work", lambda: self._has_begun("order-1002"))
        finally:
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
        self._told.got("no answer: the client's connection breaks while the API charges")
        reply = await self._charge("order-1002", 3500)
        _expect(reply.status == 200 and reply.replayed, f"the recorded answer, not {reply}")
        await self._count(2)

    async def _all_at_once(self) -> None:
        self._told.step(f"The same request {AT_ONCE} times at once")
        self._told.did(f"{AT_ONCE} x {_request('order-1003', 1200)}")
        replies = await asyncio.gather(*(self._post("order-1003", 1200, delay=0.4) for _ in range(AT_ONCE)))
        replayed = sum(reply.replayed for reply in replies)
        _expect({reply.status for reply in replies} == {200}, "every answer a 200")
        _expect(len({reply.body for reply in replies}) == 1, "the same body in every answer")
        _expect(replayed == AT_ONCE - 1, f"{AT_ONCE - 1} replays, not {replayed}")
        self._told.got(
            f"{AT_ONCE} x {replies[0].status}  {replies[0].members['id']}  one executed, {replayed} replayed, all bodies equal"
        )
        await self._count(3)

    async def _another_amount(self) -> None:
        self._told.step("A key used again for another amount")
        reply = await self._charge("order-1001", 9900)
        _expect(reply.status == 422, f"a refusal, not {reply}")
        await self._count(3)

    async def _no_key(self) -> None:
        self._told.step("No key")
        reply = await self._charge(None, 2000)
        _expect(reply.status == 400, f"a refusal, not {reply}")
        await self._count(3)

    async def _killed(self) -> None:
        self._told.step("The proxy is killed (SIGKILL) in mid-charge, and started again")
        lost = asyncio.create_task(self._post("order-1004", 4200, delay=2.5))
        self._told.did(_request("order-1004", 4200))
        try:
            await self._until("the API at work", lambda: self._has_begun("order-1004"))
            self._proxy.kill()
            broken = (await asyncio.gather(lost, return_exceptions=True))[0]
            _expect(isinstance(broken, aiohttp.ClientError), f"a broken connection, not {broken}")
        finally:
            lost.cancel()
        self._told.got("no answer: the proxy is dead, and the API goes on charging")
        await self._start_proxy(self._proxy_url.removeprefix("http://"))
        self._told.did(
            f"the proxy is back; the dead one's claim is valid for {LEASE} s at most, so the retry waits for its end"
        )
        reply = await self._charge("order-1004", 4200)
        _expect(reply.status == 409 and reply.problem == "outcome-unknown", f"outcome unknown, not {reply}")
        self._told.got("it may have been charged, and the proxy cannot know: it does not charge again, and says so")
        await self._until("the fourth charge", lambda: self._has_charged(4))
        await self._count(4)

    async def _settled(self) -> None:
        self._told.step("An operator looks, and settles it")
        listed = await self._operator("list", "--state", "unknown")
        rows = listed.splitlines()
        _expect(len(rows) == 2, "one record in the list of unknown outcomes")
        made = next(charge for charge in await self._ledger() if charge["key"] == "order-1004")
        self._told.did(f"the payments API's own books have the charge: {made['id']}")
        del made["key"]
        file = self._folder / "charge.json"
        file.write_text(json.dumps(made))
        await self._operator("resolve", rows[1].split()[0], "--complete", "200", "--body-file", str(file))
        reply = await self._charge("order-1004", 4200)
        _expect(reply.status == 200 and reply.replayed, f"the operator's answer, not {reply}")
        _expect(reply.members["id"] == made["id"], "the charge that the API made")
        await self._count(4)

    # ------------------------------------------------------------------------------------------------------ clients and operator

    async def _charge(self, key: str | None, amount: int) -> Reply:
        self._told.did(_request(key, amount))
        reply = await self._post(key, amount)
        self._told.got(str(reply))
        return reply

    async def _post(self, key: str | None, amount: int, *, delay: float = 0.0) -> Reply:
        """What a client gets that tries again for as long as it is told to."""
        headers = {"Authorization": "Bearer sk_test_demo"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if delay:
            headers[payments_api.DELAY_HEADER] = str(delay)
        form = {"amount": str(amount), "currency": "eur", "source": "tok_visa"}
        until = time.monotonic() + PATIENCE
        while True:
            self._sent += 1
            async with self._session.post(f"{self._proxy_url}/v1/charges", data=form, headers=headers) as answer:
                replayed = answer.headers.get("Idempotent-Replayed") == "true"
                reply = Reply(answer.status, replayed, await answer.read())
            if reply.retry != "same_key" or time.monotonic() > until:
                return reply
            await asyncio.sleep(1)

    async def _operator(self, act: str, *arguments: str) -> str:
        words = [
            "idemproxy",
            "records",
            act,
            *(Path(word).name if word.startswith("/") else word for word in arguments),
        ]
        self._told.did(f"$ {shlex.join(words)}")
        self._command = Child(
            self._folder, "records", "idemproxy", "records", act, "--config", str(self._config), *arguments
        )
        output = await self._command.start().result()
        for line in output.splitlines():
            self._told.got(line)
        return output

    async def _ledger(self) -> list[dict[str, Any]]:
        async with self._session.get(f"{self._api_url}/ledger") as answer:
            charges: list[dict[str, Any]] = await answer.json()
            return charges

    async def _has_begun(self, key: str) -> bool:
        async with self._session.get(f"{self._api_url}/running") as answer:
            at_work = key in await answer.json()
        return at_work or any(charge["key"] == key for charge in await self._ledger())

    async def _has_charged(self, count: int) -> bool:
        return len(await self._ledger()) >= count

    async def _count(self, count: int) -> None:
        made = len(await self._ledger())
        self._told.charges(made)
        _expect(made == count, f"{count} charges, not {made}")

    async def _until(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        until = time.monotonic() + PATIENCE
        while not await look():
            _expect(time.monotonic() < until, f"{what} within {PATIENCE:.0f} s")
            await asyncio.sleep(LOOK_AGAIN)

    @property
    def sent(self) -> int:
        """How many requests clients sent."""
        return self._sent

    @property
    def complaints(self) -> str:
        """What the proxy said last, for a demo that failed."""
        return self._proxy.errors


def _request(key: str | None, amount: int) -> str:
    return f"POST /v1/charges  amount={amount}  " + (f"Idempotency-Key: {key}" if key else "(no key)")


def _expect(true: bool, what: str) -> None:
    if not true:
        raise Failed(f"expected {what}")


async def _show(transcript: Transcript) -> None:
    _stop_on_signals()
    patience = aiohttp.ClientTimeout(total=PATIENCE)
    with tempfile.TemporaryDirectory(prefix="idemproxy-demo-") as folder:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), timeout=patience
        ) as session:
            demo = Demo(transcript, Path(folder), session)
            try:
                await demo.show()
            except (Failed, aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
                why, said = str(error) or type(error).__name__, demo.complaints
                raise Failed(why if said in why else f"{why}\nthe proxy said:\n{said}") from error
            finally:
                demo.end()
            _close(transcript, demo.sent)


def _stop_on_signals() -> None:
    """The first signal ends the demo, and cleans up; further ones do not keep it from cleaning up."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    pending = [task]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: pending.pop().cancel() if pending else None)


def _close(transcript: Transcript, sent: int) -> None:
    transcript.say(f"\n{sent} requests for 4 payments, 4 charges.", "1;32")
    transcript.say("\nIn front of an API of your own, here one on port 9000:\n", "1")
    transcript.did(f"{_command()} run --upstream http://127.0.0.1:9000")
    transcript.say(
        "\nSend its clients to http://127.0.0.1:8080: requests that carry an Idempotency-Key are executed once, the rest passes."
    )
    transcript.say("config.example.yaml and README.md show how to say which routes, and how.")


def _command() -> str:
    """How this product is called from where the demo was."""
    if shutil.which("idemproxy"):
        return "idemproxy"
    here = Path(sys.executable).with_name("idemproxy")
    return os.path.relpath(here) if here.exists() else f"{os.path.relpath(sys.executable)} -m idemproxy"


def main() -> int:
    """Show it. Gives the exit status: 1 when a step did not do what it should, or on a signal."""
    transcript = Transcript(sys.stdout)
    try:
        asyncio.run(_show(transcript))
    except Failed as error:
        with contextlib.suppress(OSError):
            transcript.say(f"\nThe demo failed: {error}", "1;31")
        return 1
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            transcript.say("\nThe demo was interrupted; everything that it started has ended.")
        return 1
    return 0
