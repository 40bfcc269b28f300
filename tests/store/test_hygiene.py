"""What keeps the database small and quick: updates that touch no index, tables that are vacuumed in time, a claim that
does not see finished runs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed
from jobsd.engine.here import Here
from jobsd.store import history, reports, runs
from jobsd.store.db import Db, Session
from jobsd.store.history import Ended
from jobsd.store.locks import LockConnection
from tests.support.engine import enqueued, job, node, registered, request

MANY = 100_000

FINISHED = """
    INSERT INTO jobsd.run (job, state, ready, actor, node, fence, attempt, started_at, finished_at, lock_key)
    SELECT 'work', CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END, NULL, 'test', NULL, n, 1, now(), now(), 1
      FROM generate_series(1, $1::integer) AS n
"""


async def grown(db: Db, rows: int) -> None:
    """So many runs that are over, and statistics that know it."""
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE jobsd.run DISABLE TRIGGER USER")
        await tx.execute(FINISHED, rows, timeout=120)
        await tx.execute("ALTER TABLE jobsd.run ENABLE TRIGGER USER")
    await db.execute("VACUUM ANALYZE jobsd.run", timeout=120)


class Explaining:
    """Stands before a lock session and has the server tell what a statement really did."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.plans: list[dict[str, Any]] = []

    async def fetch(self, sql: str, *args: object, timeout: float | None = None) -> Sequence[Any]:
        text = await self._session.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *args, timeout=timeout)
        self.plans += orjson.loads(text)
        return []


async def claim_explained(here: Here) -> dict[str, Any]:
    """The plan of a claim, which is done."""

    async def explained(lock: LockConnection) -> dict[str, Any]:
        session = Explaining(lock.session)
        await runs.claim(replace(lock, session=cast(Session, session)), request(here))
        return session.plans[0]

    return await here.keeper.ask(explained)


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(each for below in plan.get("Plans", ()) for each in nodes_of(below))]


def pages_of(plan: dict[str, Any]) -> int:
    top = plan["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


@pytest.mark.req("F1")
async def test_finished_runs_do_not_slow_the_claim(db: Db) -> None:
    await registered(db, job())
    async with node(db) as here:
        await enqueued(db, count=50)
        small = await claim_explained(here)
        await grown(db, MANY)
        await enqueued(db, count=50)
        large = await claim_explained(here)

    on_runs = [each for each in nodes_of(large["Plan"]) if each.get("Relation Name") == "run"]
    walked = {each["Node Type"] for each in on_runs if each["Node Type"] != "ModifyTable"}
    assert "Seq Scan" not in walked
    assert sum(each["Actual Rows"] * each["Actual Loops"] for each in on_runs) < 50 * 10
    assert pages_of(large) < 1.3 * pages_of(small) + 50
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'running'") == 100


CHANGED_IN_PLACE = """
    SELECT n_tup_upd AS updated, n_tup_hot_upd AS in_place
      FROM pg_stat_xact_user_tables
     WHERE relid = ('jobsd.' || $1)::regclass
"""


@pytest.mark.req("F1")
async def test_a_settlement_touches_no_index_of_the_queue(db: Db) -> None:
    await registered(db, job())
    await enqueued(db, count=10)
    async with node(db) as here:
        taken = (await here.keeper.claim(request(here))).runs
        now = datetime.now(UTC)
        ended = [Ended(run, here.keeper.node, settle(run, SettlePolicy(), Completed(), now), now) for run in taken]

        async with db.transaction() as tx:
            await history.settle_within(tx, ended, "test")
            row = await tx.fetchrow(CHANGED_IN_PLACE, "run")

    assert row is not None
    assert (row["updated"], row["in_place"]) == (10, 10)


@pytest.mark.req("D2")
async def test_progress_is_overwritten_in_place(db: Db) -> None:
    await registered(db, job())
    await enqueued(db)
    async with node(db) as here:
        (run,) = (await here.keeper.claim(request(here))).runs

        async with db.transaction() as tx:
            for step in range(11):
                await reports.progress(cast(Db, tx), run.id, run.fence, step / 10, "a note")
            row = await tx.fetchrow(CHANGED_IN_PLACE, "progress")

    assert row is not None
    assert (row["updated"], row["in_place"]) == (10, 10)


OPTIONS = """
    SELECT c.relname::text AS name, o.option_name AS option, o.option_value::float8 AS value
      FROM pg_class c
     CROSS JOIN pg_options_to_table(c.reloptions) AS o
     WHERE c.relnamespace = 'jobsd'::regnamespace AND c.relkind = 'r'
"""


@pytest.mark.parametrize("table", ["run", "node", "schedule", "progress", "alert", "claim", "external"])
async def test_tables_whose_rows_change_leave_room_for_it(db: Db, table: str) -> None:
    options = {(row["name"], row["option"]): row["value"] for row in await db.fetch(OPTIONS)}

    assert options[table, "fillfactor"] <= 70


@pytest.mark.parametrize("table", ["run", "schedule", "progress", "claim", "external"])
async def test_tables_that_churn_are_vacuumed_long_before_a_fifth_of_them_is_dead(db: Db, table: str) -> None:
    options = {(row["name"], row["option"]): row["value"] for row in await db.fetch(OPTIONS)}

    assert options[table, "autovacuum_vacuum_scale_factor"] <= 0.05
