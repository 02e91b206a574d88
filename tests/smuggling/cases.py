"""What a case of the corpus is, and the pieces that cases are made of.

Numbers stand as `NNNN` in requests, so that lengths written in them stay right whatever number a case gets. `/smuggled/NNNN` is the
request that an attacker wants the upstream to see and the proxy not to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Place(Enum):
    """Where a case's first request goes: to a path that no rule names, to one that a rule protects, or again to one that no rule names,
    a bad body in one piece with its head, so that it is a matter of chance whether the server sees the head."""

    PLAIN = b"/case/"
    PROTECTED = b"/safe/"
    AT_ONCE = b"/once/"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`passed` are the request lines, without version, of the requests that go on, in order. `refused` is the status with which the
    proxy turns away what is behind them; None: nothing is left to answer."""

    passed: tuple[bytes, ...] = ()
    refused: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """The head is good and goes on before the body is there, and the body turns out to be bad, or never comes whole."""

    line: bytes = b"POST /case/NNNN"


@dataclass(frozen=True, slots=True)
class Case:
    """`outcome` is what becomes of it where no rule is, `protected` where one is."""

    name: str
    request: bytes
    outcome: Outcome | Begun
    protected: Outcome = field(default=Outcome(refused=400), kw_only=True)

    @property
    def goes_nowhere(self) -> bool:
        """It is turned away at its head, before any rule is asked and whatever the upstream is."""
        return isinstance(self.outcome, Outcome) and not self.outcome.passed

    def at(self, place: Place) -> Outcome | Begun:
        """What becomes of it there."""
        return self.protected if place is Place.PROTECTED else self.outcome


HOST: Final = b"Host: api.test\r\n"
HIDDEN: Final = b"GET /smuggled/NNNN HTTP/1.1\r\nHost: hidden.test\r\n\r\n"
BEHIND: Final = b"GET /behind/NNNN HTTP/1.1\r\nHost: hidden.test\r\n\r\n"
"""A request that is sent openly behind another."""

GET: Final = b"GET /case/NNNN"
POST: Final = b"POST /case/NNNN"
SMUGGLED: Final = b"GET /smuggled/NNNN"
SECOND: Final = b"GET /behind/NNNN"

REFUSED: Final = Outcome(refused=400)
SILENT: Final = Outcome()


def head(lines: bytes, start: bytes = POST + b" HTTP/1.1\r\n") -> bytes:
    """A head with a Host; `lines` are whole lines."""
    return start + HOST + lines + b"\r\n"


def get(lines: bytes = b"", method: bytes = b"GET") -> bytes:
    """The head of a request that mostly has no body."""
    return head(lines, method + b" /case/NNNN HTTP/1.1\r\n")


def counted(body: bytes, lines: bytes = b"", length: bytes | None = None) -> bytes:
    """A POST with Content-Length, its value as given."""
    return head(lines + b"Content-Length: %b\r\n" % (b"%d" % len(body) if length is None else length)) + body


def chunked(body: bytes, lines: bytes = b"", coding: bytes = b"chunked") -> bytes:
    """A POST with Transfer-Encoding, its value and the body's bytes as given."""
    return head(b"Transfer-Encoding: %b\r\n" % coding + lines) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST: Final = b"0\r\n\r\n"


def refused(name: str, request: bytes, status: int = 400) -> Case:
    """A case of which nothing goes on."""
    return Case(name, request, Outcome(refused=status), protected=Outcome(refused=status))


def passes(name: str, request: bytes, *lines: bytes, then: int | None = None) -> Case:
    """A case of which these requests go on, and what is behind is refused with `then`, if anything is."""
    outcome = Outcome(lines, then)
    return Case(name, request, outcome, protected=outcome)


def begun(name: str, request: bytes, protected: int = 400) -> Case:
    """A case whose body is at fault."""
    return Case(name, request, Begun(), protected=Outcome(refused=protected))


def stalls(name: str, request: bytes) -> Case:
    """A case whose body never comes whole: a rule's request, which is not sent before it is whole, goes nowhere."""
    return Case(name, request, Begun(), protected=SILENT)


def filled(request: bytes, number: int, place: Place) -> bytes:
    """The bytes to send; on a rule's path with a key."""
    if place is Place.PROTECTED:
        request = request.replace(HOST, HOST + b"Idempotency-Key: NNNN\r\n", 1)
    return request.replace(b"/case/", place.value).replace(b"NNNN", b"%04d" % number)
