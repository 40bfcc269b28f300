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


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is asked for. One row a (job, slot_at) and a (job, idempotency_key); the second one gets the first's id."""

    job: str
    actor: str  # 'schedule', 'unix:alice', …
    priority: int = 5
    due_at: datetime | None = None  # None: now, by the database's clock
    slot_at: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    lock_key: int | None = None  # from `jobs.lock_keys`; None: the run is its own key
    idempotency_key: str | None = None
    reason: str | None = None
    detail: Mapping[str, Any] | None = None  # for the audit entry


@dataclass(frozen=True, slots=True)
class Queued:
    """`created` is false when the slot or the idempotency key had its run already: `id` is that one's."""

    id: RunId
    created: bool


ENQUEUE = """
    WITH asked AS (
        SELECT nextval(pg_get_serial_sequence(quote_ident($1) || '.run', 'id')) AS id, a.*
          FROM unnest($2::text[], $3::text[], $4::smallint[], $5::timestamptz[], $6::timestamptz[], $7::text[],
                      $8::boolean[], $9::integer[], $10::text[], $11::text[], $12::text[])
               WITH ORDINALITY AS a (job, actor, priority, due_at, slot_at, params, dry_run, lock_key,
                                     idempotency_key, reason, detail, n)
    ), added AS (
        INSERT INTO jobsd.run (id, job, actor, priority, due_at, slot_at, params, dry_run, lock_key, idempotency_key)
        SELECT id, job, actor, priority, coalesce(due_at, now()), slot_at, params::jsonb, dry_run, lock_key,
               idempotency_key
          FROM asked
         ORDER BY n
            ON CONFLICT DO NOTHING
     RETURNING id
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, reason, detail)
        SELECT id, 1, 'queued', actor, job, reason, detail::jsonb
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
    stored = {row["n"]: RunId(row["id"]) for row in await db.fetch(ENQUEUE, db.schema, *_columns(rows))}
    there = await _existing(db, [row for n, row in enumerate(rows, 1) if n not in stored])
    return [
        Queued(stored[n], True) if n in stored else Queued(there[_identity(row)], False)
        for n, row in enumerate(rows, 1)
    ]


def _columns(rows: Sequence[NewRun]) -> list[list[Any]]:
    return [
        [row.job for row in rows],
        [row.actor for row in rows],
        [row.priority for row in rows],
        [row.due_at for row in rows],
        [row.slot_at for row in rows],
        [orjson.dumps(row.params).decode() for row in rows],
        [row.dry_run for row in rows],
        [row.lock_key for row in rows],
        [row.idempotency_key for row in rows],
        [row.reason for row in rows],
        [None if row.detail is None else orjson.dumps(row.detail).decode() for row in rows],
    ]


# Two joins, since an OR over both would walk the whole of both indexes.
EXISTING = """
    WITH a AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[])
                      WITH ORDINALITY AS a (job, slot_at, idempotency_key, n)
    )
    SELECT a.n, r.id FROM a JOIN jobsd.run r ON r.job = a.job AND r.slot_at = a.slot_at
     UNION ALL
    SELECT a.n, r.id FROM a JOIN jobsd.run r ON r.job = a.job AND r.idempotency_key = a.idempotency_key
     ORDER BY n, id
"""


def _identity(row: NewRun) -> tuple[object, ...]:
    return row.job, row.slot_at, row.idempotency_key


async def _existing(db: Db | Session, rows: Sequence[NewRun]) -> dict[tuple[object, ...], RunId]:
    """The runs that stood in the way of `rows`. A statement of its own, so that it sees what was just committed."""
    if not rows:
        return {}
    found = await db.fetch(
        EXISTING, [row.job for row in rows], [row.slot_at for row in rows], [row.idempotency_key for row in rows]
    )
    return {_identity(rows[row["n"] - 1]): RunId(row["id"]) for row in reversed(found)}


@dataclass(frozen=True, slots=True)
class Depth:
    """Runs that are due and not taken, queued for later, running. Each count stops at `MANY`."""

    due: int
    later: int
    running: int
    oldest_due_s: float  # how long the oldest one of an enabled job has been due; 0 without one


DEPTH = """
    SELECT (SELECT count(*) FROM (SELECT FROM jobsd.run WHERE ready AND due_at <= now() LIMIT $1) d) AS due,
           (SELECT count(*) FROM (SELECT FROM jobsd.run WHERE ready AND due_at > now() LIMIT $1) l) AS later,
           (SELECT count(*)
              FROM jobsd.claim c
             CROSS JOIN unnest(c.runs) AS taken (id)
              JOIN jobsd.run r ON r.id = taken.id AND r.state = 'running' AND r.fence = c.fence) AS running,
           (SELECT extract(epoch FROM now() - min(o.due_at))::float8
              FROM generate_series(0, 9) AS p (priority)
             CROSS JOIN LATERAL (
                   SELECT r.due_at
                     FROM jobsd.run r
                    WHERE r.ready AND r.priority = p.priority AND r.due_at <= now()
                      AND NOT EXISTS (SELECT FROM jobsd.job j WHERE j.name = r.job AND NOT j.enabled)
                    ORDER BY r.due_at
                    LIMIT 1) o) AS oldest_due_s
"""


async def depth(db: Db | Session) -> Depth:
    """How deep the queue is, cheaply also when it is very deep."""
    row = await db.fetchrow(DEPTH, MANY)
    if row is None:
        raise AssertionError("a SELECT without FROM gives one row")
    return Depth(row["due"], row["later"], row["running"], row["oldest_due_s"] or 0.0)
