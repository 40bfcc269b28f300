"""Schedules and instants in few words, for the tests of this folder."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from zoneinfo import ZoneInfo

from jobsd.domain import limits, wall, zone
from jobsd.domain.job import ScheduleSpec
from jobsd.domain.schedule import Cron, Interval, schedule_of

Timed = Interval | Cron


def spec_of(**keys: object) -> ScheduleSpec:
    """A schedule's table as the registry reads it, `every="5m"` and the like."""
    return ScheduleSpec.model_validate(keys)


def timed(**keys: object) -> Timed:
    schedule = schedule_of(spec_of(**keys))
    assert isinstance(schedule, Interval | Cron)
    return schedule


def utc(text: str) -> datetime:
    """ "2025-03-30 01:00" as an aware instant; one with an offset keeps its meaning."""
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def walk(schedule: Timed, after: datetime) -> Iterator[datetime]:
    """Slot after slot."""
    slot = schedule.next_after(after)
    while slot is not None:
        yield slot
        slot = schedule.next_after(slot)


def between(schedule: Timed, after: datetime, until: datetime) -> list[datetime]:
    found = []
    for slot in walk(schedule, after):
        if slot > until:
            break
        found.append(slot)
    return found


def first(schedule: Timed, after: datetime, number: int) -> list[str]:
    """The next slots on the wall clock of the schedule's zone, with their offsets."""
    slots = walk(schedule, after)
    return [next(slots).astimezone(ZoneInfo(schedule.zone)).isoformat(" ", "minutes") for _ in range(number)]


def taken_instants(schedule: Timed, after: datetime, until: datetime) -> list[datetime]:
    """Each instant that daylight saving takes away, one by one, found by halving the stretches."""
    if not (count := sum(row.count for row in schedule.notes(after, until))):
        return []
    if count == 1:
        return [row.slot_at for row in schedule.notes(after, until)]
    rows = schedule.notes(after, until)
    low, high = rows[0].slot_at, rows[-1].to_at
    middle = low + (high - low) / 2
    return taken_instants(schedule, low - timedelta(microseconds=1), middle) + taken_instants(schedule, middle, high)


def calls(act: Callable[[], object]) -> int:
    """How many functions are called, ours and built-in ones, while caches are cold."""
    made = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    for cache in (wall.days_of, zone.pieces, limits._windows, limits._blacked):
        cache.cache_clear()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return made
