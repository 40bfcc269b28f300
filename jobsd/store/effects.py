"""A job's own transaction, in which its run is completed too: rows, result and settlement are one (P9).

The guard is at the end: `jobsd.complete` changes the run only under its fence, so that no lock is held while the job
works. When a COMMIT's answer is lost, the database is asked, never guessed at.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from jobsd.domain.outcome import Committed
from jobsd.domain.run import Fence, RunId
from jobsd.sdk import FenceLost
from jobsd.store.db import Db, Unavailable, begun, bounded, in_schema

CALL_S = 15.0  # for each of the calls around the job's own; complete() gives up on a lock before
COMMIT_S = 30.0  # a synchronous standby may take its time
MOVED_ON = "JD517"

STANDS = """
    SELECT EXISTS (SELECT FROM jobsd.run WHERE id = $1 AND fence = $2 AND state = 'running')
"""
COMPLETE = """
    SELECT jobsd.complete($1, $2, $3::jsonb)
"""
# First the run's row, which waits for a COMMIT on its way; then, with a snapshot of its own, the attempt.
SETTLED_YET = """
    SELECT state FROM jobsd.run WHERE id = $1 FOR SHARE
"""
COMMITTED = """
    SELECT ended_at, result FROM jobsd.attempt WHERE run = $1 AND fence = $2 AND NOT stale AND outcome = 'completed'
"""
# Sessions that stand on these runs, by the lock that assert_fence and complete take. Of other runs, or of a later
# attempt at one of these, none is touched; nor are those of roles that ours may not end.
END_SESSIONS = """
    WITH standing AS MATERIALIZED (
        SELECT w.run, l.pid, a.application_name
          FROM unnest($1::bigint[], $2::bigint[]) AS w(run, fence)
          JOIN jobsd.run r ON r.id = w.run AND r.fence = w.fence AND r.state = 'running'
          JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = r.tableoid
           AND l.objid::bigint = w.run & 4294967295
           AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.pid <> pg_backend_pid() AND pg_has_role(a.usesysid, 'USAGE')
    )
    SELECT run, pid, application_name, pg_terminate_backend(pid, 2000) AS gone
      FROM standing
"""


@dataclass(frozen=True, slots=True)
class EndedSession:
    run: RunId
    pid: int
    application_name: str


class Effect:
    """The transaction of one attempt, on a connection of its own. Errors of the job's statements come as they are."""

    def __init__(self, con: Any, schema: str, run: RunId, fence: Fence) -> None:
        self._con = con
        self._schema = schema
        self._which = (run, fence)
        self._block: Any = None  # until it is begun

    async def begin(self) -> None:
        """Raises `FenceLost` when the run has moved on already."""
        self._block = await bounded(self._con, CALL_S, begun, self._con)
        if not await bounded(self._con, CALL_S, self._con.fetchval, self._text(STANDS), *self._which):
            raise self._lost()

    async def complete(self, result: Any) -> datetime:
        """Complete the run in this transaction; when its attempt ended. `result` is plain JSON. Raises `FenceLost`."""
        if not self._con.is_in_transaction():
            raise RuntimeError("the job ended its transaction itself: what it wrote cannot be one with its completion")
        stored = None if result is None else orjson.dumps(result).decode()
        try:
            call, sql = self._con.fetchval, self._text(COMPLETE)
            ended_at: datetime = await bounded(self._con, CALL_S, call, sql, *self._which, stored)
        except asyncpg.PostgresError as error:
            if error.sqlstate == MOVED_ON:
                raise self._lost() from error
            raise
        return ended_at

    async def commit(self) -> None:
        """Raises `Unavailable` when nobody knows whether it is done; any other error says that it is not."""
        await bounded(self._con, COMMIT_S, self._block.commit)

    async def undo(self, within_s: float) -> None:
        """Roll back; a statement that does not end within so many seconds loses its connection."""
        if self._block is not None and not self._con.is_closed():
            with suppress(Unavailable, asyncpg.PostgresError):
                await bounded(self._con, within_s, self._block.rollback)

    def _text(self, sql: str) -> str:
        return in_schema(sql, self._schema)

    def _lost(self) -> FenceLost:
        run, fence = self._which
        return FenceLost(f"run {run} has moved on: fence {fence} is not that of a running attempt; nothing was kept")


async def find_out(db: Db, run: RunId, fence: Fence) -> Committed | None:
    """What became of a COMMIT whose answer was lost: its session is ended, then the database looked at.

    Raises `Unavailable`.
    """
    await end_sessions(db, [(run, fence)])
    async with db.transaction() as session:
        await session.fetchval(SETTLED_YET, run)
        row = await session.fetchrow(COMMITTED, run, fence)
    return None if row is None else Committed(row["ended_at"], orjson.loads(row["result"] or "null"))


async def end_sessions(db: Db, attempts: Sequence[tuple[RunId, Fence]]) -> list[EndedSession]:
    """End the sessions in whose open transactions these attempts' fences were asserted, so that none holds its run.

    Raises `Unavailable`.
    """
    rows = await db.fetch(END_SESSIONS, [run for run, _ in attempts], [fence for _, fence in attempts])
    return [EndedSession(row["run"], row["pid"], row["application_name"]) for row in rows if row["gone"]]
