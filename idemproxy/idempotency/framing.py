"""Several byte strings as one, for hashing."""

from __future__ import annotations


def framed(*parts: bytes) -> bytes:
    """The parts, each behind its length: injective."""
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])
