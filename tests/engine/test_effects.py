"""A job's own transaction as its node sees it: the record is true, the locks go back, a lost answer is looked up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.events import Event, RunEnded, RunRefused
from jobsd.domain.job import JobDefinition
from jobsd.domain.lifecycle import SettlePolicy
from jobsd.domain.outcome import Interrupted
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.guardians import Guardians
from jobsd.engine.here import Here
from jobsd.engine.reporter import Reporter
from jobsd.engine.settler import Settler
from jobsd.engine.worker import Workers
from jobsd.handlers import resolve
from jobsd.store.db import Db, dedicated
from tests.engine.executors.bench import HANDLERS, boottime_ns
from tests.support.daemon import PATIENCE_S
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.eventually import eventually
from tests.support.locked import locked, shut
from tests.support.postgres import OwnServer


class Place:
    """A node that executes one job."""

    def __init__(self, here: Here, definition: JobDefinition, state_dir: Path) -> None:
        self.here = here
        self.definition = definition
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.settler = Settler(here)
        self.workers = Workers(4, here.keeper, self.settler, self.events.put_nowait)
        self.workers.prepare = self.prepare
        self.workers.policy = lambda _job: SettlePolicy(definition.retry_policy, definition.restartable)
        self.guardians = Guardians(state_dir)
        self.guardians.renew(boottime_ns(600))

    def prepare(self, run: Any) -> tuple[Execution, Reporter]:
        reporter = Reporter(self.here, run)
        url = self.here.db.url
        execution = Execution(
            run=run,
            definition=self.definition,
            handler=resolve(self.definition),
            params={**self.definition.params, **run.params},
            report=reporter,
            connect=lambda: dedicated(url, application_name="jobsd job work", fence=run.fence, run_id=run.id),
            guardians=self.guardians,
            database_url=url,
        )
        return execution, reporter

    async def start(self, **params: Any) -> int:
        """Enqueue, claim and start a run; its id."""
        await enqueued(self.here.db, key="work", params=params)
        claim = await self.here.keeper.claim(request(self.here))
        for run in claim.runs:
            self.workers.start(run, claim.keys[run.id])
        return claim.runs[0].id

    async def ended(self) -> RunEnded:
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(event := await self.events.get(), RunEnded):
                assert not isinstance(event, RunRefused), event
        return event


@asynccontextmanager
async def place(db: Db, state_dir: Path, **keys: Any) -> AsyncIterator[Place]:
    definition = job(command=None, **{"handler": f"{HANDLERS}:writes", **keys})
    await db.execute("CREATE TABLE IF NOT EXISTS public.effect (run bigint NOT NULL)")
    async with node(db) as here:
        await registered(db, definition)
        made = Place(here, definition, state_dir)
        here = made.settler._here = Here(db, here.keeper, here.pulse, made.events.put_nowait, here.who)
        tasks = [asyncio.create_task(loop()) for loop in (made.settler.run, made.workers.run)]
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def effects(db: Db) -> int:
    return int(await db.fetchval("SELECT count(*) FROM public.effect"))


@pytest.mark.req("P9", "C3", "A7")
@pytest.mark.parametrize("keys", [{}, {"isolation": "process"}, {"handler": f"{HANDLERS}:writes_plainly"}])
async def test_a_run_that_its_job_completed_is_told_truly_and_gives_back_its_lock_and_its_claim(
    db: Db, tmp_path: Path, keys: dict[str, Any]
) -> None:
    async with place(db, tmp_path, **keys) as at:
        run = await at.start()
        told = await at.ended()
        await at.workers.idle()
        held, claims = await locked(db), await db.fetchval("SELECT count(*) FROM jobsd.claim")

    attempt = await db.fetchrow("SELECT started_at, ended_at, result->>'rows' AS rows FROM jobsd.attempts")
    assert attempt is not None
    assert (told.run.id, told.settlement.outcome, told.settlement.result["rows"]) == (run, "completed", 1)
    assert told.duration_s == (attempt["ended_at"] - attempt["started_at"]).total_seconds()
    assert (held, claims, await effects(db)) == (0, 0, 1)
    acts = await db.fetch("SELECT act, actor FROM jobsd.audit WHERE run = $1 ORDER BY sequence", run)
    assert [row["act"] for row in acts] == ["queued", "started", "completed"]
    assert acts[2]["actor"] == "node:one"


@pytest.mark.req("P9", "P8")
async def test_what_a_job_raises_after_its_commit_changes_nothing_and_is_told(db: Db, tmp_path: Path) -> None:
    async with place(db, tmp_path, retry={"attempts": 3}) as at:
        await at.start(then="fail after")
        told = await at.ended()

    assert told.settlement.outcome == "completed"
    assert await db.fetchval("SELECT state FROM jobsd.run") == "completed"
    assert [row["outcome"] for row in await db.fetch("SELECT outcome FROM jobsd.attempts")] == ["completed"]


@pytest.mark.req("P9", "P11")
async def test_a_commit_that_is_only_claimed_by_job_code_counts_for_nothing(db: Db, tmp_path: Path) -> None:
    async with place(db, tmp_path, handler=f"{HANDLERS}:claims_to_have_committed") as at:
        await at.start()
        told = await at.ended()
        await eventually(lambda: locked(db), 0)

    assert told.settlement.outcome == "failed"
    assert await db.fetchval("SELECT state FROM jobsd.run") == "failed"


@pytest.mark.req("P9", "C3")
@pytest.mark.parametrize("isolation", [None, "process"])
async def test_a_transaction_past_the_timeout_is_undone_and_its_run_fails(
    db: Db, tmp_path: Path, isolation: str | None
) -> None:
    async with place(db, tmp_path, timeout="300ms", isolation=isolation) as at:
        await at.start(then="wait")
        told = await at.ended()
        await at.workers.idle()
        held = await locked(db)

    assert told.settlement.outcome == "timed_out"
    assert (held, await effects(db)) == (0, 0)


# -- the answer to COMMIT is lost -------------------------------------------------------------------------------------

JOBS = "FROM pg_stat_activity WHERE application_name LIKE 'jobsd job %' AND datname = current_database()"
AT_STANDBY = f"SELECT count(*) {JOBS} AND wait_event = 'SyncRep'"  # durable here, its answer held back
AT_GATE = f"SELECT count(*) {JOBS} AND wait_event_type = 'Lock'"  # in its COMMIT, and not done with it
END = f"SELECT pg_terminate_backend(pid) {JOBS}"
STANDBY = """
    CREATE FUNCTION wait_for_standby() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NEW; END$$;
    CREATE TRIGGER waits BEFORE INSERT ON effect FOR EACH ROW EXECUTE FUNCTION wait_for_standby()
"""
GATE = """
    CREATE TABLE gate ();
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN LOCK TABLE gate; RETURN NULL; END$$;
    CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_at_gate()
"""
INSERT = "INSERT INTO effect SELECT current_setting('jobsd.run_id')::bigint"
KINDS: dict[str, dict[str, Any]] = {
    "loop": {},
    "process": {"isolation": "process"},
    "plain": {"handler": f"{HANDLERS}:writes_plainly"},
    "sql": {"handler": None, "sql": INSERT},
}
EACH = pytest.mark.parametrize("keys", KINDS.values(), ids=KINDS)


@pytest.fixture
async def durable(own_server: Callable[..., OwnServer]) -> AsyncIterator[Db]:
    """On a server with a standby that never answers, for those who wait for it."""
    server = own_server(synchronous_standby_names="nobody", synchronous_commit="local")
    async with Db.open(await server.database()) as opened:
        opened.path = None  # a test has a table of its own in it
        await opened.execute("CREATE TABLE public.effect (run bigint NOT NULL)")
        yield opened


@pytest.mark.req("P9")
@EACH
async def test_a_commit_whose_answer_is_lost_is_found_to_be_done(
    durable: Db, tmp_path: Path, keys: dict[str, Any]
) -> None:
    await durable.execute(STANDBY)
    async with place(durable, tmp_path, retry={"attempts": 3}, **keys) as at:
        await at.start()
        await eventually(lambda: durable.fetchval(AT_STANDBY), 1)
        await durable.execute(END)
        told = await at.ended()
        await at.workers.idle()
        held = await locked(durable)

    assert told.settlement.outcome == "completed"
    assert told.settlement.result is not None
    assert [row["outcome"] for row in await durable.fetch("SELECT outcome FROM jobsd.attempts")] == ["completed"]
    assert (held, await effects(durable)) == (0, 1)


@pytest.mark.req("P9")
@EACH
async def test_a_commit_whose_answer_is_lost_is_found_to_be_undone(
    db: Db, tmp_path: Path, keys: dict[str, Any]
) -> None:
    await db.execute("CREATE TABLE public.effect (run bigint NOT NULL)")
    await db.execute(GATE)
    async with place(db, tmp_path, **keys) as at, db.transaction() as session:
        await shut(session, "gate")
        await at.start()
        await eventually(lambda: db.fetchval(AT_GATE), 1)
        await db.execute(END)
        told = await at.ended()

    assert told.settlement.outcome == "failed"
    assert await db.fetchval("SELECT state FROM jobsd.run") == "failed"
    assert await effects(db) == 0


@pytest.mark.req("P9", "C3")
@EACH
async def test_a_commit_that_hangs_while_its_job_is_ended_is_ended_too_so_that_run_and_effect_agree(
    db: Db, tmp_path: Path, keys: dict[str, Any]
) -> None:
    await db.execute("CREATE TABLE public.effect (run bigint NOT NULL)")
    await db.execute(GATE)
    async with place(db, tmp_path, grace="100ms", **keys) as at, db.transaction() as session:
        await shut(session, "gate")
        await at.start()
        await eventually(lambda: db.fetchval(AT_GATE), 1)
        at.workers.stop(Interrupted("shutting down"))
        told = await at.ended()
        await at.workers.idle()
        left = await db.fetchval(AT_GATE)

    assert told.settlement.outcome == "interrupted"
    assert await db.fetchval("SELECT state FROM jobsd.run") == "failed"
    assert (left, await effects(db)) == (0, 0)


@pytest.mark.req("P4", "P5")
async def test_a_session_left_open_on_a_run_whose_attempt_is_over_does_not_hold_up_its_settlement(
    db: Db, tmp_path: Path
) -> None:
    async with Db.open(db.url, statement_timeout_s=0.5) as hasty, place(hasty, tmp_path) as at, db.session() as left:
        run = await at.start(then="wait")
        fence = await db.fetchval("SELECT fence FROM jobsd.run WHERE id = $1", run)
        await left.execute("BEGIN")
        await left.fetchval("SELECT jobsd.assert_fence($1, $2)", run, fence)

        at.workers.stop(Interrupted("shutting down"))
        told = await at.ended()

    assert told.settlement.outcome == "interrupted"
    assert await db.fetchval("SELECT state FROM jobsd.run") == "failed"
