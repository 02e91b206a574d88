"""What the configuration will have and has not yet: known by name, so that nobody takes it for a misspelling or, worse, for real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Later:
    """A setting that is not built. `works`: the values that mean "without it", which are accepted."""

    doc: str
    works: tuple[bool | int | str | list[str], ...] = ()


SETTINGS: Mapping[str, Mapping[str, Later]] = MappingProxyType(
    {
        "": {
            "workers": Later("Worker processes.", (1,)),
            "jwt": Later("Keys that `jwt:` scopes are verified with."),
            "admin_token": Later("What the admin port asks for."),
            "admin_show_bodies": Later("Bodies of recorded answers on the admin port.", (False,)),
            "replicas": Later("Redis replicas that a claim waits for.", (0,)),
        },
        "rule": {
            "preset": Later("The rest of a rule as one client or sender needs it."),
            "verify": Later("Signatures of webhooks."),
            "reauthorize": Later("Asking the upstream before a replay."),
            "cors": Later("Origins that may read the proxy's own answers."),
        },
        "rule.key": {
            "from": Later("A natural key."),
            "retry_marker": Later("Keys of clients that only number their retries."),
            "first_sent": Later("The header that bears a key's birth."),
            "max_clock_skew": Later("How far clients' clocks may be off."),
        },
        "rule.fingerprint": {"ignore": Later("Parts that may differ in a retry.", ([],))},
    }
)

VALUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "store": frozenset({"redis+sentinel", "redis+cluster", "postgresql", "postgres"}),
        "rule.scope": frozenset({"cookie", "path", "client_cert", "jwt"}),
        "rule.fingerprint.body": frozenset({"json", "form", "multipart"}),
        "rule.mode": frozenset({"observe"}),
    }
)

NOT_YET = "known, but it comes later: not built yet"
