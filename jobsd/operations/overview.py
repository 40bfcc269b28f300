"""What people read of what is around the runs: nodes, alerts, a job's figures. Instants are UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field, TypeAdapter, computed_field

from jobsd.operations.jobs import definition_of
from jobsd.operations.pages import Page, cursor_of, number_of
from jobsd.operations.run_views import Json
from jobsd.registry.load import Registry
from jobsd.store import overview
from jobsd.store.db import Db, Row

DAYS = {1: "24h", 7: "7d", 30: "30d"}
MOST_RUNS = 10_000  # of a job, the latest: what its figures are made of
NodeState = Literal["live", "stopped", "dead"]
AlertState = Literal["open", "resolved"]


class NodeView(BaseModel):
    """One start of a daemon."""

    id: int
    name: str
    host: str
    pid: int
    version: str
    pools: list[str] = Field(description="whose jobs it may take")
    registry: str = Field(description="hash of the registry that it runs")
    state: NodeState
    running: int = Field(description="runs that it runs now")
    beat: int
    beat_at: datetime
    started_at: datetime
    ended_at: datetime | None
    evidence: Json = Field(None, description="why it was declared dead")


class Owed(BaseModel):
    """What a channel is still to be told of an alert."""

    channel: str
    count: int = Field(description="occurrences that the message covers")
    owed_at: datetime
    next_at: datetime = Field(description="when it is tried next")
    failures: int = Field(description="in a row")
    error: str | None = Field(description="of the last failure")


OWED = TypeAdapter(list[Owed])


class AlertView(BaseModel):
    """One alert: equal ones are folded into it until it is resolved."""

    id: int
    type: str
    fingerprint: str = Field(description="what makes two of them equal")
    job: str | None
    run: int | None = Field(description="the latest")
    summary: str
    detail: Json = None
    count: int = Field(description="how often since `first_at`")
    first_at: datetime
    last_at: datetime
    told_at: datetime | None = Field(description="when it was last handed to its channels")
    resolved_at: datetime | None
    owed: list[Owed] = Field(description="messages that no channel has taken yet")


class Stretch(BaseModel):
    """Attempts that ended within a time up to now."""

    completed: int
    failed: int
    timed_out: int
    interrupted: int
    cancelled: int
    deferred: int
    lost: int
    p50_s: float | None = Field(description="half of the completed ones took no longer; seconds")
    p95_s: float | None = Field(description="nineteen of twenty took no longer; seconds")

    @computed_field(description="completed ones, of all that completed or failed in some way; null without any")  # type: ignore[prop-decorator]
    @property
    def success_rate(self) -> float | None:
        tried = self.completed + self.failed + self.timed_out + self.interrupted + self.lost
        return self.completed / tried if tried else None


class Stats(BaseModel):
    """A job's figures."""

    job: str
    runs: int = Field(description=f"looked at: the latest ones that are still there, at most {MOST_RUNS:,}")
    complete: bool = Field(description="whether they reach back through the longest stretch")
    stretches: Mapping[str, Stretch] = Field(description='"24h", "7d", "30d"')


async def nodes(db: Db, limit: int, cursor: str | None = None, *, state: NodeState | None = None) -> Page[NodeView]:
    """Starts of daemons, the latest first."""
    rows = await overview.nodes(db, state, number_of("nodes", cursor) if cursor else None, limit + 1)
    items = [NodeView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, cursor=cursor_of("nodes", items[-1].id) if len(rows) > limit else None)


async def alerts(
    db: Db,
    limit: int,
    cursor: str | None = None,
    *,
    state: AlertState | None = None,
    job: str | None = None,
    kind: str | None = None,
) -> Page[AlertView]:
    """Alerts, the latest first. `kind` is a type, "JOB_FAILED"."""
    before = number_of("alerts", cursor) if cursor else None
    is_open = None if state is None else state == "open"
    rows = await overview.alerts(db, is_open=is_open, job=job, kind=kind, before=before, limit=limit + 1)
    items = [_alert(row) for row in rows[:limit]]
    return Page(items=items, cursor=cursor_of("alerts", items[-1].id) if len(rows) > limit else None)


async def stats(db: Db, registry: Registry, job: str) -> Stats:
    """How a job's attempts ended in the last day, week and month, and how long they took. Raises E0501."""
    definition_of(registry, job)
    rows = await overview.figures(db, job, MOST_RUNS, list(DAYS))
    runs, since = rows[0]["runs"], rows[0]["since"]
    complete = runs < MOST_RUNS or since < datetime.now(UTC) - timedelta(days=max(DAYS))
    stretches = {DAYS[row["days"]]: Stretch.model_validate(dict(row)) for row in rows}
    return Stats(job=job, runs=runs, complete=complete, stretches=stretches)


def _alert(row: Row) -> AlertView:
    return AlertView.model_validate({**row, "owed": OWED.validate_json(row["owed"])})
