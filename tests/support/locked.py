"""Locks: which keys are held, as the server sees it (of this database alone, others share the server); shut tables."""

from jobsd.store.db import Db, Session

HELD = """
    SELECT count(*)
      FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND classid = 'jobsd.lock_key'::regclass AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND ($1::integer IS NULL OR objid = $1)
"""


async def locked(db: Db, key: int | None = None) -> int:
    """How often a lock key is held; without one, how many there are."""
    return int(await db.fetchval(HELD, key))


async def shut(session: Session, table: str) -> None:
    """Keep everybody out of a table until the session's transaction ends, however long that takes."""
    await session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    await session.execute(f"LOCK TABLE {table}")
