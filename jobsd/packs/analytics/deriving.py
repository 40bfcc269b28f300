"""The job `generate_signals`: what the daily aggregates say, by the rules of the registry.

A signal has one row for its rule, course and period. An unchanged one is not written again; one that holds no longer is
marked as cleared and stays. Archived ones are left alone, and so are courses with archived aggregates: their figures
are no longer whole.
"""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobsd.packs.analytics import standing
from jobsd.packs.analytics.changes import Changes, Stored, compare
from jobsd.packs.analytics.rules import DEFAULT_RULES, RULES, Counts, Course, Month, Rules, Signal, signals_of
from jobsd.sdk import Connection, JobContext, dry_run_aware


class SignalParams(BaseModel):
    """By which rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rules: Rules = Field(DEFAULT_RULES, description="name -> rule; analytics_jobs derives by the same ones")


@dry_run_aware
async def generate_signals(ctx: JobContext, params: SignalParams) -> dict[str, Any]:
    """Judge all courses. A dry run says how many signals it would raise, change and clear, and changes nothing."""
    began = monotonic()
    async with ctx.connect() as connection:
        if not ctx.dry_run:
            await standing.set_rules(connection, RULES.dump_json(params.rules).decode())
        result = await _judge(connection, params.rules, dry_run=ctx.dry_run)
    return {**({"dry_run": True} if ctx.dry_run else {}), **result, "seconds": round(monotonic() - began, 3)}


async def derive(ctx: JobContext, connection: Connection) -> dict[str, int]:
    """Judge by the rules of the last `generate_signals`, so that they are declared in one place; else the defaults."""
    stored = await standing.rules(connection)
    try:
        rules = RULES.validate_json(stored) if stored else DEFAULT_RULES
    except ValidationError:
        await ctx.warning("the stored rules are of another version: signals are left to generate_signals")
        return {}
    return await _judge(connection, rules)


async def _judge(connection: Connection, rules: Rules, *, dry_run: bool = False) -> dict[str, int]:
    """Read, compare and write in one transaction; what is locked is what nobody else but a count waits for."""
    async with connection.transaction(isolation="read_committed"):
        if not dry_run:
            await standing.lock(connection)
        courses = await _courses(connection)
        found = [signal for course in courses for signal in signals_of(rules, course)]
        changes = compare(found, await _stored(connection, rules, courses))
        if not dry_run:
            await _write(connection, changes)
    return {
        "courses": len(courses),
        "signals": len(found),
        "new_signals": len(changes.new),
        "changed_signals": len(changes.changed),
        "cleared_signals": len(changes.cleared),
    }


COURSES = """
    WITH counted AS (
        SELECT course_id, date_trunc('month', day::timestamp)::date AS month, kind,
               sum(events)::bigint AS events, sum(scored)::bigint AS scored, sum(passes)::bigint AS passes
          FROM analytics.daily_aggregate
         WHERE course_id NOT IN (SELECT course_id FROM analytics.daily_aggregate WHERE archived_at IS NOT NULL)
         GROUP BY 1, 2, 3)
    SELECT course_id, month, month < date_trunc('month', now() AT TIME ZONE 'UTC') AS is_complete,
           jsonb_object_agg(kind, jsonb_build_array(events, scored, passes)) AS kinds
      FROM counted
     GROUP BY course_id, month
     ORDER BY course_id, month
"""


async def _courses(connection: Connection) -> list[Course]:
    courses: dict[str, Course] = {}
    for row in await connection.fetch(COURSES):
        kinds = {kind: Counts(*counts) for kind, counts in orjson.loads(row["kinds"]).items()}
        course = courses.setdefault(row["course_id"], Course(row["course_id"], []))
        course.months.append(Month(row["month"], row["is_complete"], kinds))
    return list(courses.values())


STORED = """
    SELECT key, severity, evidence, cleared_at IS NOT NULL AS is_cleared, archived_at IS NOT NULL AS is_archived
      FROM analytics.signal
     WHERE rule = ANY ($1) AND course_id = ANY ($2)
"""


async def _stored(connection: Connection, rules: Rules, courses: Sequence[Course]) -> dict[str, Stored]:
    rows = await connection.fetch(STORED, list(rules), [course.course_id for course in courses])
    return {
        row["key"]: Stored(row["severity"], orjson.loads(row["evidence"]), row["is_cleared"], row["is_archived"])
        for row in rows
    }


RAISE = """
    INSERT INTO analytics.signal AS s (rule, course_id, period, severity, evidence)
    SELECT rule, course_id, period, severity, evidence::jsonb
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS found (rule, course_id, period, severity, evidence)
        ON CONFLICT (key) DO UPDATE
       SET severity = EXCLUDED.severity, evidence = EXCLUDED.evidence, changed_at = now(), cleared_at = NULL
     WHERE s.archived_at IS NULL
"""
CLEAR = """
    UPDATE analytics.signal
       SET cleared_at = now(), changed_at = now()
     WHERE key = ANY ($1) AND archived_at IS NULL
"""


async def _write(connection: Connection, changes: Changes) -> None:
    if signals := [*changes.new, *changes.changed]:
        await connection.execute(RAISE, *_columns(signals))
    if changes.cleared:
        await connection.execute(CLEAR, changes.cleared)


def _columns(signals: Sequence[Signal]) -> Iterable[list[str]]:
    rows = [(s.rule, s.course_id, s.period, s.severity, orjson.dumps(s.evidence).decode()) for s in signals]
    return (list(column) for column in zip(*rows, strict=True))
