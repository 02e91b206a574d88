"""The client libraries, and what their calls come to on each problem."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from idemproxy.idempotency.problems import Problem, Slug, render
from idemproxy.idempotency.shapes import Shape
from tests.sdks.stub import Stub, answering

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("IDEMPROXY_SDKS", HERE.parent.parent / ".sdks"))
"""Where the libraries are installed."""
PYTHON = FOLDER / "venv" / "bin" / "python"
DETAIL = "Why it was so."
WAIT = 2
"""Seconds that a problem asks for: longer than what the libraries wait first by themselves."""
LIMIT = 300
"""Seconds that a library may take for its calls, with all their attempts."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library, the shape made for it (PROBLEM: it needs none), and its language."""

    name: str
    shape: Shape
    node: bool = False


LIBRARIES = (
    Library("stripe", Shape.STRIPE),
    Library("stripe", Shape.STRIPE, node=True),
    Library("openai", Shape.OPENAI),
    Library("anthropic", Shape.ANTHROPIC),
    Library("svix", Shape.SVIX),
    Library("squareup", Shape.SQUARE),
    Library("gocardless_pro", Shape.GOCARDLESS),
    Library("google-api-core", Shape.GOOGLE),
    Library("azure-core", Shape.AZURE),
    Library("botocore", Shape.AWS),
    Library("workos", Shape.WORKOS),
    Library("increase", Shape.PROBLEM),
    Library("modern-treasury", Shape.PROBLEM),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call came to. `raised` is the exception's name, None where the answer was taken for a success; `own`: it is one of the
    library's; `understood`: its text says why. `waits` are the seconds between two requests."""

    raised: str | None
    own: bool
    understood: bool
    waits: tuple[float, ...]

    @property
    def cell(self) -> str:
        """As the tables show it."""
        name = "**success**" if self.raised is None else self.raised
        wrong = "" if self.raised is None or (self.own and self.understood) else " (mute)" if self.own else " (crash)"
        times = f" ×{len(self.waits) + 1}" if self.waits else ""
        waited = " w" if self.waits and min(self.waits) >= WAIT - 0.05 else ""
        return f"{name}{wrong}{times}{waited}"


def versions() -> dict[str, str]:
    """Every library's version, as it is pinned; Node's by `npm:NAME`."""
    lines = (HERE / "requirements.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    npm = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    return pinned | {f"npm:{name}": version for name, version in npm.items()}


def title(library: Library) -> str:
    """The library with its version, as the tables name it."""
    key = f"npm:{library.name}" if library.node else library.name
    return f"{library.name}{' for Node' if library.node else ''} {versions()[key]}"


def install() -> None:
    """Make the libraries' own environment, where it is not there as it is pinned."""
    wanted = "".join((HERE / each).read_text("utf-8") for each in ("requirements.txt", "package.json"))
    mark = FOLDER / "installed"
    if mark.exists() and mark.read_text("utf-8") == wanted:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", FOLDER / "venv"], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
    (FOLDER / "package.json").write_text((HERE / "package.json").read_text("utf-8"), "utf-8")
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=FOLDER, check=True)
    mark.write_text(wanted, "utf-8")


def ask(library: Library, shape: Shape) -> dict[Slug, Seen]:
    """A call of the library's on each problem, with its usual retries, against servers that always answer with it."""
    with ExitStack() as stack:
        stubs = {slug: stack.enter_context(always(slug, shape)) for slug in Slug}
        urls = [stub.url for stub in stubs.values()]
        if library.node:
            command = ["node", str(HERE / "stripe_node.mjs"), str(FOLDER), *urls]
        else:
            command = [str(PYTHON), "-I", str(HERE / "python_clients.py"), library.name, *urls]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    lines = ended.stdout.splitlines()
    if ended.returncode or len(lines) != len(stubs):
        raise RuntimeError(f"{title(library)} in the shape {shape.value}:\n{ended.stdout}\n{ended.stderr}")
    return {slug: _seen(json.loads(line), stub.came) for line, (slug, stub) in zip(lines, stubs.items(), strict=True)}


def always(slug: Slug, shape: Shape) -> AbstractContextManager[Stub]:
    """A server that answers with this problem."""
    given = render(Problem(slug, DETAIL, WAIT * 1000), shape=shape)
    return answering(lambda _: given)


def _seen(told: dict[str, Any], came: list[float]) -> Seen:
    # stripe shows what it does not understand; the others show what they do.
    text = re.sub(r"Invalid response object from API.*", "", told["text"], flags=re.DOTALL)
    waits = tuple(later - earlier for earlier, later in pairwise(came))
    return Seen(told["raised"], told["own"], DETAIL in text, waits)
