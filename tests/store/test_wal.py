"""What a run costs in the database's log, the seal over its audit entries included."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Completed
from jobsd.engine.here import Here
from jobsd.store import history, seal
from jobsd.store.db import Db
from jobsd.store.history import Ended
from tests.support.engine import STILL, enqueued, job, node, registered, request
from tests.support.postgres import OwnServer

RUNS, BATCH = 4000, 500
MOST_BYTES = 1600
QUIET = {"full_page_writes": "off", "autovacuum": "off", "fsync": "off"}
WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"


async def drain(here: Here) -> int:
    """Claim and settle all there is, as a node does; how many runs."""
    done = 0
    while (claim := await here.keeper.claim(request(here, limit=BATCH))).runs:
        now = datetime.now(UTC)
        ended = [Ended(run, here.keeper.node, settle(run, SettlePolicy(), Completed(), now), now) for run in claim.runs]
        done += len(await history.settle(here.db, ended, here.actor, [claim.runs[0].fence]))
        keys = [key for run in claim.runs for key in claim.keys[run.id]]
        await here.keeper.unlock(keys, here.keeper.node)
    return done


@pytest.mark.req("P10")
async def test_a_drained_run_and_its_seal_write_at_most_1600_bytes(own_server: Callable[..., OwnServer]) -> None:
    server = own_server(**QUIET)
    async with Db.open(await server.database()) as db, node(db, lease=STILL) as here:
        await registered(db, job())
        for _ in range(RUNS // BATCH):
            await enqueued(db, count=BATCH)
        await drain(here)  # so that tables and indexes have pages to fill
        for _ in range(RUNS // BATCH):
            await enqueued(db, count=BATCH)

        before = await db.fetchval(WRITTEN)
        drained = await drain(here)
        while isinstance(await seal.seal(db, here.actor, 20_000), seal.Sealed):
            pass
        spent = await db.fetchval(WRITTEN) - before

    assert drained == RUNS
    assert spent / RUNS <= MOST_BYTES
