"""Jobs as the API answers them. Instants are UTC; fields that end in `_s` are seconds."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from jobsd.domain.run import RunState
from jobsd.operations.run_views import RunSummary


class JobSummary(BaseModel):
    """A job in a list."""

    name: str
    description: str
    kind: str = Field(description="handler, command, sql or http")
    schedule: str = Field(description="in plain English")
    enabled: bool = Field(description="by the registry and by the operator's switch")
    disabled_by: str | None = Field(description="who switched it off; the registry's own file counts too")
    disabled_reason: str | None
    disabled_until: datetime | None = Field(description="then it is enabled by itself; null: by a person alone")
    priority: int = Field(description="0 is the most urgent")
    pool: str
    last_run: int | None
    last_state: RunState | None
    last_started_at: datetime | None
    last_finished_at: datetime | None
    next_at: datetime | None = Field(description="its next slot; null when it has none, or is disabled")


class JobView(JobSummary):
    """One job, whole."""

    runbook: Mapping[str, str]
    next: list[datetime] = Field(description="its next slots")
    runs: list[RunSummary] = Field(description="the latest, newest first")
    definition: Mapping[str, Any] = Field(description="as the registry has it, without what equals the default")


class NextSlot(BaseModel):
    slot_at: datetime
    local: str = Field(description="in the schedule's time zone")
    in_s: float
    note: str = Field("", description="when daylight saving moves it")


class NextSlots(BaseModel):
    """The slots to come."""

    job: str
    schedule: str
    timezone: str
    enabled: bool
    items: list[NextSlot]


class SlotView(BaseModel):
    """A line of the ledger: one slot, or a stretch of them with one decision."""

    slot_at: datetime
    to_at: datetime
    count: int
    decision: str
    reason: str
    run: int | None
    node: str | None
    decided_at: datetime
    wait_until: datetime | None


class Reason(BaseModel):
    """One reason why a job is not running now."""

    code: str = Field(description="a short stable word")
    text: str


class Why(BaseModel):
    """Why a job is not running now, the strongest reason first."""

    job: str
    running: list[int] = Field(description="its runs that are running all the same")
    reasons: list[Reason]
    next_at: datetime | None
