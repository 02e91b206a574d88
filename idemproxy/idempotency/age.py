"""How old a key is, where it bears the time that it was made at (DESIGN.md section 6, *Key age*)."""

from __future__ import annotations

import calendar
import re
from enum import Enum, auto
from typing import Final, assert_never

from idemproxy.idempotency.identity import Key
from idemproxy.idempotency.messages import Fields, values
from idemproxy.idempotency.problems import Problem, Slug
from idemproxy.idempotency.routes import Birth, KeyAge, Rule

EXPIRED: Final = Problem(
    Slug.KEY_EXPIRED,
    "The idempotency key is older than answers are remembered, and nothing is known of its operation: it may have been executed "
    "long ago. It was not executed now. Ask the operator what became of it; for a new operation send a new key.",
)
_UNBORN: Final = Problem(
    Slug.KEY_INVALID,
    "The idempotency key, or the time at which the request says it was first sent, lies in the future. Nothing was executed.",
)
_UNTIMED: Final = Problem(
    Slug.KEY_INVALID,
    "The time at which the request says it was first sent is no HTTP date (Wed, 01 Jan 2025 12:00:00 GMT) and no time of RFC 3339 "
    "(2025-01-01T12:00:00Z), or comes twice. Nothing was executed.",
)


class Age(Enum):
    """Whether a key can be new. OLD: its record may have been forgotten, so that no record does not mean that nothing was executed."""

    YOUNG = auto()
    OLD = auto()


def age_of(rule: Rule, fields: Fields, key: Key, now: float) -> Age | Problem:
    """The age of a key that the rule's format matches. `now` is seconds since 1970, by the wall clock. A request without the header that
    says when it was first sent is taken for new."""
    said = rule.key.age
    if said is None:
        return Age.YOUNG
    try:
        born = _born(said, fields, key)
    except ValueError:
        return _UNTIMED
    if born is None:
        return Age.YOUNG
    passed = now * 1_000 - born
    if passed < -said.max_clock_skew:
        return _UNBORN
    return Age.OLD if passed > rule.ttl + said.max_clock_skew else Age.YOUNG


def _born(said: KeyAge, fields: Fields, key: Key) -> float | None:
    """Milliseconds since 1970. Raises ValueError."""
    match said.by:
        case Birth() if key.derived:
            return None
        case Birth.UUID7:
            return int(key.value[:8] + key.value[9:13], 16)  # RFC 9562, section 5.7
        case Birth.ULID:
            return _crockford(key.value[:10])
        case bytes() as name:
            found = set(values(fields, name))
            if not found:
                return None
            (written,) = found
            return _moment(written.decode("ascii"))
        case other:
            assert_never(other)


_CROCKFORD: Final = {character: value for value, character in enumerate(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


def _crockford(text: bytes) -> int:
    number = 0
    for character in text.upper():
        number = number * 32 + _CROCKFORD[character]
    return number


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP: Final = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}}) GMT"
)
_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def _moment(text: str) -> float:
    """Milliseconds since 1970 of an IMF-fixdate (RFC 9110, section 5.6.7) or a time of RFC 3339. Raises ValueError."""
    if (found := _HTTP.fullmatch(text)) is not None:
        day, month, year, *clock = found.groups()
        return _seconds(int(year), _MONTHS.index(month) + 1, int(day), *map(int, clock)) * 1_000.0
    if (found := _RFC3339.fullmatch(text)) is None:
        raise ValueError("no time")
    fraction, sign, hours, minutes = found.groups()[6:]
    if sign is not None and (int(hours) > 23 or int(minutes) > 59):
        raise ValueError("no offset")
    ahead = 0 if sign is None else (int(hours) * 60 + int(minutes)) * (60 if sign == "+" else -60)
    return (_seconds(*map(int, found.groups()[:6])) - ahead + float(fraction or 0)) * 1_000


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """A leap second is the first of the next minute."""
    if not (1 <= month <= 12 and year and 1 <= day <= calendar.monthrange(year, month)[1]):
        raise ValueError("no day")
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError("no time of day")
    return calendar.timegm((year, month, day, hour, minute, second))
