"""When a job is due: the instants of its schedule, its slots. What becomes of each is decided in `domain.decide`.

All instants are aware UTC, slots are whole seconds. A schedule that is wrong is told by `domain.mistakes`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from jobsd.domain.cron import ScheduleError
from jobsd.domain.job import ScheduleSpec
from jobsd.domain.limits import Limits
from jobsd.domain.mistakes import mistakes
from jobsd.domain.slot import SlotDecision
from jobsd.domain.taken import by_blackouts, by_daylight_saving
from jobsd.domain.ticks import Rule, Ticks
from jobsd.domain.ticks_of import limits_of, ticks_of
from jobsd.domain.zone import floor, instant_of

__all__ = ["After", "Cron", "Interval", "Manual", "Schedule", "ScheduleError", "schedule_of"]


@dataclass(frozen=True, slots=True)
class Timed:
    """A schedule with instants of its own: ticks within limits. Counting costs a few steps a year."""

    ticks: Ticks
    limits: Limits
    zone: str

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot after an instant; None if there is none within about a hundred years."""
        second = self.limits.next(self.ticks, floor(instant))
        return None if second is None else instant_of(second)

    def next_tick_after(self, instant: datetime) -> datetime | None:
        """The next instant that wants a decision: the first slot, or one that a blackout takes."""
        second = Limits(self.limits.after, self.limits.until).next(self.ticks, floor(instant))
        return None if second is None else instant_of(second)

    def latest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last slots in (after, until], at most `limit`, in order."""
        first, second, found = floor(after), floor(until), list[datetime]()
        while len(found) < limit:
            slot = self.limits.last(self.ticks, second)
            if slot is None or slot <= first:
                break
            found.append(instant_of(slot))
            second = slot - 1
        return found[::-1]

    def count(self, after: datetime, until: datetime) -> int:
        """How many slots are in (after, until]."""
        return self.limits.count(self.ticks, floor(after), floor(until))

    def notes(self, after: datetime, until: datetime, limit: int = 100) -> list[SlotDecision]:
        """What blackouts and daylight saving take away in (after, until], in order: none of it is a slot.

        Of each kind the last `limit` stretches, and one more for all that is older.
        """
        blackouts = by_blackouts(self.ticks, self.limits, after, until, limit)
        lost = by_daylight_saving(self.ticks, self.limits, after, until, limit)
        return sorted([*blackouts, *lost], key=lambda row: row.slot_at)


@dataclass(frozen=True, slots=True)
class Interval(Timed):
    every: timedelta
    offset: timedelta


@dataclass(frozen=True, slots=True)
class Cron(Timed):
    text: str  # as it was written
    dst: Rule


@dataclass(frozen=True, slots=True)
class Untimed:
    """A schedule without instants of its own: nothing is ever due by the clock."""

    def next_after(self, instant: datetime) -> datetime | None:
        return None

    def next_tick_after(self, instant: datetime) -> datetime | None:
        return None

    def latest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        return []

    def count(self, after: datetime, until: datetime) -> int:
        return 0

    def notes(self, after: datetime, until: datetime, limit: int = 100) -> list[SlotDecision]:
        return []


@dataclass(frozen=True, slots=True)
class After(Untimed):
    """Starts when all these jobs have completed for their latest slot."""

    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manual(Untimed):
    """Started by hand."""


Schedule = Interval | Cron | After | Manual


def schedule_of(spec: ScheduleSpec | None) -> Schedule:
    """The schedule that a job's table declares. Raises the first of its `mistakes`, a `ScheduleError`."""
    if spec is None:
        return Manual()
    for mistake in mistakes(spec):
        raise mistake
    if spec.after is not None:
        return After(spec.after)
    ticks, limits = ticks_of(spec), limits_of(spec)
    if spec.cron is not None:
        return Cron(ticks, limits, spec.timezone, spec.cron, spec.dst)
    return Interval(ticks, limits, spec.timezone, spec.every or timedelta(), spec.offset)
