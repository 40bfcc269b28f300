"""`analytics_jobs`: what it counts, and that it misses nothing, whoever commits when and wherever it is stopped."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from jobsd.packs.analytics.aggregating import AnalyticsParams, analytics_jobs
from jobsd.packs.analytics.importing import ImportParams, import_events
from tests.packs.analytics import oracle
from tests.packs.analytics.conftest import EXTRACT, Context, add_event, table

pytestmark = pytest.mark.req("A1", "C10")

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
PARAMS = AnalyticsParams()

AGGREGATES = """
    SELECT day, course_id, kind, events, scored, score_sum::float, passes, learners
      FROM analytics.daily_aggregate
"""
COUNTS = "SELECT day, events FROM analytics.daily_aggregate ORDER BY day"


async def aggregates(sql: asyncpg.Connection) -> set[tuple[object, ...]]:
    return {tuple(row) for row in await sql.fetch(AGGREGATES)}


async def counts(sql: asyncpg.Connection) -> list[int]:
    return [row["events"] for row in await sql.fetch(COUNTS)]


async def test_aggregates_are_those_of_an_independent_computation(
    ctx: Context, sql: asyncpg.Connection, oulad: Path
) -> None:
    imported = await import_events(ctx, ImportParams(format="oulad", folder=oulad))

    result = await analytics_jobs(ctx, PARAMS)

    expected = oracle.aggregates(oulad)
    assert await aggregates(sql) == expected
    assert (result["events"], result["rows"]) == (imported["events"], len(expected))
    assert result["days"] == len({(day, course) for day, course, *_ in expected})


async def test_a_second_run_has_nothing_to_do(ctx: Context, sql: asyncpg.Connection) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=EXTRACT))
    await analytics_jobs(ctx, PARAMS)
    before = await table(sql, "daily_aggregate")

    result = await analytics_jobs(ctx, PARAMS)

    assert (result["events"], result["days"], result["rows"]) == (0, 0, 0)
    assert await table(sql, "daily_aggregate") == before


async def test_a_late_event_recounts_its_own_day_and_no_other(ctx: Context, sql: asyncpg.Connection) -> None:
    await add_event(sql, MONDAY, learner="1", value='{"score": 39.5}')
    await add_event(sql, TUESDAY, learner="1")
    await analytics_jobs(ctx, PARAMS)
    tuesday = await sql.fetchrow("SELECT * FROM analytics.daily_aggregate WHERE day = $1", TUESDAY.date())
    await add_event(sql, MONDAY, learner="2", value='{"score": 40}')

    result = await analytics_jobs(ctx, PARAMS)

    monday = await sql.fetchrow("SELECT * FROM analytics.daily_aggregate WHERE day = $1", MONDAY.date())
    figures = [monday[name] for name in ("events", "scored", "score_sum", "passes", "learners")]
    assert (result["events"], result["days"], result["rows"]) == (1, 1, 1)
    assert [float(figure) for figure in figures] == [2, 2, 79.5, 1, 2]
    assert await sql.fetchrow("SELECT * FROM analytics.daily_aggregate WHERE day = $1", TUESDAY.date()) == tuesday


async def test_a_day_ends_at_midnight_utc_whatever_the_sessions_zone(ctx: Context, sql: asyncpg.Connection) -> None:
    await add_event(sql, datetime(2026, 3, 2, 23, 59, 59, 999999, tzinfo=UTC))
    await add_event(sql, datetime(2026, 3, 3, tzinfo=UTC))

    await analytics_jobs(ctx, PARAMS)

    assert [tuple(row) for row in await sql.fetch(COUNTS)] == [(MONDAY.date(), 1), (TUESDAY.date(), 1)]


async def test_events_of_a_transaction_that_commits_late_are_counted_by_the_next_run(
    ctx: Context, sql: asyncpg.Connection, database_url: str
) -> None:
    slow = await asyncpg.connect(database_url)
    slow_insert = slow.transaction()
    await slow_insert.start()
    await add_event(slow, MONDAY, learner="slow")  # has the lower id and the earlier transaction
    await add_event(sql, MONDAY, learner="quick")
    await add_event(sql, TUESDAY, learner="quick")
    await analytics_jobs(ctx, PARAMS)
    without = await counts(sql)

    await slow_insert.commit()
    result = await analytics_jobs(ctx, PARAMS)

    assert (without, await counts(sql)) == ([1, 1], [2, 1])
    assert (result["events"], result["days"]) == (1, 1)
    await slow.close()


async def test_an_insert_that_commits_between_taking_and_counting_its_day_is_not_lost(
    ctx: Context, sql: asyncpg.Connection, database_url: str
) -> None:
    await add_event(sql, MONDAY, learner="first")
    slow = await asyncpg.connect(database_url)
    slow_insert = slow.transaction()
    await slow_insert.start()
    await add_event(slow, MONDAY, learner="second")
    async with sql.transaction():
        await sql.execute("LOCK TABLE analytics.daily_aggregate IN EXCLUSIVE MODE")
        counting = asyncio.create_task(analytics_jobs(ctx, PARAMS))
        await is_waiting_for_a_lock(sql)  # the day is taken, not counted yet

        await slow_insert.commit()
    first = await counting
    second = await analytics_jobs(ctx, PARAMS)

    assert (first["events"], second["events"], second["rows"]) == (1, 1, 0)
    assert await counts(sql) == [2]
    await slow.close()


async def is_waiting_for_a_lock(sql: asyncpg.Connection) -> None:
    while not await sql.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = $1)", await oid(sql)
    ):
        await asyncio.sleep(0.005)


async def oid(sql: asyncpg.Connection) -> int:
    found: int = await sql.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    return found


async def test_two_that_count_at_once_take_turns_and_count_right(ctx: Context, sql: asyncpg.Connection) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=EXTRACT))
    small = AnalyticsParams(batch=20)

    one, other = await asyncio.gather(analytics_jobs(ctx, small), analytics_jobs(Context(ctx.url), small))

    assert await aggregates(sql) == oracle.aggregates(EXTRACT)
    assert one["days"] + other["days"] == len({row[:2] for row in oracle.aggregates(EXTRACT)})


@pytest.mark.req("C4")
@pytest.mark.parametrize("end", ["cancelled", "its session is cut"])
async def test_a_run_that_is_stopped_leaves_whole_days_and_the_next_one_completes(
    ctx: Context, sql: asyncpg.Connection, end: str
) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=EXTRACT))
    expected = oracle.aggregates(EXTRACT)

    async def stop_halfway(fraction: float) -> None:
        if fraction > 0.5 and end == "cancelled":
            raise asyncio.CancelledError
        if fraction > 0.5:
            await sql.fetchval("SELECT pg_terminate_backend($1, 5000)", ctx.backends[-1])

    ctx.on_progress = stop_halfway
    cut = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)  # as far as it is told
    with pytest.raises((asyncio.CancelledError, *cut)):
        await analytics_jobs(ctx, AnalyticsParams(batch=50))

    done = await aggregates(sql)
    noted = {tuple(row) for row in await sql.fetch("SELECT DISTINCT day, course_id FROM analytics.touched_day")}
    assert 0 < len(done) < len(expected)
    assert done == {row for row in expected if row[:2] not in noted}
    assert await sql.fetchval("SELECT aggregated_at FROM analytics.standing") is None

    await analytics_jobs(Context(ctx.url), PARAMS)
    assert await aggregates(sql) == expected
    assert await sql.fetchval("SELECT aggregated_at FROM analytics.standing") is not None


@pytest.mark.req("A8")
async def test_a_dry_run_says_what_is_due_and_changes_nothing(ctx: Context, sql: asyncpg.Connection) -> None:
    await add_event(sql, MONDAY)
    await add_event(sql, MONDAY)
    before = [await table(sql, name) for name in ("touched_day", "daily_aggregate", "signal", "standing")]
    ctx.dry_run = True

    result = await analytics_jobs(ctx, AnalyticsParams(pass_mark=50))

    assert result == {"dry_run": True, "events": 2, "days": 1}
    assert [await table(sql, name) for name in ("touched_day", "daily_aggregate", "signal", "standing")] == before


async def test_another_pass_mark_counts_all_days_anew(ctx: Context, sql: asyncpg.Connection) -> None:
    await add_event(sql, MONDAY, value='{"score": 45}')
    await add_event(sql, TUESDAY, value='{"score": 45}')
    await analytics_jobs(ctx, PARAMS)

    result = await analytics_jobs(ctx, AnalyticsParams(pass_mark=50))

    passes = await sql.fetch("SELECT passes, pass_mark FROM analytics.daily_aggregate")
    assert (result["events"], result["days"], result["rows"]) == (0, 2, 2)
    assert [tuple(row) for row in passes] == [(0, 50), (0, 50)]


@pytest.mark.req("C7")
async def test_a_late_event_on_a_day_whose_raw_events_are_deleted_does_not_lower_its_aggregate(
    ctx: Context, sql: asyncpg.Connection
) -> None:
    await add_event(sql, MONDAY)
    await add_event(sql, MONDAY)
    await analytics_jobs(ctx, PARAMS)
    await sql.execute("DELETE FROM analytics.event")
    await add_event(sql, MONDAY)

    await analytics_jobs(ctx, PARAMS)

    assert await counts(sql) == [2]


async def test_progress_tells_days_and_ends_at_1(ctx: Context, sql: asyncpg.Connection) -> None:
    await add_event(sql, MONDAY)
    await add_event(sql, TUESDAY)

    await analytics_jobs(ctx, AnalyticsParams(batch=1))

    assert ctx.reports == [(0.5, "1 of 2 days counted, 1 new events"), (1.0, "2 of 2 days counted, 2 new events")]
