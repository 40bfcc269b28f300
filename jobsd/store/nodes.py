"""Nodes: a row for every start of a daemon, its heartbeat, and the proof of its death."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from jobsd.domain.outcome import AlertRow
from jobsd.domain.run import NodeId
from jobsd.store.alerts import raise_alerts
from jobsd.store.db import Db, Row, Session

REGISTER = """
    INSERT INTO jobsd.node (name, host, instance, boot_id, pid, version, pools, registry, backend_pid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_backend_pid())
 RETURNING id
"""
BEAT = """
    UPDATE jobsd.node
       SET beat = beat + 1, beat_at = clock_timestamp(), backend_pid = pg_backend_pid()
     WHERE id = $1 AND state = 'live' AND NOT pg_is_in_recovery()
 RETURNING clock_timestamp() AS now
"""
PREDECESSORS = """
    SELECT id, name, beat, beat_at
      FROM jobsd.node
     WHERE instance = $1 AND host = $2 AND id <> $3 AND state = 'live'
"""
EARLIER = """
    SELECT id
      FROM jobsd.node
     WHERE id = ANY ($1::integer[]) AND instance = $2
"""
LIVE = """
    SELECT id, name, beat, beat_at
      FROM jobsd.node
     WHERE state = 'live' AND id <> $1
"""
DECLARE_DEAD = """
    UPDATE jobsd.node
       SET state = 'dead', ended_at = now(), evidence = $3::jsonb
     WHERE id = $1 AND beat = $2 AND state = 'live'
 RETURNING id
"""
STOP = """
    WITH canary AS (
        DELETE FROM jobsd.claim WHERE node = $1 AND fence < 0
    )
    UPDATE jobsd.node
       SET state = 'stopped', ended_at = now()
     WHERE id = $1 AND state = 'live'
"""
UNSETTLED = """
    SELECT n.id, n.name, n.evidence
      FROM jobsd.node n
     WHERE n.state <> 'live' AND EXISTS (SELECT FROM jobsd.claim c WHERE c.node = n.id)
"""
DROP_CLAIMS = """
    DELETE FROM jobsd.claim c
     WHERE c.node = $1
       AND NOT EXISTS (
            SELECT FROM unnest(c.runs) AS each(id)
              JOIN jobsd.run r ON r.id = each.id
             WHERE r.state = 'running' AND r.fence = c.fence)
"""
DOWN_SINCE = """
    SELECT CASE WHEN bool_or(state = 'live') THEN NULL ELSE max(coalesce(ended_at, beat_at)) END
      FROM jobsd.node
     WHERE id <> $1
"""
SET_REGISTRY = """
    UPDATE jobsd.node SET registry = $2, pools = $3 WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a daemon is: a name that is settable, the id of its state directory, and what tells its starts apart."""

    name: str
    host: str
    instance: str  # of the state directory, which one daemon at a time holds locked
    boot_id: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class OtherNode:
    id: NodeId
    name: str
    beat: int
    beat_at: datetime  # by the database's clock


async def register(session: Session, who: Identity, pools: Sequence[str], registry: str) -> NodeId:
    """Add a row for this start and return its id."""
    row = await session.fetchval(
        REGISTER, who.name, who.host, who.instance, who.boot_id, who.pid, who.version, pools, registry
    )
    return NodeId(row)


async def beat(session: Session, node: NodeId) -> datetime | None:
    """Count one up; returns the database's clock, or None when this node has been declared dead."""
    now: datetime | None = await session.fetchval(BEAT, node)
    return now


async def predecessors(db: Db, who: Identity, node: NodeId) -> list[OtherNode]:
    """Earlier starts on the same host and state directory that the database still counts as live."""
    return [_other(row) for row in await db.fetch(PREDECESSORS, who.instance, who.host, node)]


async def earlier(db: Db, who: Identity, ids: Sequence[NodeId]) -> set[NodeId]:
    """Those of `ids` that are starts on the same state directory, and so of the same database."""
    return {NodeId(row["id"]) for row in await db.fetch(EARLIER, ids, who.instance)}


async def live(db: Db, node: NodeId) -> list[OtherNode]:
    """All nodes but this one that have not been stopped or declared dead."""
    return [_other(row) for row in await db.fetch(LIVE, node)]


def _other(row: Row) -> OtherNode:
    return OtherNode(NodeId(row["id"]), row["name"], row["beat"], row["beat_at"])


async def declare_dead(db: Db, other: OtherNode, evidence: Mapping[str, object], alert: AlertRow | None = None) -> bool:
    """Compare-and-set on the beat last seen: a node so declared can never beat again. False if it moved after all."""
    async with db.transaction() as tx:
        dead = await tx.fetchval(DECLARE_DEAD, other.id, other.beat, orjson.dumps(evidence).decode()) is not None
        if dead and alert:
            await raise_alerts(tx, [alert])
    return dead


async def stop(db: Db, node: NodeId) -> None:
    """Say goodbye: the node has ended on purpose and runs nothing."""
    await db.execute(STOP, node)


async def unsettled(db: Db) -> list[tuple[NodeId, str, Mapping[str, object]]]:
    """Nodes that are over and still own claims: their runs have to be settled as lost."""
    rows = await db.fetch(UNSETTLED)
    return [(NodeId(row["id"]), row["name"], orjson.loads(row["evidence"] or "{}")) for row in rows]


async def drop_claims(db: Db, node: NodeId) -> None:
    """Forget the claims of a node of which no run is running any more."""
    await db.execute(DROP_CLAIMS, node)


async def down_since(db: Db, node: NodeId) -> datetime | None:
    """Since when no node has been up, if this one is the only one; None when another is up, or none ever was."""
    since: datetime | None = await db.fetchval(DOWN_SINCE, node)
    return since


async def set_registry(db: Db, node: NodeId, registry: str, pools: Sequence[str]) -> None:
    await db.execute(SET_REGISTRY, node, registry, pools)
