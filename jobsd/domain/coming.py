"""The slots to come, for people: with a note where daylight saving or a blackout touches one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobsd.domain.schedule import Cron, Interval, Schedule
from jobsd.domain.slot import Decision
from jobsd.domain.ticks import CronTicks
from jobsd.domain.zone import floor

TAKEN = 3  # blackouts and jumps of the clock between two slots that are told one by one


@dataclass(frozen=True, slots=True)
class Coming:
    """One slot to come: its instant, the same in the schedule's own zone, and what to know of it."""

    slot_at: datetime
    local: datetime
    note: str = ""


def coming(schedule: Schedule, after: datetime, count: int) -> list[Coming]:
    """The first `count` slots after an instant; fewer where the schedule ends, none where it has no times."""
    if not isinstance(schedule, Cron | Interval):
        return []
    zone, found, before = ZoneInfo(schedule.zone), list[Coming](), after
    while len(found) < count and (at := schedule.next_after(before)) is not None:
        found.append(Coming(at, at.astimezone(zone), "; ".join(_notes(schedule, before, at, zone))))
        before = at
    return found


def _notes(schedule: Cron | Interval, before: datetime, at: datetime, zone: ZoneInfo) -> Iterator[str]:
    if isinstance(schedule.ticks, CronTicks) and (walls := schedule.ticks.in_place_of(floor(at))):
        yield f"in place of {walls}, which does not exist that day"
    for taken in schedule.notes(before, at, TAKEN):
        if taken.decision is Decision.DAYLIGHT_SAVING:
            yield f"none before it where {taken.reason}"
        else:
            yield f"{taken.count} before it in a blackout"
    was, now = before.astimezone(zone).utcoffset(), at.astimezone(zone).utcoffset()
    if was != now:
        yield f"the clock has changed: {_offset(was)} before, {_offset(now)} now"


def _offset(offset: timedelta | None) -> str:
    minutes = round((offset or timedelta()).total_seconds() / 60)
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
