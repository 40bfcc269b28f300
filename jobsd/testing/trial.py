"""A test's bench for jobs: enqueue, take, execute, settle, each by jobsd's own statement, by the test's own clock."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from jobsd import handlers
from jobsd.domain.job import JobDefinition
from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed, Outcome, Settlement
from jobsd.domain.run import ClaimedRun, NodeId, RunId
from jobsd.engine.executors.base import Execution
from jobsd.engine.executors.guardians import Guardians
from jobsd.handlers import Handler
from jobsd.operations import parameters
from jobsd.sdk import Connection
from jobsd.store import history, jobs, migrate, nodes, queue, trials
from jobsd.store.nodes import Identity
from jobsd.store.pinned import Pinned, rolled_back
from jobsd.store.queue import NewRun
from jobsd.testing.ended import Ended, ended_of
from jobsd.testing.executing import executed
from jobsd.testing.threads import in_thread
from jobsd.testing.told import Told

ACTOR = "test"
LEASE = timedelta(days=1)  # of commands: nobody prolongs it here
MOST = 100  # attempts that `until_over` makes
WHO = Identity("test", "localhost", "test", "test", 0, "test")


@dataclass(frozen=True, slots=True)
class _Trial:
    """A run under test."""

    id: RunId
    job: JobDefinition
    handler: Handler | None


class JobTest:
    """Runs jobs, one at a time. `connection` is for arranging and looking, in the transaction that the jobs see."""

    def __init__(self, db: Pinned, node: NodeId, guardians: Guardians) -> None:
        self._db = db
        self._node = node
        self._guardians = guardians
        self._now = datetime.now(UTC)
        self._trial: _Trial | None = None
        self._last: Ended | None = None

    @property
    def now(self) -> datetime:
        """What `ctx.now()` answers. It stands still but for `advance`, `run(at=…)` and `until_over`."""
        return self._now

    @property
    def connection(self) -> Connection:
        return cast(Connection, self._db.connection)

    def advance(self, by: timedelta) -> datetime:
        """Move the clock forward; what time it is then."""
        self._now += by
        return self._now

    async def run(
        self,
        job: str | Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        slot_at: datetime | None = None,
        dry_run: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Ended:
        """Store a run of `job` and make its first attempt. `job` is "module:function", or a table as in jobs.d.

        `at` sets the clock first; `slot_at` makes it a slot's run. Raises `JobsdError` for parameters that do not fit,
        `ValueError` (pydantic's and `HandlerError` too) for a job that cannot be, or a time without a zone.
        """
        if any(given is not None and given.tzinfo is None for given in (at, slot_at)):
            raise ValueError("at, slot_at: expected an instant with its time zone")
        definition = defined(job)
        handler = None if definition.handler is None else handlers.named(definition.handler)
        self._now = at or self._now
        async with self._db.transaction() as session:
            await jobs.register(session, [definition])
        run = await self._stored(definition, dict(params or {}), slot_at, dry_run, dict(tags or {}))
        self._trial = _Trial(run, definition, handler)
        return await self._attempt(self._trial)

    async def until_over(self, most: int = MOST) -> Ended:
        """Make further attempts at the latest run, each at its time, until the run is over.

        Raises `RuntimeError` when it is not after `most` of them, or when nothing has run.
        """
        for _ in range(most):
            if self._trial is None or self._last is None:
                raise RuntimeError("nothing has run yet")
            if self._last.over:
                break
            self._now = max(self._now, self._last.due_at or self._now)
            await self._attempt(self._trial)
        if self._last is None or not self._last.over:
            raise RuntimeError(f"the run is not over after {most} more attempts: {self._last}")
        return self._last

    async def _stored(
        self, job: JobDefinition, asked: dict[str, Any], slot_at: datetime | None, dry_run: bool, tags: dict[str, str]
    ) -> RunId:
        params = {**job.params, **asked}
        parameters.check(job, params, asked)
        key = parameters.lock_key(job, params)
        row = NewRun(
            job=job.name,
            actor=ACTOR,
            priority=job.priority,
            due_at=self._now,
            slot_at=slot_at,
            params=params,
            tags=tags,
            dry_run=dry_run or job.dry_run,
            permanent=job.permanent,
            lock_key=(await jobs.lock_keys(self._db, [key]))[key] if key else None,
        )
        queued = (await queue.enqueue(self._db, [row]))[0]
        if not queued.created:
            raise RuntimeError(f"the slot {slot_at} of {job.name} has its run already: {queued.id}")
        return queued.id

    async def _attempt(self, trial: _Trial) -> Ended:
        run = await trials.take(self._db, trial.id, self._node, self._now, ACTOR)
        told = Told(self._db, run)
        execution = self._execution(trial, run, told)
        outcome = await executed(execution)
        self._db.one.require_open()
        await told.flush()
        settlement = await self._settled(execution, outcome)
        self._last = ended_of(run, settlement, told.words())
        return self._last

    def _execution(self, trial: _Trial, run: ClaimedRun, told: Told) -> Execution:
        """Handlers run in this process, whatever the job says: what they write must be in the transaction."""
        handler = trial.handler if trial.handler is None or trial.handler.is_async else in_thread(trial.handler)
        return Execution(
            run=run,
            definition=trial.job.model_copy(update={"isolation": None}),
            handler=handler,
            params={**trial.job.params, **run.params},
            report=told,
            connect=lambda: self._db.own(fence=run.fence, run_id=run.id),
            guardians=self._guardians,
            schema=self._db.schema,
            clock=lambda: self._now,
        )

    async def _settled(self, execution: Execution, outcome: Outcome) -> Settlement:
        """Write what came of it; what the job's own transaction has completed is settled already."""
        policy = SettlePolicy(execution.definition.retry_policy, execution.definition.restartable)
        if (end := execution.effects.end) is not None:
            return settle(execution.run, policy, Completed(end.result), end.ended_at)
        settlement = settle(execution.run, policy, outcome, self._now)
        written = await history.settle(
            self._db, [history.Ended(execution.run, self._node, settlement, self._now)], ACTOR
        )
        if not written:
            raise RuntimeError(f"run {execution.run.id} has moved on: its result was refused as stale")
        return settlement


@asynccontextmanager
async def job_test(database_url: str, schema: str = "jobsd") -> AsyncIterator[JobTest]:
    """A bench on a migrated database, which is as it was when the block is left.

    Raises `JobsdError` (E0305, …) when its schema is not the shipped one, `Unavailable` when it cannot be reached.
    """
    (await migrate.status(database_url, schema)).require_current()
    async with rolled_back(database_url, schema) as db:
        async with db.transaction() as session:
            node = await nodes.register(session, WHO, ["default"], "test")
        with TemporaryDirectory(prefix="jobsd-test-") as folder:
            guardians = Guardians(Path(folder))
            guardians.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(LEASE.total_seconds() * 1e9))
            yield JobTest(db, node, guardians)


def defined(job: str | Mapping[str, Any]) -> JobDefinition:
    """The definition. Without a name of its own it is named for what does the work."""
    table = {"handler": job} if isinstance(job, str) else dict(job)
    name = str(table.get("handler") or "test").rpartition(":")[2].rpartition(".")[2].strip("_")
    return JobDefinition.model_validate({"name": name, **table})
