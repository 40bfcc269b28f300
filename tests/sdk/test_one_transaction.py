"""What a tested job does to the database: as in earnest, and afterwards nothing of it is left."""

import pytest

from jobsd.sdk.testing import JobTest, job_test
from jobsd.store.db import Db
from jobsd.store.migrate import migrate
from tests.sdk import jobs
from tests.sdk.conftest import named, notes


async def test_nothing_of_it_stays(database_url: str, db: Db) -> None:
    await db.execute(jobs.NOTES)
    tables = ("note", "jobsd.run", "jobsd.attempt", "jobsd.audit", "jobsd.job", "jobsd.node")

    async with job_test(database_url) as t:
        await t.run(named("write"))
        seen = [await t.connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    assert seen == [1, 1, 1, 3, 1, 1]
    assert [await db.fetchval(f"SELECT count(*) FROM {table}") for table in tables] == [0] * len(tables)


async def test_nothing_stays_when_the_test_fails_either(database_url: str, db: Db) -> None:
    await db.execute(jobs.NOTES)

    with pytest.raises(ZeroDivisionError):
        async with job_test(database_url) as t:
            await t.run(named("write"))
            _ = 1 / 0

    assert await db.fetchval("SELECT count(*) FROM public.note") == 0


async def test_what_a_job_tells_within_a_transaction_that_it_undoes_is_stored_all_the_same(t: JobTest) -> None:
    ended = await t.run(named("tell"))

    stored = await t.connection.fetch("SELECT text FROM jobsd.message WHERE run = $1 ORDER BY id", ended.run_id)
    progress = await t.connection.fetchval("SELECT progress FROM jobsd.runs WHERE id = $1", ended.run_id)
    assert ([row["text"] for row in stored], progress) == (["begun", "halfway"], 0.5)


async def test_an_error_undoes_what_it_would_undo_in_earnest_and_no_more(t: JobTest) -> None:
    ended = await t.run(named("recover"))

    assert ended.result == ["one", "two"]
    assert [said.text for said in ended.messages] == ["undone", "undone", "CheckViolationError"]


async def test_what_goes_with_a_connection_is_gone_for_the_next(t: JobTest) -> None:
    first = await t.run(named("leave_things"))
    second = await t.run(named("leave_things"))

    assert (second.state, second.result) == ("completed", first.result)
    ours = "pid = pg_backend_pid() AND locktype = 'advisory' AND objid = 7"
    assert await t.connection.fetchval(f"SELECT count(*) FROM pg_locks WHERE {ours}") == 0


async def test_constraints_that_wait_for_the_commit_are_checked_where_it_would_be(t: JobTest) -> None:
    ended = await t.run(named("dangle"))

    assert (ended.error_kind, await notes(t)) == ("ForeignKeyViolationError", [])


async def test_begin_and_commit_may_be_said_in_words(t: JobTest) -> None:
    ended = await t.run(named("in_words"))

    assert (ended.result, await notes(t)) == (1, ["kept"])


async def test_a_block_that_may_only_read_cannot_write(t: JobTest) -> None:
    ended = await t.run(named("only_look"))
    after = await t.run(named("write"))

    assert (ended.error_kind, after.state) == ("ReadOnlySQLTransactionError", "completed")


async def test_statements_that_end_the_tests_transaction_are_told(database_url: str) -> None:
    with pytest.raises(RuntimeError, match="these statements have ended the test's transaction"):
        async with job_test(database_url) as t:
            await t.run(named("end_all"))


@pytest.mark.req("C3")
async def test_one_that_takes_too_long_in_the_database_is_ended_there_too(t: JobTest) -> None:
    ended = await t.run({"handler": named("sleep_in_sql"), "timeout": "200ms"})
    after = await t.run(named("write"))

    assert (ended.outcome, after.state, await notes(t)) == ("timed_out", "completed", ["hello"])


async def test_connections_side_by_side_do_not_undo_each_others_work(t: JobTest) -> None:
    ended = await t.run(named("side_by_side"))

    assert (ended.state, ended.result) == ("completed", 7)
    assert await notes(t) == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2", "nested"]


async def test_an_installation_with_another_schema_is_no_different(empty_database_url: str) -> None:
    await migrate(empty_database_url, schema="other")
    async with Db.open(empty_database_url) as db:
        db.path = None  # it has a table of the test's own
        await db.execute(jobs.NOTES)

    async with job_test(empty_database_url, schema="other") as t:
        ended = await t.run(named("once"), {"text": "kept"})

        assert (ended.state, await notes(t)) == ("completed", ["kept"])
        assert await t.connection.fetchval("SELECT state FROM other.runs") == "completed"
