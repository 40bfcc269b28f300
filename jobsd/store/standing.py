"""Where a job stands just now: its switch, who holds its key, what its slots wait for, which nodes could take it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from jobsd.store.db import Db, Row, Session

SWITCHES = """
    SELECT name, enabled, disabled_by, disabled_reason, disabled_until
      FROM jobsd.job
     WHERE name = ANY($1::text[])
"""


async def switches(db: Db, jobs: Sequence[str]) -> list[Row]:
    """The operator's switch of each job that some daemon has registered."""
    return await db.fetch(SWITCHES, jobs)


# A job that is disabled already may be disabled for another time, which is a change too.
SWITCH = """
    WITH asked AS (
        SELECT CASE WHEN NOT $3 THEN now() + $6::interval END AS until
    ), moved AS (
        UPDATE jobsd.job j
           SET enabled = $3, disabled_by = CASE WHEN $3 THEN NULL ELSE $4::text END,
               disabled_reason = CASE WHEN $3 THEN NULL ELSE $5::text END, disabled_until = a.until, changed_at = now()
          FROM asked a
         WHERE j.name = ANY ($2::text[]) AND (j.enabled <> $3 OR j.disabled_until IS DISTINCT FROM a.until)
     RETURNING j.name, j.disabled_until
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT NULL, nextval((quote_ident($1) || '.audit_sequence')::regclass),
               CASE WHEN $3 THEN 'enabled' ELSE 'disabled' END, $4, name, $5,
               CASE WHEN disabled_until IS NOT NULL THEN jsonb_build_object('until', disabled_until) END
          FROM moved
    )
    SELECT name FROM moved
"""
REGISTERED = """
    SELECT EXISTS (SELECT FROM jobsd.job WHERE name = $1)
"""


async def switch(
    db: Db, job: str, *, enabled: bool, actor: str, reason: str | None, lasts: timedelta | None = None
) -> bool | None:
    """Turn a job on or off, off for as long as it `lasts`, with its audit entry.

    Whether that changed anything; None when it is not registered.
    """
    moved = await switch_all(db, [job], enabled=enabled, actor=actor, reason=reason, lasts=lasts)
    return bool(moved) or (False if await db.fetchval(REGISTERED, job) else None)


async def switch_all(
    db: Db | Session,
    jobs: Sequence[str],
    *,
    enabled: bool,
    actor: str,
    reason: str | None,
    lasts: timedelta | None = None,
) -> list[str]:
    """Turn many jobs on or off in one statement, with an audit entry each; the names of those that this changed."""
    rows = await db.fetch(SWITCH, db.schema, jobs, enabled, actor, reason, lasts)
    return sorted(row["name"] for row in rows)


END_WINDOWS = """
    WITH moved AS (
        UPDATE jobsd.job
           SET enabled = true, disabled_by = NULL, disabled_reason = NULL, disabled_until = NULL, changed_at = now()
         WHERE disabled_until <= now()
     RETURNING name
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason)
        SELECT NULL, nextval((quote_ident($1) || '.audit_sequence')::regclass), 'enabled', 'jobsd', name,
               'the time for which it was disabled is over'
          FROM moved
    )
    SELECT name FROM moved ORDER BY name
"""


async def end_windows(db: Db) -> list[str]:
    """Enable the jobs whose disabled time is over; their names. Any node may do it, one of them does."""
    return [row["name"] for row in await db.fetch(END_WINDOWS, db.schema)]


RUNNING = """
    WITH taken AS MATERIALIZED (
        SELECT each.id, c.fence FROM jobsd.claim c CROSS JOIN unnest(c.runs) AS each (id)
         UNION ALL
        SELECT run, fence FROM jobsd.external
    )
    SELECT r.id, n.name AS node, r.started_at
      FROM taken t
      JOIN jobsd.run r ON r.id = t.id AND r.fence = t.fence AND r.state = 'running'
      LEFT JOIN jobsd.node n ON n.id = r.node
     WHERE r.job = $1
     ORDER BY r.id
     LIMIT 100
"""


async def running(db: Db, job: str) -> list[Row]:
    """The job's runs that are running, and where."""
    return await db.fetch(RUNNING, job)


WAITING_RUNS = """
    SELECT q.id, q.due_at, q.due_at > now() AS later, k.name AS lock_key, h.id AS holder, h.job AS holder_job,
           n.name AS holder_node, h.started_at AS held_since
      FROM jobsd.run q
      LEFT JOIN jobsd.lock_key k ON k.id = q.lock_key
      LEFT JOIN jobsd.run h ON h.held = q.lock_key
      LEFT JOIN jobsd.node n ON n.id = h.node
     WHERE q.ready AND q.job = $1
     ORDER BY q.due_at, q.id
     LIMIT 20
"""


async def waiting_runs(db: Db, job: str) -> list[Row]:
    """The job's queued runs that are next in time, each with the run that holds its lock key now."""
    return await db.fetch(WAITING_RUNS, job)


HOLDER = """
    SELECT h.id, h.job, n.name AS node, h.started_at
      FROM jobsd.lock_key k
      JOIN jobsd.run h ON h.held = k.id
      JOIN jobsd.node n ON n.id = h.node
     WHERE k.name = $1
"""


async def holder(db: Db, lock_key: str) -> Row | None:
    """The run that holds a lock key now."""
    return await db.fetchrow(HOLDER, lock_key)


WAITING_SLOTS = """
    SELECT slot_at, reason, wait_until
      FROM jobsd.slot
     WHERE job = $1 AND decision = 'waiting'
     ORDER BY slot_at
     LIMIT 20
"""


async def waiting_slots(db: Db, job: str) -> list[Row]:
    """The job's slots that wait for what it needs."""
    return await db.fetch(WAITING_SLOTS, job)


SLOTS = """
    SELECT slot_at, to_at, count, decision, reason, run, node, decided_at, wait_until
      FROM jobsd.slots
     WHERE job = $1 AND ($2::timestamptz IS NULL OR slot_at < $2)
     ORDER BY slot_at DESC
     LIMIT $3
"""


async def slots(db: Db, job: str, before: datetime | None, limit: int) -> list[Row]:
    """The ledger of a job: what became of its slots, the latest first."""
    return await db.fetch(SLOTS, job, before, limit)


NODES = """
    SELECT id, name, host, pid, version, pools, state, started_at
      FROM jobsd.nodes
     WHERE state = 'live'
     ORDER BY id
"""


async def live_nodes(db: Db) -> list[Row]:
    """Every daemon that counts as live."""
    return await db.fetch(NODES)


SWITCHED_OFF = """
    SELECT name, disabled_by, disabled_reason, disabled_until
      FROM jobsd.job
     WHERE NOT enabled AND removed_at IS NULL
     ORDER BY name
"""


async def switched_off(db: Db) -> list[Row]:
    """The jobs that an operator has switched off, in the order of their names."""
    return await db.fetch(SWITCHED_OFF)
