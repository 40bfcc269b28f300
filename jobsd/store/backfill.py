"""Which slots of the past have, or had, a run: what a backfill leaves alone."""

from collections.abc import Sequence
from datetime import datetime

from jobsd.store.db import Db

# The ledger remembers also those whose run was deleted when its time came.
TAKEN = """
    SELECT g.slot_at
      FROM unnest($2::timestamptz[]) AS g (slot_at)
     WHERE EXISTS (SELECT FROM jobsd.run r WHERE r.job = $1 AND r.slot_at = g.slot_at)
        OR EXISTS (SELECT FROM jobsd.slot s
                    WHERE s.job = $1 AND s.slot_at = g.slot_at AND s.decision IN ('ran', 'caught_up', 'waiting'))
"""


async def taken(db: Db, job: str, slots: Sequence[datetime]) -> set[datetime]:
    """Those of `slots` that ran, are queued to run, or still wait for what they need."""
    return {row["slot_at"] for row in await db.fetch(TAKEN, job, slots)}
