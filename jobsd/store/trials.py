"""Taking one run by name and by a clock that is given, with no lock session: for tests of jobs (`jobsd.testing`).

What the claim does to a run and its audit, less what many nodes need: advisory locks, seats, rates, the claim's row.
"""

from datetime import datetime

from jobsd.domain.run import ClaimedRun, NodeId, RunId
from jobsd.store.db import Db
from jobsd.store.runs import claimed_run

TAKE = """
    WITH taken AS (
        UPDATE jobsd.run r
           SET state = 'running', ready = NULL, held = r.lock_key, node = $3,
               fence = (('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint << 40)
                       + nextval((quote_ident($1) || '.fence')::regclass),
               attempt = r.attempt + 1, version = r.version + 1, started_at = $4
         WHERE r.id = $2 AND r.state = 'queued'
        RETURNING r.*
    ), noted AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, job, fence)
        SELECT id, version, 'started', $5, job, fence FROM taken
    )
    SELECT * FROM taken
"""


async def take(db: Db, run: RunId, node: NodeId, now: datetime, actor: str) -> ClaimedRun:
    """Make a queued run a running one. Raises `LookupError` when it is not queued."""
    row = await db.fetchrow(TAKE, db.schema, run, node, now, actor)
    if row is None:
        raise LookupError(f"run {run} is not queued")
    return claimed_run(row)
