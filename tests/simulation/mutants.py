"""The product, broken on purpose: each mutant takes away one rule of DESIGN.md section 4, and the simulation must find it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

import idemproxy.owner
from idemproxy.execution import End, Execution, Failed
from idemproxy.idempotency import fingerprint, identity, operation
from idemproxy.idempotency.operation import Free, LeaveUnknown, TakeOver, Transition
from idemproxy.idempotency.record import Reason, Record
from idemproxy.idempotency.routes import Rule
from idemproxy.lease import Lease
from idemproxy.owner import Owner
from idemproxy.ownership import Ownership
from idemproxy.stores import semantics
from idemproxy.stores.base import Claim, Completion
from idemproxy.stores.semantics import Slot
from idemproxy.waiters import Waiters
from tests.simulation.loop import ProcessLoop
from tests.simulation.plan import ANY, Act, Focus

Patch = tuple[object, str, Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`focus`: where it shows. `within`: how many schedules may pass before it is found."""

    patches: Callable[[], list[Patch]]
    focus: Focus = ANY
    within: int = 1_000

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The product is broken meanwhile. A name that the product has no more is an error: the mutant is to be written anew."""
        patches = self.patches()
        before = [getattr(of, name) for of, name, _ in patches]
        try:
            for of, name, broken in patches:
                setattr(of, name, broken)
            yield
        finally:
            for (of, name, _), whole in zip(patches, before, strict=True):
                setattr(of, name, whole)


def _everywhere(function: Callable[..., Any], broken: Callable[..., Any]) -> list[Patch]:
    """A function of the product, under each name by which a module has it."""
    modules = [module for name, module in sys.modules.items() if name.startswith("idemproxy.")]
    found: list[Patch] = [
        (module, name, broken) for module in modules for name, held in vars(module).items() if held is function
    ]
    assert len(found) > 1, f"nobody imports {function}"
    return found


def _no_guard() -> list[Patch]:
    def guard(self: Owner) -> bool:
        self._sent = self._ever_sent = True
        return True

    return [(Owner, "guard", guard)]


def _cached_time() -> list[Patch]:
    return [(ProcessLoop, "clock", ProcessLoop.time)]


def _no_registry() -> list[Patch]:
    def executing(self: Ownership, record_id: str) -> None:
        return None

    return [(Ownership, "executing", executing)]


def _release_on_error() -> list[Patch]:
    def lost(self: Execution, reason: Reason, rule: Rule) -> End:
        return End(Free(), Failed.lost(reason, rule))

    return [(Execution, "_lost", lost)]


def _no_fence() -> list[Patch]:
    whole = semantics.complete

    def complete(slot: Slot, asked: Completion, now: int) -> object:
        record = semantics.current(slot, now).record
        return whole(slot, asked if record is None else structs.replace(asked, token=record.token), now)

    return [(semantics, "complete", complete)]


def _no_renewal() -> list[Patch]:
    def keep(self: Lease, replaced: Callable[[], None]) -> None:
        pass

    return [(Lease, "keep", keep)]


def _unknown_not_marked() -> list[Patch]:
    whole = Owner._end

    async def end(self: Owner, transition: Transition) -> object:
        return None if isinstance(transition, LeaveUnknown) else await whole(self, transition)

    return [(Owner, "_end", end)]


def _claim_abandoned() -> list[Patch]:
    def take_back(self: Owner) -> None:
        """Forget the claim."""

    return [(idemproxy.owner, "ASKS", 1), (Owner, "_take_back", take_back)]


def _dead_forgotten() -> list[Patch]:
    return [(semantics, "_is_dead", lambda *_: False)]


def _anothers_answer() -> list[Patch]:
    whole = Waiters.outcome

    async def outcome(self: Waiters, record_id: str, patience: float) -> object:
        return await whole(self, next(iter(self._vigils), record_id), patience)

    return [(Waiters, "outcome", outcome)]


def _no_scope() -> list[Patch]:
    return _everywhere(identity.scope_values, lambda *_: ())


def _no_fingerprint() -> list[Patch]:
    return _everywhere(fingerprint.fingerprint, lambda *_: bytes(32))


def _evidence_deleted() -> list[Patch]:
    return [(semantics, "_freed", semantics._remnant)]


def _evidence_with_its_lock() -> list[Patch]:
    whole = semantics._first

    def first(asked: Claim, attempt: int, version: int, now: int) -> Record:
        return structs.replace(whole(asked, attempt, version, now), expires_at=now + asked.lease)

    return [(semantics, "_first", first)]


def _answered_first() -> list[Patch]:
    whole = Owner._settle

    async def settle(self: Owner, transition: Transition, delivery: Any) -> None:
        self._let_go(delivery)
        await asyncio.sleep(0)
        await whole(self, transition, delivery)

    return [(Owner, "_settle", settle)]


def _fenced_answers() -> list[Patch]:
    return [(Owner, "_acknowledged", lambda *_: True)]


def _one_number() -> list[Patch]:
    async def number(self: Lease, *, may_have_run: bool) -> bool:
        return True

    return [(Lease, "number", number)]


def _probe_believed() -> list[Patch]:
    whole = operation.probed

    def probed(said: operation.Said, probe: operation.Probe, rule: Rule) -> object:
        if said is operation.Said.DID_NOT_HAPPEN:
            return TakeOver(probe.token, probe.version)
        return whole(said, probe, rule)

    return _everywhere(whole, probed)


def _laxer_policy() -> list[Patch]:
    whole = operation._unknown

    def unknown(record: Record, now: int, rule: Rule) -> object:
        return whole(structs.replace(record, on_unknown=rule.on_unknown), now, rule)

    return [(operation, "_unknown", unknown)]


def _registry_reloaded() -> list[Patch]:
    def forwarding_by(self: Ownership, forward: Any) -> Ownership:
        return Ownership(self.store, forward, self.clock, self.tokens, self.metrics)

    return [(Ownership, "forwarding_by", forwarding_by)]


def _drained_as_unsent() -> list[Patch]:
    def drained(self: Owner) -> End:
        return End(Free(), Failed.lost(Reason.DRAINED, self.operation.rule))

    return [(Owner, "_drained", drained)]


MUTANTS: Final[dict[str, Mutant]] = {
    "no send guard": Mutant(_no_guard, Focus(act=Act.STOP)),
    "the guard reads a cached time": Mutant(_cached_time, Focus(act=Act.STOP)),
    "no registry": Mutant(_no_registry, Focus("wiped")),
    "release on every error": Mutant(_release_on_error),
    "no token check in complete": Mutant(_no_fence, Focus("retry", Act.STOP)),
    "the lease is not renewed": Mutant(_no_renewal),
    "unknown is not marked": Mutant(_unknown_not_marked),
    "a claim is neither asked again nor taken back": Mutant(_claim_abandoned),
    "dead tokens are forgotten": Mutant(_dead_forgotten),
    "a waiter gets another's answer": Mutant(_anothers_answer, Focus("block", ops=3)),
    "no scope in the id": Mutant(_no_scope, Focus(ops=3)),
    "no fingerprint": Mutant(_no_fingerprint),
    "release deletes evidence": Mutant(_evidence_deleted, Focus("retry", Act.STOP)),
    "evidence expires with its lock": Mutant(_evidence_with_its_lock),
    "answered before it is recorded": Mutant(_answered_first),
    "a fenced owner answers by itself": Mutant(_fenced_answers, Focus("retry", Act.STOP)),
    "own retries have one number": Mutant(_one_number, Focus("again, own retries")),
    "a probe is believed at once": Mutant(_probe_believed, Focus("probe", Act.CRASH)),
    "the laxer policy counts": Mutant(_laxer_policy, Focus("mixed", Act.CRASH)),
    "a reload begins a new registry": Mutant(_registry_reloaded, Focus("wiped", Act.RELOAD)),
    "a drained operation counts as unsent": Mutant(_drained_as_unsent, Focus(act=Act.DRAIN)),
}
