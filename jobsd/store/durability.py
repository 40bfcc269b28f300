"""What the server's own settings allow to be lost of what was acknowledged (P5 is no stronger than the database)."""

from jobsd.store.db import Db

SETTINGS = """
    SELECT current_setting('synchronous_commit') AS commits,
           current_setting('synchronous_standby_names') AS synchronous,
           (SELECT count(*) FROM pg_stat_replication) AS receivers
"""


async def losses(db: Db) -> list[str]:
    """Why acknowledged commits may be lost, in words; empty when they may not."""
    row = await db.fetchrow(SETTINGS)
    if row is None:
        return []
    reasons = []
    if row["commits"] == "off":
        reasons.append("synchronous_commit is off: a crash of the server loses the last commits")
    if row["receivers"] and (not row["synchronous"] or row["commits"] == "local"):
        reasons.append("no standby is synchronous: a failover loses what it has not received")
    return reasons
