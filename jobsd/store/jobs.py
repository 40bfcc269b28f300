"""Jobs as the database knows them: the registry's copy, the operator's switch, lock ids, how far slots are decided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from jobsd.domain.job import JobDefinition
from jobsd.store.db import Db, Session

REGISTER = """
    INSERT INTO jobsd.job AS j (name, definition, defaults, hash)
    SELECT * FROM unnest($1::text[], $2::jsonb[], $3::jsonb[], $4::text[])
        ON CONFLICT (name) DO UPDATE
       SET definition = excluded.definition, defaults = excluded.defaults, hash = excluded.hash, changed_at = now(),
           removed_at = NULL
     WHERE j.hash <> excluded.hash OR j.removed_at IS NOT NULL
"""
REMOVE = """
    WITH gone AS (
        UPDATE jobsd.job
           SET removed_at = now()
         WHERE removed_at IS NULL AND name = ANY ($1::text[])
        RETURNING name
    )
    DELETE FROM jobsd.schedule s USING gone WHERE s.job = gone.name
"""
END_SCHEDULES = """
    DELETE FROM jobsd.schedule WHERE job = ANY ($1::text[])
"""
REGISTERED = """
    SELECT name FROM jobsd.job WHERE removed_at IS NULL
"""
HASHES = """
    SELECT name, hash
      FROM jobsd.job
     WHERE removed_at IS NULL AND name = ANY ($1::text[])
"""
DEFINITIONS = """
    SELECT definition
      FROM jobsd.job
     WHERE removed_at IS NULL AND name = ANY ($1::text[])
"""
BEGIN_SCHEDULE = """
    INSERT INTO jobsd.schedule AS s (job, hash, decided_to)
    SELECT job, hash, now() FROM unnest($1::text[], $2::text[]) AS given(job, hash)
        ON CONFLICT (job) DO UPDATE
       SET hash = excluded.hash, decided_to = greatest(s.decided_to, excluded.decided_to), stretch_from = NULL
     WHERE s.hash <> excluded.hash
"""
SCHEDULES = """
    SELECT s.job, s.hash, s.decided_to, s.stretch_from, t.decision, t.reason, j.enabled
      FROM jobsd.schedule s
      JOIN jobsd.job j ON j.name = s.job
      LEFT JOIN jobsd.slot t ON t.job = s.job AND t.slot_at = s.stretch_from
     WHERE s.job = ANY ($1::text[])
"""
ADD_KEYS = """
    INSERT INTO jobsd.lock_key (name)
    SELECT DISTINCT name FROM unnest($1::text[]) AS given(name)
     WHERE NOT EXISTS (SELECT FROM jobsd.lock_key k WHERE k.name = given.name)
     ORDER BY name
        ON CONFLICT DO NOTHING
"""
KEYS = """
    SELECT name, id FROM jobsd.lock_key WHERE name = ANY ($1::text[])
"""
# A look back over a job's latest runs, newest first: the first completed one ends it.
SUCCESSES = """
    SELECT j.job, r.finished_at AS at
      FROM unnest($1::text[]) AS j(job)
     CROSS JOIN LATERAL (
        SELECT q.finished_at
          FROM (SELECT finished_at, state, id FROM jobsd.run WHERE job = j.job ORDER BY id DESC LIMIT 1000) AS q
         WHERE q.state = 'completed'
         ORDER BY q.id DESC
         LIMIT 1) AS r
"""
AUDIT = """
    INSERT INTO jobsd.audit (sequence, act, actor, job, reason, detail)
    VALUES (nextval($1::regclass), $2, $3, $4, $5, $6::jsonb)
"""


@dataclass(frozen=True, slots=True)
class Decided:
    """How far a job's slots are decided, and the stretch that a further slot with the same decision would extend."""

    job: str
    hash: str
    decided_to: datetime
    enabled: bool
    stretch_from: datetime | None
    stretch_decision: str | None
    stretch_reason: str | None


async def hashes(db: Db, names: Sequence[str]) -> Mapping[str, str]:
    """The registered ones among `names`, with the hashes of their definitions."""
    return {row["name"]: row["hash"] for row in await db.fetch(HASHES, names)}


async def definitions(db: Db, names: Sequence[str]) -> list[str]:
    """The definitions of registered jobs as the database has them: JSON."""
    return [row["definition"] for row in await db.fetch(DEFINITIONS, names)]


async def register(session: Session, definitions: Iterable[JobDefinition]) -> None:
    """Write definitions that are new or changed, and begin the schedules of those that have one."""
    jobs = list(definitions)
    await session.execute(
        REGISTER,
        [job.name for job in jobs],
        [orjson.dumps(job.public()).decode() for job in jobs],
        [orjson.dumps(job.plain_params).decode() for job in jobs],
        [job.hash for job in jobs],
        timeout=60,
    )
    await session.execute(ADD_KEYS, [job.key_template for job in jobs if _is_fixed(job.key_template)], timeout=60)
    timed = [job for job in jobs if job.schedule is not None]
    await session.execute(END_SCHEDULES, [job.name for job in jobs if job.schedule is None], timeout=60)
    await session.execute(BEGIN_SCHEDULE, [job.name for job in timed], [job.schedule_hash for job in timed], timeout=60)


def _is_fixed(template: str | None) -> bool:
    """Such a key is added at once: who needs it first may be in a transaction that others would then wait for."""
    return template is not None and "{" not in template


async def remove(db: Db | Session, names: Sequence[str]) -> None:
    """Mark jobs as no longer registered and end their schedules. Their runs and history stay."""
    await db.execute(REMOVE, names)


async def registered(db: Db) -> set[str]:
    """The names of all jobs that are registered."""
    return {row["name"] for row in await db.fetch(REGISTERED)}


async def decided(db: Db, names: Sequence[str]) -> Mapping[str, Decided]:
    """How far the slots of `names` are decided."""
    return {
        row["job"]: Decided(
            row["job"],
            row["hash"],
            row["decided_to"],
            row["enabled"],
            row["stretch_from"],
            row["decision"],
            row["reason"],
        )
        for row in await db.fetch(SCHEDULES, names)
    }


async def lock_keys(db: Db | Session, names: Iterable[str]) -> Mapping[str, int]:
    """The ids of lock keys by name; those that are new are added."""
    wanted = sorted(set(names))
    found = {row["name"]: row["id"] for row in await db.fetch(KEYS, wanted)}
    missing = [name for name in wanted if name not in found]
    if missing:
        await db.execute(ADD_KEYS, missing)
        found |= {row["name"]: row["id"] for row in await db.fetch(KEYS, missing)}
    return found


ADD_CAPS = """
    INSERT INTO jobsd.cap (job)
    SELECT name FROM unnest($1::text[]) AS given(name) ORDER BY name
        ON CONFLICT DO NOTHING
"""


async def add_caps(db: Db, names: Sequence[str]) -> None:
    """Have the rows under which the active runs of jobs with max_active are counted."""
    if names:
        await db.execute(ADD_CAPS, names)


async def audit(
    db: Db | Session,
    act: str,
    actor: str,
    *,
    job: str | None = None,
    reason: str = "",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Record an act that concerns no single run."""
    sequence = f'"{db.schema}".audit_sequence'
    text = None if detail is None else orjson.dumps(detail, default=str).decode()
    await db.execute(AUDIT, sequence, act, actor, job, reason or None, text)


async def successes(db: Db, names: Sequence[str]) -> Mapping[str, float]:
    """When each job last completed, as Unix time; of those whose last completed run is still there."""
    rows = await db.fetch(SUCCESSES, names, timeout=60)
    return {row["job"]: row["at"].timestamp() for row in rows}
