"""The job `analytics_jobs`: new and late events into daily aggregates, then signals.

What is not counted yet stands in `analytics.touched_day`, written by the database with every insert of events. A batch
of days is taken from there and counted anew in one transaction: wherever a run is stopped, a day is noted or counted.
"""

from dataclasses import dataclass
from datetime import date
from time import monotonic
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobsd.packs.analytics import deriving, standing
from jobsd.sdk import Connection, JobContext, dry_run_aware

Day = tuple[date, str]  # a day of a course

BEFORE_ALL: Day = (date.min, "")


class AnalyticsParams(BaseModel):
    """How to count."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pass_mark: float = Field(
        40, ge=0, le=100, description="a score from here on is a pass; another one recounts all days"
    )
    batch: int = Field(500, ge=1, le=100_000, description="days of a course counted in one transaction")
    signals: bool = Field(True, description="derive signals afterwards, by the rules of the last generate_signals")


@dataclass(slots=True)
class Counted:
    """What a run has done so far."""

    events: int = 0
    days: int = 0
    rows: int = 0


@dry_run_aware
async def analytics_jobs(ctx: JobContext, params: AnalyticsParams) -> dict[str, Any]:
    """Count every day that has new events, late ones too. A dry run says how many there are, and changes nothing."""
    began = monotonic()
    async with ctx.connect() as connection:
        if ctx.dry_run:
            return {"dry_run": True, **await pending(connection)}
        asked_at = await standing.begin(connection, params.pass_mark)
        counted = await _count(ctx, connection, params)
        await standing.finish(connection, asked_at)
        result = {"events": counted.events, "days": counted.days, "rows": counted.rows}
        if params.signals:
            result |= await deriving.derive(ctx, connection)
    return {**result, "seconds": round(monotonic() - began, 3)}


async def _count(ctx: JobContext, connection: Connection, params: AnalyticsParams) -> Counted:
    """One pass over the noted days, in order. What is touched behind it meanwhile is the next run's: so it ends."""
    total = (await pending(connection))["days"]
    counted, after = Counted(), BEFORE_ALL
    while taken := await count_batch(connection, after, params):
        events, days, rows = taken
        after = days[-1]
        counted.events += events
        counted.days += len(days)
        counted.rows += rows
        done = min(1.0, counted.days / max(1, total))
        await ctx.progress(done, f"{counted.days:,} of {total:,} days counted, {counted.events:,} new events")
    return counted


PENDING = """
    SELECT coalesce(sum(events), 0)::bigint AS events, count(*) AS days
      FROM (SELECT sum(events) AS events
              FROM analytics.touched_day
             GROUP BY day, course_id) AS day
"""


async def pending(connection: Connection) -> dict[str, int]:
    """How many events are not counted yet, and on how many days of a course they are."""
    row = await connection.fetchrow(PENDING)
    return {"events": row["events"], "days": row["days"]}


TAKE = """
    WITH due AS MATERIALIZED (
        SELECT day, course_id
          FROM analytics.touched_day
         WHERE (day, course_id) > ($1, $2)
         GROUP BY day, course_id
         ORDER BY day, course_id
         LIMIT $3),
    taken AS (
        DELETE FROM analytics.touched_day t
         USING due
         WHERE t.day = due.day AND t.course_id = due.course_id
     RETURNING t.day, t.course_id, t.events)
    SELECT day, course_id, sum(events)::bigint AS events
      FROM taken
     GROUP BY day, course_id
     ORDER BY day, course_id
"""
# A statement of its own, after TAKE: its snapshot is newer, so it sees at least the events whose notes were taken.
# Events are only ever added or, when old, deleted; so a lower count means that a day's raw events are gone, and the
# aggregate that still knows them stays. LATERAL, so that each day is looked up: a join reads whole courses for it.
RECOUNT = """
    WITH counted AS (
        SELECT due.day, due.course_id, of_kind.*
          FROM unnest($1::date[], $2::text[]) AS due (day, course_id)
         CROSS JOIN LATERAL (
               SELECT kind,
                      count(*) AS events,
                      count(value -> 'score') AS scored,
                      coalesce(sum((value ->> 'score')::numeric), 0) AS score_sum,
                      count(*) FILTER (WHERE (value ->> 'score')::numeric >= $3::float8) AS passes,
                      count(DISTINCT learner_id) AS learners
                 FROM analytics.event
                WHERE course_id = due.course_id
                  AND occurred_at >= due.day::timestamp AT TIME ZONE 'UTC'
                  AND occurred_at < (due.day + 1)::timestamp AT TIME ZONE 'UTC'
                GROUP BY kind) AS of_kind),
    written AS (
        INSERT INTO analytics.daily_aggregate AS a
               (day, course_id, kind, events, scored, score_sum, passes, pass_mark, learners)
        SELECT day, course_id, kind, events, scored, score_sum, passes, $3::float8, learners
          FROM counted
            ON CONFLICT (day, course_id, kind) DO UPDATE
           SET events = EXCLUDED.events, scored = EXCLUDED.scored, score_sum = EXCLUDED.score_sum,
               passes = EXCLUDED.passes, pass_mark = EXCLUDED.pass_mark, learners = EXCLUDED.learners,
               counted_at = now()
         WHERE a.events < EXCLUDED.events
            OR (a.events = EXCLUDED.events AND a.pass_mark <> EXCLUDED.pass_mark)
     RETURNING 1)
    SELECT count(*)
      FROM written
"""


async def count_batch(connection: Connection, after: Day, params: AnalyticsParams) -> tuple[int, list[Day], int] | None:
    """Count the next noted days behind `after`: new events, the days in order, rows written. None: there is none."""
    async with connection.transaction(isolation="read_committed"):
        await standing.lock(connection)
        taken = await connection.fetch(TAKE, *after, params.batch)
        if not taken:
            return None
        days: list[Day] = [(row["day"], row["course_id"]) for row in taken]
        rows: int = await connection.fetchval(RECOUNT, [d for d, _ in days], [c for _, c in days], params.pass_mark)
    return sum(row["events"] for row in taken), days, rows
