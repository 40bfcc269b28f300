"""What becomes of slots that have come due: every one in exactly one row, however long nobody looked (P1).

Pure. The scheduler stores the rows, makes the runs, and lets what the database knows (overlap, needs) overrule a RAN.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobsd.domain.duration import format_duration
from jobsd.domain.job import ScheduleSpec
from jobsd.domain.schedule import Schedule
from jobsd.domain.slot import Decision, SlotDecision

PUNCTUAL = timedelta(seconds=10)  # a slot that is decided within this is on time
CATCH_UP = 100  # runs that one decision makes up for at most
ROWS = 100  # stretches of each kind of taken-away instants; older ones share a row
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Down:
    """No node was up after `start` and until `end`."""

    start: datetime
    end: datetime


def decide(
    schedule: Schedule,
    spec: ScheduleSpec,
    job: str,
    *,
    enabled: bool,
    decided_to: datetime,
    now: datetime,
    down: Down | None = None,
) -> list[SlotDecision]:
    """Decide all slots in (decided_to, now], in order: at most 310 rows. Nothing when the clock has gone back."""
    if now <= decided_to:
        return []
    taken = schedule.notes(decided_to, now, ROWS)
    if not enabled:
        return _disabled([*taken, *_stretch(schedule, Decision.DISABLED, decided_to, now)])
    due = _Due(schedule, spec, job, decided_to, now, down)
    return sorted([*taken, *due.rows()], key=lambda row: row.slot_at)


def due_at(job: str, slot: datetime, jitter: timedelta) -> datetime:
    """When a slot's run is due: the slot plus 0 to `jitter`, evenly spread, the same on every node."""
    if not jitter:
        return slot
    drawn = hashlib.sha256(f"{job}\0{slot.isoformat()}".encode()).digest()
    return slot + jitter * (int.from_bytes(drawn[:6]) / (1 << 48))


@dataclass(frozen=True, slots=True)
class _Due:
    """The slots of (decided_to, now] that nothing has taken away: the newest, those caught up on, and the others."""

    schedule: Schedule
    spec: ScheduleSpec
    job: str
    decided_to: datetime
    now: datetime
    down: Down | None

    def rows(self) -> Iterator[SlotDecision]:
        newest = self.schedule.latest(self.decided_to, self.now, 1)
        if not newest:
            return
        oldest = max(self.decided_to, self.now - self.spec.missed_within - _INSTANT)
        if self.now - newest[0] <= PUNCTUAL:
            yield self._run(Decision.RAN, newest[0])
            missed_to = newest[0] - _INSTANT
        else:
            missed_to = self.now
        within = max(oldest, self.decided_to)
        if self.spec.missed == "skip":
            yield from self._lost(self.decided_to, missed_to, Decision.MISSED, "missed slots are not caught up on")
            return
        told = f"came due more than {format_duration(self.spec.missed_within)} ago"
        yield from self._lost(self.decided_to, min(within, missed_to), Decision.TOO_OLD, told)
        yield from self._missed(within, missed_to, newest[0])

    def _missed(self, after: datetime, until: datetime, newest: datetime) -> Iterator[SlotDecision]:
        """Slots within the window that were missed."""
        if self.spec.missed == "once":
            if until > newest and (late := self.schedule.latest(after, until, 1)):
                yield self._run(Decision.CAUGHT_UP, late[0])
                until = late[0] - _INSTANT
            reason = f"the run of {newest.isoformat()} stands for it"
            yield from _stretch(self.schedule, Decision.COALESCED, after, until, reason)
            return
        late = self.schedule.latest(after, until, CATCH_UP)
        for slot in late:
            yield self._run(Decision.CAUGHT_UP, slot)
        if late:
            reason = f"at most {CATCH_UP} slots are caught up on"
            yield from self._lost(after, late[0] - _INSTANT, Decision.MISSED, reason)

    def _lost(self, after: datetime, until: datetime, decision: Decision, reason: str) -> Iterator[SlotDecision]:
        """Slots that are not caught up on: for those of the time when no node was up, that is the reason."""
        if self.down is None:
            yield from _stretch(self.schedule, decision, after, until, reason)
            return
        start, end = (min(max(at, after), until) for at in (self.down.start, max(self.down.start, self.down.end)))
        yield from _stretch(self.schedule, decision, after, start, reason)
        yield from _stretch(self.schedule, Decision.NO_NODE, start, end, "no node was up")
        yield from _stretch(self.schedule, decision, end, until, reason)

    def _run(self, decision: Decision, slot: datetime) -> SlotDecision:
        return SlotDecision(decision, slot, slot, due_at=due_at(self.job, slot, self.spec.jitter))


def _stretch(
    schedule: Schedule, decision: Decision, after: datetime, until: datetime, reason: str = ""
) -> Iterator[SlotDecision]:
    """All slots in (after, until] as one row; nothing if there is none."""
    first, last = schedule.next_after(after), schedule.latest(after, until, 1)
    if until > after and first is not None and last:
        yield SlotDecision(decision, first, last[0], schedule.count(after, until), reason)


def _disabled(rows: list[SlotDecision]) -> list[SlotDecision]:
    """One row for all of them."""
    if not rows:
        return []
    first, last = min(row.slot_at for row in rows), max(row.to_at for row in rows)
    count = sum(row.count for row in rows)
    return [SlotDecision(Decision.DISABLED, first, last, count, "the job is disabled")]
