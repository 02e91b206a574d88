"""Several byte strings as one, for hashing."""

from __future__ import annotations


def framed(*parts: bytes) -> bytes:
    """The parts, each behind its length: injective."""
    pieces: list[bytes] = []
    for part in parts:
        pieces.append(len(part).to_bytes(8, "big"))
        pieces.append(part)
    return b"".join(pieces)
