"""Reading the configuration again (SIGHUP): what may change while a process serves, and what needs a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from idemproxy.config.settings import Settings
from idemproxy.errors import ConfigError, IdemproxyError, StartError
from idemproxy.runtime.plan import Prepared, prepare

Reread = Callable[[], Settings]
"""Reads the configuration again. Raises ConfigError."""

_FIXED: Final[dict[str, Callable[[Settings], object]]] = {
    "listen": lambda settings: settings.listen,
    "admin": lambda settings: settings.admin,
    "store": lambda settings: settings.store,
    "store_timeout": lambda settings: settings.store_timeout,
    "namespace": lambda settings: settings.namespace,
    "workers": lambda settings: settings.workers,
    "tls.listen, added or taken away": lambda settings: settings.listen_tls is None,
}
"""What a process has for as long as it lives: its sockets, its store, its ids."""


class NotReloaded(IdemproxyError):
    """Everything stays as it was. `faults` tells why, one a line."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def needs_restart(before: Settings, after: Settings) -> tuple[str, ...]:
    """The settings that differ and that no reload can change."""
    return tuple([name for name, of in _FIXED.items() if of(before) != of(after)])


def named_otherwise(before: Settings, after: Settings) -> tuple[str, ...]:
    """The rules under which an operation has another id than before: its retry would be a new operation."""
    earlier = {rule.name: (rule.scope, rule.key.natural) for rule in before.rules}
    return tuple(
        [
            rule.name
            for rule in after.rules
            if earlier.get(rule.name, (rule.scope, rule.key.natural)) != (rule.scope, rule.key.natural)
        ]
    )


def read_again(before: Settings, reread: Reread) -> Prepared:
    """The configuration as it is now, and everything that it names found good. Raises NotReloaded."""
    try:
        after = reread()
    except ConfigError as error:
        raise NotReloaded(*str(error).splitlines()) from error
    if changed := needs_restart(before, after):
        raise NotReloaded(
            f"only a restart can change {'; '.join(changed)}: restart, or write what was there; the rest of the file waits for that too"
        )
    try:
        return prepare(after)
    except StartError as error:
        raise NotReloaded(str(error)) from error
