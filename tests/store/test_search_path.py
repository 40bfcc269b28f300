"""What somebody else puts into the database cannot pass for PostgreSQL's own functions in jobsd's sessions."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from jobsd.store.db import Db, dedicated
from jobsd.store.packs import acting
from tests.support.daemon import Daemon

EVIL = """
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'shadowed'; END $$;
    CREATE FUNCTION evil.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'shadowed'; END $$;
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = evil, pg_catalog', current_database()); END $$
"""
JOBS = """
[jobs.command]
command = ["true"]
[jobs.sql]
sql = "SELECT now()"
"""
UNPINNED = """
    SELECT p.oid::regprocedure::text
      FROM pg_proc p
     WHERE p.prosecdef AND p.pronamespace IN ('jobsd'::regnamespace, 'analytics'::regnamespace)
       AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
"""


@pytest.fixture
async def poisoned_url(database_url: str) -> str:
    con = await asyncpg.connect(database_url)
    await con.execute(EVIL)
    await con.close()
    return database_url


@pytest.mark.req("P11")
@pytest.mark.fault(50)
async def test_a_daemon_works_where_the_databases_path_shadows_functions(
    poisoned_url: str, daemon: Callable[..., Awaitable[Daemon]]
) -> None:
    node = await daemon(JOBS)

    await node.seen("run_completed", run=await node.trigger("command"))
    theirs = await node.seen("run_failed", run=await node.trigger("sql"))

    assert "shadowed" in theirs["error"]  # a job's session is as the database has it


@pytest.mark.fault(50)
async def test_an_actions_audit_entry_is_ours_and_its_statements_are_the_packs(poisoned_url: str) -> None:
    async with Db.open(poisoned_url) as db, acting(db, "acted", "test", None, {}) as con:
        path = await con.fetchval("SHOW search_path")
    async with dedicated(poisoned_url, application_name="job", fence=1, run_id=1) as job:
        assert await job.fetchval("SHOW search_path") == path == "evil, pg_catalog"


@pytest.mark.fault(50)
async def test_whatever_runs_with_its_owners_rights_has_a_path_of_its_own(db: Db) -> None:
    assert await db.fetch(UNPINNED) == []
