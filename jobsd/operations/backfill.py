"""Backfill: runs for slots in the past that never ran. The ledger's decisions on them stay as they are.

One run a slot holds here too (the database's own unique key), so a backfill that is asked for twice makes no run twice.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from jobsd.domain.errors import Exit, problem
from jobsd.domain.job import JobDefinition
from jobsd.domain.schedule import Cron, Interval, Schedule
from jobsd.operations.enqueue import rows_of, together
from jobsd.operations.jobs import definition_of
from jobsd.operations.run_requests import RunRequest
from jobsd.operations.runs import Instant, Words
from jobsd.registry.load import Registry
from jobsd.store import backfill as ledger
from jobsd.store import jobs as registered
from jobsd.store.db import Db
from jobsd.store.queue import NewRun

MOST = 10_000  # slots of one request


class BackfillRequest(BaseModel):
    """A stretch of the past; both ends belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    start: Instant = Field(alias="from", description="the first slot is not before")
    end: Instant = Field(alias="to", description="the last slot is not after; not in the future")
    reason: Words | None = Field(None, description="why, for the audit")
    dry_run: StrictBool = Field(False, description="only count: nothing is queued")


class Backfilled(BaseModel):
    """What a backfill found, and what it queued."""

    job: str
    slots: int = Field(description="of the schedule, in the stretch")
    ran: int = Field(description="of them, how many ran before, or will: they are left")
    missing: int = Field(description="of them, how many never ran")
    made: int = Field(description="runs that were queued, one for each missing slot; 0 with dry_run")
    runs: list[int] = Field(description="their ids, in the order of the slots")
    first_slot_at: datetime | None = Field(description="the first missing one")
    last_slot_at: datetime | None


async def backfill(db: Db, registry: Registry, name: str, request: BackfillRequest, actor: str) -> Backfilled:
    """Queue a run, due now, for each slot of the stretch that never ran; with `dry_run` only say which those are.

    Raises E0501, E0519 (its schedule has no slots of its own), E0507 (not a stretch of the past, or one of more than
    10,000 slots), E0504 (its lock key needs parameters), E0514 (max_active).
    """
    job = definition_of(registry, name)
    slots = slots_of(name, registry.schedules[name], request)
    taken = await ledger.taken(db, name, slots)
    missing = [slot for slot in slots if slot not in taken]
    made: list[int] = []
    if missing and not request.dry_run:
        (new,) = await rows_of(db, registry, job, [RunRequest()], actor=actor, reason=request.reason)
        made = await _queue(db, job, new, missing)
    return Backfilled(
        job=name,
        slots=len(slots),
        ran=len(taken),
        missing=len(missing),
        made=len(made),
        runs=made,
        first_slot_at=missing[0] if missing else None,
        last_slot_at=missing[-1] if missing else None,
    )


def slots_of(name: str, schedule: Schedule, request: BackfillRequest) -> list[datetime]:
    """The slots of the stretch by the schedule as it is now, in order. Raises E0519, E0507."""
    if not isinstance(schedule, Interval | Cron):
        hint = f"it is started by hand: jobsd trigger {name}"
        raise problem("E0519", f"{name} has no slots of its own to fill", hint, exit_code=Exit.CONFLICT)
    if not request.start <= request.end <= datetime.now(UTC):
        hint = 'give "from" and "to", the earlier one first, neither in the future'
        raise problem("E0507", "a backfill is for a stretch of the past", hint, exit_code=Exit.USAGE)
    before = request.start - timedelta(microseconds=1)
    if (count := schedule.count(before, request.end)) > MOST:
        hint = "fill it in parts"
        raise problem("E0507", f"the stretch has {count} slots, at most {MOST} at once", hint, exit_code=Exit.USAGE)
    return schedule.latest(before, request.end, MOST)


async def _queue(db: Db, job: JobDefinition, new: NewRun, slots: list[datetime]) -> list[int]:
    """One run a slot, the earliest first, and an audit entry for the whole; all or nothing."""
    async with db.transaction() as session:
        queued = await together(session, job, [replace(new, slot_at=slot) for slot in slots])
        made = [int(run.id) for run in queued if run.created]
        stretch = {"from": slots[0], "to": slots[-1], "runs": len(made)}
        await registered.audit(session, "backfill", new.actor, job=job.name, reason=new.reason or "", detail=stretch)
    return made
