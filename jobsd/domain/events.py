"""What happens, told to whoever watches: logs and metrics. The engine tells; it does not know who listens."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobsd.domain.outcome import Settlement
from jobsd.domain.run import ClaimedRun


@dataclass(frozen=True, slots=True)
class RunStarted:
    run: ClaimedRun
    pickup_s: float  # from due to claimed
    here: bool = True  # false: another program executes it, and reports


@dataclass(frozen=True, slots=True)
class RunEnded:
    """An attempt is over and its settlement is committed."""

    run: ClaimedRun
    settlement: Settlement
    duration_s: float


@dataclass(frozen=True, slots=True)
class RunRefused:
    """A settlement came too late: the run had moved on. Kept as `rejected, stale`."""

    run: ClaimedRun
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class RunIgnoresCancellation:
    """Time is up, the work goes on: its lock and place stay taken until it truly ends."""

    run: ClaimedRun
    for_s: float
    ended: bool = False


@dataclass(frozen=True, slots=True)
class SlotDecided:
    job: str
    decision: str  # a value of slot.Decision
    slot_at: datetime
    count: int
    lag_s: float  # from the (last) slot to its decision
    reason: str = ""
    run: int | None = None


@dataclass(frozen=True, slots=True)
class LoopBlocked:
    """The event loop stood still. `task` is the task's name ("run 12 daily_report"), `stack` where it stood."""

    for_s: float
    task: str
    stack: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class LockSession:
    """up, lost, adopted or fenced."""

    state: str
    reason: str = ""
    runs: int = 0


@dataclass(frozen=True, slots=True)
class RunsLost:
    """Runs of a dead node (or of an earlier start of this one) that were settled as lost."""

    node: str
    runs: int
    reason: str


@dataclass(frozen=True, slots=True)
class RegistryReloaded:
    ok: bool
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class AlertTold:
    type: str
    channel: str
    ok: bool
    error: str = ""
    summary: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class DatabaseTrouble:
    """A loop could not do its work for want of the database, and goes on trying."""

    loop: str
    error: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Anything else that a reader of the log should see: `event` is a short stable name, `fields` its facts."""

    event: str
    level: str  # debug, info, warning, error
    fields: dict[str, Any]


Event = (
    RunStarted
    | RunEnded
    | RunRefused
    | RunIgnoresCancellation
    | SlotDecided
    | LoopBlocked
    | LockSession
    | RunsLost
    | RegistryReloaded
    | AlertTold
    | DatabaseTrouble
    | Noted
)
Observe = Callable[[Event], None]
