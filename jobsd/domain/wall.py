"""Wall times that a cron expression matches, as bit masks: a year's days and a day's minutes.

Wall times are whole seconds since the epoch as the wall clock shows them; zones are of no concern here.
"""

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple

from cronsim import CronSim

from jobsd.domain.zone import DAY, EPOCH_DAY

ANY_START = datetime(2000, 1, 1)  # CronSim wants a start; only what it parsed is used


class DayFields(NamedTuple):
    """The three fields of an expression that choose days. In upper case, so that equal ones share their masks."""

    day: str
    month: str
    weekday: str


@lru_cache(maxsize=4096)
def _parsed(fields: DayFields) -> CronSim:
    return CronSim(f"0 0 {fields.day} {fields.month} {fields.weekday}", ANY_START)


@lru_cache(maxsize=16384)
def days_of(fields: DayFields, year: int) -> int:
    """The matching days of a year: bit n is the year's day n, 0 being the 1st of January."""
    cron, first, mask = _parsed(fields), date(year, 1, 1).toordinal(), 0
    for ordinal in range(first, date(year + 1, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        if day.month in cron.months and cron.match_day(day):
            mask |= 1 << (ordinal - first)
    return mask


def _year(day: int) -> tuple[int, int, int]:
    """A day since the epoch -> its year, the day that the year begins with, and the day that the next begins with."""
    year = date.fromordinal(day + EPOCH_DAY).year
    return year, date(year, 1, 1).toordinal() - EPOCH_DAY, date(year + 1, 1, 1).toordinal() - EPOCH_DAY


@dataclass(frozen=True, slots=True)
class Wall:
    """Wall times: on the days that `days` choose, the minutes of the day that are set in `minutes` (1440 bits)."""

    days: DayFields
    minutes: int

    def next(self, start: int, end: int) -> int | None:
        """The first match at or after `start` and before `end`."""
        day, second = divmod(start, DAY)
        rest = self.minutes >> -(-second // 60)
        if rest and self._has(day):
            match = day * DAY + (-(-second // 60) + _lowest(rest)) * 60
            return match if match < end else None
        if (found := self._day_after(day, (end - 1) // DAY)) is None:
            return None
        match = found * DAY + _lowest(self.minutes) * 60
        return match if match < end else None

    def last(self, start: int, end: int) -> int | None:
        """The last match at or after `start` and before `end`."""
        day, second = divmod(end, DAY)
        rest = self.minutes & ((1 << -(-second // 60)) - 1)
        if rest and self._has(day):
            match = day * DAY + (rest.bit_length() - 1) * 60
            return match if match >= start else None
        if (found := self._day_before(day, start // DAY)) is None:
            return None
        match = found * DAY + (self.minutes.bit_length() - 1) * 60
        return match if match >= start else None

    def count(self, start: int, end: int) -> int:
        """How many matches are at or after `start` and before `end`: a year costs one step."""
        if start >= end:
            return 0
        (first, head), (last, tail) = divmod(start, DAY), divmod(end, DAY)
        if first == last:
            return self._minutes(head, tail) if self._has(first) else 0
        whole = self._count_days(first + 1, last) * self.minutes.bit_count()
        before = self._minutes(head, DAY) if self._has(first) else 0
        after = self._minutes(0, tail) if tail and self._has(last) else 0
        return before + whole + after

    def _minutes(self, start: int, end: int) -> int:
        """Matching minutes of a day, `start` and `end` in seconds of the day."""
        return ((self.minutes & ((1 << -(-end // 60)) - 1)) >> -(-start // 60)).bit_count()

    def _has(self, day: int) -> bool:
        year, first, _ = _year(day)
        return bool(days_of(self.days, year) >> (day - first) & 1)

    def _day_after(self, day: int, end: int) -> int | None:
        """The first matching day after `day` and not after `end`."""
        start = day + 1
        while start <= end:
            year, first, after = _year(start)
            if rest := days_of(self.days, year) >> (start - first):
                return start + _lowest(rest) if start + _lowest(rest) <= end else None
            start = after
        return None

    def _day_before(self, day: int, start: int) -> int | None:
        """The last matching day before `day` and not before `start`."""
        while day > start:
            year, first, _ = _year(day - 1)
            if rest := days_of(self.days, year) & ((1 << (day - first)) - 1):
                return first + rest.bit_length() - 1 if first + rest.bit_length() - 1 >= start else None
            day = first
        return None

    def _count_days(self, start: int, end: int) -> int:
        """Matching days from `start` to before `end`."""
        count = 0
        while start < end:
            year, first, after = _year(start)
            mask = days_of(self.days, year) & ((1 << (min(end, after) - first)) - 1)
            count += (mask >> (start - first)).bit_count()
            start = after
        return count


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
