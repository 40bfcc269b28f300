"""Lists: every state and tag has a way that does not lead past all other runs, and none of them slows completion."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from jobsd.store import lists
from jobsd.store.db import Db
from jobsd.store.lists import RunFilter
from tests.support.engine import enqueued, node, registered, request
from tests.support.engine import job as job_of

MANY = 20_000
FILL = """
    WITH made AS (
        INSERT INTO jobsd.run (job, actor, tags)
        SELECT 'work', 'test', CASE WHEN n <= 3 THEN '{"language": "fr"}' ELSE '{}' END::jsonb
          FROM generate_series(1, $1::integer) AS n
     RETURNING id
    )
    SELECT count(*) FROM made
"""
RUN_ALL = "UPDATE jobsd.run SET state = 'running', ready = NULL, node = 1, fence = 1, started_at = now()"
END_ALL = """
    UPDATE jobsd.run
       SET state = CASE WHEN id <= 3 THEN 'failed' ELSE 'completed' END, node = NULL, finished_at = now()
"""


@pytest.fixture
async def full(db: Db) -> Db:
    """Twenty thousand completed runs, and before them three failed ones with a tag."""
    await registered(db, job_of())
    await db.execute(FILL, MANY)
    await db.execute(RUN_ALL)
    await db.execute(END_ALL)
    await db.execute("VACUUM ANALYZE jobsd.run")
    return db


async def cost(db: Db, wanted: RunFilter, way: str, states: list[str]) -> int:
    """Blocks that the search for the runs reads."""
    tags = orjson.dumps(dict(wanted.tags)).decode() if wanted.tags else None
    async with db.reading() as session:
        plan = await session.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {way}", states, wanted.job, wanted.since, wanted.before, tags, 50
        )
    top: dict[str, Any] = orjson.loads(plan)[0]["Plan"]
    return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])


@pytest.mark.parametrize("state", ["failed", "cancelled", "queued", "running"])
async def test_a_rare_state_is_found_without_walking_past_all_other_runs(full: Db, state: str) -> None:
    blocks = await cost(full, RunFilter(), lists.WAYS[state], [state])

    found = await lists.runs(full, RunFilter(states=[state]), 50)

    assert [row["id"] for row in found] == ([3, 2, 1] if state == "failed" else [])
    assert blocks < 50 < await full.fetchval("SELECT pg_relation_size('jobsd.run') / 8192")


async def test_a_rare_tag_is_found_by_its_index(full: Db) -> None:
    wanted = RunFilter(tags={"language": "fr"})

    blocks = await cost(full, wanted, lists.NEWEST, [])

    assert [row["id"] for row in await lists.runs(full, wanted, 50)] == [3, 2, 1]
    assert blocks < 50


async def test_a_time_in_which_nothing_was_made_is_not_searched_run_by_run(full: Db) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    blocks = await cost(full, RunFilter(since=later), lists.NEWEST, [])

    assert await lists.runs(full, RunFilter(since=later), 50) == []
    assert blocks < await full.fetchval("SELECT pg_relation_size('jobsd.run') / 8192") / 2


async def test_several_states_at_once_are_one_list_the_latest_first(db: Db) -> None:
    await registered(db, job_of(lock_key="{run_id}"))
    failed, running, queued, completed = await enqueued(db, count=4)
    await db.execute(f"{RUN_ALL} WHERE id = ANY($1)", [failed, completed])
    ends = "UPDATE jobsd.run SET state = $2, node = NULL, finished_at = now() WHERE id = $1"
    await db.execute(ends, failed, "failed")
    await db.execute(ends, completed, "completed")
    async with node(db) as here:
        await here.keeper.claim(request(here, limit=1))

        every = await lists.runs(db, RunFilter(states=["failed", "running", "queued", "completed"]), 10)
        two = await lists.runs(db, RunFilter(states=["failed", "running", "queued"], before=queued), 10)

    assert [row["id"] for row in every] == [completed, queued, running, failed]
    assert [row["id"] for row in two] == [running, failed]


async def test_completing_touches_no_index_and_failing_only_that_of_seldom_states(db: Db) -> None:
    await registered(db, job_of(lock_key="{run_id}"))
    await enqueued(db, count=2)
    hot = "SELECT pg_stat_get_xact_tuples_hot_updated('jobsd.run'::regclass)"
    ends = "UPDATE jobsd.run SET state = $2, node = NULL, finished_at = now() WHERE id = $1"

    async with db.transaction() as session:
        await session.execute(RUN_ALL)
        before = await session.fetchval(hot)
        await session.execute(ends, 1, "completed")
        completed = await session.fetchval(hot)
        await session.execute(ends, 2, "failed")
        failed = await session.fetchval(hot)

    assert (completed - before, failed - completed) == (1, 0)
