"""Instants that blackouts and daylight saving take away from a schedule, as rows for the ledger: none is a slot."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from jobsd.domain.limits import Limits
from jobsd.domain.slot import Decision, SlotDecision
from jobsd.domain.ticks import Ticks
from jobsd.domain.zone import EPOCH, clamp, floor, instant_of

MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000


def by_blackouts(ticks: Ticks, limits: Limits, after: datetime, until: datetime, limit: int) -> list[SlotDecision]:
    """A stretch for each of the last `limit` blackouts in (after, until], and one for all the older ones.

    That one may lie around slots that run; its count is exact.
    """
    windows = limits.windows(floor(after), floor(until))
    found: list[SlotDecision] = []
    while windows and len(found) < limit:
        found.extend(_blackout(ticks, windows.pop()))
    if windows and (count := limits.blacked(ticks, windows[0][0] - 1, windows[-1][1] - 1)):
        first, last = _first(ticks, windows), _first(ticks, reversed(windows))
        found.append(SlotDecision(Decision.BLACKOUT, first.slot_at, last.to_at, count, "within blackouts"))
    return found[::-1]


def by_daylight_saving(
    ticks: Ticks, limits: Limits, after: datetime, until: datetime, limit: int
) -> list[SlotDecision]:
    """A stretch for each of the last `limit` jumps of the clock in (after, until], and one for all the older ones."""
    low = max((clamp(after) - EPOCH) // MICROSECOND, limits.after * SECOND_US + SECOND_US - 1)
    high = min((clamp(until) - EPOCH) // MICROSECOND, limits.until * SECOND_US + SECOND_US - 1)
    if low >= high:
        return []
    found = [
        SlotDecision(Decision.DAYLIGHT_SAVING, kept[0], kept[-1], len(kept), lost.reason)
        for lost in ticks.lost(low // SECOND_US, high // SECOND_US)
        if (kept := [EPOCH + at * MICROSECOND for at in lost.instants if low < at <= high])
    ]
    if len(found) <= limit:
        return found
    older = found[: len(found) - limit]
    count, reason = sum(row.count for row in older), "jumps of the clock"
    merged = SlotDecision(Decision.DAYLIGHT_SAVING, older[0].slot_at, older[-1].to_at, count, reason)
    return [merged, *found[len(found) - limit :]]


def _blackout(ticks: Ticks, window: tuple[int, int]) -> Iterator[SlotDecision]:
    after, until = window[0] - 1, window[1] - 1
    first, last = ticks.next(after), ticks.last(until)
    if first is not None and last is not None and first <= until:
        count = ticks.count(after, until)
        yield SlotDecision(Decision.BLACKOUT, instant_of(first), instant_of(last), count, "within a blackout")


def _first(ticks: Ticks, windows: Iterable[tuple[int, int]]) -> SlotDecision:
    return next(row for window in windows for row in _blackout(ticks, window))
