"""What a run says while it runs: progress, messages, that it lives. Each write names its fence (P4)."""

from collections.abc import Sequence

import orjson

from jobsd.domain.run import Fence, RunId
from jobsd.store.db import Db

PROGRESS = """
    INSERT INTO jobsd.progress AS p (run, fence, fraction, note, step, steps)
    SELECT r.id, r.fence, $3, $4, $5, $6::jsonb
      FROM jobsd.run r
     WHERE r.id = $1 AND r.fence = $2 AND r.state = 'running'
        ON CONFLICT (run) DO UPDATE
       SET fence = excluded.fence, fraction = excluded.fraction, note = excluded.note, step = excluded.step,
           steps = excluded.steps, at = clock_timestamp()
     WHERE p.fence <= excluded.fence
 RETURNING true
"""
HEARTBEAT = """
    INSERT INTO jobsd.progress AS p (run, fence)
    SELECT r.id, r.fence
      FROM jobsd.run r
     WHERE r.id = $1 AND r.fence = $2 AND r.state = 'running'
        ON CONFLICT (run) DO UPDATE
       SET fence = excluded.fence, at = clock_timestamp(),
           fraction = CASE WHEN p.fence = excluded.fence THEN p.fraction END,
           note = CASE WHEN p.fence = excluded.fence THEN p.note ELSE '' END,
           step = CASE WHEN p.fence = excluded.fence THEN p.step END,
           steps = CASE WHEN p.fence = excluded.fence THEN p.steps END
     WHERE p.fence <= excluded.fence
 RETURNING true
"""
MESSAGE = """
    WITH told AS (
        INSERT INTO jobsd.message (run, fence, level, text)
        SELECT r.id, r.fence, $3, $4
          FROM jobsd.run r
         WHERE r.id = $1 AND r.fence = $2 AND r.state = 'running'
     RETURNING true
    ), heard AS (
        UPDATE jobsd.progress SET at = clock_timestamp() WHERE run = $1 AND fence = $2
    )
    SELECT true FROM told
"""


async def progress(
    db: Db,
    run: RunId,
    fence: Fence,
    fraction: float,
    note: str,
    *,
    step: str | None = None,
    steps: Sequence[tuple[str, float]] | None = None,
) -> bool:
    """Store how far a run is; False when it is no longer this attempt's to tell. `steps`: names and weights."""
    pipeline = None if steps is None else orjson.dumps(list(steps)).decode()
    return bool(await db.fetchval(PROGRESS, run, fence, fraction, note, step, pipeline))


async def heartbeat(db: Db, run: RunId, fence: Fence) -> bool:
    """Store that a run lives; False when it has moved on."""
    return bool(await db.fetchval(HEARTBEAT, run, fence))


async def message(db: Db, run: RunId, fence: Fence, level: str, text: str) -> bool:
    """Store one message; False when the run has moved on."""
    return bool(await db.fetchval(MESSAGE, run, fence, level, text.replace("\0", "")))


STEPS = """
    SELECT steps FROM jobsd.progress WHERE run = $1 AND fence = $2
"""
TOLD = """
    SELECT count(*) FROM (SELECT FROM jobsd.message WHERE run = $1 AND fence = $2 LIMIT $3) AS m
"""


async def steps(db: Db, run: RunId, fence: Fence) -> list[tuple[str, float]] | None:
    """The pipeline that an attempt has declared: names and weights."""
    text = await db.fetchval(STEPS, run, fence)
    return None if text is None else [(name, weight) for name, weight in orjson.loads(text)]


async def told(db: Db, run: RunId, fence: Fence, limit: int) -> int:
    """How many messages an attempt has told; counting stops at `limit`."""
    return int(await db.fetchval(TOLD, run, fence, limit))
