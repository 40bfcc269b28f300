"""A slot is one instant of a job's schedule. Every due one ends in exactly one stored decision (P1)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Decision(StrEnum):
    RAN = "ran"  # on time: a run was made for it
    CAUGHT_UP = "caught_up"  # late, and a run was made for it all the same
    WAITING = "waiting"  # for the jobs it needs; ends as ran or needs
    OVERLAP = "overlap"  # an earlier run of the job was not over
    DISABLED = "disabled"  # the job is switched off
    MISSED = "missed"  # came due unnoticed; its job catches up on none, or on fewer
    TOO_OLD = "too_old"  # came due unnoticed, longer ago than its job catches up on
    COALESCED = "coalesced"  # one later run stands for it
    DAYLIGHT_SAVING = "daylight_saving"  # its wall time does not exist, or was there already
    BLACKOUT = "blackout"  # within a declared blackout
    NO_NODE = "no_node"  # no daemon was up, and it is not caught up on
    NEEDS = "needs"  # what it needs did not complete


MAKES_A_RUN = frozenset({Decision.RAN, Decision.CAUGHT_UP})


@dataclass(frozen=True, slots=True)
class SlotDecision:
    """The decision on one slot, or on a stretch of slots that share it. All instants aware UTC."""

    decision: Decision
    slot_at: datetime  # the first of the stretch
    to_at: datetime  # the last; equal to slot_at for a single slot
    count: int = 1
    reason: str = ""
    due_at: datetime | None = None  # when its run is due: the slot plus its jitter; None where no run is made
    wait_until: datetime | None = None  # WAITING only
