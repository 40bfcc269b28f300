"""What a person may read of runs: lists of them, one whole, and what became of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypedDict, Unpack

from pydantic import AfterValidator, AwareDatetime, Field

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.domain.run import RunId, RunState
from jobsd.operations.pages import MOST_COUNTED, Page, counted, cursor_of, number_of
from jobsd.operations.run_views import (
    AttemptView,
    AuditView,
    MessageView,
    ProgressView,
    RunSummary,
    RunView,
)
from jobsd.store import lists
from jobsd.store.db import Db

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _in_reach(at: datetime) -> datetime:
    """Instants that PostgreSQL, Python and people all understand."""
    if not FIRST <= at < LAST:
        raise ValueError("expected a time between 2000 and 2199")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_in_reach)]
Words = Annotated[str, Field(strict=True, min_length=1, max_length=1000)]


class Wanted(TypedDict, total=False):
    """Which runs; what is left out does not narrow."""

    states: Sequence[RunState]
    job: str | None
    since: datetime | None  # when they were made
    tags: Mapping[str, str]  # every one of them must be there


async def page(db: Db, limit: int, cursor: str | None = None, **wanted: Unpack[Wanted]) -> Page[RunSummary]:
    """Runs, the latest first."""
    before = RunId(number_of("runs", cursor)) if cursor else None
    rows = await lists.runs(db, lists.RunFilter(before=before, **wanted), limit + 1)
    items = [RunSummary.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, cursor=cursor_of("runs", items[-1].id) if len(rows) > limit else None)


async def total(db: Db, **wanted: Unpack[Wanted]) -> str:
    """How many runs there are of those that `page` lists: "42", or "10,000+"."""
    return counted(len(await lists.ids(db, lists.RunFilter(**wanted), MOST_COUNTED + 1)))


async def show(db: Db, run_id: RunId) -> RunView:
    """One run. Raises E0503."""
    if (row := await lists.run(db, run_id)) is None:
        raise no_such_run(run_id)
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
        raise no_such_run(run_id)
    return ProgressView.model_validate(dict(row))


async def _known(db: Db, run_id: RunId) -> None:
    if await lists.progress(db, run_id) is None:
        raise no_such_run(run_id)


def no_such_run(run_id: int) -> JobsdError:
    """E0503."""
    return problem("E0503", f"there is no run {run_id}", "the latest ones: jobsd run list", exit_code=Exit.NOT_FOUND)
