"""What people make of runs: retry, cancel, change, delete, end by force. Each is one statement with its audit entry.

The state that a move needs stands in its statement, so that of two who move one run at once only the first does.
What is allowed when, and what is told to the second, is decided in `operations.moves`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobsd.domain.run import ClaimedRun, NodeId, RunId
from jobsd.store import queue
from jobsd.store.db import Db, Row, Session
from jobsd.store.runs import claimed_run

STANDING = """
    SELECT r.id, r.job, r.state, r.permanent, r.fence, r.node, r.attempt, r.retries, r.version, r.params, r.dry_run,
           r.slot_at, r.due_at, r.started_at, r.lock_key, r.seat, r.idempotency_key,
           greatest(r.started_at, CASE WHEN p.fence = r.fence THEN p.at END) AS heard_at, now() AS now,
           EXISTS (SELECT FROM jobsd.external e WHERE e.run = r.id AND e.fence = r.fence) AS external
      FROM jobsd.run r
      LEFT JOIN jobsd.progress p ON p.run = r.id
     WHERE r.id = ANY ($1::bigint[])
     ORDER BY r.id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """A run as a move finds it. `heard_at`: when its last attempt began or last showed that it lives."""

    id: RunId
    job: str
    state: str
    version: int
    permanent: bool
    node: NodeId | None
    heard_at: datetime | None
    now: datetime  # the database's clock
    external: bool  # its last attempt is, or was, another program's
    claimed: ClaimedRun | None  # while it is running


async def standing(db: Db, runs: Sequence[RunId]) -> list[Standing]:
    """Those of `runs` that there are, in the order of their ids."""
    return [_standing(row) for row in await db.fetch(STANDING, runs)]


def _standing(row: Row) -> Standing:
    claimed = claimed_run(row) if row["state"] == "running" else None
    facts = {
        name: row[name] for name in ("job", "state", "version", "permanent", "node", "heard_at", "now", "external")
    }
    return Standing(id=RunId(row["id"]), claimed=claimed, **facts)


RUNNING = """
    SELECT r.id
      FROM jobsd.claim c
     CROSS JOIN unnest(c.runs) AS taken (id)
      JOIN jobsd.run r ON r.id = taken.id AND r.fence = c.fence AND r.state = 'running'
     UNION
    SELECT r.id
      FROM jobsd.external e
      JOIN jobsd.run r ON r.id = e.run AND r.fence = e.fence AND r.state = 'running'
"""


async def running(db: Db) -> list[Standing]:
    """Every run that is running, on whichever node, also those whose work another program does."""
    return await standing(db, [RunId(row["id"]) for row in await db.fetch(RUNNING)])


CAPPED = """
    SELECT r.id, r.job, (j.definition ->> 'max_active')::bigint AS max_active
      FROM jobsd.run r
      JOIN jobsd.job j ON j.name = r.job AND j.definition ->> 'max_active' IS NOT NULL
     WHERE r.id = ANY ($1::bigint[]) AND r.state = 'failed'
     ORDER BY r.job, r.id
"""


async def _without_room(tx: Session, runs: Sequence[RunId]) -> tuple[set[RunId], set[RunId]]:
    """Of failed `runs`, those that will count towards their job's max_active, and those that it has no room for."""
    by_job: dict[tuple[str, int], list[RunId]] = {}
    for row in await tx.fetch(CAPPED, runs):
        by_job.setdefault((row["job"], row["max_active"]), []).append(RunId(row["id"]))
    counting, crowded = set[RunId](), set[RunId]()
    for (job, most), ids in by_job.items():
        room = max(0, await queue.room(tx, job, most))
        counting.update(ids[:room])
        crowded.update(ids[room:])
    return counting, crowded


# Rows are locked in the order of their ids, so that two batches wait for each other and never in a circle.
RETRY = """
    WITH chosen AS MATERIALIZED (
        SELECT id
          FROM jobsd.run
         WHERE id = ANY ($1::bigint[]) AND state = 'failed' AND version = coalesce($4, version)
         ORDER BY id
           FOR UPDATE
    ), moved AS (
        UPDATE jobsd.run r
           SET state = 'queued', ready = true, due_at = now(), finished_at = NULL,
               retries = r.retries + 1, version = r.version + 1,
               capped = CASE WHEN r.id = ANY ($5::bigint[]) THEN true END
          FROM chosen c
         WHERE r.id = c.id
     RETURNING r.id, r.job, r.version
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason)
        SELECT id, version, 'retry', $2, job, $3 FROM moved
    )
    SELECT id FROM moved
"""


@dataclass(frozen=True, slots=True)
class Who:
    """Who moves runs and why. `version`: only if the run still has this one; None for any."""

    actor: str
    reason: str | None = None
    version: int | None = None


async def retry(db: Db, runs: Sequence[RunId], who: Who) -> tuple[set[RunId], set[RunId]]:
    """Queue failed runs again, due now; their attempts stay.

    Those that were, and those for which their job's max_active has no room.
    """
    async with db.transaction() as tx:
        counting, crowded = await _without_room(tx, runs)
        wanted = [run for run in runs if run not in crowded]
        rows = await tx.fetch(RETRY, wanted, who.actor, who.reason, who.version, list(counting))
    return {RunId(row["id"]) for row in rows}, crowded


CANCEL = """
    WITH chosen AS MATERIALIZED (
        SELECT id
          FROM jobsd.run
         WHERE id = ANY ($1::bigint[]) AND state IN ('queued', 'failed') AND version = coalesce($4, version)
         ORDER BY id
           FOR UPDATE
    ), moved AS (
        UPDATE jobsd.run r
           SET state = 'cancelled', ready = NULL, capped = NULL, finished_at = coalesce(r.finished_at, now()),
               version = r.version + 1
          FROM chosen c
         WHERE r.id = c.id
     RETURNING r.id, r.job, r.version
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason)
        SELECT id, version, 'cancelled', $2, job, $3 FROM moved
    )
    SELECT id FROM moved
"""


async def cancel(db: Db, runs: Sequence[RunId], who: Who) -> set[RunId]:
    """Cancel queued and failed runs; those that were. A failed one keeps the time of its end."""
    return await _moved(db, CANCEL, runs, who)


# With the run goes what only says how it went while it ran; its attempts and its audit entries stay.
DELETE = """
    WITH chosen AS MATERIALIZED (
        SELECT r.id
          FROM jobsd.run r
          LEFT JOIN jobsd.job j ON j.name = r.job
         WHERE r.id = ANY ($1::bigint[]) AND r.state IN ('completed', 'failed', 'cancelled') AND NOT r.permanent
           AND (j.definition @> '{"atomic": true}' OR j.definition @> '{"keep": "forever"}') IS NOT TRUE
           AND r.version = coalesce($4, r.version)
         ORDER BY r.id
           FOR UPDATE OF r
    ), gone AS (
        DELETE FROM jobsd.run r
         USING chosen c
         WHERE r.id = c.id
     RETURNING r.id, r.job, r.version + 1 AS version, r.state
    ), silent AS (
        DELETE FROM jobsd.message m USING gone g WHERE m.run = g.id
    ), unseen AS (
        DELETE FROM jobsd.progress p USING gone g WHERE p.run = g.id
    ), unforced AS (
        DELETE FROM jobsd.force_fail f USING gone g WHERE f.run = g.id
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT id, version, 'deleted', $2, job, $3, jsonb_build_object('state', state) FROM gone
    )
    SELECT id FROM gone
"""


async def delete(db: Db, runs: Sequence[RunId], who: Who) -> set[RunId]:
    """Delete finished runs that are not kept for ever; those that were."""
    return await _moved(db, DELETE, runs, who)


async def _moved(db: Db, sql: str, runs: Sequence[RunId], who: Who) -> set[RunId]:
    return {RunId(row["id"]) for row in await db.fetch(sql, runs, who.actor, who.reason, who.version)}


CHANGE = """
    WITH chosen AS MATERIALIZED (
        SELECT id, due_at, priority
          FROM jobsd.run
         WHERE id = $1 AND state = 'queued' AND version = coalesce($4, version)
           FOR UPDATE
    ), moved AS (
        UPDATE jobsd.run r
           SET due_at = coalesce($5, r.due_at), priority = coalesce($6, r.priority), version = r.version + 1
          FROM chosen c
         WHERE r.id = c.id
     RETURNING r.id, r.job, r.version, r.due_at, r.priority
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT m.id, m.version, 'changed', $2, m.job, $3,
               CASE WHEN m.due_at <> c.due_at
                    THEN jsonb_build_object('due_at', jsonb_build_array(c.due_at, m.due_at)) ELSE '{}' END
               || CASE WHEN m.priority <> c.priority
                       THEN jsonb_build_object('priority', jsonb_build_array(c.priority, m.priority)) ELSE '{}' END
          FROM moved m
          JOIN chosen c ON c.id = m.id
    )
    SELECT id FROM moved
"""


async def change(db: Db, run: RunId, who: Who, *, due_at: datetime | None, priority: int | None) -> bool:
    """Give a queued run another time or priority, None for the one it has; False when it is not queued any more."""
    return await db.fetchval(CHANGE, run, who.actor, who.reason, who.version, due_at, priority) is not None
