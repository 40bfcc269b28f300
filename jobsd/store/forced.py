"""What is asked of running runs: that their work is ended and they fail. A row for each, until its node has done so.

Who may ask it, and when, is decided in `operations.moves`; `engine.steward` does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobsd.domain.run import ClaimedRun, Fence, NodeId, RunId
from jobsd.store.db import Db

# Does not touch the run's row: the work may hold it in a transaction of its own, and is ended all the same.
FORCE = """
    WITH asked AS (
        INSERT INTO jobsd.force_fail (run, fence, actor, reason)
        SELECT id, fence, $3, $4 FROM jobsd.run WHERE id = ANY ($2::bigint[]) AND state = 'running'
            ON CONFLICT DO NOTHING
     RETURNING run, fence
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence, reason, detail)
        SELECT NULL, nextval((quote_ident($1) || '.audit_sequence')::regclass), 'force_fail', $3, r.job, a.fence, $4,
               jsonb_build_object('run', a.run)
          FROM asked a
          JOIN jobsd.run r ON r.id = a.run
    )
    SELECT run FROM asked
"""


async def ask(db: Db, runs: Sequence[RunId], actor: str, reason: str) -> set[RunId]:
    """Ask the nodes of running runs to end them as failed; those that nobody had asked for before."""
    return {RunId(row["run"]) for row in await db.fetch(FORCE, db.schema, runs, actor, reason)}


FORCED = """
    SELECT f.run, f.fence, f.actor, f.reason, (r.state = 'running' AND r.fence = f.fence) IS TRUE AS running, r.node
      FROM jobsd.force_fail f
      LEFT JOIN jobsd.run r ON r.id = f.run
     ORDER BY f.at
"""
DONE_WITH = """
    DELETE FROM jobsd.force_fail f
     WHERE NOT EXISTS (SELECT FROM jobsd.run r WHERE r.id = f.run AND r.fence = f.fence AND r.state = 'running')
"""


@dataclass(frozen=True, slots=True)
class Forced:
    """A run that a person wants to end as failed. `running`: the attempt that was meant is not over."""

    run: RunId
    fence: Fence
    actor: str
    reason: str
    running: bool
    node: NodeId | None


async def asked_for(db: Db) -> list[Forced]:
    """What is asked for and not done with, on all nodes, the oldest first."""
    return [Forced(**dict(row)) for row in await db.fetch(FORCED)]


async def among(db: Db, runs: Sequence[ClaimedRun]) -> Mapping[RunId, Forced]:
    """Those of `runs` whose present attempt somebody wants to end."""
    attempts = {(run.id, run.fence) for run in runs}
    return {each.run: each for each in await asked_for(db) if (each.run, each.fence) in attempts}


async def done_with(db: Db) -> None:
    """Drop what is asked for of attempts that are over."""
    await db.execute(DONE_WITH)
