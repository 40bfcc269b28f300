"""What the pack shows, and what an operator may do with it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from jobsd.operations import packs
from jobsd.packs.analytics import PACK
from jobsd.packs.analytics.aggregating import AnalyticsParams, analytics_jobs
from jobsd.packs.analytics.deriving import SignalParams, generate_signals
from jobsd.store import packs as stored
from jobsd.store.db import Db
from tests.packs.analytics.conftest import Context, add_event, table

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOW = {
    "type": "rate",
    "part": "quiz_submitted.passes",
    "whole": "quiz_submitted.scored",
    "below": 0.9,
    "minimum_sample": 1,
}
RULES = {"low": LOW}
LAX = {"low": LOW | {"below": 0.1}}


@pytest.fixture
async def judged(ctx: Context, sql: asyncpg.Connection) -> AsyncIterator[Context]:
    """Two days of a course that does badly: counted and judged."""
    for n, score in enumerate((10, 90, 20)):
        await add_event(sql, AT + timedelta(days=n % 2), learner=str(n), value=f'{{"score": {score}}}')
    await analytics_jobs(ctx, AnalyticsParams(signals=False))
    await generate_signals(ctx, SignalParams.model_validate({"rules": RULES}))
    yield ctx


async def rows(db: Db, view: str, **asked: str) -> list[dict[str, object]]:
    return [dict(row) for row in (await packs.rows(db, packs.view_of([PACK], "analytics", view), asked, 50)).items]


async def archive(db: Db, signal: int) -> object:
    action = packs.action_of([PACK], "analytics", "archive_signal")
    return (await packs.act(db, "analytics", action, packs.ActRequest(params={"signal": signal}), "unix:alice")).result


@pytest.mark.req("A1")
async def test_daily_aggregates_are_shown_by_course_kind_and_time(judged: Context, db: Db) -> None:
    found = await rows(db, "daily_aggregates", course="AAA/2026J", since="2026-03-02", until="2026-03-02")
    later = await rows(db, "daily_aggregates", since="2026-03-04")

    assert found == [
        {
            "day": "2026-03-02",
            "course_id": "AAA/2026J",
            "kind": "quiz_submitted",
            "events": 2,
            "scored": 2,
            "mean_score": 15.0,
            "passes": 0,
            "learners": 2,
        }
    ]
    assert later == []


@pytest.mark.req("A2")
async def test_a_signal_is_shown_as_open_cleared_or_archived(judged: Context, db: Db) -> None:
    (opened,) = await rows(db, "signals", state="open")
    await generate_signals(judged, SignalParams.model_validate({"rules": LAX}))
    (cleared,) = await rows(db, "signals")

    assert (opened["rule"], opened["course_id"], opened["active"]) == ("low", "AAA/2026J", True)
    assert (cleared["state"], cleared["id"]) == ("cleared", opened["id"])
    assert await rows(db, "signals", state="open") == []


@pytest.mark.req("A2", "C7")
async def test_a_signal_that_was_put_away_stays_as_it_is_whatever_the_rules_find(
    judged: Context, db: Db, sql: asyncpg.Connection
) -> None:
    (signal,) = await rows(db, "signals")

    done = await archive(db, int(str(signal["id"])))
    before = await table(sql, "signal")
    await add_event(sql, AT, learner="9", value='{"score": 5}')
    await analytics_jobs(judged, AnalyticsParams())
    await generate_signals(judged, SignalParams.model_validate({"rules": RULES}))

    assert done == {"rule": "low", "course_id": "AAA/2026J", "period": "whole"}
    assert await table(sql, "signal") == before
    assert [row["state"] for row in await rows(db, "signals")] == ["archived"]


@pytest.mark.req("C7")
async def test_an_archived_signal_never_changes_whoever_writes(
    judged: Context, db: Db, sql: asyncpg.Connection
) -> None:
    (signal,) = await rows(db, "signals")
    await archive(db, int(str(signal["id"])))

    with pytest.raises(asyncpg.RestrictViolationError, match="an archived signal never changes"):
        await sql.execute("UPDATE analytics.signal SET archived_at = NULL")


@pytest.mark.req("A7")
async def test_of_many_who_put_the_same_signal_away_at_once_one_does_and_is_audited(judged: Context, db: Db) -> None:
    (signal,) = await rows(db, "signals")

    done = await asyncio.gather(*(archive(db, int(str(signal["id"]))) for _ in range(5)), return_exceptions=True)

    assert sorted(type(each).__name__ for each in done) == ["JobsdError"] * 4 + ["dict"]
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit_log WHERE act = 'analytics.archive_signal'") == 1


MANY_DAYS = """
    INSERT INTO analytics.daily_aggregate
           (day, course_id, kind, events, scored, score_sum, passes, pass_mark, learners)
    SELECT date '2020-01-01' + n / 20, 'C' || n % 20, 'enrolled', 1, 0, 0, 0, 40, 1
      FROM generate_series(1, 20000) AS n
"""


async def test_a_page_of_the_longest_view_comes_by_an_index(db: Db) -> None:
    await db.execute(MANY_DAYS)
    await db.execute("ANALYZE analytics.daily_aggregate")
    view = packs.view_of([PACK], "analytics", "daily_aggregates")
    wanted = stored.Wanted({"since": "2021-01-01"}, ("2022-01-01", "C7", "enrolled"))

    plan = await db.fetch(f"EXPLAIN {stored.statement(view, wanted)}", 50, "2021-01-01", "2022-01-01", "C7", "enrolled")

    text = "\n".join(row[0] for row in plan)
    assert "one_aggregate_per_day_course_and_kind" in text
    assert "Sort" not in text
