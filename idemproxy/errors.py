"""The one exception tree. Every message tells an operator what happened, to what, and what to do."""

from __future__ import annotations


class IdemproxyError(Exception):
    """Root of everything that the product raises on purpose."""


class ConfigError(IdemproxyError):
    """A configuration that cannot be used. The message holds every problem found, one a line."""


class DescriptionError(IdemproxyError):
    """An OpenAPI description that cannot be used. The message names the file and, where there is one, the place."""


class StartError(IdemproxyError):
    """The process cannot start serving: a port in use, an upstream that is the proxy itself."""


class StoreError(IdemproxyError):
    """A store command that gave no fact."""


class StoreUnavailable(StoreError):
    """The command was certainly not applied: it never reached the store, or the store refused it before any write."""


class StoreAmbiguous(StoreError):
    """The command may have been applied: it was sent, and no answer came (DESIGN.md section 4, *Ambiguous store errors*)."""


class RecordUnreadable(StoreError):
    """A record in an encoding that this version does not know: an error, never "nothing"."""
