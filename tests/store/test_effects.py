"""`jobsd.assert_fence` and `jobsd.complete`: the same record as a settlement, and nothing under another fence."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed
from jobsd.domain.run import ClaimedRun, Fence
from jobsd.engine.here import Here
from jobsd.store import effects, history
from jobsd.store.db import Db
from jobsd.store.history import Ended
from jobsd.store.migrate import migrate
from tests.support.engine import enqueued, job, node, registered, request
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer
from tests.support.roles import as_login, granted, logins

OVER = """
    UPDATE jobsd.run SET state = 'failed', node = NULL, held = NULL, finished_at = now() WHERE state = 'running'
"""


async def claimed(here: Here, count: int = 1) -> list[ClaimedRun]:
    await registered(here.db, job())
    await enqueued(here.db, count=count)
    return list((await here.keeper.claim(request(here))).runs)


async def test_a_run_completed_by_its_job_looks_like_one_that_was_settled(db: Db) -> None:
    async with node(db) as here:
        mine, other = await claimed(here, 2)
        now = datetime.now(UTC)
        settled = Ended(other, here.keeper.node, settle(other, SettlePolicy(), Completed({"rows": 1}), now), now)
        await history.settle(db, [settled], here.actor)
        ended_at = await db.fetchval("SELECT jobsd.complete($1, $2, '{\"rows\": 1}')", mine.id, mine.fence)

    times = "'{id,run,created_at,due_at,started_at,finished_at,ended_at,at,sequence,tx}'::text[]"
    for table, key in (("run", "id"), ("attempt", "run"), ("audit", "run")):
        rows = await db.fetch(
            f"SELECT DISTINCT to_jsonb(t) - {times} AS row FROM jobsd.{table} t WHERE {key} = ANY ($1)",
            [mine.id, other.id],
        )
        assert len(rows) == (3 if table == "audit" else 1), [row["row"] for row in rows]
    finished = await db.fetchrow("SELECT finished_at FROM jobsd.run WHERE id = $1", mine.id)
    assert finished is not None and finished["finished_at"] == ended_at


WAITING = """
    SELECT count(*)
      FROM pg_locks
      JOIN pg_stat_activity USING (pid)
     WHERE NOT granted AND datname = current_database()
"""


@pytest.mark.req("P4", "P9")
@pytest.mark.parametrize("call", ["assert_fence($1, $2)", "complete($1, $2)"])
async def test_another_fence_and_a_run_that_is_over_are_refused(db: Db, call: str) -> None:
    async with node(db) as here:
        (run,) = await claimed(here)
        with pytest.raises(asyncpg.PostgresError) as stale:
            await db.fetchval(f"SELECT jobsd.{call}", run.id, run.fence - 1)
        await db.fetchval(f"SELECT jobsd.{call}", run.id, run.fence)
        await db.execute(OVER)
        with pytest.raises(asyncpg.PostgresError) as over:
            await db.fetchval(f"SELECT jobsd.{call}", run.id, run.fence)

    assert {stale.value.sqlstate, over.value.sqlstate} == {"JD517"}
    assert f"run {run.id} has moved on" in str(stale.value)


@pytest.mark.req("P9")
async def test_a_second_installation_in_the_database_completes_its_own_runs_only(db: Db) -> None:
    await migrate(db.url, schema="second")
    async with Db.open(db.url, schema="second") as other, node(db) as here, node(other) as there:
        ours, theirs = (await claimed(here))[0], (await claimed(there))[0]
        with pytest.raises(asyncpg.PostgresError) as refused:
            await other.fetchval("SELECT jobsd.complete($1, $2)", ours.id, ours.fence + 10_000)
        await other.fetchval("SELECT jobsd.complete($1, $2)", theirs.id, theirs.fence)
        states = [await each.fetchval("SELECT state FROM jobsd.run") for each in (db, other)]

    assert ours.id == theirs.id
    assert refused.value.sqlstate == "JD517"
    assert states == ["running", "completed"]


@pytest.mark.req("P8")
async def test_a_run_may_be_put_off_more_often_than_a_small_number_holds(db: Db) -> None:
    async with node(db) as here:
        await registered(db, job())
        (run,) = await enqueued(db)
        await db.execute("UPDATE jobsd.run SET attempt = 40000 WHERE id = $1", run)
        (taken,) = (await here.keeper.claim(request(here))).runs
        await db.fetchval("SELECT jobsd.complete($1, $2)", taken.id, taken.fence)

    assert await db.fetchval("SELECT number FROM jobsd.attempts") == 40001


@pytest.mark.req("P4", "P9")
async def test_nobody_settles_a_run_between_the_assertion_of_its_fence_and_the_commit(db: Db) -> None:
    async with node(db) as here:
        (run,) = await claimed(here)
        now = datetime.now(UTC)
        ended = Ended(run, here.keeper.node, settle(run, SettlePolicy(), Completed(), now), now)
        async with db.transaction() as session:
            await session.fetchval("SELECT jobsd.assert_fence($1, $2)", run.id, run.fence)
            settling = asyncio.create_task(history.settle(db, [ended], here.actor))
            await eventually(lambda: db.fetchval(WAITING), 1)
            before = await session.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run.id)
        moved = await settling

    assert before == "running"
    assert moved == {(run.id, run.fence)}


@pytest.mark.req("P7", "P9")
async def test_a_session_that_stands_on_a_run_is_ended_and_those_of_other_runs_and_attempts_are_not(db: Db) -> None:
    async with node(db) as here, db.session() as one, db.session() as two:
        first, second = await claimed(here, 2)
        for session, run in ((one, first), (two, second)):
            await session.execute("BEGIN")
            await session.fetchval("SELECT jobsd.assert_fence($1, $2)", run.id, run.fence)

        of_an_earlier_attempt = await effects.end_sessions(db, [(second.id, Fence(second.fence - 1))])
        ended = await effects.end_sessions(db, [(first.id, first.fence)])

        assert of_an_earlier_attempt == []
        assert [(each.run, each.pid) for each in ended] == [(first.id, one.con.get_server_pid())]
        assert await two.fetchval("SELECT 1") == 1
        await two.execute("ROLLBACK")


@pytest.mark.req("P7", "P9")
async def test_a_session_of_a_role_that_ours_may_not_end_is_left_and_hides_no_other(postgres_server: OwnServer) -> None:
    url = await postgres_server.database()
    await granted(url)
    await logins(url)
    async with Db.open(url) as owner, Db.open(as_login(url, "app")) as ours, node(owner) as here:
        first, second = await claimed(here, 2)
        async with owner.session() as theirs, ours.session() as own:
            for session, run in ((theirs, first), (own, second)):
                await session.execute("BEGIN")
                await session.fetchval("SELECT jobsd.assert_fence($1, $2)", run.id, run.fence)

            ended = await effects.end_sessions(ours, [(run.id, run.fence) for run in (first, second)])

            assert [each.run for each in ended] == [second.id]
            assert await theirs.fetchval("SELECT 1") == 1
            await theirs.execute("ROLLBACK")


@pytest.mark.req("P9")
async def test_what_a_lost_commit_did_is_found_out(db: Db) -> None:
    async with node(db) as here:
        done, undone = await claimed(here, 2)
        ended_at = await db.fetchval("SELECT jobsd.complete($1, $2, '[1]')", done.id, done.fence)
        async with db.session() as session:
            await session.execute("BEGIN")
            await session.fetchval("SELECT jobsd.complete($1, $2)", undone.id, undone.fence)
            found = [await effects.find_out(db, run.id, run.fence) for run in (done, undone)]

    assert found[0] is not None
    assert (found[0].ended_at, found[0].result) == (ended_at, [1])
    assert found[1] is None
    assert await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", undone.id) == "running"
