"""Attempts that another program executes: begun, found, swept. What it says meanwhile is in `reports`.

They hold their lock key by the unique index on `run.held`, and no advisory lock, since nobody here could let go of it.
How one ends is decided in `domain.lifecycle` and written by `history`, like every other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from jobsd.domain.run import ClaimedRun, Fence, NodeId, RunId
from jobsd.store.db import Db, Row, Session
from jobsd.store.runs import claimed_run


class Taken(Exception):
    """Another run took the lock key or the seat in the same moment."""


# The job's row makes the starts of one job wait for each other, so that its switch and its seats are seen as they are.
SWITCH = """
    SELECT enabled, disabled_by, disabled_reason
      FROM jobsd.job
     WHERE name = $1
       FOR NO KEY UPDATE
"""


async def switch(tx: Session, job: str) -> Row | None:
    """The job's switch, locked until the end of the transaction; None when it is not registered."""
    return await tx.fetchrow(SWITCH, job)


# A key that a claim is just taking, or that work which ignored its end still has, is found by its advisory lock.
# Times are the statement's: the transaction may have waited for the job's row.
START = """
    WITH wanted AS MATERIALIZED (
        SELECT id, job, lock_key
          FROM jobsd.run
         WHERE id = $2 AND state = 'queued' AND due_at <= statement_timestamp()
           FOR UPDATE
    ), seat AS MATERIALIZED (
        SELECT s.id
          FROM unnest($3::integer[]) AS s(id)
         WHERE NOT EXISTS (SELECT FROM jobsd.run r WHERE r.seat = s.id)
         ORDER BY s.id
         LIMIT 1
    ), ticket AS MATERIALIZED (
        SELECT t.job, t.n
          FROM jobsd.ticket t
          JOIN wanted w ON w.job = t.job
         WHERE t.used_at <= statement_timestamp() - $9::interval
         ORDER BY t.used_at
         LIMIT 1
    ), free AS MATERIALIZED (
        SELECT id
          FROM wanted
         WHERE (cardinality($3::integer[]) = 0 OR EXISTS (SELECT FROM seat))
           AND ($9::interval IS NULL OR EXISTS (SELECT FROM ticket))
           AND (lock_key IS NULL
                OR (NOT EXISTS (SELECT FROM jobsd.run h WHERE h.held = wanted.lock_key)
                    AND pg_try_advisory_xact_lock((quote_ident($1) || '.lock_key')::regclass::oid::integer, lock_key)))
    ), begun AS (
        UPDATE jobsd.run r
           SET state = 'running', ready = NULL, held = r.lock_key, seat = (SELECT id FROM seat), node = $4,
               fence = (('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint << 40)
                       + nextval((quote_ident($1) || '.fence')::regclass),
               attempt = r.attempt + 1, version = r.version + 1, started_at = statement_timestamp()
          FROM free
         WHERE r.id = free.id
        RETURNING r.*
    ), spent AS (
        UPDATE jobsd.ticket t
           SET used_at = b.started_at
          FROM ticket k, begun b
         WHERE t.job = k.job AND t.n = k.n
    ), listed AS (
        INSERT INTO jobsd.external AS e (run, fence, stale_after, ends_at)
        SELECT id, fence, $5, started_at + $6::interval FROM begun
            ON CONFLICT (run) DO UPDATE
           SET fence = excluded.fence, stale_after = excluded.stale_after, ends_at = excluded.ends_at
    ), heard AS (
        INSERT INTO jobsd.progress AS p (run, fence)
        SELECT id, fence FROM begun
            ON CONFLICT (run) DO UPDATE
           SET fence = excluded.fence, fraction = NULL, note = '', step = NULL, steps = NULL, at = clock_timestamp()
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence, reason)
        SELECT id, version, 'started', $7, job, fence, $8 FROM begun
    )
    SELECT * FROM begun
"""


@dataclass(frozen=True, slots=True)
class Begin:
    """What a start is to write. `seats` are the lock ids of the places of a job with a concurrency limit."""

    run: RunId
    seats: Sequence[int]
    node: NodeId  # the one that serves the request
    stale_after: timedelta
    limit: timedelta
    actor: str
    reason: str | None = None
    rate_per: timedelta | None = None  # the time of the job's rate, if it has one


async def start(tx: Session, begin: Begin) -> ClaimedRun | None:
    """Make a queued run a running one; None when it is not to be had now. Raises `Taken`: the transaction is over."""
    try:
        row = await tx.fetchrow(
            START,
            tx.schema,
            begin.run,
            begin.seats,
            begin.node,
            begin.stale_after,
            begin.limit,
            begin.actor,
            begin.reason,
            begin.rate_per,
        )
    except asyncpg.UniqueViolationError as error:
        raise Taken(begin.run) from error
    return None if row is None else claimed_run(row)


IN_THE_WAY = """
    SELECT h.id, h.job, h.started_at, n.name AS node
      FROM jobsd.run q
      JOIN jobsd.run h ON h.held = q.lock_key
      LEFT JOIN jobsd.node n ON n.id = h.node
     WHERE q.id = $1
"""


async def in_the_way(db: Db | Session, run: RunId) -> Row | None:
    """The run that holds the lock key which a run waits for."""
    return await db.fetchrow(IN_THE_WAY, run)


FIND = """
    SELECT r.*, e.fence IS NOT NULL AS external, now() AS now
      FROM jobsd.run r
      LEFT JOIN jobsd.external e ON e.run = r.id AND e.fence = r.fence
     WHERE r.id = $1
"""
ATTEMPT = """
    SELECT fence, number, node, started_at, outcome, error, result
      FROM jobsd.attempt
     WHERE run = $1 AND fence = $2 AND NOT stale
"""


async def find(db: Db | Session, run: RunId) -> Row | None:
    """A run's row, enough for `runs.claimed_run`; whether its attempt is another program's; the database's clock."""
    return await db.fetchrow(FIND, run)


async def attempt(db: Db, run: RunId, fence: Fence) -> Row | None:
    """How the attempt with this fence ended; None when it is not over, or never was."""
    return await db.fetchrow(ATTEMPT, run, fence)


NEXT_TICKET = """
    SELECT greatest(0, extract(epoch FROM min(used_at) + $2::interval - statement_timestamp()))::float8
      FROM jobsd.ticket
     WHERE job = $1
"""


async def next_ticket_s(db: Db | Session, job: str, per: timedelta) -> float:
    """How long until a job with a rate may start once more. Seconds."""
    return float(await db.fetchval(NEXT_TICKET, job, per) or 0.0)


FORGET = """
    DELETE FROM jobsd.external WHERE run = $1 AND fence <= $2
"""


async def forget(tx: Session, run: RunId, fence: Fence) -> None:
    """No longer look after an attempt that is over."""
    await tx.execute(FORGET, run, fence)


# A daemon calls silent only what it could have heard itself: its own start counts as a sign of life.
SILENT = """
    SELECT r.*, now() AS now, now() >= e.ends_at AS late,
           CASE WHEN now() >= e.ends_at THEN now() - r.started_at ELSE now() - greatest(r.started_at, p.at) END AS for_,
           CASE WHEN now() >= e.ends_at THEN e.ends_at - r.started_at ELSE e.stale_after END AS allowed
      FROM jobsd.external e
      JOIN jobsd.run r ON r.id = e.run AND r.fence = e.fence AND r.state = 'running'
      LEFT JOIN jobsd.progress p ON p.run = e.run AND p.fence = e.fence
     WHERE now() >= e.ends_at
        OR now() - greatest(r.started_at, p.at, (SELECT n.started_at FROM jobsd.node n WHERE n.id = $1))
           >= e.stale_after
     ORDER BY e.run
     LIMIT $2
       FOR UPDATE OF e SKIP LOCKED
"""


@dataclass(frozen=True, slots=True)
class Silent:
    """An attempt that nobody has heard of for too long, or that runs longer than it may."""

    run: ClaimedRun
    node: NodeId
    late: bool  # past its limit
    for_: timedelta  # silent, or running if `late`
    allowed: timedelta
    now: datetime


async def silent(tx: Session, node: NodeId, limit: int) -> list[Silent]:
    """External attempts that are stale as `node` sees it, locked until the end of the transaction."""
    return [
        Silent(claimed_run(row), NodeId(row["node"]), row["late"], row["for_"], row["allowed"], row["now"])
        for row in await tx.fetch(SILENT, node, limit)
    ]


# By fence, so that a row which a new attempt just took over stays.
TIDY = """
    WITH over AS MATERIALIZED (
        SELECT e.run, e.fence
          FROM jobsd.external e
         WHERE NOT EXISTS (
                SELECT FROM jobsd.run r WHERE r.id = e.run AND r.fence = e.fence AND r.state = 'running')
    )
    DELETE FROM jobsd.external e
     USING over
     WHERE e.run = over.run AND e.fence = over.fence
"""


async def tidy(db: Db) -> None:
    """Drop what is left of attempts that ended otherwise: by force, or with their run."""
    await db.execute(TIDY)


# In-process runs of one node that have once told how far they are, or that they live, and then fell silent.
QUIET_HERE = """
    SELECT r.id, r.job, r.attempt, p.at AS heard_at, now() - p.at AS silent_for
      FROM jobsd.claim c
     CROSS JOIN unnest(c.runs) AS taken(id)
      JOIN jobsd.run r ON r.id = taken.id AND r.fence = c.fence AND r.state = 'running'
      JOIN jobsd.progress p ON p.run = r.id AND p.fence = r.fence
      JOIN unnest($2::text[], $3::interval[]) AS j(name, stale_after) ON j.name = r.job
     WHERE c.node = $1 AND now() - p.at >= j.stale_after
     ORDER BY r.id
"""


async def quiet_here(db: Db, node: NodeId, stale_after: Mapping[str, timedelta]) -> list[Row]:
    """Runs that `node` executes and that have not been heard of for their job's `stale_after`, by name of job."""
    return await db.fetch(QUIET_HERE, node, list(stale_after), list(stale_after.values()))
