"""`${VAR}`, `${VAR:-default}` and `${file:PATH}` in a scalar, replaced after YAML was parsed: a value can never become YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idemproxy.config.faults import shown

_LARGEST_SECRET = 64 << 10
_PART = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOW = "write ${NAME}, ${NAME:-default} or ${file:PATH}; $${ is a literal ${"


@dataclass(frozen=True, slots=True)
class Filled:
    """A scalar after substitution. `source` is what an error may show instead of `text`. `foreign`: some of the text came from
    outside the file (or is the default of what could have). `wrong` holds what could not be substituted, in words."""

    text: str
    source: str
    foreign: bool
    wrong: tuple[str, ...]


def fill(text: str, environ: Mapping[str, str]) -> Filled:
    """Substitutes every `${...}` in `text`."""
    if "${" not in text:
        return Filled(text, text, foreign=False, wrong=())
    wrong: list[str] = []
    source: list[str] = []
    out: list[str] = []
    end = 0
    foreign = False
    for part in _PART.finditer(text):
        plain = text[end : part.start()]
        end = part.end()
        source += plain, part[0]
        out.append(plain)
        if part[0] == "$${":
            out.append("${")
            continue
        foreign = True
        try:
            out.append(_value(part[1], environ))
        except _NoValueError as no:
            wrong.append(str(no))
        # a default may be a credential too
        source[-1] = f"${{{part[1].partition(':-')[0]}}}" if part[1] is not None else "${"
    return Filled("".join(out) + text[end:], "".join(source) + text[end:], foreign=foreign, wrong=tuple(wrong))


class _NoValueError(Exception):
    """A substitution that gives no value, in words."""


def _value(inner: str | None, environ: Mapping[str, str]) -> str:
    if inner is None:
        raise _NoValueError(f"found `${{` without its `}}`; {_HOW}")
    if inner.startswith("file:"):
        return _file(inner.removeprefix("file:"))
    name, has_default, default = inner.partition(":-")
    if not _NAME.fullmatch(name):
        raise _NoValueError(f"found {shown(f'${{{name}}}')}, which names no variable; {_HOW}")
    if "${" in default:
        raise _NoValueError(f"found a `${{` inside the default of ${{{name}}}; a default is plain text")
    value = environ.get(name)
    if has_default:
        value = value or default
    if value is None:
        raise _NoValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def _file(path: str) -> str:
    where = f"the file {shown(path)} named by ${{file:...}}"
    try:
        if not path or not Path(path).is_file():
            raise _NoValueError(f"{where} is not there or is not a regular file; name a readable file")
        with Path(path).open("rb") as file:
            raw = file.read(_LARGEST_SECRET + 1)
        if len(raw) > _LARGEST_SECRET:
            raise _NoValueError(f"{where} is larger than 64 KiB; name a file that holds one value")
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _NoValueError(f"{where} is not UTF-8 text; name a text file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no such name"
        raise _NoValueError(f"{where} cannot be read ({why}); name a readable file") from None
