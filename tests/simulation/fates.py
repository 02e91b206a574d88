"""How one exchange with the modelled upstream goes: drawn before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from idemproxy.proxy.outcome import Lost, Unsent


class Form(Enum):
    """How an answer's body comes."""

    SMALL = auto()
    SLOW = auto()
    """In pieces with pauses, so that it is streamed."""
    EVENTS = auto()
    LARGE = auto()
    """More than the rule keeps."""


@dataclass(frozen=True, slots=True)
class Fate:
    """Times are seconds: `gap` is between two pieces of the request, `effect` and `answer` are counted from its end.

    `effect` None: it is not executed. `early`: executed at the first byte. `hasty`: answered at the first
    byte. `stubborn`: executed though the connection is gone."""

    connect: float = 0.001
    unsent: Unsent | None = None
    gap: float = 0.001
    effect: float | None = 0.001
    early: bool = False
    hasty: bool = False
    stubborn: bool = True
    answer: float = 0.002
    lost: Lost | None = None
    status: int = 201
    form: Form = Form.SMALL
    pause: float = 0.001
    """Between two pieces of the answer."""
    cut: Lost | None = None
    """How the answer's body breaks."""
    interim: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamFaults:
    """`rough`: how likely an exchange is anything but quick and good. `longest`: the most seconds that anything takes; `response`:
    that the product waits for an answer. `declining`: statuses that mean by the rule that nothing was executed; `vague`: those that
    say nothing of it."""

    rough: float
    longest: float
    response: float
    declining: tuple[int, ...] = (402, 429)
    vague: tuple[int, ...] = ()


_KINDS: Final = (
    "declined",
    "failed",
    "slow",
    "slow",
    "reset",
    "reset",
    "silent",
    "cut",
    "unreadable",
    "refused",
    "refused",
    "connect",
    "streamed",
    "large",
    "vague",
    "hasty",
    "body",
)


def draw(chance: random.Random, faults: UpstreamFaults, left: float) -> Fate:
    """A fate of which nothing takes longer than `left` seconds."""
    quick = chance.random() * 0.02
    if left <= 0 or chance.random() >= faults.rough:
        return Fate(quick / 4, effect=quick / 2, answer=quick, status=201 if chance.random() < 0.8 else 200)
    longest = min(faults.longest, left)
    long = chance.random() * longest
    effect = None if chance.random() < 0.4 else chance.choice((quick, long, longest * 0.9))
    early, stubborn = chance.random() < 0.2, chance.random() < 0.6
    match chance.choice(_KINDS):
        case "declined":
            cut = Lost.RESET if early else None
            status = chance.choice(faults.declining)
            return Fate(quick, effect=None, answer=quick, status=status, form=_form(chance), cut=cut)
        case "failed":
            return Fate(quick, effect=effect, answer=max(effect or 0.0, quick), status=500)
        case "slow":
            return Fate(quick, effect=chance.choice((quick, long)), stubborn=stubborn, answer=long, interim=early)
        case "reset":
            lost = chance.choice((Lost.RESET, Lost.CLOSED))
            return Fate(
                quick, effect=effect, early=early, stubborn=stubborn, answer=chance.choice((quick, long)), lost=lost
            )
        case "silent" if left > faults.response:
            return Fate(quick, effect=effect, early=early, stubborn=stubborn, answer=1e9, lost=Lost.TIMEOUT)
        case "cut":
            cut = chance.choice((Lost.RESET, Lost.CLOSED, Lost.TIMEOUT, Lost.UNREADABLE))
            return Fate(quick, answer=quick, form=_form(chance), pause=chance.choice((quick, 0.2)), cut=cut)
        case "unreadable":
            return Fate(quick, effect=effect, answer=quick, lost=Lost.UNREADABLE)
        case "refused":
            return Fate(quick, unsent=chance.choice((Unsent.UNREACHABLE, Unsent.TLS, Unsent.BUSY)))
        case "connect":
            unsent = Unsent.TIMEOUT if early else None
            return Fate(long, unsent=unsent, answer=quick)
        case "streamed":
            return Fate(quick, answer=quick, form=chance.choice((Form.SLOW, Form.EVENTS)), pause=longest / 8)
        case "large":
            return Fate(quick, answer=quick, form=Form.LARGE, pause=chance.choice((quick, 0.2)))
        case "vague" if faults.vague:
            return Fate(quick, effect=effect, answer=max(effect or 0.0, quick), status=chance.choice(faults.vague))
        case "hasty":
            status = chance.choice((*faults.declining, 413))
            return Fate(quick, gap=longest / 4, effect=None, hasty=True, answer=quick, status=status)
        case _:
            return Fate(quick, gap=longest / 4, effect=quick, early=early, stubborn=stubborn, answer=quick)


def _form(chance: random.Random) -> Form:
    return chance.choice((Form.SMALL, Form.SMALL, Form.SLOW, Form.EVENTS))
