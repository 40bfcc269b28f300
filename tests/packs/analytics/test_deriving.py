"""`generate_signals` and the signals of `analytics_jobs`: right, once, and following what is counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from jobsd.packs.analytics.aggregating import AnalyticsParams, analytics_jobs
from jobsd.packs.analytics.deriving import SignalParams, generate_signals
from jobsd.packs.analytics.importing import ImportParams, import_events
from jobsd.packs.analytics.rules import Rate
from tests.packs.analytics import oracle
from tests.packs.analytics.conftest import EXTRACT, Context, add_event, table

pytestmark = pytest.mark.req("A2", "C10")

COUNT_ONLY = AnalyticsParams(signals=False)
DEFAULT = SignalParams()
DAY = datetime(2020, 3, 2, 12, tzinfo=UTC)
LOW = SignalParams(
    rules={
        "low_pass_rate": Rate(part="quiz_submitted.passes", whole="quiz_submitted.scored", below=0.5, minimum_sample=2)
    }
)


async def signals(sql: asyncpg.Connection) -> dict[str, dict[str, Any]]:
    rows = await sql.fetch("SELECT * FROM analytics.signal ORDER BY key")
    return {row["key"]: {**row, "evidence": orjson.loads(row["evidence"])} for row in rows}


async def scores(sql: asyncpg.Connection, ctx: Context, *given: int) -> None:
    """Add quizzes with these scores, and count them."""
    for score in given:
        await add_event(sql, DAY, value=f'{{"score": {score}}}')
    await analytics_jobs(ctx, COUNT_ONLY)


async def test_low_rates_are_those_of_an_independent_computation(
    ctx: Context, sql: asyncpg.Connection, oulad: Path
) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=oulad))
    await analytics_jobs(ctx, COUNT_ONLY)

    await generate_signals(ctx, DEFAULT)

    found = {
        (row["rule"], row["course_id"]): row["evidence"]["rate"]
        for row in (await signals(sql)).values()
        if row["period"] == "whole"
    }
    assert found == pytest.approx(oracle.low_rates(oulad), abs=0.00005)
    assert ("low_quiz_pass_rate", "CCC/2014B") in found


async def test_falls_are_those_of_an_independent_computation(
    ctx: Context, sql: asyncpg.Connection, oulad: Path
) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=oulad))
    await analytics_jobs(ctx, COUNT_ONLY)

    await generate_signals(ctx, DEFAULT)

    found = {
        (row["course_id"], row["period"]): (row["evidence"]["events"], row["evidence"]["before"])
        for row in (await signals(sql)).values()
        if row["rule"] == "falling_activity"
    }
    assert found == oracle.falls(oulad)
    assert found


async def test_a_second_run_writes_nothing(ctx: Context, sql: asyncpg.Connection) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=EXTRACT))
    await analytics_jobs(ctx, COUNT_ONLY)
    first = await generate_signals(ctx, DEFAULT)
    versions = await sql.fetch("SELECT xmin, ctid, key FROM analytics.signal ORDER BY key")

    again = await generate_signals(ctx, DEFAULT)

    assert first["new_signals"] == first["signals"] == len(versions) > 0
    assert (again["new_signals"], again["changed_signals"], again["cleared_signals"]) == (0, 0, 0)
    assert await sql.fetch("SELECT xmin, ctid, key FROM analytics.signal ORDER BY key") == versions


async def test_analytics_jobs_derives_by_the_rules_of_the_last_generate_signals(
    ctx: Context, sql: asyncpg.Connection
) -> None:
    await scores(sql, ctx, 10, 10)
    await generate_signals(ctx, LOW)
    await add_event(sql, DAY, value='{"score": 90}')

    result = await analytics_jobs(ctx, AnalyticsParams())

    (signal,) = (await signals(sql)).values()
    assert (signal["rule"], signal["evidence"]["whole"]) == ("low_pass_rate", 3)
    assert (result["new_signals"], result["changed_signals"]) == (0, 1)


async def test_analytics_jobs_derives_by_the_defaults_where_no_generate_signals_has_run(
    ctx: Context, sql: asyncpg.Connection
) -> None:
    await import_events(ctx, ImportParams(format="oulad", folder=EXTRACT))

    await analytics_jobs(ctx, AnalyticsParams())

    before = await table(sql, "signal")
    assert before
    await generate_signals(ctx, DEFAULT)
    assert await table(sql, "signal") == before


async def test_rules_of_another_version_leave_the_signals_to_generate_signals(
    ctx: Context, sql: asyncpg.Connection
) -> None:
    await add_event(sql, DAY)
    await sql.execute("""UPDATE analytics.standing SET rules = '{"old": {"type": "gone"}}'""")

    result = await analytics_jobs(ctx, AnalyticsParams())

    assert (result["events"], "signals" in result) == (1, False)
    assert ctx.messages == ["the stored rules are of another version: signals are left to generate_signals"]


async def test_a_signal_that_holds_no_longer_is_cleared_and_comes_back_as_the_same_row(
    ctx: Context, sql: asyncpg.Connection
) -> None:
    await scores(sql, ctx, 10, 10)
    await generate_signals(ctx, LOW)
    raised = (await signals(sql))["low_pass_rate|whole|AAA/2026J"]

    await scores(sql, ctx, 90, 90, 90)
    cleared = await generate_signals(ctx, LOW)
    after_clearing = (await signals(sql))["low_pass_rate|whole|AAA/2026J"]
    await scores(sql, ctx, 10, 10)
    returned = await generate_signals(ctx, LOW)
    after_return = (await signals(sql))["low_pass_rate|whole|AAA/2026J"]

    assert (cleared["cleared_signals"], returned["changed_signals"]) == (1, 1)
    assert raised["cleared_at"] is None
    assert after_clearing["cleared_at"] is not None
    assert after_return["cleared_at"] is None
    assert raised["id"] == after_clearing["id"] == after_return["id"]
    assert raised["raised_at"] == after_return["raised_at"]


async def test_signals_of_rules_that_are_not_asked_for_stay(ctx: Context, sql: asyncpg.Connection) -> None:
    await scores(sql, ctx, 10, 10)
    await generate_signals(ctx, LOW)
    before = await table(sql, "signal")

    await generate_signals(ctx, SignalParams(rules={}))

    assert await table(sql, "signal") == before


@pytest.mark.req("C7")
async def test_an_archived_signal_is_not_written_again(ctx: Context, sql: asyncpg.Connection) -> None:
    await scores(sql, ctx, 10, 10)
    await generate_signals(ctx, LOW)
    await sql.execute("UPDATE analytics.signal SET archived_at = now()")
    before = await table(sql, "signal")
    await scores(sql, ctx, 20)

    result = await generate_signals(ctx, LOW)

    assert (result["new_signals"], result["changed_signals"]) == (0, 0)
    assert await table(sql, "signal") == before


@pytest.mark.req("C7")
async def test_a_course_with_archived_days_is_not_judged(ctx: Context, sql: asyncpg.Connection) -> None:
    await scores(sql, ctx, 90, 90)
    await add_event(sql, DAY + timedelta(days=1), value='{"score": 1}')
    await add_event(sql, DAY + timedelta(days=1), value='{"score": 1}')
    await analytics_jobs(ctx, COUNT_ONLY)
    await sql.execute("UPDATE analytics.daily_aggregate SET archived_at = now() WHERE day = $1", DAY.date())

    result = await generate_signals(ctx, LOW)

    assert (result["courses"], result["signals"]) == (0, 0)


async def test_the_current_month_is_not_judged_for_a_fall(ctx: Context, sql: asyncpg.Connection) -> None:
    today = await sql.fetchval("SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'")
    for n in range(60):
        await add_event(sql, today - timedelta(days=1), key=f"before {n}")
    await add_event(sql, today)
    await add_event(sql, today + timedelta(days=40), kind="enrolled")  # so that this month is not the course's last
    await analytics_jobs(ctx, COUNT_ONLY)

    result = await generate_signals(ctx, DEFAULT)

    assert (result["courses"], result["signals"]) == (1, 0)


@pytest.mark.req("A8")
async def test_a_dry_run_says_what_it_would_raise_and_changes_nothing(ctx: Context, sql: asyncpg.Connection) -> None:
    await scores(sql, ctx, 10, 10)
    before = [await table(sql, "signal"), await table(sql, "standing")]
    ctx.dry_run = True

    result = await generate_signals(ctx, LOW)

    assert (result["dry_run"], result["new_signals"]) == (True, 1)
    assert [await table(sql, "signal"), await table(sql, "standing")] == before
