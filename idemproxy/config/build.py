"""From what was read to what a process runs with: defaults filled in, rules merged, combinations checked."""

from __future__ import annotations

from types import MappingProxyType

from idemproxy.config.checks import (
    address_of,
    check_addresses,
    check_rule,
    check_tls,
    merge_statuses,
    warn_rule,
    warn_shadowed,
    warn_weak,
)
from idemproxy.config.cors import cors
from idemproxy.config.faults import Faults, shown
from idemproxy.config.keys import retry_marker
from idemproxy.config.layers import merged_rule, preset_alone
from idemproxy.config.model import TOP, KeyForm
from idemproxy.config.policies import ProbeSetting
from idemproxy.config.reauthorize import check_reauthorize, reauthorization
from idemproxy.config.settings import (
    HopSettings,
    JwtSettings,
    ListenTls,
    PoolSettings,
    Settings,
    UpstreamSettings,
    UpstreamTimeouts,
    UpstreamTls,
)
from idemproxy.config.table import Found, Item
from idemproxy.config.tokens import jwt_settings, warn_jwt
from idemproxy.config.tree import Branch
from idemproxy.config.verify import verification, warn_unverified, warn_verify
from idemproxy.idempotency.problems import Slug
from idemproxy.idempotency.record import OnUnknown
from idemproxy.idempotency.routes import (
    AT_LEAST_ONCE_RELEASES,
    AT_MOST_ONCE_RELEASES,
    BodyRecipe,
    Guarantee,
    Ignored,
    InFlight,
    KeyAge,
    KeySource,
    Match,
    Mode,
    OnStoreFailure,
    OwnRetry,
    ProbeRule,
    Recipe,
    RetryCause,
    Rule,
)
from idemproxy.idempotency.shapes import Shape


def build(tree: Branch | None, faults: Faults) -> Settings:
    """The settings of a tree. Raises ConfigError with every fault, those already told included."""
    found = TOP.read(tree, "", faults) if tree is not None else None
    if not isinstance(found, Found):
        raise faults.error()
    top = TOP.merged(found)
    shared = found.inner("defaults")
    rules = [_merged(each, shared, number) for number, each in enumerate(found.get("routes", tuple) or (), 1)]
    check_addresses(top, faults)
    check_tls(top, faults)
    _check_names(rules, faults)
    jwt = jwt_settings(top, faults)
    for rule in rules:
        check_rule(rule, top, faults)
        verification(rule, faults)
        check_reauthorize(rule, faults)
    if faults:
        raise faults.error()
    return _settings(top, rules, jwt)


def _merged(rule: object, shared: Found, number: int) -> Found:
    assert isinstance(rule, Found)
    merged = merged_rule(rule, shared)
    if "name" in merged.items:
        return merged
    return Found({**merged.items, "name": Item(f"route-{number}", None, "name")})


def _check_names(rules: list[Found], faults: Faults) -> None:
    taken = {
        rule.need("name", str): f"routes[{index}] has this name by default"
        for index, rule in enumerate(rules)
        if rule.items["name"].place is None
    }
    for rule in rules:
        item = rule.written("name")
        if item is None or item.place is None or not isinstance(item.value, str):
            continue
        if item.value in taken:
            faults.add(item.place, item.path, taken[item.value], "give each rule a name of its own")
        taken.setdefault(item.value, f"the rule on line {item.place.line} has this name")


def _settings(top: Found, merged: list[Found], jwt: JwtSettings | None) -> Settings:
    timeouts = top.inner("upstream_timeouts")
    rules = tuple(_rule(each, timeouts.need("response", int)) for each in merged)
    warnings = [] if rules else ["there are no routes: every request is forwarded untouched, nothing is protected"]
    warnings += warn_jwt(jwt, rules) if jwt is not None else []
    for rule, found in zip(rules, merged, strict=True):
        warnings += _warnings(rule, found, timeouts.need("response", int))
    listen = address_of(top, "listen")
    assert listen is not None, "it has a default"
    return Settings(
        listen=listen,
        upstream=top.need("upstream", UpstreamSettings),
        store=top.need("store", str),
        admin=address_of(top, "admin"),
        namespace=top.need("namespace", str),
        workers=top.get("workers", int),
        upstream_timeouts=UpstreamTimeouts(*(timeouts.need(name, int) for name in ("connect", "response", "idle"))),
        store_timeout=top.need("store_timeout", int),
        drain_timeout=top.need("drain_timeout", int),
        docs_url=top.get("docs_url", str) or "",
        hop=HopSettings(*(top.need(name, bool) for name in ("forwarded_headers", "via", "upstream_host"))),
        pool=PoolSettings(*(top.inner("pool").need(name, int) for name in ("max", "queue", "idle"))),
        listen_tls=_listen_tls(top.inner("tls")),
        upstream_tls=_upstream_tls(top.inner("tls").inner("upstream")),
        jwt=jwt,
        rules=rules,
        warnings=(*warnings, *warn_shadowed(rules)),
    )


def _listen_tls(found: Found) -> ListenTls | None:
    listen = found.inner("listen")
    if found.written("listen") is None:
        return None
    return ListenTls(listen.need("certificate", str), listen.need("key", str), listen.get("client_ca", str))


def _upstream_tls(found: Found) -> UpstreamTls:
    return UpstreamTls(*(found.get(name, str) for name in ("ca", "certificate", "key", "server_name")))


def _rule(found: Found, response: int) -> Rule:
    guarantee = found.need("guarantee", Guarantee)
    once = guarantee is Guarantee.AT_MOST_ONCE
    unknown = merge_statuses(found.need("unknown_statuses", tuple))
    written = found.get("release_statuses", tuple)
    # a status that is written as unknown is taken out of the guarantee's own list
    released = (
        (AT_MOST_ONCE_RELEASES if once else AT_LEAST_ONCE_RELEASES) - unknown
        if written is None
        else merge_statuses(written)
    )
    return Rule(
        name=found.need("name", str),
        match=_match(found.inner("match")),
        key=_key(found.inner("key")),
        scope=found.need("scope", tuple),
        fingerprint=_recipe(found.inner("fingerprint")),
        guarantee=guarantee,
        in_flight=found.need("in_flight", InFlight),
        wait_timeout=found.need("wait_timeout", int),
        max_waiters=found.need("max_waiters", int),
        retry_after=found.need("retry_after", int),
        on_unknown=_on_unknown(found, once),
        probe=_probe(found, response),
        verify=verification(found, Faults("")),
        reauthorize=reauthorization(found),
        retry=_retry(found.inner("retry")),
        on_store_failure=found.get("on_store_failure", OnStoreFailure)
        or (OnStoreFailure.FAIL_CLOSED if once else OnStoreFailure.FAIL_OPEN),
        ttl=found.need("ttl", int),
        lease=found.need("lease", int),
        release_statuses=released,
        unknown_statuses=unknown,
        attempt_header=found.get("attempt_header", bytes),
        fresh_connection=found.need("fresh_connection", bool),
        max_request_body=found.need("max_request_body", int),
        max_response_body=found.need("max_response_body", int),
        replay_drop_headers=frozenset(found.need("replay_drop_headers", tuple)),
        problem_status=_problem_status(found.need("problem_status", tuple)),
        mode=found.need("mode", Mode),
        problem_shape=found.need("problem_shape", Shape),
        cors=cors(found),
        preset=found.get("preset", str),
    )


def _warnings(rule: Rule, found: Found, response: int) -> list[str]:
    """What is surprising about a rule, without what its preset chose on purpose."""
    alone = preset_alone(found)
    known = [] if alone is None else _warn(_rule(alone, response), alone)
    said = [each for each in _warn(rule, found) if each not in known]
    marker = rule.key.marker
    if marker is not None and not 0 < response < marker.window:
        said.append(
            f"rule {shown(rule.name)}: key.retry_marker.window is not longer than upstream_timeouts.response: the retry of a request that "
            "takes so long is a new operation"
        )
    return [*said, *warn_weak(rule), *(f"rule {shown(rule.name)}: {each}" for each in warn_unverified(found))]


def _warn(rule: Rule, found: Found) -> list[str]:
    written = found.written("release_statuses")
    said = warn_rule(rule, merge_statuses(written.value) if written else frozenset())
    return said + [f"rule {shown(rule.name)}: {each}" for each in warn_verify(found)]


def _on_unknown(found: Found, once: bool) -> OnUnknown:
    if found.get("on_unknown", ProbeSetting) is not None:
        return OnUnknown.PROBE
    return found.get("on_unknown", OnUnknown) or (OnUnknown.BLOCK if once else OnUnknown.RETRY)


def _probe(found: Found, response: int) -> ProbeRule | None:
    probe = found.get("on_unknown", ProbeSetting)
    return None if probe is None else ProbeRule(probe.target, probe.settle if probe.settle is not None else response)


def _retry(found: Found) -> OwnRetry:
    causes = found.need("on", tuple)
    statuses = merge_statuses(causes)
    return OwnRetry(
        attempts=found.need("attempts", int),
        causes=frozenset(each for each in causes if isinstance(each, RetryCause)),
        statuses=statuses,
        backoff=found.need("backoff", int),
        max_backoff=found.need("max_backoff", int),
    )


def _match(found: Found) -> Match:
    return Match(
        methods=frozenset(found.need("methods", tuple)),
        path=found.need("path", str),
        hosts=frozenset(found.need("hosts", tuple)),
        headers=found.need("headers", tuple),
    )


def _key(found: Found) -> KeySource:
    form = found.need("format", KeyForm)
    natural = found.get("from", tuple) or ()
    by = found.get("first_sent", bytes) or form.birth
    marker = retry_marker(found)
    return KeySource(
        headers=() if natural and found.written("header") is None else found.need("header", tuple),
        required=found.need("required", bool),
        form=form.name,
        pattern=form.pattern,
        max_length=found.need("max_length", int),
        natural=natural,
        age=None if by is None else KeyAge(by, found.need("max_clock_skew", int)),
        batches=frozenset(found.need("batches", tuple)),
        marker=marker,
    )


def _recipe(found: Found) -> Recipe:
    ignored = found.need("ignore", tuple)
    return Recipe(
        tuple(name for name in found.need("headers", tuple) if name not in ignored),
        found.need("query", bool),
        found.need("body", BodyRecipe),
        tuple(each for each in ignored if isinstance(each, Ignored)),
    )


def _problem_status(pairs: tuple[tuple[Slug, int], ...]) -> MappingProxyType[Slug, int]:
    return MappingProxyType(dict(pairs))
