"""Asking for runs, one or many: what is checked, and what of it the database holds when this returns."""

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, Field, RootModel

from jobsd.domain.errors import Exit, JobsdError, Problem, problem
from jobsd.domain.job import JobDefinition
from jobsd.operations import parameters, runs
from jobsd.operations.jobs import definition_of
from jobsd.operations.run_requests import RunRequest, TriggerRequest
from jobsd.operations.run_views import Triggered
from jobsd.registry.load import Registry
from jobsd.store import jobs as registered
from jobsd.store import queue
from jobsd.store.db import Db, Session
from jobsd.store.queue import NewRun, Queued

AT_ONCE = 100  # runs that are checked on the event loop; more of them in a thread
MOST_MISTAKES = 50


class Enqueued(BaseModel):
    """Many runs that were asked for."""

    created: int = Field(description="runs that were made")
    existing: int = Field(description="runs that idempotency keys had made before")
    ids: list[int] = Field(description="in the order in which they were asked for")


class Made(RootModel[Triggered | Enqueued]):
    """The run that was asked for, or the numbers of many."""


async def trigger(db: Db, registry: Registry, name: str, request: TriggerRequest, actor: str) -> Triggered:
    """Store a run. With an idempotency key that was used for the same request: answer the run that there is.

    Raises E0501 (no such job), E0504 (parameters do not fit, all mistakes at once), E0507 (the key stands for another
    request), E0514 (as many runs are active as may be).
    """
    job = definition_of(registry, name)
    (queued,) = await _store(db, job, await rows_of(db, registry, job, (request,), actor=actor, reason=request.reason))
    return Triggered(**(await runs.show(db, queued.id)).model_dump(), created=queued.created)


async def trigger_many(
    db: Db, registry: Registry, name: str, requests: Sequence[RunRequest], *, actor: str, reason: str | None
) -> Enqueued:
    """Store many runs of one job, all or none, each with its audit entry. Raises as `trigger` does."""
    job = definition_of(registry, name)
    queued = await _store(db, job, await rows_of(db, registry, job, requests, actor=actor, reason=reason))
    created = sum(each.created for each in queued)
    return Enqueued(created=created, existing=len(queued) - created, ids=[each.id for each in queued])


async def rows_of(
    db: Db, registry: Registry, job: JobDefinition, requests: Sequence[RunRequest], *, actor: str, reason: str | None
) -> list[NewRun]:
    """What is to be stored for `requests`. Raises E0504."""
    if len(requests) <= AT_ONCE:
        keys = _checked(job, requests)
    else:
        keys = await asyncio.to_thread(_checked, job, requests)
    ids = await registered.lock_keys(db, {key for key in keys if key is not None})
    dry = job.dry_run or registry.settings.daemon.dry_run
    return [
        _row(job, each, actor, reason, dry=dry, lock_key=None if key is None else ids[key])
        for each, key in zip(requests, keys, strict=True)
    ]


async def together(session: Session, job: JobDefinition, rows: Sequence[NewRun]) -> list[Queued]:
    """Store all of `rows` within the job's limits, or none, in the caller's transaction. Raises E0507, E0514."""
    await queue.free_keys(session, job.name, [row.idempotency_key for row in rows if row.idempotency_key is not None])
    places = await queue.room(session, job.name, job.max_active) if job.max_active is not None else None
    queued = await queue.enqueue(session, rows)
    _require_same(rows, queued)
    if places is not None and (added := sum(each.created for each in queued)) > places:
        raise _full(job, places, added)
    return queued


async def _store(db: Db, job: JobDefinition, rows: Sequence[NewRun]) -> list[Queued]:
    if len(rows) == 1 and job.max_active is None and rows[0].idempotency_key is None:
        return await queue.enqueue(db, rows)  # one statement is all or nothing by itself
    async with db.transaction() as session:
        return await together(session, job, rows)


def _checked(job: JobDefinition, requests: Sequence[RunRequest]) -> list[str | None]:
    """The lock key of each. Raises E0504 for all that does not fit; among many each mistake names its place."""
    keys = list[str | None]()
    mistakes = list[Problem]()
    for number, request in enumerate(requests):
        params = {**job.params, **request.params}
        try:
            parameters.check(job, params, request.params)
            keys.append(parameters.lock_key(job, params))
        except JobsdError as misfit:
            mistakes += misfit.problems if len(requests) == 1 else parameters.among(number, misfit.problems)
            if len(mistakes) >= MOST_MISTAKES:
                break
    if mistakes:
        raise JobsdError(tuple(mistakes[:MOST_MISTAKES]), Exit.USAGE)
    return keys


def _row(
    job: JobDefinition, request: RunRequest, actor: str, reason: str | None, *, dry: bool, lock_key: int | None
) -> NewRun:
    return NewRun(
        job=job.name,
        actor=actor,
        priority=job.priority if request.priority is None else request.priority,
        due_at=request.due_at,
        params={**job.plain_params, **request.params},
        tags=request.tags,
        dry_run=dry or request.dry_run,
        permanent=job.permanent,
        capped=job.max_active is not None,
        lock_key=lock_key,
        idempotency_key=request.key,
        asked=None if request.key is None else request.asked,
        reason=reason,
    )


def _require_same(rows: Sequence[NewRun], queued: Sequence[Queued]) -> None:
    mistakes = tuple(
        Problem(
            "E0507",
            f'the idempotency key "{row.idempotency_key}" belongs to run {each.id}, which was asked for differently',
            hints=("use another key for another request",),
        )
        for row, each in zip(rows, queued, strict=True)
        if not each.same
    )
    if mistakes:
        raise JobsdError(mistakes[:MOST_MISTAKES], Exit.CONFLICT)


def _full(job: JobDefinition, places: int, asked: int) -> JobsdError:
    free = max(0, places)
    return problem(
        "E0514",
        f"{job.name} may have {job.max_active} active runs: there is room for {free} more, {asked} were asked for",
        "try again when some of them are over, or raise max_active",
        exit_code=Exit.CONFLICT,
    )
