"""Schedules in plain English, for people: "every 10 s", "at 02:30 on Monday to Friday, Europe/Berlin"."""

from datetime import timedelta
from typing import assert_never

from cronsim import CronSim

from jobsd.domain.cron import parse
from jobsd.domain.limits import EVER, Limits, Recurring
from jobsd.domain.schedule import After, Cron, Interval, Manual, Schedule
from jobsd.domain.wall import ANY_START
from jobsd.domain.zone import instant_of

_UNITS = (("week", 604_800), ("day", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def describe(schedule: Schedule) -> str:
    """One line, without a full stop."""
    match schedule:
        case Interval():
            shifted = f", shifted by {_span(schedule.offset)}" if schedule.offset else ""
            return f"every {_span(schedule.every)}{shifted}{_limits(schedule.limits)}"
        case Cron():
            return f"{_cron(schedule.text)}, {schedule.zone}{_limits(schedule.limits)}"
        case After():
            return f"after {_listed(schedule.jobs)}"
        case Manual():
            return "by hand"
        case _:
            assert_never(schedule)


def _cron(text: str) -> str:
    said: str = CronSim(parse(text).fields, ANY_START).explain()
    return (said[0].lower() + said[1:]).replace(" through ", " to ")


def _span(span: timedelta) -> str:
    """90 s -> "1 min 30 s", 1 d -> "day", 14 d -> "2 weeks"."""
    seconds, parts = int(span.total_seconds()), []
    for unit, size in _UNITS:
        number, rest = divmod(seconds, size)
        if number and (unit != "week" or not rest):
            parts.append(f"{number} {unit}s" if unit in ("day", "week") and number > 1 else f"{number} {unit}")
            seconds = rest
    return parts[0].removeprefix("1 ") if parts in (["1 day"], ["1 week"]) else " ".join(parts)


def _limits(limits: Limits) -> str:
    parts = []
    if limits.after >= EVER[0]:
        parts.append(f"from {instant_of(limits.after + 1):%Y-%m-%d %H:%M} UTC")
    if limits.until < EVER[1] - 1:
        parts.append(f"until {instant_of(limits.until + 1):%Y-%m-%d %H:%M} UTC")
    recurring = sum(isinstance(blackout, Recurring) for blackout in limits.blackouts)
    if limits.blackouts:
        kinds = ((recurring, "recurring"), (len(limits.blackouts) - recurring, "single"))
        told = " and ".join(f"{number} {kind}" for number, kind in kinds if number)
        parts.append(f"except in {told} blackout" + ("s" if len(limits.blackouts) > 1 else ""))
    return "".join(f", {part}" for part in parts)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "no job"
