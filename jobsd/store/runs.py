"""The queue: claiming rows of `jobsd.run`. What a run becomes `domain.lifecycle` decides and `history` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
import orjson

from jobsd.domain.run import ClaimedRun, Fence, NodeId, RunId
from jobsd.store import canary
from jobsd.store.db import Db, Row, Session, Unavailable
from jobsd.store.locks import Key, LockConnection
from jobsd.store.tickets import Rates

# One statement: what is due is chosen and row-locked, its keys are tried, and only what was locked is taken and
# audited. Every step is materialised, since a planner may evaluate a lock function on rows that it then drops.
# Levels are probed one by one, so that due rows are found without walking over future ones of a more urgent level.
CLAIM = """
    WITH seat AS MATERIALIZED (
        SELECT s.job, s.id, row_number() OVER (PARTITION BY s.job ORDER BY s.id) AS place
          FROM unnest($2::text[], $3::integer[]) AS s(job, id)
         WHERE s.id <> ALL ($4::integer[])
           AND NOT EXISTS (SELECT FROM jobsd.run r WHERE r.seat = s.id)
    ), spent AS MATERIALIZED (
        SELECT g.job
          FROM unnest($12::text[], $13::interval[]) AS g(job, per)
         WHERE NOT EXISTS (SELECT FROM jobsd.ticket t WHERE t.job = g.job AND t.used_at <= now() - g.per)
    ), open AS MATERIALIZED (
        SELECT j.name
          FROM jobsd.job j
         WHERE j.enabled AND j.name = ANY ($1::text[])
           AND (j.name <> ALL ($2::text[]) OR EXISTS (SELECT FROM seat WHERE seat.job = j.name))
           AND (j.name <> ALL ($12::text[]) OR NOT EXISTS (SELECT FROM spent WHERE spent.job = j.name))
    ), due AS MATERIALIZED (
        SELECT r.id, r.job, r.lock_key, r.priority, r.due_at
          FROM generate_series(0, 9) AS level(priority)
         CROSS JOIN LATERAL (
            SELECT q.id, q.job, q.lock_key, q.priority, q.due_at
              FROM jobsd.run q
             WHERE q.ready AND q.priority = level.priority AND q.due_at <= now() AND q.id <> ALL ($11::bigint[])
               AND (q.job IN (SELECT name FROM open)) IS TRUE
               AND (q.lock_key IS NULL OR (q.lock_key <> ALL ($4::integer[])
                    AND NOT EXISTS (SELECT FROM jobsd.run h WHERE h.held = q.lock_key)))
             ORDER BY q.due_at, q.id
             LIMIT $5
               FOR UPDATE OF q SKIP LOCKED) AS r
         LIMIT $5
    ), first AS MATERIALIZED (
        SELECT DISTINCT ON (coalesce(lock_key::bigint, -id)) *
          FROM due
         ORDER BY coalesce(lock_key::bigint, -id), priority, due_at, id
    ), placed AS MATERIALIZED (
        SELECT f.id, f.job, f.place, f.lock_key, s.id AS seat
          FROM (SELECT *, row_number() OVER (PARTITION BY job ORDER BY priority, due_at, id) AS place FROM first) AS f
          LEFT JOIN seat s ON s.job = f.job AND s.place = f.place
         WHERE s.id IS NOT NULL OR f.job <> ALL ($2::text[])
    ), ticket AS MATERIALIZED (
        SELECT g.job, t.n, row_number() OVER (PARTITION BY g.job ORDER BY t.n) AS place
          FROM unnest($12::text[], $13::interval[]) AS g(job, per)
         CROSS JOIN LATERAL (
            SELECT k.n
              FROM jobsd.ticket k
             WHERE k.job = g.job AND k.used_at <= now() - g.per
             ORDER BY k.used_at
             LIMIT (SELECT count(*) FROM placed p WHERE p.job = g.job)
               FOR UPDATE OF k SKIP LOCKED) AS t
    ), allowed AS MATERIALIZED (
        SELECT p.id, p.job, p.lock_key, p.seat, t.n AS ticket
          FROM placed p
          LEFT JOIN ticket t ON t.job = p.job AND t.place = p.place
         WHERE t.n IS NOT NULL OR p.job <> ALL ($12::text[])
    ), keyed AS MATERIALIZED (
        SELECT id, job, lock_key, seat, ticket,
               CASE WHEN lock_key IS NULL THEN pg_try_advisory_lock(($8::bigint << 32) | (id & 4294967295))
                    ELSE pg_try_advisory_lock($7, lock_key) END AS taken
          FROM allowed
    ), seated AS MATERIALIZED (
        SELECT id, job, lock_key, seat, ticket,
               CASE WHEN seat IS NULL THEN true ELSE pg_try_advisory_lock($7, seat) END AS taken
          FROM keyed
         WHERE taken
    ), fence AS MATERIALIZED (
        SELECT (('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint << 40)
               + nextval($9::oid::regclass) AS fence
         WHERE EXISTS (SELECT FROM seated WHERE taken)
    ), taken AS (
        UPDATE jobsd.run r
           SET state = 'running', ready = NULL, held = r.lock_key, seat = s.seat, node = $6, fence = f.fence,
               attempt = r.attempt + 1, version = r.version + 1, started_at = now()
          FROM seated s, fence f
         WHERE r.id = s.id AND s.taken
        RETURNING r.*
    ), used AS (
        UPDATE jobsd.ticket k
           SET used_at = now()
          FROM seated s
         WHERE s.taken AND k.job = s.job AND k.n = s.ticket
    ), claimed AS (
        INSERT INTO jobsd.claim (fence, node, runs)
        SELECT max(fence), $6, array_agg(id) FROM taken HAVING count(*) > 0
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence)
        SELECT id, version, 'started', $10, job, fence FROM taken
    )
    SELECT s.id, s.lock_key, s.seat, s.taken, t.job, t.fence, t.attempt, t.retries, t.version, t.params, t.dry_run,
           t.slot_at, t.due_at, t.started_at, t.idempotency_key
      FROM seated s
      LEFT JOIN taken t ON t.id = s.id
     ORDER BY t.priority, t.due_at, s.id
"""

NEXT_DUE = """
    SELECT min(due.due_at)
      FROM generate_series(0, 9) AS level(priority)
     CROSS JOIN LATERAL (
        SELECT q.due_at
          FROM jobsd.run q
         WHERE q.ready AND q.priority = level.priority AND q.due_at > now()
         ORDER BY q.due_at
         LIMIT 1) AS due
"""

STILL_OURS = """
    SELECT r.id, r.fence, r.job, r.attempt, r.retries, r.version, r.params, r.dry_run, r.slot_at, r.due_at,
           r.started_at, r.lock_key, r.seat, r.idempotency_key, true AS taken
      FROM jobsd.claim c
     CROSS JOIN LATERAL unnest(c.runs) AS each(id)
      JOIN jobsd.run r ON r.id = each.id AND r.fence = c.fence AND r.state = 'running' AND r.node = c.node
     WHERE c.node = $1
"""

FORGET_CLAIMS = """
    DELETE FROM jobsd.claim WHERE fence = ANY ($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a node may take now: its jobs, the seats of those with a concurrency limit, keys that must wait."""

    jobs: Sequence[str]
    seats: Sequence[tuple[str, int]]  # (job, id of the seat's lock_key row)
    kept: Sequence[int]  # lock ids that this session still holds for work that does not end
    kept_runs: Sequence[int]  # and runs that are their own key, likewise
    limit: int
    node: NodeId
    actor: str
    rates: Rates = ()
    canary: Fence | None = None  # to be taken too, and first


@dataclass(frozen=True, slots=True)
class Claim:
    runs: tuple[ClaimedRun, ...]
    keys: Mapping[RunId, tuple[Key, ...]]  # what was locked for each run
    surplus: tuple[Key, ...]  # locked, but its seat was not to be had: to be given back


class Overtaken(Unavailable):
    """Another program, which takes no session's locks, began a run with one of the keys at the same moment."""


async def claim(lock: LockConnection, request: ClaimRequest) -> Claim:
    """Take up to `limit` due runs on the lock session, each with its advisory locks, in one statement.

    Raises `Unavailable`, after which locks may be left; `Overtaken` is one that is mended by trying again.
    """
    sent = None if request.canary is None else await canary.take(lock, request.node, request.canary)
    request = request if sent is None else replace(request, limit=request.limit - 1)
    try:
        rows = await lock.session.fetch(CLAIM, *_arguments(lock, request))
    except asyncpg.UniqueViolationError as other:
        raise Overtaken(other) from other
    taken = [row for row in rows if row["taken"]]
    keys = {RunId(row["id"]): keys_of(lock, row["id"], row["lock_key"], row["seat"]) for row in taken}
    surplus = tuple(keys_of(lock, row["id"], row["lock_key"], None)[0] for row in rows if not row["taken"])
    claimed = tuple(claimed_run(row) for row in taken)
    if sent is None:
        return Claim(claimed, keys, surplus)
    return Claim((sent, *claimed), {**keys, sent.id: (canary.key_of(lock, request.node),)}, surplus)


def _arguments(lock: LockConnection, request: ClaimRequest) -> tuple[object, ...]:
    return (
        request.jobs,
        [job for job, _ in request.seats],
        [seat for _, seat in request.seats],
        request.kept,
        request.limit,
        request.node,
        lock.classes.lock_key,
        lock.classes.run,
        lock.classes.fence,
        request.actor,
        request.kept_runs,
        [job for job, _ in request.rates],
        [per for _, per in request.rates],
    )


def keys_of(lock: LockConnection, run_id: int, lock_key: int | None, seat: int | None) -> tuple[Key, ...]:
    """The advisory locks of a running run: its key, and its seat if its job has a concurrency limit."""
    key = lock.classes.own(run_id) if lock_key is None else Key(lock_key, False)
    return (key,) if seat is None else (key, Key(seat, False))


def claimed_run(row: Row) -> ClaimedRun:
    return ClaimedRun(
        id=RunId(row["id"]),
        job=row["job"],
        fence=Fence(row["fence"]),
        attempt=row["attempt"],
        retries=row["retries"],
        version=row["version"],
        params=orjson.loads(row["params"]),
        dry_run=row["dry_run"],
        slot_at=row["slot_at"],
        due_at=row["due_at"],
        started_at=row["started_at"],
        lock_key=row["lock_key"],
        seat=row["seat"],
        idempotency_key=row["idempotency_key"],
    )


async def next_due(db: Db) -> datetime | None:
    """When the next queued run that is not due yet will be."""
    due: datetime | None = await db.fetchval(NEXT_DUE)
    return due


async def running_on(db: Db | Session, node: NodeId) -> list[ClaimedRun]:
    """The runs that the database counts as running on a node."""
    return [claimed_run(row) for row in await db.fetch(STILL_OURS, node)]


async def forget_claims(db: Db, fences: Sequence[Fence]) -> None:
    """Drop claim rows all of whose runs are settled."""
    await db.execute(FORGET_CLAIMS, fences)
