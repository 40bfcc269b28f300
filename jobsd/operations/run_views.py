"""Runs as the API answers them. Instants are UTC; fields that end in `_s` are seconds."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, Field, computed_field

from jobsd.domain.run import RunState


def _json(value: object) -> object:
    return orjson.loads(value) if isinstance(value, (str, bytes)) else value


Json = Annotated[Any, BeforeValidator(_json)]
Steps = Annotated[list[tuple[str, float]] | None, BeforeValidator(_json)]
Tags = Annotated[dict[str, str], BeforeValidator(_json)]


class RunSummary(BaseModel):
    """A run in a list."""

    id: int
    job: str
    state: RunState
    outcome: str | None = Field(description="of its last attempt, when that is over")
    priority: int = Field(description="0 is the most urgent")
    dry_run: bool
    attempts: int = Field(description="executions begun")
    retries: int = Field(description="how many of them were declared retries")
    due_at: datetime = Field(description="not before")
    slot_at: datetime | None = Field(description="the schedule's instant; null when it was asked for")
    created_at: datetime
    started_at: datetime | None = Field(description="of its last attempt")
    finished_at: datetime | None
    node: str | None = Field(description="where it runs now")
    actor: str = Field(description="who asked for it")
    lock_key: str | None = Field(description="runs with the same one never overlap; null: none but itself")
    fence: int | None = Field(description="of its last attempt")
    error_kind: str | None
    error: str | None = Field(description="word for word; in lists its first 300 characters")
    progress: float | None = Field(description="0 to 1")
    progress_note: str | None
    step: str | None = Field(description="the pipeline's step that it is in")
    steps: Steps = Field(description="the pipeline: names and weights")
    heard_at: datetime | None = Field(description="when it last told anything of itself, a mere sign of life too")
    stale: bool = Field(description="running, and not heard of for its job's stale_after")
    tags: Tags = Field(description="names and texts to find it by")

    @computed_field(description="how long its last attempt took")  # type: ignore[prop-decorator]
    @property
    def duration_s(self) -> float | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class RunView(RunSummary):
    """One run, whole."""

    params: Json = Field(description="the job's, overlaid by the request's")
    result: Json = None
    idempotency_key: str | None
    version: int = Field(description="moves made; its ETag begins with it")
    reason: str | None = Field(description="why it was asked for")


class Triggered(RunView):
    """The run that was asked for."""

    created: bool = Field(description="false when its idempotency key had made it before")


class AttemptView(BaseModel):
    """One execution of a run, over."""

    number: int
    fence: int
    outcome: str = Field(description='"rejected, stale" when the run had moved on before this result came')
    node: str | None
    host: str | None
    started_at: datetime
    ended_at: datetime
    error_kind: str | None
    error: str | None
    result: Json = None
    output: str | None = Field(description="the end of what it wrote")
    exit_code: int | None
    peak_memory_bytes: int | None
    cpu_seconds: float | None
    evidence: Json = Field(None, description="of a lost one: what proved it")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def duration_s(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()


class AuditView(BaseModel):
    """One act of machine or person."""

    sequence: int
    at: datetime
    act: str
    actor: str
    fence: int | None
    reason: str | None
    detail: Json = None


class MessageView(BaseModel):
    """What a run said of itself."""

    id: int
    at: datetime
    level: str
    text: str
    fence: int


class ProgressView(BaseModel):
    """How far a run is."""

    run: int
    state: RunState
    progress: float | None = Field(description="0 to 1; null when it has told nothing")
    note: str
    step: str | None = Field(description="the pipeline's step that it is in")
    steps: Steps = Field(description="the pipeline: names and weights")
    at: datetime | None = Field(description="when it told")
    left_s: float | None = Field(description="how long it still takes if it goes on like this")
