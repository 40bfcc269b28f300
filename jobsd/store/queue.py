"""Into the queue: runs that are asked for, with their audit entries; and how deep the queue is.

Runs of slots are made with their decision (`store.slots`); taking runs out of the queue is the claim's (`store.runs`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from jobsd.domain.run import RunId
from jobsd.store.db import Db, Session

MANY = 10_000  # counts stop here: nobody needs the last digit, and a deep queue must not make health slow
BULK_S = 60.0  # limit of a statement that stores up to 10,000 runs


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is asked for. One row a (job, slot_at) and a (job, idempotency_key); the second one gets the first's id."""

    job: str
    actor: str  # 'schedule', 'unix:alice', …
    priority: int = 5
    due_at: datetime | None = None  # None: now, by the database's clock
    slot_at: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    permanent: bool = False
    capped: bool = False  # counts towards its job's max_active
    lock_key: int | None = None  # from `jobs.lock_keys`; None: the run is its own key
    idempotency_key: str | None = None
    asked: Mapping[str, Any] | None = None  # what must be equal for the key to stand for the same request
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """`created` is false when the slot or the idempotency key had its run already: `id` is that one's.

    `same` is false when that run was asked for differently.
    """

    id: RunId
    created: bool
    same: bool = True


ENQUEUE = """
    WITH asked AS (
        SELECT nextval((SELECT pg_get_serial_sequence(quote_ident($1) || '.run', 'id')::regclass)) AS id, a.*
          FROM unnest($2::text[], $3::text[], $4::smallint[], $5::timestamptz[], $6::timestamptz[], $7::text[],
                      $8::text[], $9::boolean[], $10::boolean[], $11::boolean[], $12::integer[], $13::text[],
                      $14::text[], $15::text[])
               WITH ORDINALITY AS a (job, actor, priority, due_at, slot_at, params, tags, dry_run, permanent, capped,
                                     lock_key, idempotency_key, asked, reason, n)
    ), added AS (
        INSERT INTO jobsd.run (id, job, actor, priority, due_at, slot_at, params, tags, dry_run, permanent, capped,
                               lock_key, idempotency_key)
        SELECT id, job, actor, priority, coalesce(due_at, now()), slot_at, params::jsonb, tags::jsonb, dry_run,
               permanent, nullif(capped, false), lock_key, idempotency_key
          FROM asked
         ORDER BY n
            ON CONFLICT DO NOTHING
     RETURNING id
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT id, 1, 'queued', actor, job, reason,
               CASE WHEN asked IS NOT NULL
                    THEN jsonb_build_object('key', idempotency_key, 'request', jobsd.digest(asked::jsonb)) END
          FROM asked JOIN added USING (id)
    )
    SELECT n, id
      FROM asked JOIN added USING (id)
"""


async def enqueue(db: Db | Session, rows: Sequence[NewRun]) -> list[Queued]:
    """Store `rows` and their audit entries in one statement; durable once this returns outside a transaction.

    Answers in the order of `rows`. Waits for another transaction that is just storing the same slot or key.
    """
    if not rows:
        return []
    stored = await db.fetch(ENQUEUE, db.schema, *_columns(rows), timeout=_limit_s(rows))
    known = {row["n"]: Queued(RunId(row["id"]), True) for row in stored}
    known |= await _existing(db, {n: row for n, row in enumerate(rows, 1) if n not in known})
    gone = [n for n in range(1, len(rows) + 1) if n not in known]  # deleted just now, and so its key is free
    known |= dict(zip(gone, await enqueue(db, [rows[n - 1] for n in gone]), strict=True))
    return [known[n] for n in range(1, len(rows) + 1)]


def _columns(rows: Sequence[NewRun]) -> list[list[Any]]:
    return [
        [row.job for row in rows],
        [row.actor for row in rows],
        [row.priority for row in rows],
        [row.due_at for row in rows],
        [row.slot_at for row in rows],
        [orjson.dumps(row.params).decode() for row in rows],
        [orjson.dumps(row.tags).decode() for row in rows],
        [row.dry_run for row in rows],
        [row.permanent for row in rows],
        [row.capped for row in rows],
        [row.lock_key for row in rows],
        [row.idempotency_key for row in rows],
        [_asked(row) for row in rows],
        [row.reason for row in rows],
    ]


def _asked(row: NewRun) -> str | None:
    return None if row.asked is None else orjson.dumps(row.asked).decode()


def _limit_s(rows: Sequence[NewRun]) -> float | None:
    return BULK_S if len(rows) > 1 else None


# Two joins, since an OR over both would walk the whole of both indexes.
EXISTING = """
    WITH a AS MATERIALIZED (
        SELECT *
          FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
               AS a (n, job, slot_at, idempotency_key, asked)
    )
    SELECT a.n, r.id, true AS same
      FROM a JOIN jobsd.run r ON r.job = a.job AND r.slot_at = a.slot_at
     UNION ALL
    SELECT a.n, r.id, a.asked IS NULL OR coalesce(t.detail ->> 'request' = jobsd.digest(a.asked::jsonb), false)
      FROM a
      JOIN jobsd.run r ON r.job = a.job AND r.idempotency_key = a.idempotency_key
      LEFT JOIN jobsd.audit t ON t.run = r.id AND t.sequence = 1
     ORDER BY n, id DESC
"""


async def _existing(db: Db | Session, rows: Mapping[int, NewRun]) -> dict[int, Queued]:
    """The runs that stood in the way of `rows`. A statement of its own, so that it sees what was just committed."""
    if not rows:
        return {}
    found = await db.fetch(
        EXISTING,
        list(rows),
        [row.job for row in rows.values()],
        [row.slot_at for row in rows.values()],
        [row.idempotency_key for row in rows.values()],
        [_asked(row) for row in rows.values()],
    )
    return {row["n"]: Queued(RunId(row["id"]), False, row["same"]) for row in found}


# A key stands for its run for a day, and for as long as the run is not over. The run's audit keeps it.
FREE_KEYS = """
    UPDATE jobsd.run
       SET idempotency_key = NULL
     WHERE job = $1 AND idempotency_key = ANY ($2::text[])
       AND finished_at IS NOT NULL AND created_at < now() - interval '24 hours'
"""


async def free_keys(db: Db | Session, job: str, keys: Sequence[str]) -> None:
    """Let those of a job's idempotency keys be used again whose day is over."""
    if keys:
        await db.execute(FREE_KEYS, job, keys)


ROOM = """
    SELECT jobsd.room($1, $2)
"""


async def room(session: Session, job: str, max_active: int) -> int:
    """How many more runs of a job may be active. Nobody else adds any until the transaction is over."""
    return int(await session.fetchval(ROOM, job, max_active))


ACTIVE = """
    SELECT count(*) FROM (SELECT FROM jobsd.run WHERE job = $1 AND capped LIMIT $2) AS a
"""


async def active(db: Db, job: str, most: int) -> int:
    """How many runs count towards a job's max_active just now, up to `most`."""
    return int(await db.fetchval(ACTIVE, job, most))


@dataclass(frozen=True, slots=True)
class Depth:
    """Runs that are due and not taken, queued for later, running. Each count stops at `MANY`."""

    due: int
    later: int
    running: int
    oldest_due_s: float  # how long the oldest one that a node should have taken has been due; 0 without one


DEPTH = """
    SELECT (SELECT count(*) FROM (SELECT FROM jobsd.run WHERE ready AND due_at <= now() LIMIT $1) d) AS due,
           (SELECT count(*) FROM (SELECT FROM jobsd.run WHERE ready AND due_at > now() LIMIT $1) l) AS later,
           (SELECT count(*)
              FROM (SELECT each.id, c.fence FROM jobsd.claim c CROSS JOIN unnest(c.runs) AS each (id)
                     UNION ALL
                    SELECT run, fence FROM jobsd.external) AS taken
              JOIN jobsd.run r ON r.id = taken.id AND r.state = 'running' AND r.fence = taken.fence) AS running,
           (SELECT extract(epoch FROM now() - min(o.due_at))::float8
              FROM generate_series(0, 9) AS p (priority)
             CROSS JOIN LATERAL (
                   SELECT r.due_at
                     FROM jobsd.run r
                    WHERE r.ready AND r.priority = p.priority AND r.due_at <= now()
                      AND NOT EXISTS (SELECT FROM jobsd.job j
                                       WHERE j.name = r.job AND (NOT j.enabled OR j.definition @> '{"external": true}'))
                    ORDER BY r.due_at
                    LIMIT 1) o) AS oldest_due_s
"""


async def depth(db: Db | Session) -> Depth:
    """How deep the queue is, cheaply also when it is very deep."""
    row = await db.fetchrow(DEPTH, MANY)
    if row is None:
        raise AssertionError("a SELECT without FROM gives one row")
    return Depth(row["due"], row["later"], row["running"], row["oldest_due_s"] or 0.0)
