"""/api/v1/status and /api/v1/reload: the daemon itself."""

import asyncio
import heapq
import os
from datetime import UTC, datetime
from itertools import islice

from aiohttp import web
from pydantic import BaseModel, Field

from jobsd import __version__
from jobsd.domain.describe import describe
from jobsd.registry.load import Registry
from jobsd.store import standing
from jobsd.store.db import Row
from jobsd.web.api.requests import Query, Reasoned
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, Reloaded, answer
from jobsd.web.health import Verdict, health
from jobsd.web.vitals import asked

SOONEST = 10
DISABLED = 100
SLICE = 200  # schedules asked for their next slot before others get their turn


class RegistryStatus(BaseModel):
    hash: str
    environment: str | None
    files: list[str]
    jobs: int
    scheduled: int


class QueueStatus(BaseModel):
    """Counts stop at 10,000."""

    due: int
    later: int
    running: int
    oldest_due_s: float = Field(description="how long the oldest one has been due")


class NodeStatus(BaseModel):
    id: int
    name: str
    host: str
    pid: int
    version: str
    state: str
    pools: list[str]
    started_at: datetime


class SlotToCome(BaseModel):
    job: str
    slot_at: datetime
    schedule: str = Field(description="in plain English")


class JobSwitchedOff(BaseModel):
    job: str
    by: str
    reason: str | None
    until: datetime | None = Field(description="then it is enabled by itself; null: by a person alone")


class Status(BaseModel):
    """The whole at a glance."""

    node: str
    version: str
    pid: int
    started_at: datetime
    uptime_s: float
    verdict: Verdict
    recommendations: list[str]
    draining: bool
    registry: RegistryStatus
    queue: QueueStatus | None = Field(description="null while the database does not answer")
    nodes: list[NodeStatus] = Field(description="every live daemon")
    disabled: list[JobSwitchedOff] = Field(description="jobs that somebody switched off; the first 100 of them")
    next: list[SlotToCome] = Field(description="the slots that are next, of jobs that are switched on")


@speaks(Status)
async def status(request: web.Request) -> web.Response:
    """The whole at a glance: this node, the queue, the other nodes, what comes next."""
    query_of(request, Query)
    deps = request.app[DEPS]
    vitals, said, registry = deps.vitals(), await asked(deps.db), deps.registry()
    verdict = health(vitals, said)
    off = [] if said.error else await standing.switched_off(deps.db)
    nodes = [] if said.error else await standing.live_nodes(deps.db)
    now = datetime.now(UTC)
    view = Status(
        node=deps.node,
        version=__version__,
        pid=os.getpid(),
        started_at=deps.started_at,
        uptime_s=(now - deps.started_at).total_seconds(),
        verdict=verdict.verdict,
        recommendations=verdict.recommendations,
        draining=vitals.draining,
        registry=_registry(registry),
        queue=QueueStatus.model_validate(said.depth, from_attributes=True) if said.depth else None,
        nodes=[NodeStatus.model_validate(dict(row)) for row in nodes],
        disabled=[_switched_off(row) for row in off[:DISABLED]],
        next=await _next(registry, {row["name"] for row in off}, now),
    )
    return answer(request, view)


def _switched_off(row: Row) -> JobSwitchedOff:
    by, reason, until = row["disabled_by"], row["disabled_reason"], row["disabled_until"]
    return JobSwitchedOff(job=row["name"], by=by, reason=reason, until=until)


def _registry(registry: Registry) -> RegistryStatus:
    return RegistryStatus(
        hash=registry.hash,
        environment=registry.environment,
        files=[str(path) for path in registry.files],
        jobs=len(registry.jobs),
        scheduled=sum(job.schedule is not None for job in registry.jobs.values()),
    )


async def _next(registry: Registry, off: set[str], now: datetime) -> list[SlotToCome]:
    """The soonest slots. In slices, since ten thousand schedules take a while and jobs run on this loop too."""
    soonest: list[tuple[datetime, str]] = []
    names = iter(name for name, job in registry.jobs.items() if job.enabled and job.schedule and name not in off)
    while chunk := list(islice(names, SLICE)):
        slots = ((at, name) for name in chunk if (at := registry.schedules[name].next_after(now)) is not None)
        soonest = heapq.nsmallest(SOONEST, [*soonest, *slots])
        await asyncio.sleep(0)
    return [SlotToCome(job=name, slot_at=at, schedule=describe(registry.schedules[name])) for at, name in soonest]


@speaks(Reloaded, body=Reasoned, refuses=("E0202",))
async def reload(request: web.Request) -> web.Response:
    """Read the configuration again, all or nothing. 422 with every mistake when it is refused: the old one stays."""
    why = await body_of(request, Reasoned)
    return answer(request, await request.app[DEPS].reload(request[ACTOR], why.reason))
