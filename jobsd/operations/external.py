"""Runs that another program executes: who reports, and how one begins. `reports` has what it says meanwhile, `endings`
how it ends.

Its attempt is one like every other: fenced, settled as its job declares, kept for ever. It holds the run's lock key
and a place of its job's concurrency until it is over or stale.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.domain.events import RunStarted
from jobsd.domain.job import JobDefinition
from jobsd.domain.run import ClaimedRun, Fence, NodeId, RunId, RunState, allowed
from jobsd.operations.enqueue import rows_of, together
from jobsd.operations.jobs import definition_of, disabled_by
from jobsd.operations.run_requests import TriggerRequest
from jobsd.operations.run_views import RunView, Triggered
from jobsd.operations.runs import Words, no_such_run, show
from jobsd.operations.told import Told
from jobsd.registry.load import Registry
from jobsd.store import external
from jobsd.store import jobs as registered
from jobsd.store.db import Db, Row, Session
from jobsd.store.external import Begin, Taken

RESULT_BYTES = 1024 * 1024  # as of every other kind of job


class StartRequest(BaseModel):
    """A queued run that a program is about to execute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Words | None = Field(None, description="why, for the audit")


class Fenced(BaseModel):
    """Whatever a program says of its attempt names the fence that the start answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fence: Annotated[int, Field(strict=True, ge=1, lt=2**63)] | None = Field(
        None, description="of the attempt; or as the header Jobsd-Fence"
    )


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a program reports, who it is, and who hears of it: log and metrics, and whoever waits for ends of runs."""

    db: Db
    registry: Registry
    node: NodeId  # the one that serves the request
    actor: str
    told: Told


# -- begin ----------------------------------------------------------------------------------------------------------


async def start(desk: Desk, run_id: RunId, reason: str | None) -> RunView:
    """Begin a queued run; the answer's `fence` is this attempt's.

    Raises E0503, E0519 (its job is of another kind), E0525 (disabled), E0502 (not queued, or not due yet), E0520 (its
    lock key is held, or all places are taken), E0527 (its rate allows no more starts now).
    """
    if (row := await external.find(desk.db, run_id)) is None:
        raise no_such_run(run_id)
    job = external_job(desk.registry, row["job"])
    wanted = await beginning(desk, job, run_id, reason)
    try:
        async with desk.db.transaction() as tx:
            run = await begin(tx, job, wanted)
    except Taken:
        raise await _held(desk.db, run_id) from None
    desk.told.observe(RunStarted(run, max(0.0, (run.started_at - run.due_at).total_seconds()), here=False))
    return await show(desk.db, run_id)


async def start_new(desk: Desk, name: str, request: TriggerRequest) -> Triggered:
    """Ask for a run and begin it, or leave nothing behind. The same idempotency key again: the run that there is.

    Raises what `start` and asking for a run do, and E0507 for a run that is to wait.
    """
    job = external_job(desk.registry, name)
    if request.due_at is not None:
        raise problem("E0507", "due_at: a run that is started at once has none", exit_code=Exit.USAGE)
    rows = await rows_of(desk.db, desk.registry, job, (request,), actor=desk.actor, reason=request.reason)
    wanted = await beginning(desk, job, RunId(0), request.reason)
    try:
        async with desk.db.transaction() as tx:
            (queued,) = await together(tx, job, rows)
            run = await begin(tx, job, replace(wanted, run=queued.id)) if queued.created else None
    except Taken:
        hint = f"jobsd run list --job {name} --state running"
        raise problem("E0520", "another run has just taken the lock key", hint, exit_code=Exit.CONFLICT) from None
    if run is not None:
        desk.told.observe(RunStarted(run, 0.0, here=False))
    return Triggered(**(await show(desk.db, queued.id)).model_dump(), created=queued.created)


async def beginning(desk: Desk, job: JobDefinition, run_id: RunId, reason: str | None) -> Begin:
    """What a start of a run of `job` needs to know."""
    seats = [f"seat:{job.name}:{number}" for number in range(1, (job.concurrency or 0) + 1)]
    ids = await registered.lock_keys(desk.db, seats) if seats else {}
    per = job.rate.per if job.rate else None
    return Begin(run_id, list(ids.values()), desk.node, job.stale_after, job.limit, desk.actor, reason, per)


async def begin(tx: Session, job: JobDefinition, wanted: Begin) -> ClaimedRun:
    """Begin within the caller's transaction. Raises what `start` does, and `Taken`."""
    switch = await external.switch(tx, job.name)
    if (by := disabled_by(job, switch)) is not None:
        why = switch["disabled_reason"] if switch is not None else None
        text = f"the job {job.name} is disabled by {by}" + (f": {why}" if why else "")
        raise problem("E0525", text, f"jobsd job enable {job.name}", exit_code=Exit.CONFLICT)
    if (run := await external.start(tx, wanted)) is None:
        raise await _not_now(tx, job, wanted)
    return run


def external_job(registry: Registry, name: str) -> JobDefinition:
    """The job, if another program executes its runs. Raises E0501, E0519."""
    job = definition_of(registry, name)
    if job.kind != "external":
        text = f"the runs of {name} are executed by jobsd: it is a {job.kind} job"
        hint = f"only runs of external jobs are started and ended by a program; or: jobsd trigger {name}"
        raise problem("E0519", text, hint, exit_code=Exit.CONFLICT)
    return job


async def _not_now(tx: Session, job: JobDefinition, wanted: Begin) -> JobsdError:
    row = await external.find(tx, wanted.run)
    if row is None:
        return no_such_run(wanted.run)
    if row["state"] != RunState.QUEUED:
        return wrong_state(row, "only queued runs can be started")
    if row["due_at"] > row["now"]:
        return wrong_state(row, f"it is due at {row['due_at']:%Y-%m-%d %H:%M:%S} UTC and cannot be started before")
    if (await external.in_the_way(tx, wanted.run)) is None:
        wait_s = await external.next_ticket_s(tx, job.name, job.rate.per) if job.rate else 0.0
        if wait_s > 0:
            return _too_often(job, ceil(wait_s))
        if wanted.seats:
            text = f"all {job.concurrency} places of {job.name} are taken"
            return problem("E0520", text, f"jobsd run list --job {job.name} --state running", exit_code=Exit.CONFLICT)
    return await _held(tx, wanted.run)


def _too_often(job: JobDefinition, wait_s: int) -> JobsdError:
    text = f"{job.name} may start {job.rate}, and has"
    refused = problem("E0527", text, f"try again in {wait_s} s", exit_code=Exit.CONFLICT)
    return replace(refused, detail={"retry_after_s": wait_s})


async def _held(db: Db | Session, run_id: RunId) -> JobsdError:
    holder = await external.in_the_way(db, run_id)
    if holder is None:
        text = f"the lock key of run {run_id} is just being taken, or given back, by another run"
        return problem("E0520", text, "try again", exit_code=Exit.CONFLICT)
    since = f"{holder['started_at']:%Y-%m-%d %H:%M:%S} UTC"
    text = f"the lock key of run {run_id} is held by run {holder['id']} of {holder['job']}, since {since}"
    refused = problem("E0520", text, f"jobsd run show {holder['id']}", exit_code=Exit.CONFLICT)
    return replace(refused, detail={"holder": holder["id"], "holder_job": holder["job"]})


# -- refusals -------------------------------------------------------------------------------------------------------


async def moved_on(db: Db, run_id: RunId, fence: Fence) -> JobsdError:
    """E0517 with how the run stands now, also for programs; E0503 when it is gone."""
    if (row := await external.find(db, run_id)) is None:
        return no_such_run(run_id)
    now = f"{row['state']}" if row["fence"] is None else f"{row['state']}, its last attempt has fence {row['fence']}"
    text = f"run {run_id} has moved on: {fence} is not the fence of an attempt under way; it is {now}"
    refused = problem("E0517", text, "stop the work: what it does may be done by another", exit_code=Exit.CONFLICT)
    return replace(refused, detail={"run": run_id, "state": row["state"], "fence": row["fence"]})


def wrong_state(row: Row, why: str) -> JobsdError:
    """E0502 with the state and what it allows, also for programs."""
    state = RunState(row["state"])
    may = [str(act) for act in allowed(state, permanent=row["permanent"])]
    hint = f"allowed now: {', '.join(may) or 'nothing'}"
    refused = problem("E0502", f"run {row['id']} is {state}; {why}", hint, exit_code=Exit.CONFLICT)
    return replace(refused, detail={"run": row["id"], "state": state, "allowed": may})
