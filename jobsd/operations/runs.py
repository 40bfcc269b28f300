"""What a person may ask of runs and do with them: ask for one, list them, read what became of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictBool

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.domain.job import digest
from jobsd.domain.run import RunId, RunState
from jobsd.operations import parameters
from jobsd.operations.jobs import definition_of
from jobsd.operations.pages import Page, cursor_of, number_of
from jobsd.operations.run_views import (
    AttemptView,
    AuditView,
    MessageView,
    ProgressView,
    RunSummary,
    RunView,
    Triggered,
)
from jobsd.registry.load import Registry
from jobsd.store import jobs as registered
from jobsd.store import lists, queue
from jobsd.store.db import Db

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _in_reach(at: datetime) -> datetime:
    """Instants that PostgreSQL, Python and people all understand."""
    if not FIRST <= at < LAST:
        raise ValueError("expected a time between 2000 and 2199")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_in_reach)]
Words = Annotated[str, Field(strict=True, min_length=1, max_length=1000)]


class TriggerRequest(BaseModel):
    """A run that is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: dict[str, Any] = Field({}, description="laid over the job's own")
    due_at: Instant | None = Field(None, description="not before; absent: at once")
    dry_run: StrictBool = Field(False, description="recorded, but no work is done")
    key: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = Field(
        None, description="idempotency key: the same one never makes a second run of the job"
    )
    reason: Words | None = Field(None, description="why, for the audit")

    @property
    def digest(self) -> str:
        """What must be equal for a key to stand for the same request."""
        return digest(self.model_dump(mode="json", exclude={"key", "reason"}))


async def trigger(db: Db, registry: Registry, name: str, request: TriggerRequest, actor: str) -> Triggered:
    """Store a run. With an idempotency key that was used for the same request: answer the run that there is.

    Raises E0501 (no such job), E0504 (parameters do not fit, all mistakes at once), E0507 (the key stands for another
    request).
    """
    job = definition_of(registry, name)
    params = {**job.params, **request.params}
    parameters.check(job, params, request.params)
    key = parameters.lock_key(job, params)
    row = queue.NewRun(
        job=name,
        actor=actor,
        priority=job.priority,
        due_at=request.due_at,
        params={**job.plain_params, **request.params},
        dry_run=request.dry_run or job.dry_run or registry.settings.daemon.dry_run,
        lock_key=(await registered.lock_keys(db, [key]))[key] if key else None,
        idempotency_key=request.key,
        reason=request.reason,
        detail={"request": request.digest} if request.key else None,
    )
    queued = (await queue.enqueue(db, [row]))[0]
    if not queued.created:
        await _same_request(db, queued.id, request)
    return Triggered(**(await show(db, queued.id)).model_dump(), created=queued.created)


async def _same_request(db: Db, run_id: RunId, request: TriggerRequest) -> None:
    entries = await audit(db, run_id)
    if entries and (entries[0].detail or {}).get("request") != request.digest:
        raise problem(
            "E0507",
            f'the idempotency key "{request.key}" belongs to run {run_id}, which was asked for differently',
            "use another key for another request",
            exit_code=Exit.CONFLICT,
        )


NO_TAGS: Mapping[str, str] = MappingProxyType({})


async def page(
    db: Db,
    limit: int,
    cursor: str | None = None,
    *,
    states: Sequence[RunState] = (),
    job: str | None = None,
    since: datetime | None = None,
    tags: Mapping[str, str] = NO_TAGS,
) -> Page[RunSummary]:
    """Runs, the latest first. `since` is about when they were made; every one of `tags` must be there."""
    before = RunId(number_of("runs", cursor)) if cursor else None
    rows = await lists.runs(db, lists.RunFilter(states, job, since, before, tags), limit + 1)
    items = [RunSummary.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, cursor=cursor_of("runs", items[-1].id) if len(rows) > limit else None)


async def show(db: Db, run_id: RunId) -> RunView:
    """One run. Raises E0503."""
    if (row := await lists.run(db, run_id)) is None:
        raise _no_such_run(run_id)
    return RunView.model_validate(dict(row))


async def attempts(db: Db, run_id: RunId) -> list[AttemptView]:
    """Its attempts that are over. Raises E0503, as do the others here."""
    await _known(db, run_id)
    return [AttemptView.model_validate(dict(row)) for row in await lists.attempts(db, run_id)]


async def audit(db: Db, run_id: RunId) -> list[AuditView]:
    """Its audit entries. They outlive the run, so a run that is gone still has its own."""
    entries = [AuditView.model_validate(dict(row)) for row in await lists.audit(db, run_id)]
    if not entries:
        await _known(db, run_id)
    return entries


async def messages(db: Db, run_id: RunId, after: int, limit: int) -> Page[MessageView]:
    """What it said, the oldest first, after the message with id `after`."""
    await _known(db, run_id)
    return Page(items=[MessageView.model_validate(dict(row)) for row in await lists.messages(db, run_id, after, limit)])


async def progress(db: Db, run_id: RunId) -> ProgressView:
    """How far it is."""
    if (row := await lists.progress(db, run_id)) is None:
        raise _no_such_run(run_id)
    return ProgressView.model_validate(dict(row))


async def _known(db: Db, run_id: RunId) -> None:
    if await lists.progress(db, run_id) is None:
        raise _no_such_run(run_id)


def _no_such_run(run_id: int) -> JobsdError:
    return problem("E0503", f"there is no run {run_id}", "the latest ones: jobsd run list", exit_code=Exit.NOT_FOUND)
