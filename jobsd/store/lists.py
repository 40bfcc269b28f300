"""Runs and what belongs to them, as people read them: from the documented views, newest first, page by page."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from jobsd.domain.run import RunId
from jobsd.store.db import Db, Row, Session

# Which runs, by the states that are asked for: each state has a way to its runs that does not lead past all others.
NEWEST = """
    SELECT id
      FROM jobsd.run
     WHERE (cardinality($1::text[]) = 0 OR state = ANY($1))
       AND ($2::text IS NULL OR job = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3)
       AND ($4::bigint IS NULL OR id < $4)
       AND ($5::jsonb IS NULL OR (tags <> '{}' AND tags @> $5))
     ORDER BY id DESC
     LIMIT $6
"""
SELDOM = """
    SELECT id
      FROM jobsd.run
     WHERE seldom = ANY($1::text[])
       AND ($2::text IS NULL OR job = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3)
       AND ($4::bigint IS NULL OR id < $4)
       AND ($5::jsonb IS NULL OR (tags <> '{}' AND tags @> $5))
     ORDER BY id DESC
     LIMIT $6
"""
QUEUED = """
    SELECT id
      FROM jobsd.run
     WHERE ready AND state = ANY($1::text[])
       AND ($2::text IS NULL OR job = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3)
       AND ($4::bigint IS NULL OR id < $4)
       AND ($5::jsonb IS NULL OR (tags <> '{}' AND tags @> $5))
     ORDER BY id DESC
     LIMIT $6
"""
RUNNING = """
    WITH taken AS MATERIALIZED (
        SELECT unnest(runs) AS id FROM jobsd.claim
         UNION
        SELECT run FROM jobsd.external
    )
    SELECT id
      FROM taken JOIN jobsd.run USING (id)
     WHERE state = ANY($1::text[])
       AND ($2::text IS NULL OR job = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3)
       AND ($4::bigint IS NULL OR id < $4)
       AND ($5::jsonb IS NULL OR (tags <> '{}' AND tags @> $5))
     ORDER BY id DESC
     LIMIT $6
"""
WAYS = {"failed": SELDOM, "cancelled": SELDOM, "queued": QUEUED, "running": RUNNING}

RUNS = """
    SELECT id, job, state, priority, due_at, slot_at, tags, dry_run, lock_key, node, fence, attempts, retries, actor,
           created_at, started_at, finished_at, outcome, error_kind, left(error, 300) AS error, progress, progress_note,
           step, steps, heard_at, stale
      FROM jobsd.runs
     WHERE id = ANY($1::bigint[])
     ORDER BY id DESC
"""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; an empty field does not narrow. `before` is an id: only older runs. Every tag must be there."""

    states: Sequence[str] = ()
    job: str | None = None
    since: datetime | None = None
    before: RunId | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


async def runs(db: Db, wanted: RunFilter, limit: int) -> list[Row]:
    """At most `limit` runs, the latest first. Errors are cut to 300 characters; parameters and results left out."""
    async with db.reading() as session:
        return await session.fetch(RUNS, await _ids(session, wanted, limit))


async def ids(db: Db, wanted: RunFilter, limit: int) -> list[RunId]:
    """The ids of at most `limit` runs, the latest first."""
    async with db.reading() as session:
        return await _ids(session, wanted, limit)


async def _ids(session: Session, wanted: RunFilter, limit: int) -> list[RunId]:
    tags = orjson.dumps(dict(wanted.tags)).decode() if wanted.tags else None
    narrowed = (wanted.job, wanted.since, wanted.before, tags, limit)
    asked = {(WAYS[state], state) for state in wanted.states if state in WAYS}
    others = [state for state in wanted.states if state not in WAYS]
    found = [await session.fetch(way, [state], *narrowed) for way, state in sorted(asked)]
    if others or not wanted.states:
        found.append(await session.fetch(NEWEST, others, *narrowed))
    return [RunId(run) for run in heapq.nlargest(limit, (row["id"] for rows in found for row in rows))]


async def runs_by_id(session: Session, ids: Sequence[int]) -> list[Row]:
    """These runs as in a list; those that are gone are missing."""
    return await session.fetch(RUNS, ids)


RUN = """
    SELECT id, job, state, priority, due_at, slot_at, tags, dry_run, lock_key, node, fence, attempts, retries, actor,
           created_at, started_at, finished_at, outcome, error_kind, error, progress, progress_note, step, steps,
           heard_at, stale, params, result, idempotency_key, version,
           (SELECT a.reason FROM jobsd.audit_log a WHERE a.run = $1 AND a.sequence = 1) AS reason
      FROM jobsd.runs
     WHERE id = $1
"""


async def run(db: Db, run_id: RunId) -> Row | None:
    """One run, whole."""
    return await db.fetchrow(RUN, run_id)


LATEST_RUNS = """
    SELECT r.id, r.job, r.state, r.priority, r.due_at, r.slot_at, r.tags, r.dry_run, r.lock_key, r.node, r.fence,
           r.attempts, r.retries, r.actor, r.created_at, r.started_at, r.finished_at, r.outcome, r.error_kind,
           left(r.error, 300) AS error, r.progress, r.progress_note, r.step, r.steps, r.heard_at, r.stale
      FROM unnest($1::text[]) AS j (name)
     CROSS JOIN LATERAL (SELECT * FROM jobsd.runs v WHERE v.job = j.name ORDER BY v.id DESC LIMIT $2) r
     ORDER BY r.id DESC
"""


async def latest_runs(db: Db, jobs: Sequence[str], each: int = 1) -> list[Row]:
    """The last `each` runs of every one of `jobs`, the latest first."""
    return await db.fetch(LATEST_RUNS, jobs, each)


ATTEMPTS = """
    SELECT number, fence, outcome, node, host, started_at, ended_at, error_kind, error, result, output, exit_code,
           peak_memory_bytes, cpu_seconds, evidence
      FROM jobsd.attempts
     WHERE run = $1
     ORDER BY number, fence, ended_at
"""


async def attempts(db: Db, run_id: RunId) -> list[Row]:
    """Every attempt that is over, the first one first; refused results too."""
    return await db.fetch(ATTEMPTS, run_id)


AUDIT = """
    SELECT sequence, at, act, actor, fence, reason, detail
      FROM jobsd.audit_log
     WHERE run = $1
     ORDER BY sequence
"""


async def audit(db: Db, run_id: RunId) -> list[Row]:
    """The run's audit entries in the order of its moves."""
    return await db.fetch(AUDIT, run_id)


MESSAGES = """
    SELECT id, at, level, text, fence
      FROM jobsd.message
     WHERE run = $1 AND id > $2
     ORDER BY id
     LIMIT $3
"""


async def messages(db: Db, run_id: RunId, after: int, limit: int) -> list[Row]:
    """What the run said, the oldest first, from the message after `after` on."""
    return await db.fetch(MESSAGES, run_id, after, limit)


PROGRESS = """
    SELECT r.id AS run, r.state, p.fraction AS progress, coalesce(p.note, '') AS note, p.step, p.steps, p.at,
           CASE WHEN r.state = 'running' AND p.fence = r.fence AND p.fraction > 0
                THEN extract(epoch FROM (p.at - r.started_at) / p.fraction * (1 - p.fraction))::float8 END AS left_s
      FROM jobsd.run r
      LEFT JOIN jobsd.progress p ON p.run = r.id
     WHERE r.id = $1
"""


async def progress(db: Db, run_id: RunId) -> Row | None:
    """How far a run is, and how long it will still take if it goes on like this."""
    return await db.fetchrow(PROGRESS, run_id)
