"""Runs in every state, and their trails, for tests of what people do with them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed, Failed, Outcome
from jobsd.domain.run import ClaimedRun, RunId, RunState
from jobsd.engine.here import Here
from jobsd.store import history
from jobsd.store.db import Db
from jobsd.store.history import Ended
from jobsd.store.moves import Who, cancel
from tests.support.engine import enqueued, request

ALICE = Who("unix:alice", "because")
TRAIL = "SELECT act, actor, reason FROM jobsd.audit WHERE run = $1 ORDER BY sequence"


async def running(here: Here, job: str = "ping", **keys: Any) -> ClaimedRun:
    """A run that this node has claimed, and no other with it."""
    await enqueued(here.db, job, priority=0, **keys)
    return (await here.keeper.claim(request(here, job, limit=1))).runs[0]


async def ended(here: Here, run: ClaimedRun, outcome: Outcome) -> RunId:
    now = here.keeper.now()
    await history.settle(
        here.db, [Ended(run, here.keeper.node, settle(run, SettlePolicy(), outcome, now), now)], here.actor
    )
    return run.id


async def run_in(here: Here, state: RunState, job: str = "ping") -> RunId:
    """A run that has come to `state` by legal moves."""
    match state:
        case RunState.QUEUED:
            return (await enqueued(here.db, job))[0]
        case RunState.RUNNING:
            return (await running(here, job)).id
        case RunState.COMPLETED:
            return await ended(here, await running(here, job), Completed({"rows": 3}))
        case RunState.FAILED:
            return await ended(here, await running(here, job), Failed("exit", "exited with 3"))
        case RunState.CANCELLED:
            (run,) = await enqueued(here.db, job)
            await cancel(here.db, [run], ALICE)
            return run


async def state_of(db: Db, run: RunId) -> str | None:
    state: str | None = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)
    return state


async def trail(db: Db, run: RunId) -> Sequence[tuple[str, str, str | None]]:
    """Act, actor, reason of each of its audit entries."""
    return [tuple(row) for row in await db.fetch(TRAIL, run)]


async def silent_for(db: Db, run: RunId, span: timedelta) -> None:
    """Make a running run begin so long ago: nothing was heard of it since."""
    await db.execute("UPDATE jobsd.run SET started_at = now() - $2::interval WHERE id = $1", run, span)
