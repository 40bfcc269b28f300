"""The server that tests share: others' transactions keep entries from being sealed, as an application's would."""

from jobsd.store.db import Db
from tests.support.eventually import eventually

OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1"


async def settled(db: Db) -> None:
    """Wait until every transaction is over, on the whole server, that has begun to write before now."""
    mine = await db.fetchval("SELECT pg_current_xact_id()::text::bigint")
    await eventually(lambda: db.fetchval(OVER, mine), True, patience_s=60)
