"""Cron expressions: text to wall times, or a mistake with its place. CronSim reads the fields, as Debian's cron does.

Five fields (minute hour day month weekday) or a nickname. Of the two day fields either may match, unless one begins
with a star: then both must (Vixie cron's rule). L, LW, 5L and 1#2 are CronSim's extensions.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from jobsd.domain.wall import ANY_START, DayFields, Wall, days_of

NICKNAMES: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, L or LW"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 (0 and 7 are Sunday), SUN-SAT, 5L or 1#2"),
)
FORM = 'five fields: minute hour day month weekday    try: jobsd next --cron "30 2 * * *"'
LONGEST = 1000  # characters; every minute written out takes 170
_YEARS = range(2000, 2100)


class ScheduleError(ValueError):
    """A mistake in a schedule. `field` is the key it is in, `offset` and `width` the characters of its value."""

    def __init__(
        self, code: str, message: str, field: str, *, offset: int | None = None, width: int = 1, note: str = ""
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field
        self.offset, self.width, self.note = offset, width, note


class Expression(NamedTuple):
    """A cron expression that is right and fires at some time."""

    fields: str  # nicknames written out
    minutes: frozenset[int]  # of the hour
    wall: Wall
    fixed: bool  # neither the minute nor the hour field begins with a star: Debian's "fixed-time job"


@lru_cache(maxsize=16384)
def parse(text: str) -> Expression:
    """Read an expression. Raises `ScheduleError` E0211 for a wrong one, E0212 for one that never fires."""
    fields = _fields(text)
    try:
        cron = CronSim(fields, ANY_START)
    except (CronSimError, ValueError, AssertionError) as error:  # CronSim asserts where a field mixes forms
        raise _mistake(text, str(error)) from None
    _, minute, hour, day, month, weekday = cron.parts
    days = DayFields(day, month, weekday)
    if not any(days_of(days, year) for year in _YEARS):
        raise _never(text)
    row = sum(1 << value for value in cron.minutes)
    wall = Wall(days, sum(row << 60 * value for value in cron.hours))
    fixed = not minute.startswith("*") and not hour.startswith("*")
    return Expression(fields, frozenset(cron.minutes), wall, fixed)


def _fields(text: str) -> str:
    """The five fields of a text, or of its nickname."""
    stripped = text.strip()
    if stripped.startswith("@"):
        if stripped.lower() in NICKNAMES:
            return NICKNAMES[stripped.lower()]
        known = ", ".join(NICKNAMES)
        raise _wrong(text, f'no nickname "{stripped}"; there are {known}', text.index("@"), len(stripped))
    found = list(re.finditer(r"\S+", text))
    if len(text) > LONGEST:
        raise _wrong(text, f"at most {LONGEST} characters, got {len(text)}", 0, 1)
    if len(found) == 5:
        return " ".join(match[0] for match in found)
    extra = found[5].start() if len(found) > 5 else 0
    hint = '; for seconds use every = "10s"' if len(found) == 6 else ""
    raise _wrong(text, f"expected five fields, got {len(found)}{hint}", extra, max(len(text.rstrip()) - extra, 1))


def _mistake(text: str, said: str) -> ScheduleError:
    """Find the term that CronSim refuses by giving it each on its own; if it takes them all, no day fits them."""
    for index, match in enumerate(re.finditer(r"\S+", text)):
        offset = match.start()
        for term in match[0].split(","):
            if not _takes(index, term):
                return _wrong(text, _expected(index, term), offset, max(len(term), 1))
            offset += len(term) + 1
        if not _takes(index, match[0]):
            return _wrong(text, f"{FIELDS[index][0]}: {said}", match.start(), len(match[0]))
    return _never(text)


def _takes(index: int, term: str) -> bool:
    """Whether CronSim reads a term in the field of that number."""
    try:
        CronSim(" ".join(term if index == other else "*" for other in range(5)), ANY_START)
    except (CronSimError, ValueError, AssertionError):
        return False
    return True


def _expected(index: int, term: str) -> str:
    name, values = FIELDS[index]
    if re.fullmatch(r".+/0+", term):
        return f'{name}: a step is 1 or more, not "{term}"'
    start, dash, end = term.partition("-")
    if dash and _takes(index, start) and _takes(index, end):
        return f'{name}: a range goes upwards, "{term}" does not'
    return f'{name} must be {values}, not "{term}"'


def _wrong(text: str, message: str, offset: int, width: int) -> ScheduleError:
    return ScheduleError("E0211", f"cron: {message}", "cron", offset=offset, width=width, note=FORM)


def _never(text: str) -> ScheduleError:
    message = f'cron: "{text}" never fires: no day of 100 years is one'
    return ScheduleError("E0212", message, "cron", offset=0, width=len(text))
