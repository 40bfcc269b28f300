"""From a schedule's table to its ticks and their limits. For a table without mistakes; those are told by `mistakes`."""

from collections.abc import Iterator
from datetime import timedelta

from jobsd.domain.cron import parse
from jobsd.domain.job import Blackout, ScheduleSpec
from jobsd.domain.limits import EVER, Limits, Recurring, Window
from jobsd.domain.ticks import CronTicks, IntervalTicks, Rule, Ticks
from jobsd.domain.zone import SECOND, ceiling, in_zone, start_of


def ticks_of(spec: ScheduleSpec) -> Ticks:
    """The ticks of a table with "cron" or "every"."""
    if spec.cron is not None:
        return _cron(spec.cron, spec.timezone, spec.dst)
    return IntervalTicks((spec.every or timedelta()) // SECOND, spec.offset // SECOND)


def limits_of(spec: ScheduleSpec) -> Limits:
    start = ceiling(in_zone(spec.starts, spec.timezone)) if spec.starts else EVER[0]
    end = ceiling(in_zone(spec.ends, spec.timezone)) if spec.ends else EVER[1]
    return Limits(start - 1, end - 1, tuple(_blackouts(spec.blackout, spec.timezone)))


def always_dark(spec: ScheduleSpec) -> bool:
    """Whether the recurring blackouts leave no tick at all."""
    recurring = tuple(blackout for blackout in limits_of(spec).blackouts if isinstance(blackout, Recurring))
    return bool(recurring) and Limits(blackouts=recurring).next(ticks_of(spec), start_of(2000)) is None


def _blackouts(specs: tuple[Blackout, ...], zone: str) -> Iterator[Window | Recurring]:
    for spec in specs:
        if spec.start is not None and spec.end is not None:
            yield Window(ceiling(in_zone(spec.start, zone)), ceiling(in_zone(spec.end, zone)))
        elif spec.cron is not None and spec.duration is not None:
            yield Recurring(_cron(spec.cron, zone, "debian"), spec.duration // SECOND)


def _cron(text: str, zone: str, rule: Rule) -> CronTicks:
    expression = parse(text)
    return CronTicks(expression.wall, zone, rule, expression.fixed)
