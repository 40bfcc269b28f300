"""SQL jobs against a real server: one transaction, words for errors, and a cancelled statement does not run on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.outcome import Outcome
from jobsd.engine.executors.base import execute
from jobsd.store.db import Db
from tests.engine.executors.bench import Bench, completed, failed, until_async


@pytest.fixture
def sql(bench: Bench, database_url: str) -> Bench:
    bench.url = database_url
    return bench


async def run(bench: Bench, text: str, **keys: Any) -> Outcome:
    return await execute(bench.execution(sql=text, run=await bench.running(), **keys))


@pytest.mark.req("C2")
async def test_several_statements_are_one_transaction(sql: Bench, db: Db) -> None:
    done = completed(await run(sql, "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2);"))
    broken = failed(await run(sql, "INSERT INTO t VALUES (3); INSERT INTO t SELECT 1 / (n - 1) FROM t;"))

    assert done.result == {"status": "INSERT 0 2"}
    assert broken.kind == "sql"
    assert broken.error == "division by zero (SQLSTATE 22012)"
    assert await db.fetchval("SELECT count(*) FROM t") == 2


@pytest.mark.req("C2")
async def test_a_query_gives_its_first_rows_as_json_and_counts_all(sql: Bench) -> None:
    text = """
        SELECT n, n = 1 AS first, 1.5::numeric AS amount, 'NaN'::float8 AS nothing, NULL AS none,
               now() > 'epoch' AS late,
               '2026-03-01'::date AS day, '{"a": 1}'::jsonb AS doc, repeat('x', 5000) AS long, '\\x00ff'::bytea AS raw
          FROM generate_series(1, 25000) AS n
    """

    outcome = completed(await run(sql, text))

    assert outcome.result["rows"] == 25000
    assert [row["n"] for row in outcome.result["first"]] == list(range(1, 21))
    assert outcome.result["first"][0] == {
        "n": 1,
        "first": True,
        "amount": "1.5",
        "nothing": "nan",
        "none": None,
        "late": True,
        "day": "2026-03-01",
        "doc": '{"a": 1}',
        "long": "x" * 1000 + "…",
        "raw": "b'\\x00\\xff'",
    }


@pytest.mark.req("C2")
async def test_a_single_change_says_its_status_and_is_committed(sql: Bench, db: Db) -> None:
    await db.execute("CREATE TABLE t (n int)")

    plain = completed(await run(sql, "INSERT INTO t SELECT generate_series(1, 3)"))
    returning = completed(await run(sql, "INSERT INTO t VALUES (9) RETURNING n"))

    assert plain.result == {"status": "INSERT 0 3"}
    assert returning.result == {"rows": 1, "first": [{"n": 9}]}
    assert await db.fetchval("SELECT count(*) FROM t") == 4


@pytest.mark.req("P4")
async def test_the_statements_see_fence_run_and_parameters(sql: Bench) -> None:
    text = """
        SELECT current_setting('jobsd.fence') AS fence, current_setting('jobsd.run_id') AS run,
               current_setting('jobsd.params')::jsonb ->> 'region' AS region
    """

    outcome = completed(await run(sql, text, params={"region": "e'u"}))

    assert outcome.result["first"] == [{"fence": "77", "run": "12", "region": "e'u"}]


@pytest.mark.req("B8")
async def test_an_error_says_what_where_and_how_to_go_on(sql: Bench, db: Db) -> None:
    await db.execute("CREATE TABLE orders (id int PRIMARY KEY, amount int)")

    unknown = failed(await run(sql, "SELECT id,\n       amont\n  FROM orders"))
    doubled = failed(await run(sql, "INSERT INTO orders VALUES (1, 1), (1, 2)"))
    syntax = failed(await run(sql, "SELEC 1"))

    assert unknown.error == (
        'column "amont" does not exist (SQLSTATE 42703)\n'
        "line 2:        amont\n"
        "               ^\n"
        'hint: Perhaps you meant to reference the column "orders.amount".'
    )
    assert "detail: Key (id)=(1) already exists." in doubled.error
    assert syntax.error == 'syntax error at or near "SELEC" (SQLSTATE 42601)\nline 1: SELEC 1\n        ^'


@pytest.mark.req("C2")
async def test_placeholders_are_refused_with_the_way_to_read_parameters(sql: Bench) -> None:
    outcome = failed(await run(sql, "SELECT $1::int", params={"n": 1}))

    assert "current_setting('jobsd.params')" in outcome.error


@pytest.mark.req("C2")
async def test_statements_may_come_from_a_file(sql: Bench, tmp_path: Path) -> None:
    (tmp_path / "report.sql").write_text("SELECT 'é' AS letter")

    found = completed(await run(sql, f"file:{tmp_path}/report.sql"))
    absent = failed(await run(sql, f"file:{tmp_path}/absent.sql"))

    assert found.result["first"] == [{"letter": "é"}]
    assert absent.kind == "start"
    assert "absent.sql" in absent.error


RUNNING = """
    SELECT count(*)
      FROM pg_stat_activity
     WHERE query LIKE '%pg_sleep(1000)%' AND pid <> pg_backend_pid() AND datname = current_database()
"""


@pytest.mark.req("C3", "P3")
@pytest.mark.parametrize("text", ["SELECT pg_sleep(1000)", "INSERT INTO t VALUES (1); SELECT pg_sleep(1000);"])
async def test_a_cancelled_statement_has_ended_on_the_server_and_nothing_of_it_is_kept(
    sql: Bench, db: Db, text: str
) -> None:
    await db.execute("CREATE TABLE t (n int)")
    work = asyncio.create_task(run(sql, text, grace="10s"))
    await until_async(lambda: db.fetchval(RUNNING), 1)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert await db.fetchval(RUNNING) == 0
    assert await db.fetchval("SELECT count(*) FROM t") == 0


@pytest.mark.req("C3", "P3")
async def test_a_statement_that_ignores_cancellation_loses_its_session(sql: Bench, db: Db) -> None:
    stubborn = """
        DO $$ BEGIN
            LOOP
                BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
            END LOOP;
        END $$
    """
    work = asyncio.create_task(run(sql, stubborn, grace="200ms"))
    await until_async(lambda: db.fetchval(RUNNING), 1)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert await db.fetchval(RUNNING) == 0


@pytest.mark.req("P11")
async def test_a_connection_that_is_lost_fails_the_run(sql: Bench, db: Db) -> None:
    work = asyncio.create_task(run(sql, "SELECT pg_sleep(1000)"))
    await until_async(lambda: db.fetchval(RUNNING), 1)

    await db.fetch(f"SELECT pg_terminate_backend(pid) FROM ({RUNNING.replace('count(*)', 'pid')}) AS it")
    outcome = failed(await work)

    assert outcome.kind == "sql"
    assert "the database went away" in outcome.error


@pytest.mark.req("A8")
async def test_a_dry_run_checks_a_single_statement_and_changes_nothing(sql: Bench, db: Db) -> None:
    await db.execute("CREATE TABLE t (n int)")

    single = completed(await run(sql, "DELETE FROM t", dry_run=True))
    several = completed(await run(sql, "INSERT INTO t VALUES (1); DROP TABLE t", dry_run=True))
    wrong = failed(await run(sql, "DELETE FROM absent", dry_run=True))

    assert single.result == {"dry_run": True, "would_run": "DELETE FROM t", "checked": True, "params": {}}
    assert several.result["checked"] is False
    assert 'relation "absent" does not exist' in wrong.error
    assert await db.fetchval("SELECT count(*) FROM t") == 0
