"""Files that a user names, read whole within a bound."""

from __future__ import annotations

from pathlib import Path

from idemproxy.errors import IdemproxyError


def contents(path: Path, most: int, what: str, error: type[IdemproxyError]) -> bytes:
    """The bytes of a file, of which there may be `most`. `what` is what to name instead, such as "a YAML file". Raises `error`, which names
    the file, why it is of no use, and what to do."""
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except FileNotFoundError:
        raise error(f"{path}: there is no such file; name {what}") from None
    except IsADirectoryError:
        raise error(f"{path}: is a directory; name {what} in it") from None
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) and fault.strerror else "no such name"
        raise error(f"{path}: cannot be read ({why}); name {what} that can be") from None
    if len(raw) > most:
        raise error(f"{path}: is larger than {most >> 20} MiB; name {what} that is smaller")
    return raw
