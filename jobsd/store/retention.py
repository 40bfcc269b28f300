"""Old runs go, batch by batch, each with a commit of its own. Their attempts and their audit entries stay for ever.

How long runs are kept is read from the definitions that the database has, so that nodes with different registries do
not work against each other. No index serves this: a settlement would have to write it. Runs of a job are walked from
the oldest on, only as far as something may be due.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import orjson
from pydantic import ValidationError

from jobsd.domain.job import KeepSpec
from jobsd.domain.run import RunId
from jobsd.store.db import Db

# Jobs whose oldest run is older than some state is kept for, or that keep a number of them.
DUE = """
    SELECT j.name, j.definition->'keep' AS keep
      FROM jobsd.job j
     CROSS JOIN LATERAL (
        SELECT r.created_at
          FROM jobsd.run r
         WHERE r.job = j.name
         ORDER BY r.id
         LIMIT 1) AS oldest
     WHERE jsonb_typeof(j.definition->'keep') = 'object' AND NOT j.definition @> '{"atomic": true}'
       AND (j.definition->'keep'->>'latest' IS NOT NULL
            OR oldest.created_at < now() - least((j.definition->'keep'->>'completed')::interval,
                                                 (j.definition->'keep'->>'failed')::interval,
                                                 (j.definition->'keep'->>'cancelled')::interval))
     ORDER BY j.name
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A job that may have runs to be deleted, and what it keeps."""

    job: str
    keep: KeepSpec


async def due(db: Db) -> list[Kept]:
    """The jobs to look at. One that another version wrote in a way that this one cannot read is left to that one."""
    found = list[Kept]()
    for row in await db.fetch(DUE):
        with suppress(ValidationError):
            found.append(Kept(row["name"], KeepSpec.model_validate(orjson.loads(row["keep"]))))
    return found


# The newest finished run that is one too many.
SURPLUS = """
    SELECT id
      FROM jobsd.run
     WHERE job = $1 AND state IN ('completed', 'failed', 'cancelled')
     ORDER BY id DESC
    OFFSET $2
     LIMIT 1
"""


async def surplus(db: Db, job: str, latest: int) -> RunId | None:
    """The latest of the finished runs that are more than `latest`; it and all older ones may go."""
    found: int | None = await db.fetchval(SURPLUS, job, latest)
    return None if found is None else RunId(found)


# A page of runs is looked at and at most a batch of them deleted; what it did not come to is looked at again.
# What the schedule's latest slot made stays: `needs` and `after` ask for it. So does a run whose key still stands.
CLEAR = """
    WITH page AS MATERIALIZED (
        SELECT id, state, created_at, finished_at, permanent, idempotency_key
          FROM jobsd.run
         WHERE job = $2 AND id > $3
         ORDER BY id
         LIMIT $4 * 10
    ), latest AS MATERIALIZED (
        SELECT s.run
          FROM jobsd.slot s
         WHERE s.job = $2 AND s.decision IN ('ran', 'caught_up')
         ORDER BY s.slot_at DESC
         LIMIT 1
    ), past AS MATERIALIZED (
        SELECT r.id, r.state
          FROM page p
          JOIN jobsd.run r ON r.id = p.id
          JOIN unnest($5::text[], $6::interval[]) AS k(state, kept) ON k.state = r.state
         WHERE NOT r.permanent
           AND (p.id <= $7 OR r.finished_at < now() - k.kept)
           AND (r.idempotency_key IS NULL OR r.created_at < now() - interval '24 hours')
           AND NOT EXISTS (SELECT FROM latest WHERE latest.run = r.id)
         ORDER BY r.id
         LIMIT $4
           FOR UPDATE OF r SKIP LOCKED
    ), gone AS (
        DELETE FROM jobsd.run r USING past WHERE r.id = past.id RETURNING r.id, r.state
    ), messages AS (
        DELETE FROM jobsd.message m USING past WHERE m.run = past.id
    ), progress AS (
        DELETE FROM jobsd.progress p USING past WHERE p.run = past.id
    ), forced AS (
        DELETE FROM jobsd.force_fail f USING past WHERE f.run = past.id
    ), noted AS (
        INSERT INTO jobsd.audit (sequence, act, actor, job, reason, detail)
        SELECT nextval((quote_ident($1) || '.audit_sequence')::regclass), 'deleted', $8, $2, 'kept as long as declared',
               jsonb_build_object('runs', count(*), 'first', min(id), 'last', max(id))
          FROM gone
        HAVING count(*) > 0
    )
    SELECT (SELECT count(*) FROM gone) AS gone,
           CASE WHEN (SELECT count(*) FROM past) = $4 THEN (SELECT max(id) FROM past) ELSE max(id) END AS last,
           coalesce(bool_or(id <= $7 OR created_at < now() - $9::interval), false) AS further
      FROM page
"""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What one batch did: runs deleted, and where the next begins; None when no further run can be due."""

    gone: int
    after: RunId | None


async def clear(db: Db, kept: Kept, edge: RunId | None, after: RunId, *, batch: int, actor: str) -> Cleared:
    """Delete the next runs of a job from `after` on that are due, at most `batch`, in one transaction.

    `edge`: it and what is older goes however young it is. A run that is just being retried, or deleted by another node,
    is passed over.
    """
    states = kept.keep.days_by_state
    shortest: timedelta = min(states.values())
    times: Sequence[timedelta] = list(states.values())
    row = await db.fetchrow(
        CLEAR, db.schema, kept.job, after, batch, list(states), times, edge or 0, actor, shortest, timeout=60
    )
    if row is None or row["last"] is None:
        return Cleared(0, None)
    return Cleared(row["gone"], RunId(row["last"]) if row["further"] else None)
