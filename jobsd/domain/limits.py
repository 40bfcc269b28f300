"""What is laid over a schedule's ticks: its first and last second, and the blackouts in which no slot runs."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

from jobsd.domain.ticks import HORIZON, CronTicks, Ticks
from jobsd.domain.zone import DAY, FIRST_YEAR, LAST_YEAR, start_of, year_of

EVER = (start_of(FIRST_YEAR), start_of(LAST_YEAR + 1))
HOPS = 4000  # blackouts in a row that are tried for a tick outside them
FAR = HORIZON * 366 * DAY  # and how far: a job that has none by then never runs


@dataclass(frozen=True, slots=True)
class Window:
    """A blackout from second `start` to before second `end`."""

    start: int
    end: int

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if self.start < end and self.end > start:
            yield self.start, self.end


@dataclass(frozen=True, slots=True)
class Recurring:
    """A blackout that opens at each tick and lasts so many seconds."""

    opens: CronTicks
    duration: int

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        opening = self.opens.next(start - self.duration)
        while opening is not None and opening < end:
            yield opening, opening + self.duration
            opening = self.opens.next(opening)


Blackouts = tuple[Window | Recurring, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Ticks after `after` and up to `until` are slots, except those within `blackouts`."""

    after: int = EVER[0] - 1
    until: int = EVER[1] - 1
    blackouts: Blackouts = ()

    def next(self, ticks: Ticks, after: int) -> int | None:
        """The first slot after a second."""
        after = max(after, self.after)
        end = min(after + FAR, self.until)
        for _ in range(HOPS):
            tick = ticks.next(after)
            if tick is None or tick > end:
                return None
            if (window := self._window(tick)) is None:
                return tick
            after = window[1] - 1
        return None

    def last(self, ticks: Ticks, until: int) -> int | None:
        """The last slot at or before a second."""
        until = min(until, self.until)
        start = max(until - FAR, self.after)
        for _ in range(HOPS):
            tick = ticks.last(until)
            if tick is None or tick <= start:
                return None
            if (window := self._window(tick)) is None:
                return tick
            until = window[0] - 1
        return None

    def count(self, ticks: Ticks, after: int, until: int) -> int:
        """How many slots are after the one and not after the other second."""
        after, until = max(after, self.after), min(until, self.until)
        if after >= until:
            return 0
        return ticks.count(after, until) - (self.blacked(ticks, after, until) if self.blackouts else 0)

    def blacked(self, ticks: Ticks, after: int, until: int) -> int:
        """How many ticks in (after, until] blackouts take. Whole years are counted once and kept."""
        total = 0
        for year in _years(after, until):
            if after < start_of(year) and until >= start_of(year + 1) - 1:
                total += _blacked(ticks, self.blackouts, year)
            else:
                total += _count(ticks, _cut(_windows(self.blackouts, year), after, until))
        return total

    def windows(self, after: int, until: int) -> list[tuple[int, int]]:
        """The blackouts' windows within (after, until] and the limits, joined where they touch, in order."""
        after, until = max(after, self.after), min(until, self.until)
        if after >= until:
            return []
        found = (window for year in _years(after, until) for window in _windows(self.blackouts, year))
        return _cut(_joined(found), after, until)

    def _window(self, tick: int) -> tuple[int, int] | None:
        if not self.blackouts:
            return None
        windows = _windows(self.blackouts, year_of(tick))
        index = bisect_right(windows, tick, key=itemgetter(0))
        return windows[index - 1] if index and tick < windows[index - 1][1] else None


def _years(after: int, until: int) -> range:
    return range(year_of(after + 1), year_of(max(after, until)) + 1)


@lru_cache(maxsize=4096)
def _windows(blackouts: Blackouts, year: int) -> Sequence[tuple[int, int]]:
    """The year's windows, joined where they touch or overlap, in order; cut at its ends."""
    start, end = start_of(year), start_of(year + 1)
    found = sorted(window for blackout in blackouts for window in blackout.within(start, end))
    return tuple(_cut(_joined(found), start - 1, end - 1))


@lru_cache(maxsize=4096)
def _blacked(ticks: Ticks, blackouts: Blackouts, year: int) -> int:
    return _count(ticks, _windows(blackouts, year))


def _count(ticks: Ticks, windows: Sequence[tuple[int, int]]) -> int:
    return sum(ticks.count(start - 1, end - 1) for start, end in windows)


def _joined(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in windows:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cut(windows: Sequence[tuple[int, int]], after: int, until: int) -> list[tuple[int, int]]:
    """The parts of windows that lie in (after, until]."""
    cut = ((max(start, after + 1), min(end, until + 1)) for start, end in windows)
    return [(start, end) for start, end in cut if start < end]
