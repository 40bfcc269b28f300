"""An alert as a person is told of it, and the shape of whatever tells. The outbox itself is `store.alerts`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

LOG = "log"  # the channel that is told always; no other may have its name

TYPES = frozenset(
    {
        "JOB_FAILED",
        "JOB_MISSED",
        "JOB_LATE",
        "JOB_SLOW",
        "JOB_STALE",
        "JOB_LOST",
        "JOB_FENCED",
        "NODE_DOWN",
        "CONFIG_REJECTED",
        "PROVIDER_LIMIT",
        "HEALTH",
        "AUDIT_BROKEN",
    }
)


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """What one message says: the latest occurrence, and how many it stands for."""

    type: str  # one of TYPES
    fingerprint: str
    summary: str  # one line
    first_at: datetime
    last_at: datetime
    count: int = 1  # since first_at
    new: int = 1  # of them, since the message before
    job: str | None = None
    run: int | None = None
    detail: dict[str, object] = field(default_factory=dict)
    owner: str = ""  # of the job's runbook
    on_failure: str = ""  # likewise


class Channel(Protocol):
    """Somewhere to tell alerts. `per_minute` bounds the messages that people read; None for no bound."""

    @property
    def name(self) -> str: ...
    @property
    def per_minute(self) -> int | None: ...

    async def send(self, alerts: Sequence[AlertMessage]) -> None:
        """Tell of one alert, or of several in one message. Ends within a bound of its own; raises if it failed."""
