"""Writing what was decided: run, attempt, audit and alerts of many settlements in one transaction.

A settlement names its fence: one whose run has moved on changes nothing and is kept as a stale attempt, with an entry
of the audit and an alert (P4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from jobsd.domain.outcome import Settlement
from jobsd.domain.run import ClaimedRun, Fence, NodeId
from jobsd.store.alerts import raise_alerts
from jobsd.store.db import Db, Session

# `already` finds settlements whose commit was done and whose answer was lost: they are written once. A refused result
# is no move of its run, so the number of its audit entry is its fence, which no version ever reaches.
SETTLE = """
    WITH given AS MATERIALIZED (
        SELECT *
          FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[],
                      $7::timestamptz[], $8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::text[],
                      $12::text[], $13::text[], $14::text[], $15::integer[], $16::bigint[], $17::float8[], $18::text[],
                      $19::integer[], $22::text[])
            AS g(run, fence, number, state, outcome, act, due_at, retry, started_at, ended_at, error_kind, error,
                 result, output, exit_code, peak_memory_bytes, cpu_seconds, evidence, node, actor)
    ), already AS MATERIALIZED (
        SELECT a.run, a.fence
          FROM given g
          JOIN jobsd.attempt a ON a.run = g.run AND a.fence = g.fence AND NOT a.stale
         WHERE a.node = g.node AND a.ended_at = g.ended_at AND a.outcome = g.outcome
    ), moved AS (
        UPDATE jobsd.run r
           SET state = g.state, held = NULL, seat = NULL, node = NULL,
               ready = CASE WHEN g.state = 'queued' THEN true END,
               capped = CASE WHEN g.state = 'queued' THEN r.capped END,
               due_at = coalesce(g.due_at, r.due_at),
               retries = r.retries + g.retry::integer,
               version = r.version + 1,
               finished_at = CASE WHEN g.state <> 'queued' THEN now() END
          FROM given g
         WHERE r.id = g.run AND r.fence = g.fence AND r.state = 'running'
        RETURNING r.id, r.fence, r.version, r.job
    ), kept AS (
        INSERT INTO jobsd.attempt (run, fence, stale, number, node, outcome, started_at, ended_at, error_kind, error,
                                   result, output, exit_code, peak_memory_bytes, cpu_seconds, evidence)
        SELECT g.run, g.fence, m.id IS NULL, g.number, g.node, g.outcome, g.started_at, g.ended_at, g.error_kind,
               g.error, g.result::jsonb, g.output, g.exit_code, g.peak_memory_bytes, g.cpu_seconds, g.evidence::jsonb
          FROM given g
          LEFT JOIN moved m ON m.id = g.run AND m.fence = g.fence
         WHERE NOT EXISTS (SELECT FROM already y WHERE y.run = g.run AND y.fence = g.fence)
            ON CONFLICT DO NOTHING
        RETURNING run, fence, stale, number, outcome
    ), refused AS MATERIALIZED (
        SELECT k.run, k.fence, r.job,
               format('attempt %s came to its end ("%s") after the run had moved on: rejected, stale',
                      k.number, k.outcome) AS what
          FROM kept k
          LEFT JOIN jobsd.run r ON r.id = k.run
         WHERE k.stale
    ), told AS (
        INSERT INTO jobsd.alert AS a (fingerprint, type, job, run, summary, count)
        SELECT left(encode(sha256(convert_to('JOB_FENCED ' || coalesce(job, ''), 'UTF8')), 'hex'), 16), 'JOB_FENCED',
               job, max(run), coalesce(job, 'a deleted run') || ': ' || max(what), count(*)
          FROM refused
         GROUP BY job
         ORDER BY 1
            ON CONFLICT (fingerprint) WHERE resolved_at IS NULL
            DO UPDATE SET count = a.count + excluded.count, last_at = now(), run = excluded.run,
                          summary = excluded.summary
    ), noted_too AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence, reason)
        SELECT run, fence, 'refused', $20, job, fence, what
          FROM refused
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence, reason)
        SELECT m.id, m.version, g.act, coalesce(g.actor, $20), m.job, g.fence, left(g.error, 1000)
          FROM moved m
          JOIN given g ON g.run = m.id AND g.fence = m.fence
    ), forgotten AS (
        DELETE FROM jobsd.claim WHERE fence = ANY ($21::bigint[])
    )
    SELECT id, fence FROM moved
     UNION ALL
    SELECT run, fence FROM already
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with what it makes of its run."""

    run: ClaimedRun
    node: NodeId  # where it ran
    settlement: Settlement
    ended_at: datetime


async def settle(db: Db, ended: Sequence[Ended], actor: str, over: Sequence[Fence] = ()) -> set[tuple[int, int]]:
    """Write them all; returns (run, fence) of those whose run moved. The others had moved on: kept as stale.
    `over` are claims that have no other run left: their rows go.

    Raises `Unavailable`; calling again with the same arguments is safe, also when the first call was done after all.
    """
    if not any(each.settlement.alert for each in ended):
        async with db.session() as session:
            return await _settle(session, ended, actor, over)
    async with db.transaction() as session:
        return await settle_within(session, ended, actor, over)


async def settle_within(
    session: Session, ended: Sequence[Ended], actor: str, over: Sequence[Fence] = ()
) -> set[tuple[int, int]]:
    """The same within the caller's transaction."""
    alerts = {(each.run.id, each.run.fence): each.settlement.alert for each in ended if each.settlement.alert}
    moved = await _settle(session, ended, actor, over)
    await raise_alerts(session, [alert for attempt, alert in alerts.items() if attempt in moved])
    return moved


async def _settle(session: Session, ended: Sequence[Ended], actor: str, over: Sequence[Fence]) -> set[tuple[int, int]]:
    decided = [(each, each.settlement, each.settlement.usage) for each in ended]
    rows = await session.fetch(
        SETTLE,
        [e.run.id for e, _, _ in decided],
        [e.run.fence for e, _, _ in decided],
        [e.run.attempt for e, _, _ in decided],
        [s.state for _, s, _ in decided],
        [s.outcome for _, s, _ in decided],
        [s.act for _, s, _ in decided],
        [s.due_at for _, s, _ in decided],
        [s.retry for _, s, _ in decided],
        [e.run.started_at for e, _, _ in decided],
        [e.ended_at for e, _, _ in decided],
        [s.error_kind for _, s, _ in decided],
        [_storable(s.error) for _, s, _ in decided],
        [None if s.result is None else orjson.dumps(s.result).decode() for _, s, _ in decided],
        [_storable(u.output) for _, _, u in decided],
        [u.exit_code for _, _, u in decided],
        [u.peak_memory_bytes for _, _, u in decided],
        [u.cpu_seconds for _, _, u in decided],
        [None if s.evidence is None else orjson.dumps(s.evidence).decode() for _, s, _ in decided],
        [e.node for e, _, _ in decided],
        actor,
        over,
        [s.actor for _, s, _ in decided],
    )
    return {(row["id"], row["fence"]) for row in rows}


def _storable(text: str | None) -> str | None:
    """PostgreSQL text holds no NUL, and UTF-8 no lone surrogate."""
    return None if text is None else text.replace("\0", "").encode("utf-8", "replace").decode()
