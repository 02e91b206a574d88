"""Settings that would fit what a log says of a rule: each only where the log supports it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from idemproxy.idempotency.observation import Suspected, Unjudged
from idemproxy.idempotency.problems import Slug
from idemproxy.reporting import OTHERS, Client, RuleReport, Spread

ENOUGH: Final = 20
"""Keys that must have been seen before what they have in common is taken for a rule."""
DEFAULT_WAIT: Final = 10_000.0
DEFAULT_TTL: Final = 86_400_000.0
"""Milliseconds: what `wait_timeout` and `ttl` are where nobody writes them."""
WAITS: Final = (10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000)


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting as it is written in a rule ("": none), and why."""

    setting: str
    because: str


def advice(rule: RuleReport) -> list[Advice]:
    """All that the log supports, the most important first."""
    if not rule.tally.requests:
        return list(_fingerprint(rule))
    return [
        *_scope(rule),
        *_keys(rule),
        *_form(rule),
        *_without_keys(rule),
        *_fingerprint(rule),
        *_waits(rule),
        *_ttl(rule),
        *_refusals(rule),
        *_unjudged(rule),
    ]


def _scope(rule: RuleReport) -> Iterator[Advice]:
    names = {client.name for client in rule.clients.values()}
    if names == {"anonymous"}:
        yield Advice(
            "scope",
            "nobody sent what the scope names, so that all callers share one: name what tells them apart, or write `scope: []`",
        )


def _keys(rule: RuleReport) -> Iterator[Advice]:
    tally = rule.tally
    clients = [each for each in rule.clients.values() if each.name != OTHERS]
    without = [each for each in clients if not each.tally.with_key and not each.tally.refused[Slug.KEY_INVALID.value]]
    missing = tally.refused[Slug.KEY_MISSING.value]
    invalid = tally.refused[Slug.KEY_INVALID.value]
    if tally.with_key >= ENOUGH and not tally.without_key and not invalid:
        yield Advice(
            "key: {required: true}",
            f"each of {tally.with_key:,} requests had a key: none would be refused for the lack of one",
        )
    elif missing:
        yield Advice(
            "key: {required: false}",
            f"{missing:,} of {tally.requests:,} requests have no key and would be refused; {_of(without, clients)} send none at all",
        )
    elif without:
        yield Advice(
            "key: {required: false}",
            f"{_of(without, clients)} send no key: their requests pass on unprotected until they do",
        )
    if invalid:
        yield Advice(
            "key: {format: any}",
            f"{invalid:,} requests have a key that the rule refuses: look at `format`, `pattern` and `max_length`",
        )


def _form(rule: RuleReport) -> Iterator[Advice]:
    forms = +rule.key_forms
    if forms.total() < ENOUGH or "any" in forms:
        return
    if len(forms) == 1:
        (form,) = forms
    elif "ulid" not in forms:
        form = "uuid"
    else:
        return
    more = "; with it, keys older than `ttl` are refused rather than executed" if form in ("uuid7", "ulid") else ""
    yield Advice(f"key: {{format: {form}}}", f"all of {forms.total():,} keys are of this form{more}")


def _without_keys(rule: RuleReport) -> Iterator[Advice]:
    suspected = rule.tally.suspected
    if count := suspected[Suspected.NO_KEY]:
        yield Advice(
            'key: {from: "{body|sha256}"}',
            f"{count:,} requests without a key repeat their caller's bytes within seconds: with `ttl: 30s` such a key catches them, "
            "as long as nobody means the same twice; better, a natural key of what the request is about",
        )
    if count := suspected[Suspected.NEW_KEY]:
        makers = [each for each in rule.clients.values() if each.tally.suspected[Suspected.NEW_KEY]]
        yield Advice(
            "key: {from: ..}",
            f"{count:,} requests repeat their caller's bytes within seconds under a new key ({_clients(makers)}): a client that makes a "
            "new key for each attempt is not protected by it; have it keep the key, or derive one from the request",
        )


def _fingerprint(rule: RuleReport) -> Iterator[Advice]:
    known = {names: count for names, count in rule.differs.items() if names}
    total = sum(known.values())
    for names, count in known.items():
        if set(names) & {"method", "path"}:
            yield Advice(
                "",
                f"{count:,} requests use a key again for another endpoint ({', '.join(names)}): that is their client's fault",
            )
        elif names == ("body",):
            yield Advice(
                "fingerprint: {body: json, ignore: [..]}",
                f"{count:,} of {total:,} mismatches differ in nothing but the body: if retries change a time or a nonce in it, name that",
            )
        elif names == ("query",):
            yield Advice(
                "fingerprint: {query: false}", f"{count:,} of {total:,} mismatches differ in nothing but the query"
            )
        elif all(name.startswith("header:") for name in names):
            left_out = ", ".join(name.removeprefix("header:") for name in names)
            yield Advice(
                "fingerprint: {headers: [..]}",
                f"{count:,} of {total:,} mismatches differ in nothing but {left_out}: leave it out, if it may change in a retry",
            )


def _waits(rule: RuleReport) -> Iterator[Advice]:
    overlaps = rule.overlaps
    if not overlaps.count:
        return
    wanted = overlaps.within(0.99)
    fitting = next((each for each in WAITS if each >= wanted), WAITS[-1])
    share = overlaps.share(fitting)
    because = f"covers {share:.0%} of {_waits_of(overlaps)}"
    default = ", the default," if fitting == DEFAULT_WAIT else ""
    yield Advice(f"wait_timeout: {fitting // 1000}s", f"{default.strip(', ') + ': ' if default else ''}{because}")


def _waits_of(overlaps: Spread) -> str:
    return f"{overlaps.count:,} waits for a running operation: the longest would have been {shown(overlaps.longest)}"


def _ttl(rule: RuleReport) -> Iterator[Advice]:
    gaps = rule.gaps
    if not gaps.count:
        return
    said = f"the last of {gaps.count:,} retries came {shown(gaps.longest)} after its first request, 99 % within {shown(gaps.within(0.99))}"
    if gaps.longest * 2 <= DEFAULT_TTL:
        yield Advice("ttl: 24h", f"the default, is enough: {said}")
    else:
        days = -(-gaps.longest * 2 // DEFAULT_TTL)
        yield Advice(f"ttl: {days:.0f}d", f"{said}; what came later than the present `ttl` was not seen as a retry")


def _refusals(rule: RuleReport) -> Iterator[Advice]:
    tally = rule.tally
    for slug, (setting, why) in _ON_REFUSAL.items():
        if count := tally.refused[slug.value]:
            yield Advice(setting, f"{count:,} of {tally.requests:,} {why}")
    if rule.switched:
        yield Advice(
            "",
            f"{rule.switched:,} requests switched protocols: enforced, a rule does not pass that on; match other paths",
        )


_ON_REFUSAL: Final = {
    Slug.REQUEST_TOO_LARGE: ("max_request_body", "requests are larger than it allows and would be refused: raise it"),
    Slug.ANSWER_NOT_KEPT: (
        "max_response_body",
        "requests repeat an operation whose answer is too large to be kept: raise it",
    ),
    Slug.OUTCOME_UNKNOWN: (
        "on_unknown",
        "requests repeat an operation whose outcome is unknown: blocked, they wait for an operator; {probe: ..} asks the service",
    ),
    Slug.STORE_UNAVAILABLE: (
        "on_store_failure",
        "requests would be refused since the store did not answer: look after the store first",
    ),
    Slug.SIGNATURE_INVALID: (
        "verify",
        "requests bear no valid signature and would be refused: are the secrets the sender's?",
    ),
    Slug.CREDENTIAL_INVALID: (
        "scope",
        "requests bear no token that holds, and would be refused: are the keys the issuer's?",
    ),
    Slug.KEY_UNDERIVABLE: ("key: {from: ..}", "requests lack what their key is made of, and would be refused"),
    Slug.KEY_EXPIRED: ("ttl", "requests bear a key that is older than it, and would be refused"),
    Slug.NOT_HTTP: ("", "requests list a field in `Connection` that the rule reads, and would be refused"),
}


def _unjudged(rule: RuleReport) -> Iterator[Advice]:
    if count := rule.tally.not_judged[Unjudged.BUSY]:
        yield Advice(
            "",
            f"{count:,} requests were not looked at, since too much was being observed: the counts above are too low",
        )


def _of(some: list[Client], every: list[Client]) -> str:
    return f"{len(some):,} of {len(every):,} client{'' if len(every) == 1 else 's'}"


def _clients(some: list[Client]) -> str:
    return f"{len(some):,} client{'' if len(some) == 1 else 's'}"


def shown(ms: float) -> str:
    """Milliseconds as people say them."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms:.0f} ms"
