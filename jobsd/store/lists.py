"""Runs and what belongs to them, as people read them: from the documented views, newest first, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobsd.domain.run import RunId
from jobsd.store.db import Db, Row

RUNS = """
    SELECT id, job, state, priority, due_at, slot_at, dry_run, lock_key, node, fence, attempts, retries, actor,
           created_at, started_at, finished_at, outcome, error_kind, left(error, 300) AS error, progress, progress_note
      FROM jobsd.runs
     WHERE (cardinality($1::text[]) = 0 OR state = ANY($1))
       AND ($2::text IS NULL OR job = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3)
       AND ($4::bigint IS NULL OR id < $4)
     ORDER BY id DESC
     LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; an empty field does not narrow. `before` is an id: only older runs."""

    states: Sequence[str] = ()
    job: str | None = None
    since: datetime | None = None
    before: RunId | None = None


async def runs(db: Db, wanted: RunFilter, limit: int) -> list[Row]:
    """At most `limit` runs, the latest first. Errors are cut to 300 characters; parameters and results left out."""
    return await db.fetch(RUNS, list(wanted.states), wanted.job, wanted.since, wanted.before, limit)


RUN = """
    SELECT id, job, state, priority, due_at, slot_at, dry_run, lock_key, node, fence, attempts, retries, actor,
           created_at, started_at, finished_at, outcome, error_kind, error, progress, progress_note,
           params, result, idempotency_key,
           (SELECT a.reason FROM jobsd.audit_log a WHERE a.run = $1 AND a.sequence = 1) AS reason
      FROM jobsd.runs
     WHERE id = $1
"""


async def run(db: Db, run_id: RunId) -> Row | None:
    """One run, whole."""
    return await db.fetchrow(RUN, run_id)


LATEST_RUNS = """
    SELECT r.id, r.job, r.state, r.priority, r.due_at, r.slot_at, r.dry_run, r.lock_key, r.node, r.fence, r.attempts,
           r.retries, r.actor, r.created_at, r.started_at, r.finished_at, r.outcome, r.error_kind,
           left(r.error, 300) AS error, r.progress, r.progress_note
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
    SELECT r.id AS run, r.state, p.fraction AS progress, coalesce(p.note, '') AS note, p.at,
           CASE WHEN r.state = 'running' AND p.fence = r.fence AND p.fraction > 0
                THEN extract(epoch FROM (p.at - r.started_at) / p.fraction * (1 - p.fraction))::float8 END AS left_s
      FROM jobsd.run r
      LEFT JOIN jobsd.progress p ON p.run = r.id
     WHERE r.id = $1
"""


async def progress(db: Db, run_id: RunId) -> Row | None:
    """How far a run is, and how long it will still take if it goes on like this."""
    return await db.fetchrow(PROGRESS, run_id)
