"""What is around the runs, as people read it: nodes, alerts, and a job's figures."""

from collections.abc import Sequence

from jobsd.store.db import Db, Row

NODES = """
    SELECT n.id, n.name, n.host, n.pid, n.version, n.pools, n.registry, n.state, n.beat, n.beat_at, n.started_at,
           n.ended_at, n.evidence,
           (SELECT count(*)
              FROM jobsd.claim c
             CROSS JOIN unnest(c.runs) AS taken (id)
              JOIN jobsd.run r ON r.id = taken.id AND r.fence = c.fence AND r.state = 'running'
             WHERE c.node = n.id) AS running
      FROM jobsd.nodes n
     WHERE ($1::text IS NULL OR n.state = $1)
       AND ($2::bigint IS NULL OR n.id < $2)
     ORDER BY n.id DESC
     LIMIT $3
"""


async def nodes(db: Db, state: str | None, before: int | None, limit: int) -> list[Row]:
    """Every start of a daemon, the latest first, with the number of runs that it runs."""
    return await db.fetch(NODES, state, before, limit)


ALERTS = """
    SELECT a.id, a.fingerprint, a.type, a.job, a.run, a.summary, a.detail, a.count, a.first_at, a.last_at, a.told_at,
           a.resolved_at,
           (SELECT coalesce(jsonb_agg(jsonb_build_object('channel', d.channel, 'count', d.count, 'owed_at', d.owed_at,
                    'next_at', d.next_at, 'failures', d.failures, 'error', d.error) ORDER BY d.channel), '[]')
              FROM jobsd.alert_delivery d
             WHERE d.alert = a.id) AS owed
      FROM jobsd.alert a
     WHERE ($1::boolean IS NULL OR (a.resolved_at IS NULL) = $1)
       AND ($2::text IS NULL OR a.job = $2)
       AND ($3::text IS NULL OR a.type = $3)
       AND ($4::bigint IS NULL OR a.id < $4)
     ORDER BY a.id DESC
     LIMIT $5
"""


async def alerts(
    db: Db, *, is_open: bool | None, job: str | None, kind: str | None, before: int | None, limit: int
) -> list[Row]:
    """Alerts, the latest first, with what their channels are still owed."""
    return await db.fetch(ALERTS, is_open, job, kind, before, limit)


# The latest runs are found by an index, their attempts by another: so the cost has a bound, whatever the history.
FIGURES = """
    WITH latest AS MATERIALIZED (
        SELECT id, created_at
          FROM jobsd.run
         WHERE job = $1
         ORDER BY id DESC
         LIMIT $2
    ), tries AS MATERIALIZED (
        SELECT a.outcome, a.ended_at, extract(epoch FROM a.ended_at - a.started_at)::float8 AS took_s
          FROM latest
          JOIN jobsd.attempt a ON a.run = latest.id AND NOT a.stale
    )
    SELECT w.days, (SELECT count(*) FROM latest) AS runs, (SELECT min(created_at) FROM latest) AS since,
           count(*) FILTER (WHERE t.outcome = 'completed') AS completed,
           count(*) FILTER (WHERE t.outcome = 'failed') AS failed,
           count(*) FILTER (WHERE t.outcome = 'timed_out') AS timed_out,
           count(*) FILTER (WHERE t.outcome = 'interrupted') AS interrupted,
           count(*) FILTER (WHERE t.outcome = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE t.outcome = 'deferred') AS deferred,
           count(*) FILTER (WHERE t.outcome = 'lost') AS lost,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY t.took_s) FILTER (WHERE t.outcome = 'completed') AS p50_s,
           percentile_disc(0.95) WITHIN GROUP (ORDER BY t.took_s) FILTER (WHERE t.outcome = 'completed') AS p95_s
      FROM unnest($3::integer[]) AS w (days)
      LEFT JOIN tries t ON t.ended_at > now() - w.days * interval '1 day'
     GROUP BY w.days
     ORDER BY w.days
"""


async def figures(db: Db, job: str, most: int, days: Sequence[int]) -> list[Row]:
    """A line for each stretch of `days` up to now: attempts by outcome, and how long the completed ones took.

    Made of the job's latest `most` runs: `runs` says how many there were, `since` when the first of them was made.
    """
    async with db.reading() as session:
        return await session.fetch(FIGURES, job, most, days)
