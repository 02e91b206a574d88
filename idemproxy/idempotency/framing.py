"""Several byte strings as one, for hashing."""

from __future__ import annotations

_SHORT = 1024
_LENGTHS = tuple(length.to_bytes(8, "big") for length in range(_SHORT))


def framed(*parts: bytes) -> bytes:
    """The parts, each behind its length: injective."""
    pieces: list[bytes] = []
    for part in parts:
        length = len(part)
        pieces.append(_LENGTHS[length] if length < _SHORT else length.to_bytes(8, "big"))
        pieces.append(part)
    return b"".join(pieces)
