"""The slot ledger: writing decisions, each exactly once across all nodes, together with the runs that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from jobsd.domain.run import NodeId
from jobsd.store.db import Db, Row

# `decided_to` moves by compare-and-set under a row lock, so one node decides a slot and no leader is needed. A row that
# another node holds is skipped: that node decides it.
# A job whose cap somebody else's transaction holds is skipped likewise, and decided when that is over.
DECIDE = """
    WITH capped AS MATERIALIZED (
        SELECT c.job, g.max_active
          FROM unnest($20::text[], $21::integer[]) AS g(job, max_active)
          JOIN jobsd.cap c ON c.job = g.job
         ORDER BY c.job
           FOR UPDATE OF c SKIP LOCKED
    ), mine AS MATERIALIZED (
        SELECT s.job, g.new_to, g.stretch_from
          FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[])
               AS g(job, old_to, new_to, stretch_from)
          JOIN jobsd.schedule s ON s.job = g.job AND s.decided_to = g.old_to
         WHERE s.job <> ALL ($20::text[]) OR s.job IN (SELECT job FROM capped)
         ORDER BY s.job
           FOR UPDATE OF s SKIP LOCKED
    ), moved AS (
        UPDATE jobsd.schedule s
           SET decided_to = m.new_to, stretch_from = m.stretch_from
          FROM mine m
         WHERE s.job = m.job
    ), given AS MATERIALIZED (
        SELECT w.*
          FROM unnest($5::text[], $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::text[], $10::text[],
                      $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::integer[], $15::boolean[],
                      $16::smallint[], $17::jsonb[], $18::boolean[], $22::boolean[])
               AS w(job, slot_at, to_at, count, decision, reason, due_at, wait_until, extends, lock_key, may_overlap,
                    priority, params, dry_run, permanent)
          JOIN mine USING (job)
    ), blocked AS MATERIALIZED (
        SELECT g.job, g.slot_at,
               coalesce((SELECT r.id FROM jobsd.run r WHERE r.held = g.lock_key AND r.job = g.job),
                        (SELECT r.id FROM jobsd.run r
                          WHERE r.ready AND r.lock_key = g.lock_key AND r.job = g.job LIMIT 1)) AS by
          FROM given g
         WHERE g.decision IN ('ran', 'caught_up', 'waiting') AND NOT g.may_overlap
    ), room AS MATERIALIZED (
        SELECT c.job, c.max_active, jobsd.room(c.job, c.max_active) AS places
          FROM capped c
         WHERE c.job IN (SELECT job FROM mine)
    ), over AS MATERIALIZED (
        SELECT n.job, n.slot_at, r.max_active
          FROM (SELECT g.job, g.slot_at, row_number() OVER (PARTITION BY g.job ORDER BY g.slot_at) AS place
                  FROM given g
                  LEFT JOIN blocked b ON b.job = g.job AND b.slot_at = g.slot_at
                 WHERE g.decision IN ('ran', 'caught_up') AND b.by IS NULL) AS n
          JOIN room r ON r.job = n.job AND r.places < n.place
    ), barred AS MATERIALIZED (
        SELECT job, slot_at, 'run ' || by || ' is not over' AS why FROM blocked WHERE by IS NOT NULL
         UNION ALL
        SELECT job, slot_at, 'all ' || max_active || ' active runs that it may have are there' FROM over
    ), made AS (
        INSERT INTO jobsd.run (job, slot_at, due_at, lock_key, priority, params, dry_run, permanent, capped, actor)
        SELECT g.job, g.slot_at, g.due_at, g.lock_key, g.priority, g.params, g.dry_run, g.permanent,
               CASE WHEN g.job IN (SELECT job FROM capped) THEN true END, 'schedule'
          FROM given g
          LEFT JOIN barred b ON b.job = g.job AND b.slot_at = g.slot_at
         WHERE g.decision IN ('ran', 'caught_up') AND b.why IS NULL
            ON CONFLICT (job, slot_at) WHERE slot_at IS NOT NULL DO NOTHING
        RETURNING id, job, slot_at
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job)
        SELECT id, 1, 'queued', 'schedule', job FROM made
    ), extended AS (
        UPDATE jobsd.slot s
           SET to_at = g.to_at, count = s.count + g.count, decided_at = now()
          FROM given g
         WHERE s.job = g.job AND s.slot_at = g.extends
    ), outcome AS MATERIALIZED (
        SELECT g.job, g.slot_at, g.to_at, g.count, g.extends, g.wait_until,
               coalesce(m.id, CASE WHEN g.decision IN ('ran', 'caught_up') AND b.why IS NULL THEN (
                    SELECT r.id FROM jobsd.run r WHERE r.job = g.job AND r.slot_at = g.slot_at) END) AS run,
               CASE WHEN b.why IS NOT NULL THEN 'overlap' ELSE g.decision END AS decision,
               coalesce(b.why, g.reason) AS reason
          FROM given g
          LEFT JOIN made m ON m.job = g.job AND m.slot_at = g.slot_at
          LEFT JOIN barred b ON b.job = g.job AND b.slot_at = g.slot_at
    ), ledger AS (
        INSERT INTO jobsd.slot (job, slot_at, to_at, count, decision, reason, run, node, wait_until)
        SELECT o.job, o.slot_at, o.to_at, o.count, o.decision, o.reason,
               coalesce(o.run, CASE WHEN o.decision = 'coalesced' THEN (
                    SELECT l.id FROM made l
                     WHERE l.job = o.job AND l.slot_at > o.to_at ORDER BY l.slot_at LIMIT 1) END),
               $19, CASE WHEN o.decision = 'waiting' THEN o.wait_until END
          FROM outcome o
         WHERE o.extends IS NULL AND (o.run IS NOT NULL OR o.decision NOT IN ('ran', 'caught_up'))
            ON CONFLICT DO NOTHING
    )
    SELECT m.job, o.slot_at, o.to_at, o.count, o.decision, o.reason, o.run
      FROM mine m
      LEFT JOIN outcome o USING (job)
     ORDER BY m.job, o.slot_at
"""

WAITING = """
    SELECT s.job, s.slot_at, s.wait_until
      FROM jobsd.slot s
     WHERE s.decision = 'waiting' AND s.job = ANY ($1::text[])
     ORDER BY s.job, s.slot_at
"""

END_WAIT = """
    WITH mine AS MATERIALIZED (
        SELECT s.job, s.slot_at
          FROM jobsd.slot s
         WHERE s.job = $1 AND s.slot_at = $2 AND s.decision = 'waiting'
           FOR UPDATE SKIP LOCKED
    ), full_up AS MATERIALIZED (
        SELECT 'all ' || $11::integer || ' active runs that it may have are there' AS why
          FROM mine
         WHERE $3 IN ('ran', 'caught_up')
           AND CASE WHEN $11::integer IS NULL THEN false ELSE jobsd.room(job, $11::integer) < 1 END
    ), made AS (
        INSERT INTO jobsd.run (job, slot_at, due_at, lock_key, priority, params, dry_run, permanent, capped, actor)
        SELECT job, slot_at, now(), $6, $7, $8::jsonb, $9, $10, CASE WHEN $11::integer IS NOT NULL THEN true END,
               'schedule'
          FROM mine
         WHERE $3 IN ('ran', 'caught_up') AND NOT EXISTS (SELECT FROM full_up)
            ON CONFLICT (job, slot_at) WHERE slot_at IS NOT NULL DO NOTHING
        RETURNING id, job
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job)
        SELECT id, 1, 'queued', 'schedule', job FROM made
    )
    UPDATE jobsd.slot s
       SET decision = CASE WHEN EXISTS (SELECT FROM full_up) THEN 'overlap' ELSE $3 END,
           reason = coalesce((SELECT why FROM full_up), $4),
           wait_until = NULL, node = $5, decided_at = now(), run = (SELECT id FROM made)
      FROM mine m
     WHERE s.job = m.job AND s.slot_at = m.slot_at
 RETURNING s.run
"""

# What became of a job's slot: the ledger row that covers it, and the state of the run that stands for it.
COVERING = """
    SELECT s.slot_at, s.to_at, s.decision, s.reason, s.run, r.state
      FROM jobsd.slot s
      LEFT JOIN jobsd.run r ON r.id = s.run
     WHERE s.job = $1 AND s.slot_at <= $2 AND s.to_at >= $2
     ORDER BY s.slot_at DESC
     LIMIT 1
"""

LATEST_RUN = """
    SELECT id, state FROM jobsd.run WHERE job = $1 ORDER BY id DESC LIMIT 1
"""

# The latest slot of each job that has a run, for schedules of the form `after`.
LATEST_OF = """
    SELECT j.job, s.slot_at, s.run, r.state
      FROM unnest($1::text[]) AS j(job)
     CROSS JOIN LATERAL (
        SELECT t.slot_at, t.run
          FROM jobsd.slot t
         WHERE t.job = j.job AND t.decision IN ('ran', 'caught_up')
         ORDER BY t.slot_at DESC
         LIMIT 1) AS s
      JOIN jobsd.run r ON r.id = s.run
"""

# A job's slots between two instants that had a run: those that a job which follows it passed over.
PASSED_OVER = """
    SELECT min(slot_at) AS first, max(slot_at) AS last, count(*) AS count
      FROM jobsd.slot
     WHERE job = $1 AND slot_at > $2 AND slot_at < $3 AND decision IN ('ran', 'caught_up')
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One decision to write, with what its run needs if it makes one."""

    job: str
    slot_at: datetime
    to_at: datetime
    count: int
    decision: str
    reason: str
    due_at: datetime | None
    wait_until: datetime | None
    extends: datetime | None  # the first slot of the stretch that this one only makes longer
    lock_key: int | None
    may_overlap: bool
    priority: int
    params: Mapping[str, object]
    dry_run: bool
    permanent: bool = False
    max_active: int | None = None  # of its job


@dataclass(frozen=True, slots=True)
class Move:
    """How far one job is decided by this call. `stretch_from` opens or keeps a stretch, None closes it."""

    job: str
    old_to: datetime
    new_to: datetime
    stretch_from: datetime | None


async def decide(db: Db, moves: Sequence[Move], wanted: Sequence[Wanted], node: NodeId) -> list[Row]:
    """Write the decisions of all jobs whose `old_to` still stands, with the runs that they make, in one statement.

    Returns a row for each decision of those jobs (job, slot_at, to_at, count, decision, reason, run); a job with no row
    was decided by another node, or its cap is held just now.
    """
    caps = {w.job: w.max_active for w in wanted if w.max_active is not None}
    return await db.fetch(
        DECIDE,
        [m.job for m in moves],
        [m.old_to for m in moves],
        [m.new_to for m in moves],
        [m.stretch_from for m in moves],
        [w.job for w in wanted],
        [w.slot_at for w in wanted],
        [w.to_at for w in wanted],
        [w.count for w in wanted],
        [w.decision for w in wanted],
        [w.reason for w in wanted],
        [w.due_at for w in wanted],
        [w.wait_until for w in wanted],
        [w.extends for w in wanted],
        [w.lock_key for w in wanted],
        [w.may_overlap for w in wanted],
        [w.priority for w in wanted],
        [orjson.dumps(w.params).decode() for w in wanted],
        [w.dry_run for w in wanted],
        node,
        list(caps),
        list(caps.values()),
        [w.permanent for w in wanted],
    )


async def waiting(db: Db, jobs: Sequence[str]) -> list[Row]:
    """Slots that wait for what they need: job, slot_at, wait_until."""
    return await db.fetch(WAITING, jobs)


async def end_wait(db: Db, wanted: Wanted, node: NodeId) -> int | None:
    """Decide a waiting slot; returns its run, None when it makes none or another node was first."""
    run: int | None = await db.fetchval(
        END_WAIT,
        wanted.job,
        wanted.slot_at,
        wanted.decision,
        wanted.reason,
        node,
        wanted.lock_key,
        wanted.priority,
        orjson.dumps(wanted.params).decode(),
        wanted.dry_run,
        wanted.permanent,
        wanted.max_active,
    )
    return run


async def covering(db: Db, job: str, instant: datetime) -> Row | None:
    """The ledger row that covers a slot of a job, with its run's state."""
    return await db.fetchrow(COVERING, job, instant)


async def latest_run(db: Db, job: str) -> Row | None:
    """A job's latest run: id, state."""
    return await db.fetchrow(LATEST_RUN, job)


async def latest_of(db: Db, jobs: Sequence[str]) -> Mapping[str, Row]:
    """Each job's latest slot that has a run: slot_at, run, state."""
    return {row["job"]: row for row in await db.fetch(LATEST_OF, jobs)}


async def passed_over(db: Db, job: str, after: datetime, before: datetime) -> Row | None:
    """First, last and count of the slots that lie between."""
    return await db.fetchrow(PASSED_OVER, job, after, before)
