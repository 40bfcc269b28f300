"""The canary in the table of claims: a claim of no run, with a fence below zero, there while it is under way.

It is asked for and told of as a run is, taken on the lock session under a lock, and goes with the settlement's own
statement, which drops the claims that are over.
"""

from datetime import datetime

from jobsd.domain.run import CANARY, ClaimedRun, Fence, NodeId, RunId
from jobsd.store.db import Db
from jobsd.store.locks import Key, LockConnection
from jobsd.store.wake import channel

# The node's earlier ones that never came back go with it.
SEND = """
    WITH gone AS (
        DELETE FROM jobsd.claim WHERE node = $2 AND fence < 0
    ), sent AS (
        INSERT INTO jobsd.claim (fence, node, runs) VALUES ($1, $2, '{}')
     RETURNING node
    )
    SELECT pg_notify($3, 'canary:' || node) FROM sent
"""
TAKE = """
    WITH due AS MATERIALIZED (
        SELECT fence, pg_try_advisory_lock($3) AS taken
          FROM jobsd.claim
         WHERE fence = $1 AND node = $2 AND runs = '{}'
    )
    UPDATE jobsd.claim c
       SET runs = ARRAY[c.fence]
      FROM due
     WHERE due.taken AND c.fence = due.fence
 RETURNING now()
"""


def fence_of(node: NodeId, number: int) -> Fence:
    """That of a node's canary with this number: below every run's, and no other node's."""
    return Fence(-(node << 31 | number & 0x7FFFFFFF))


async def send(db: Db, node: NodeId, fence: Fence) -> None:
    """Ask for it, and tell the node, in one transaction. Raises `Unavailable`."""
    await db.execute(SEND, fence, node, channel(db.schema))


async def take(lock: LockConnection, node: NodeId, fence: Fence) -> ClaimedRun | None:
    """Take it under its lock; None when it is not there. Raises `Unavailable`, and the lock may be left."""
    at: datetime | None = await lock.session.fetchval(TAKE, fence, node, key_of(lock, node).id)
    if at is None:
        return None
    return ClaimedRun(RunId(fence), CANARY, fence, 1, 0, 1, {}, False, None, at, at, None, None)


def key_of(lock: LockConnection, node: NodeId) -> Key:
    """One for all canaries of a node: that of a run with a number below zero."""
    return lock.classes.own(RunId(-node))
