"""What no single setting can see: combinations that are impossible (errors) and those that are allowed and surprising (warnings)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from idemproxy.config.faults import Faults, shown
from idemproxy.config.keys import check_keys, natural_headers, warn_keys
from idemproxy.config.model import KeyForm
from idemproxy.config.policies import ProbeSetting
from idemproxy.config.settings import Address, TcpAddress, UnixAddress, UpstreamSettings
from idemproxy.config.table import Found
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    AT_MOST_ONCE_RELEASES,
    Guarantee,
    HeaderScope,
    LiteralScope,
    Match,
    OnStoreFailure,
    PathScope,
    RetryCause,
    Rule,
)
from idemproxy.idempotency.template import Part, Source


def address_of(top: Found, name: str) -> Address | None:
    """The valid address of a setting."""
    return top.get(name, TcpAddress) or top.get(name, UnixAddress)


def check_addresses(top: Found, faults: Faults) -> None:
    """Two ends that are the same place."""
    upstream = top.get("upstream", UpstreamSettings)
    ends = {
        "listen": address_of(top, "listen"),
        "admin": address_of(top, "admin"),
        "upstream": upstream.address if upstream else None,
    }
    for name, other in (("admin", "listen"), ("upstream", "listen"), ("upstream", "admin")):
        here, there, item = ends[name], ends[other], top.written(name)
        if here and there and item and item.place and _reaches(here, there):
            faults.add(item.place, name, f"is the same address as `{other}`", "each needs one of its own")


def check_tls(top: Found, faults: Faults) -> None:
    """Certificates that nothing would use, or that lack their key."""
    tls = top.inner("tls").written("upstream")
    if tls is None or tls.place is None or not isinstance(tls.value, Found):
        return
    upstream = top.get("upstream", UpstreamSettings)
    if upstream is not None and not upstream.tls:
        faults.add(
            tls.place, "tls.upstream", "the upstream is not https", "write upstream: https://..., or leave this out"
        )
    for name, other in (("certificate", "key"), ("key", "certificate")):
        if tls.value.written(name) and not tls.value.written(other):
            faults.add(tls.place, f"tls.upstream.{name}", f"there is no `{other}`", "write both, or neither")


def _reaches(here: Address, there: Address) -> bool:
    """Whether a connection to `here` arrives at a listener on `there`, as far as the text tells."""
    if not (isinstance(here, TcpAddress) and isinstance(there, TcpAddress)):
        return here == there
    if here.port != there.port or there.port == 0:
        return False
    if here.host.lower() == there.host.lower() or (
        _wildcard(here.host) and (_local(there.host) or _wildcard(there.host))
    ):
        return True
    return _local(here.host) and (
        (_local(there.host) and "localhost" in (here.host, there.host)) or _wildcard(there.host)
    )


def _wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_rule(rule: Found, top: Found, faults: Faults) -> None:
    """Settings of one rule that exclude each other. Only what is written counts: defaults give way."""
    _check_statuses(rule, faults)
    _check_attempt_header(rule, faults)
    _check_retry(rule, faults)
    _check_probe(rule, top, faults)
    check_keys(rule, top, faults)
    key = rule.inner("key")
    form, longest = key.get("format", KeyForm), key.written("max_length")
    if form and longest and longest.place and isinstance(longest.value, int) and longest.value < form.length:
        right = f"a {form.name} is {form.length} bytes long; write {form.length} or more"
        faults.add(longest.place, longest.path, "no key can be both this short and of the format", right)


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def merge_statuses(sets: object) -> frozenset[int]:
    """The statuses of a list of statuses and classes."""
    return frozenset[int]().union(*(each for each in _tuple(sets) if isinstance(each, frozenset)))


def _check_statuses(rule: Found, faults: Faults) -> None:
    released, unknown = rule.written("release_statuses"), rule.written("unknown_statuses")
    if released is None or unknown is None or unknown.place is None:
        return
    both = sorted(merge_statuses(released.value) & merge_statuses(unknown.value))
    if both:
        which = f"{both[0]}" if len(both) == 1 else f"{both[0]} and {len(both) - 1} more"
        right = "a status means either that nothing was executed or that something may have been"
        faults.add(unknown.place, unknown.path, f"{which} stand in release_statuses too", right)


def _check_attempt_header(rule: Found, faults: Faults) -> None:
    attempt = rule.written("attempt_header")
    if attempt is None or attempt.place is None or not isinstance(attempt.value, bytes):
        return
    name = attempt.value.lower()
    scopes = [part.name for part in _tuple(rule.get("scope", tuple)) if isinstance(part, HeaderScope)]
    uses: dict[str, Sequence[object]] = {
        "key.header": _tuple(rule.inner("key").get("header", tuple)),
        "key.from": natural_headers(rule),
        "key.retry_marker": [rule.inner("key").inner("retry_marker").get("header", bytes)],
        "scope": scopes,
        "fingerprint.headers": _tuple(rule.inner("fingerprint").get("headers", tuple)),
    }
    for use, names in uses.items():
        if name in names:
            faults.add(
                attempt.place, attempt.path, f"is a header of {use} too", "write a name of its own, such as X-Attempt"
            )


def _check_retry(rule: Found, faults: Faults) -> None:
    retry = rule.inner("retry")
    longest, shortest = retry.written("max_backoff"), retry.get("backoff", int)
    if longest and longest.place and isinstance(longest.value, int) and shortest and longest.value < shortest:
        faults.add(longest.place, longest.path, "is shorter than retry.backoff", "write as much, or more")
    causes = retry.written("on")
    if causes is None or causes.place is None:
        return
    path, statuses = causes.path, merge_statuses(causes.value)
    if any(status < 400 for status in statuses):
        faults.add(
            causes.place, path, "has a status below 400", "such an answer is the operation's outcome: leave it out"
        )
    if rule.get("guarantee", Guarantee) is not Guarantee.AT_MOST_ONCE:
        return
    if RetryCause.UNKNOWN in _tuple(causes.value):
        right = "what may have been executed is not sent again: leave it out, or write guarantee: at_least_once"
        faults.add(causes.place, path, "has unknown under at_most_once", right)
    released = rule.written("release_statuses")
    free = AT_MOST_ONCE_RELEASES if released is None else merge_statuses(released.value)
    unknown = rule.written("unknown_statuses")
    if executed := sorted(statuses - (free - merge_statuses(unknown.value if unknown else ()))):
        which = f"{executed[0]}" if len(executed) == 1 else f"{executed[0]} and {len(executed) - 1} more"
        right = (
            "under at_most_once only statuses of release_statuses, which mean that nothing was executed, can be here"
        )
        faults.add(causes.place, path, f"has {which} under at_most_once", right)


def _check_probe(rule: Found, top: Found, faults: Faults) -> None:
    item = rule.written("on_unknown")
    if item is None or item.place is None or not isinstance(item.value, ProbeSetting):
        return
    named = set(re.findall(r"\{([^{}]+)\}", rule.inner("match").get("path", str) or ""))
    for part in item.value.target.pieces:
        if isinstance(part, Part) and part.source is Source.PATH and part.name not in named:
            right = "name a {segment} of match.path"
            faults.add(item.place, f"{item.path}.probe.url", "has a path: part that the rule's path has not", right)
    if not any(isinstance(part, Part) for part in item.value.target.pieces):
        right = "say which operation is meant, such as with {header:Idempotency-Key}"
        faults.add(item.place, f"{item.path}.probe.url", "is the same for every operation", right)
    if item.value.settle is None and top.inner("upstream_timeouts").get("response", int) == 0:
        right = "write how long the upstream may still be working on a request, since upstream_timeouts.response is off"
        faults.add(item.place, f"{item.path}.probe.settle", "is missing", right)


PATIENT = 60_000
"""Milliseconds that hardly any client waits longer than."""

_REFUSED = {
    "uuid": "prefixed ones, such as stripe-node-retry-<uuid>, stainless-python-retry-<uuid>, auto_<uuid>",
    "uuid4": "stripe-python's random hex without version bits, and prefixed ones, such as stripe-node-retry-<uuid>",
}


def warn_rule(rule: Rule, released: frozenset[int]) -> list[str]:
    """What is allowed in a rule and surprising. `released` are the statuses that are written as released."""
    said: list[str] = []
    if rule.key.form in _REFUSED:
        said.append(f"key.format {rule.key.form} refuses keys of real clients (400): {_REFUSED[rule.key.form]}")
    if rule.ttl < rule.lease:
        said.append("ttl is shorter than lease: an answer is forgotten sooner than a dead owner is noticed")
    if rule.guarantee is Guarantee.AT_MOST_ONCE:
        if rule.reauthorize is None and all(isinstance(part, LiteralScope | PathScope) for part in rule.scope):
            said.append(
                f"{'scope has nothing of the caller, and' if rule.scope else 'scope []'} lets every caller share one scope: whoever sends "
                "another's key gets the other's answer; name the caller, or write reauthorize"
            )
        if rule.on_unknown is OnUnknown.RETRY:
            said.append("on_unknown: retry under at_most_once executes again where the outcome is unknown")
        if rule.on_store_failure is OnStoreFailure.FAIL_OPEN:
            said.append("on_store_failure: fail_open under at_most_once executes retries again while the store is away")
        if any(status < 400 for status in released):
            said.append(
                "release_statuses has statuses below 400 under at_most_once: a retry after such an answer executes again"
            )
    if rule.wait_timeout > PATIENT:
        said.append("wait_timeout is longer than a minute: most clients give up before, and their places stay taken")
    said += warn_keys(rule)
    return [f"rule {shown(rule.name)}: {each}" for each in said]


def warn_weak(rule: Rule) -> list[str]:
    """Where somebody may get another's answer: told also where a preset chose it."""
    if rule.reauthorize is not None or not any(isinstance(part, HeaderScope) and part.pattern for part in rule.scope):
        return []
    said = []
    said.append(
        "a scope's pattern is matched against what nobody has verified, and a replay skips the upstream's own check: write "
        "reauthorize, or jwt:CLAIM where it is a token"
    )
    if rule.key.natural:
        said.append(
            "a scope's pattern with a natural key is weak: whoever can guess the request's content and write that header gets the "
            "recorded answer; write reauthorize"
        )
    return [f"rule {shown(rule.name)}: {each}" for each in said]


def warn_shadowed(rules: Sequence[Rule]) -> list[str]:
    """Rules that no request can reach, since an earlier one takes all of theirs."""
    said = []
    for number, rule in enumerate(rules):
        earlier = next((each for each in rules[:number] if _covers(each.match, rule.match)), None)
        if earlier is not None:
            said.append(
                f"rule {shown(rule.name)} can never match: {shown(earlier.name)} stands before it and takes all its requests"
            )
    return said


def _covers(wide: Match, narrow: Match) -> bool:
    methods = not wide.methods or (bool(narrow.methods) and narrow.methods <= wide.methods)
    hosts = not wide.hosts or (bool(narrow.hosts) and narrow.hosts <= wide.hosts)
    return methods and hosts and set(wide.headers) <= set(narrow.headers) and _covers_path(wide.path, narrow.path)


def _covers_path(wide: str, narrow: str) -> bool:
    """Whether every path of `narrow` is one of `wide`; no where it is not certain."""
    ours, theirs = wide.split("/"), narrow.split("/")
    for index, part in enumerate(ours):
        if part == "**":
            return len(theirs) > index
        if index >= len(theirs) or theirs[index] == "**":
            return False
        if part != theirs[index] and not (part.startswith("{") and theirs[index]):
            return False
    return len(ours) == len(theirs)
