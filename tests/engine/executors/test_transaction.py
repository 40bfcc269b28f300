"""`ctx.transaction()`: rows, result and the run's completion are one, wherever the job runs, or nothing is kept."""

import asyncio
from typing import Any

import pytest

from jobsd.domain.outcome import Cancelled
from jobsd.engine.executors.base import execute
from jobsd.engine.executors.execution import Execution
from jobsd.store.db import Db
from tests.engine.executors.bench import HANDLERS, Bench, completed, failed

KINDS = [("writes", None), ("writes", "process"), ("writes_plainly", None)]
PLACES = pytest.mark.parametrize("name, isolation", KINDS, ids=["loop", "process", "plain"])


@pytest.fixture
async def written(bench: Bench, database_url: str, db: Db) -> Bench:
    bench.url = database_url
    await db.execute("CREATE TABLE effect (run bigint NOT NULL)")
    return bench


async def execution(bench: Bench, name: str, isolation: str | None = None, **params: Any) -> Execution:
    run = {**await bench.running(), "params": params}
    return bench.execution(handler=f"{HANDLERS}:{name}", isolation=isolation, run=run)


async def standing(db: Db, which: Execution) -> tuple[str, int]:
    state = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", which.run.id)
    return state, await db.fetchval("SELECT count(*) FROM effect")


@pytest.mark.req("P9")
@PLACES
async def test_rows_result_and_completion_are_committed_together(
    written: Bench, db: Db, name: str, isolation: str | None
) -> None:
    which = await execution(written, name, isolation)

    completed(await execute(which))

    attempt = await db.fetchrow("SELECT outcome, result->>'rows' AS rows, ended_at FROM jobsd.attempts")
    assert attempt is not None
    assert await standing(db, which) == ("completed", 1)
    assert (attempt["outcome"], attempt["rows"]) == ("completed", "1")
    if name == "writes" and isolation is None:
        assert which.effects.end is not None
        assert (which.effects.end.ended_at, which.effects.end.result["rows"]) == (attempt["ended_at"], 1)
    assert which.effects.in_doubt is (which.effects.end is None), "what another process says is not taken for true"


@pytest.mark.req("P9", "P8")
@PLACES
async def test_an_exception_undoes_the_rows_and_the_run_is_left_to_its_settlement(
    written: Bench, db: Db, name: str, isolation: str | None
) -> None:
    which = await execution(written, name, isolation, then="raise")

    outcome = failed(await execute(which))

    assert outcome.error.startswith("ValueError: not so")
    assert await standing(db, which) == ("running", 0)
    assert which.effects.end is None


@pytest.mark.req("P9")
async def test_steering_inside_the_block_undoes_it_and_steers(written: Bench, db: Db) -> None:
    which = await execution(written, "writes", then="cancel")

    outcome = await execute(which)

    assert outcome == Cancelled("not needed")
    assert await standing(db, which) == ("running", 0)


@pytest.mark.req("P9", "P4")
@PLACES
async def test_a_run_that_has_moved_on_before_keeps_nothing_of_a_late_transaction(
    written: Bench, db: Db, name: str, isolation: str | None
) -> None:
    which = await execution(written, name, isolation)
    await db.execute("UPDATE jobsd.run SET fence = fence + 1")

    outcome = failed(await execute(which))

    assert outcome.kind == "FenceLost"
    assert f"run {which.run.id} has moved on" in outcome.error
    assert await standing(db, which) == ("running", 0)


@pytest.mark.req("P9", "P4", "P7")
async def test_a_run_that_moves_on_during_the_transaction_is_not_held_up_and_keeps_nothing_of_it(
    written: Bench, db: Db
) -> None:
    which = await execution(written, "writes", then="wait")
    work = asyncio.create_task(execute(which))
    await written.report.heard("written")

    await db.execute("UPDATE jobsd.run SET state = 'failed', node = NULL, finished_at = now()")  # nothing waits here
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert await standing(db, which) == ("failed", 0)


@pytest.mark.req("P9")
@pytest.mark.parametrize("isolation", [None, "process"])
async def test_a_cancelled_transaction_is_undone_on_the_server_before_the_job_counts_as_ended(
    written: Bench, db: Db, isolation: str | None
) -> None:
    which = await execution(written, "writes", isolation, then="wait")
    work = asyncio.create_task(execute(which))
    await written.report.heard("written")

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
    )
    assert await db.fetchval(open_ones) == 0
    assert await standing(db, which) == ("running", 0)


@pytest.mark.req("P9")
async def test_a_result_that_cannot_be_stored_undoes_the_rows(written: Bench, db: Db) -> None:
    which = await execution(written, "writes", then="garbage")

    outcome = failed(await execute(which))

    assert "cannot be written as JSON" in outcome.error
    assert await standing(db, which) == ("running", 0)


@pytest.mark.req("P9")
async def test_a_job_that_ends_its_transaction_itself_is_told_and_not_completed(written: Bench, db: Db) -> None:
    which = await execution(written, "writes", then="commit")

    outcome = failed(await execute(which))

    assert "the job ended its transaction itself" in outcome.error
    assert await standing(db, which) == ("running", 1)


@pytest.mark.req("P9")
async def test_a_part_of_it_may_be_undone_by_a_block_within(written: Bench, db: Db) -> None:
    which = await execution(written, "writes", then="savepoint")

    completed(await execute(which))

    assert await standing(db, which) == ("completed", 1)


@pytest.mark.req("P9")
async def test_an_error_that_comes_only_with_the_commit_undoes_all_and_leaves_no_doubt(written: Bench, db: Db) -> None:
    await db.execute("ALTER TABLE effect ADD UNIQUE (run) DEFERRABLE INITIALLY DEFERRED")
    which = await execution(written, "writes")
    await db.execute("INSERT INTO effect VALUES ($1)", which.run.id)

    outcome = failed(await execute(which))

    assert outcome.kind == "UniqueViolationError"
    assert await standing(db, which) == ("running", 1)
    assert not which.effects.in_doubt


@pytest.mark.req("A8", "P9")
@pytest.mark.parametrize("name", ["writes_or_says_so", "writes_or_says_so_plainly"])
async def test_a_dry_run_writes_nothing_and_still_shows_the_result(written: Bench, db: Db, name: str) -> None:
    dry = {**await written.running(), "dry_run": True}
    which = written.execution(handler=f"{HANDLERS}:{name}", run=dry)

    outcome = completed(await execute(which))

    assert outcome.result == {"said": "INSERT 0 1"}
    assert await standing(db, which) == ("running", 0)
    assert which.effects.end is None


@pytest.mark.req("P9")
async def test_a_sql_job_and_its_completion_are_one_and_its_failure_keeps_nothing(written: Bench, db: Db) -> None:
    one, other = [
        written.execution(sql=text, run=await written.running())
        for text in ("INSERT INTO effect VALUES (1)", "INSERT INTO effect VALUES (2); SELECT 1 / 0")
    ]

    completed(await execute(one))
    failed(await execute(other))

    assert await standing(db, one) == ("completed", 1)
    assert await standing(db, other) == ("running", 1)
    assert one.effects.end is not None and one.effects.end.result == {"status": "INSERT 0 1"}


@pytest.mark.req("P9", "P4")
async def test_a_sql_job_whose_run_has_moved_on_keeps_nothing(written: Bench, db: Db) -> None:
    which = written.execution(sql="INSERT INTO effect VALUES (1)", run=await written.running())
    await db.execute("UPDATE jobsd.run SET fence = fence + 1")

    outcome = failed(await execute(which))

    assert "has moved on" in outcome.error
    assert await standing(db, which) == ("running", 0)
