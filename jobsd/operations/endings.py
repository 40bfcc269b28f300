"""How a run ends that another program executes: completed or failed, once, whoever says it how often."""

from dataclasses import replace
from typing import Annotated, Any

import orjson
from pydantic import Field, StrictBool

from jobsd.domain.errors import Exit, problem
from jobsd.domain.events import RunRefused
from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed, Failed
from jobsd.domain.run import Fence, NodeId, RunId, RunState
from jobsd.operations.external import Desk, Fenced, external_job, moved_on
from jobsd.operations.run_views import RunView
from jobsd.operations.runs import no_such_run, show
from jobsd.store import external, history
from jobsd.store.db import Row
from jobsd.store.history import Ended
from jobsd.store.runs import claimed_run

RESULT_BYTES = 1024 * 1024  # as of every other kind of job


class CompleteRequest(Fenced):
    """The work is done."""

    result: Any = Field(None, description="any JSON, at most 1 MiB")


class FailRequest(Fenced):
    """The work failed."""

    error: Annotated[str, Field(strict=True, min_length=1, max_length=100_000)] = Field(
        description="kept and shown word for word"
    )
    kind: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")] = Field(
        "external", description="a short stable word for this kind of failure"
    )
    final: StrictBool = Field(False, description="true: no declared retry follows, trying again would not help")


async def complete(desk: Desk, run_id: RunId, fence: Fence, result: Any) -> RunView:
    """Its work is done. Raises E0503, E0507 (the result is too large), E0519, E0517 (the run has moved on)."""
    if len(orjson.dumps(result)) > RESULT_BYTES:
        raise problem("E0507", f"the result is larger than {RESULT_BYTES} bytes as JSON", exit_code=Exit.USAGE)
    return await _end(desk, run_id, fence, Completed(result))


async def fail(desk: Desk, run_id: RunId, fence: Fence, failed: Failed) -> RunView:
    """Its work failed; a declared retry queues it again, for a program to start it. Raises as `complete` does."""
    return await _end(desk, run_id, fence, failed)


async def _end(desk: Desk, run_id: RunId, fence: Fence, outcome: Completed | Failed) -> RunView:
    """Settle the attempt. Said twice, the second is answered like the first; too late, it is kept and refused."""
    if (row := await external.find(desk.db, run_id)) is None:
        raise no_such_run(run_id)
    job = desk.registry.jobs.get(row["job"])  # one that has left the registry is ended all the same
    if job is not None:
        external_job(desk.registry, job.name)
    if row["state"] == RunState.RUNNING and row["fence"] == fence and row["external"]:
        policy = SettlePolicy(job.retry_policy, job.restartable) if job else SettlePolicy()
        run = claimed_run(row)
        ended = Ended(run, NodeId(row["node"]), settle(run, policy, outcome, row["now"]), row["now"])
        if await _written(desk, ended):
            desk.told([ended])
            return await show(desk.db, run_id)
    return await _late(desk, row, fence, outcome)


async def _written(desk: Desk, ended: Ended) -> bool:
    async with desk.db.transaction() as tx:
        moved = await history.settle_within(tx, [ended], desk.actor)
        await external.forget(tx, ended.run.id, ended.run.fence)
    return bool(moved)


async def _late(desk: Desk, row: Row, fence: Fence, outcome: Completed | Failed) -> RunView:
    """The run has moved on. A result of an attempt that there was is kept as a stale one."""
    attempt = await external.attempt(desk.db, row["id"], fence)
    if attempt is not None and _says_the_same(attempt, outcome):
        return await show(desk.db, row["id"])
    if attempt is not None:
        run = replace(claimed_run(row), fence=fence, attempt=attempt["number"], started_at=attempt["started_at"])
        late = Ended(run, NodeId(attempt["node"]), settle(run, SettlePolicy(), outcome, row["now"]), row["now"])
        await history.settle(desk.db, [late], desk.actor)
        desk.told.observe(RunRefused(run, late.settlement))
    raise await moved_on(desk.db, row["id"], fence)


def _says_the_same(attempt: Row, outcome: Completed | Failed) -> bool:
    if isinstance(outcome, Completed):
        result = orjson.loads(attempt["result"] or b"null")
        return bool(attempt["outcome"] == "completed" and result == outcome.result)
    return (attempt["outcome"], attempt["error"]) == ("failed", outcome.error)
