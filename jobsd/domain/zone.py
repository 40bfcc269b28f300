"""Time zones as pieces of constant offset, so that wall times can be counted by arithmetic.

Instants are whole seconds since the epoch here, wall times the same number read off the wall clock. What a jump of
the clock means for a schedule is decided in `domain.ticks`.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = 86_400
EPOCH_DAY = EPOCH.toordinal()
FIRST_YEAR, LAST_YEAR = 1900, 9997
FLOOR = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
CEILING = datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
_STRIDE = 3 * DAY  # no zone has changed its offset twice within three days since 1970


class Piece(NamedTuple):
    """From `start` to before `end`, within one year of UTC, the zone is `offset` seconds ahead of UTC."""

    start: int
    end: int
    offset: int
    gap: int  # at `start` the clock leapt forward by so many seconds; 0 if it did not
    back: int  # the clock went back by so many seconds, at `start` or within the day before it
    fresh: int  # wall time from which this piece shows what the clock has not shown before


def clamp(instant: datetime) -> datetime:
    """The instant itself, or the nearer end of the years that are counted."""
    return min(max(instant, FLOOR), CEILING)


def floor(instant: datetime) -> int:
    """The last whole second at or before an aware instant; years outside 1900 to 9997 count as their ends."""
    return (clamp(instant) - EPOCH) // SECOND


def ceiling(instant: datetime) -> int:
    """The first whole second at or after an aware instant, with the same ends."""
    return -((EPOCH - clamp(instant)) // SECOND)


def in_zone(at: datetime, zone: str) -> datetime:
    """A time as people write it: one without an offset is the zone's wall time, the first of two."""
    return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))


def instant_of(second: int) -> datetime:
    return EPOCH + second * SECOND


def year_of(second: int) -> int:
    return date.fromordinal(second // DAY + EPOCH_DAY).year


def start_of(year: int) -> int:
    return (date(year, 1, 1).toordinal() - EPOCH_DAY) * DAY


@lru_cache(maxsize=4096)
def pieces(zone: str, year: int) -> tuple[Piece, ...]:
    """The zone's pieces in a year of UTC, in order and without holes."""
    first, end, info = start_of(year), start_of(year + 1), ZoneInfo(zone)
    known = _offset(info, first - DAY)
    jumps = [(first - DAY, known, known), *_jumps(info, first - DAY, end)]
    stops = [*(at for at, _, _ in jumps[1:]), end]
    found = (_piece(jump, stop, first) for jump, stop in zip(jumps, stops, strict=True) if stop > first)
    return tuple(found)


def _piece(jump: tuple[int, int, int], end: int, first: int) -> Piece:
    """The piece that a jump opens; one of the day before the year begins with the year, and is no jump any more."""
    at, before, offset = jump
    start, back = max(at, first), max(before - offset, 0)
    gap = max(offset - before, 0) if at == start else 0
    return Piece(start, end, offset, gap, back, max(start + offset, at + offset + back))


def _jumps(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(instant, offset before, offset from then on) of each change after `start` and before `end`."""
    known = _offset(zone, start)
    for low in range(start, end, _STRIDE):
        high = min(low + _STRIDE, end - 1)
        if (offset := _offset(zone, high)) != known:
            yield _change(zone, low, high), known, offset
            known = offset


def _change(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second after `low` with another offset; at `high` it has changed."""
    known = _offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(zone, middle) != known else (middle, high)
    return high


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = instant_of(second).astimezone(zone).utcoffset()
    return offset // SECOND if offset is not None else 0
