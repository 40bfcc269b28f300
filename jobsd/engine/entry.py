"""One scheduled job as the scheduler keeps it, and how far a list of decisions takes it. Writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobsd.domain.job import JobDefinition
from jobsd.domain.schedule import Schedule
from jobsd.domain.slot import Decision, SlotDecision
from jobsd.store.jobs import Decided
from jobsd.store.slots import Move

DISABLED_EVERY = timedelta(minutes=1)  # a switched-off job's slots are decided in stretches of this length
STRETCHES = frozenset({Decision.DISABLED, Decision.BLACKOUT})  # consecutive ones share one ledger row


@dataclass(slots=True)
class Entry:
    """One scheduled job: its definition and how far it is decided."""

    definition: JobDefinition
    schedule: Schedule
    lock_key: int | None
    decided: Decided

    @property
    def enabled(self) -> bool:
        return self.definition.enabled and self.decided.enabled

    def next_at(self) -> datetime | None:
        """When to look at it next."""
        tick_at = self.schedule.next_tick_after(self.decided.decided_to)
        return tick_at if tick_at is None or self.enabled else tick_at + DISABLED_EVERY


def move_of(entry: Entry, decisions: Sequence[SlotDecision]) -> Move:
    """How far these decisions go, and the stretch that they leave open."""
    last = decisions[-1]
    stretch = None
    if last.decision in STRETCHES:
        stretch = (extended(entry, last) if len(decisions) == 1 else None) or last.slot_at
    return Move(entry.definition.name, entry.decided.decided_to, max(each.to_at for each in decisions), stretch)


def extended(entry: Entry, decision: SlotDecision) -> datetime | None:
    """The first slot of the open stretch, if this decision, which follows it directly, only makes it longer."""
    seen = entry.decided
    same = (seen.stretch_decision, seen.stretch_reason) == (decision.decision, decision.reason)
    return seen.stretch_from if same and decision.decision in STRETCHES else None
