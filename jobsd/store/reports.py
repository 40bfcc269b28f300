"""What a run says while it runs: progress and messages. Each write names its fence (P4)."""

from jobsd.domain.run import Fence, RunId
from jobsd.store.db import Db

PROGRESS = """
    INSERT INTO jobsd.progress AS p (run, fence, fraction, note)
    SELECT r.id, r.fence, $3, $4
      FROM jobsd.run r
     WHERE r.id = $1 AND r.fence = $2 AND r.state = 'running'
        ON CONFLICT (run) DO UPDATE
       SET fence = excluded.fence, fraction = excluded.fraction, note = excluded.note, at = clock_timestamp()
     WHERE p.fence <= excluded.fence
 RETURNING true
"""
MESSAGE = """
    INSERT INTO jobsd.message (run, fence, level, text)
    SELECT r.id, r.fence, $3, $4
      FROM jobsd.run r
     WHERE r.id = $1 AND r.fence = $2 AND r.state = 'running'
 RETURNING true
"""


async def progress(db: Db, run: RunId, fence: Fence, fraction: float, note: str) -> bool:
    """Store how far a run is; False when it is no longer this attempt's to tell."""
    return bool(await db.fetchval(PROGRESS, run, fence, fraction, note))


async def message(db: Db, run: RunId, fence: Fence, level: str, text: str) -> bool:
    """Store one message; False when the run has moved on."""
    return bool(await db.fetchval(MESSAGE, run, fence, level, text.replace("\0", "")))
