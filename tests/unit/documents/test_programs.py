"""The loops that `idemproxy docs` prints, taken from its page and run, against a server that fails in several ways."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from idemproxy import config
from idemproxy.documents.markdown import markdown
from tests.unit.documents.failing import Asked, Behaviour, Fault, answer, failing, problem

CONFIG = """\
upstream: http://127.0.0.1:9
routes:
  - match: {methods: [POST], path: /v1/charges}
    key: {header: PayPal-Request-Id, required: true, format: FORMAT}
"""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
PATIENCE = 60

# What stands around a loop: it is called, and its pauses are written down instead of waited for.
PYTHON = """
if __name__ == "__main__":
    import os
    import sys
    time.sleep = lambda seconds: print(seconds, file=open(os.environ["PAUSES"], "a"))
    url, body, key = sys.argv[1], json.loads(sys.argv[2]), os.environ.get("KEY")
    print(send(url, body, key or new_key(), {"Authorization": "Bearer t"}).decode())
"""
JS = """
import { appendFileSync } from "node:fs";
const later = globalThis.setTimeout;
globalThis.setTimeout = (done, time, ...more) => {
  if (!String(done).includes("[native code]")) return later(done, time, ...more);   // fetch's own
  appendFileSync(process.env.PAUSES, `${time / 1000}\\n`);
  return later(done, 0);
};
const [url, body] = process.argv.slice(2);
console.log(await send(url, JSON.parse(body), process.env.KEY || newKey(), { headers: { Authorization: "Bearer t" } }));
"""
SLEEP = '#!/bin/sh\necho "$1" >>"$PAUSES"\n'


@dataclass(frozen=True)
class Run:
    """What a loop did: its exit status, what it printed, its pauses in seconds, and what the server was asked."""

    status: int
    out: str
    err: str
    pauses: list[float]
    asked: list[Asked]

    @property
    def keys(self) -> list[str]:
        return [each.fields["paypal-request-id"] for each in self.asked]


class Loops:
    """The loops of a page, in files."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder = folder
        page = markdown(config.load_text(CONFIG.replace("FORMAT", form), "c.yaml", {}))
        found = dict(re.findall(r"^```(sh|python|js)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
        (folder / "send.sh").write_text(found["sh"])
        (folder / "send.py").write_text(found["python"] + PYTHON)
        (folder / "send.mjs").write_text(found["js"] + JS)
        (folder / "sleep").write_text(SLEEP)
        (folder / "sleep").chmod(0o755)

    def run(self, language: str, *behaviours: Behaviour, key: str = "") -> Run:
        pauses = self.folder / "pauses"
        pauses.write_text("")
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "PAUSES": str(pauses), "KEY": key}
        with failing(*behaviours) as server:
            arguments = [server.url, json.dumps({"amount": 7})]
            done = subprocess.run(
                self._command(language, arguments), env=environment, capture_output=True, timeout=PATIENCE, check=False
            )
        waited = [float(line) for line in pauses.read_text().split()]
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode(), waited, server.asked)

    def _command(self, language: str, arguments: list[str]) -> list[str]:
        match language:
            case "curl":
                file = str(self.folder / "send.sh")
                return ["sh", file, *arguments, "-q", "--noproxy", "*", "-H", "Authorization: Bearer t"]
            case "Python":
                return [sys.executable, str(self.folder / "send.py"), *arguments]
            case _:
                return ["node", str(self.folder / "send.mjs"), *arguments]


@pytest.fixture
def loops(tmp_path: Path) -> Loops:
    return Loops(tmp_path, "any")


LANGUAGES = pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
DONE = answer(201, '{"id": 1}')


@LANGUAGES
def test_the_same_request_with_the_same_key_until_an_answer_is_final(loops: Loops, language: str) -> None:
    run = loops.run(
        language,
        Fault.RESET,
        Fault.CUT,
        problem(409, "same_key", after=30),
        problem(503, "same_key", after=1),
        answer(429, "slowly", "retry-after: 20"),
        DONE,
    )
    assert (run.status, run.out.strip()) == (0, '{"id": 1}'), run.err
    assert len(run.asked) == 6
    assert len(set(run.keys)) == 1
    assert re.fullmatch(UUID, run.keys[0], re.IGNORECASE)
    assert {json.loads(each.body)["amount"] for each in run.asked} == {7}
    assert {(each.line, each.fields["authorization"]) for each in run.asked} == {
        ("POST /v1/charges HTTP/1.1", "Bearer t")
    }
    assert len(run.pauses) == 5
    assert [run.pauses[2], run.pauses[4]] == [30, 20]
    assert all(0.25 < pause <= 32 for pause in run.pauses)


@LANGUAGES
@pytest.mark.parametrize(
    "last",
    [
        pytest.param(problem(422, "new_key"), id="new_key"),
        pytest.param(problem(400, "fix_request"), id="fix_request"),
        pytest.param(problem(409, "ask_operator"), id="ask_operator"),
        pytest.param(answer(500, "an error of the service's own"), id="the service's own"),
    ],
)
def test_what_is_final_is_not_sent_again(loops: Loops, language: str, last: bytes) -> None:
    run = loops.run(language, last, DONE)
    assert run.status == 1
    assert run.out == ""
    assert len(run.asked) == 1
    assert last.partition(b" ")[2][:3].decode() in run.err


@LANGUAGES
def test_what_is_not_final_yet_goes_on_with_its_key_and_a_new_intent_has_a_new_one(loops: Loops, language: str) -> None:
    run = loops.run(language, *[problem(409, "same_key", after=1)] * 8, DONE)
    assert run.status != 0
    assert len(run.asked) == 8
    assert len(run.pauses) == 7
    assert run.keys[0] in run.err
    assert set(loops.run(language, DONE, key=run.keys[0]).keys) == set(run.keys)
    assert not set(loops.run(language, DONE).keys) & set(run.keys)


@LANGUAGES
@pytest.mark.parametrize("form", ["uuid4", "uuid7", "ulid"])
def test_keys_are_of_the_format(tmp_path: Path, language: str, form: str) -> None:
    (rule,) = config.load_text(CONFIG.replace("FORMAT", form), "c.yaml", {}).rules
    (key,) = Loops(tmp_path, form).run(language, DONE).keys
    assert rule.key.pattern is not None
    assert rule.key.pattern.whole(key.encode())
