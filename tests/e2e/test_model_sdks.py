"""The OpenAI and Anthropic SDKs, unchanged: they send no key, and number their attempts. Their answers are cut on the way."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import anthropic
import httpx2
import openai
import pytest

from tests.e2e.model_api import WORDS, Executions, model_api
from tests.e2e.processes import LISTENING, proxy, running
from tests.e2e.relay import TcpRelay
from tests.ports import free_port

RULES = """
routes:
  - name: completions
    match: {methods: [POST], path: /v1/chat/completions}
    key: {retry_marker: {header: x-stainless-retry-count, window: 25m}}
    wait_timeout: 60s
  - name: messages
    match: {methods: [POST], path: /v1/messages}
    key: {retry_marker: {header: x-stainless-retry-count, window: 25m}}
    scope: ["header:X-API-Key"]
    wait_timeout: 60s
"""


class CutRelay(TcpRelay):
    """Resets connections after the bytes of their answers that are told, one number for each connection; later ones are whole."""

    def __init__(self, target: int) -> None:
        self.cuts: list[int] = []
        super().__init__(target)

    def accepted(self, client: socket.socket) -> None:
        self.carry(client, partial(_cut, self.cuts.pop(0) if self.cuts else None))


def _cut(kept: int | None, client: socket.socket, server: socket.socket) -> None:
    while data := server.recv(65_536):
        if kept is not None and len(data) > kept:
            client.sendall(data[:kept])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        kept = None if kept is None else kept - len(data)
        client.sendall(data)


@dataclass(frozen=True)
class Setting:
    """The way to the proxy, and what the API behind executed."""

    way: CutRelay
    executions: Executions

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.way.port}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Executions]]:
    port, folder = free_port(), tmp_path_factory.mktemp("models")
    with model_api() as executions:
        config = (
            f"listen: 127.0.0.1:{port}\nupstream: http://127.0.0.1:{executions.port}\nstore: sqlite:{folder}/store.db\n"
        )
        with running(proxy(folder, config + RULES), LISTENING):
            yield port, executions


@pytest.fixture
def setting(served: tuple[int, Executions]) -> Iterator[Setting]:
    port, executions = served
    executions.count = 0
    way = CutRelay(port)
    try:
        yield Setting(way, executions)
    finally:
        way.stop()


Ask = Callable[[str], str]
"""The text that a model answers."""


@dataclass(frozen=True)
class Sdk:
    """How one is asked for a text whole, for a streamed one, and for a streamed one by an application that says that it asks again."""

    whole: Ask
    streamed: Ask
    again: Ask
    broken: type[Exception]


def of_openai(url: str) -> Sdk:
    client = openai.OpenAI(api_key="k", base_url=f"{url}/v1")

    def whole(prompt: str) -> str:
        said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])
        return said.choices[0].message.content or ""

    def streamed(prompt: str, headers: dict[str, str] | None = None) -> str:
        with client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": prompt}], stream=True, extra_headers=headers
        ) as chunks:
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    return Sdk(whole, streamed, partial(streamed, headers={"x-stainless-retry-count": "1"}), openai.APIConnectionError)


def of_anthropic(url: str) -> Sdk:
    client = anthropic.Anthropic(api_key="k", base_url=url)

    def whole(prompt: str) -> str:
        said = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": prompt}])
        return "".join(block.text for block in said.content if block.type == "text")

    def streamed(prompt: str, headers: dict[str, str] | None = None) -> str:
        with client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": prompt}], extra_headers=headers
        ) as stream:
            return "".join(stream.text_stream)

    return Sdk(whole, streamed, partial(streamed, headers={"x-stainless-retry-count": "1"}), httpx2.RemoteProtocolError)


@pytest.fixture(params=[of_openai, of_anthropic])
def sdk(request: pytest.FixtureRequest, setting: Setting) -> Sdk:
    made: Sdk = request.param(setting.url)
    return made


def text(number: int) -> str:
    """What the execution of that number says."""
    return "".join([f"answer-{number} ", *WORDS])


def test_an_answer_that_is_cut_is_asked_for_again_and_executed_once(setting: Setting, sdk: Sdk) -> None:
    setting.way.cuts = [0]
    assert sdk.whole("hi") == text(1)
    assert setting.executions.count == 1


def test_an_answer_that_is_cut_in_its_body_is_asked_for_again_and_executed_once(setting: Setting, sdk: Sdk) -> None:
    setting.way.cuts = [150]
    assert sdk.whole("hi") == text(1)
    assert setting.executions.count == 1


def test_cut_twice(setting: Setting, sdk: Sdk) -> None:
    setting.way.cuts = [0, 10]
    assert sdk.whole("hi") == text(1)
    assert setting.executions.count == 1


def test_the_same_prompt_sent_twice_on_purpose_is_executed_twice(setting: Setting, sdk: Sdk) -> None:
    assert [sdk.whole("hi"), sdk.whole("hi")] == [text(1), text(2)]
    setting.way.cuts = [0]
    assert sdk.whole("ho") == text(3)
    assert setting.executions.count == 3


def test_a_stream_that_is_cut_before_its_head_is_the_recorded_one_at_the_retry(setting: Setting, sdk: Sdk) -> None:
    setting.way.cuts = [0]
    assert sdk.streamed("hi") == text(1)
    assert setting.executions.count == 1


def test_a_stream_that_is_cut_half_way_is_given_again_to_who_says_that_he_asks_again(
    setting: Setting, sdk: Sdk
) -> None:
    setting.way.cuts = [900]
    with pytest.raises(sdk.broken):
        sdk.streamed("hi")
    assert sdk.again("hi") == text(1)
    assert setting.executions.count == 1
