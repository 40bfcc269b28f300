"""A standby is promoted under load: what was acknowledged, what runs, and the fences."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.faults.unharmed import JOBS, PATIENT, all_is_well, at_work, one_at_a_time
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.load import load
from tests.support.pair import Pair
from tests.support.postgres import asked

Start = Callable[..., Awaitable[Daemon]]
MakePair = Callable[..., Awaitable[Pair]]
LONG = bool(os.environ.get("JOBSD_TEST_LONG"))
QUICK = {**PATIENT, "lease": {**PATIENT["lease"], "beat": "500ms", "deadline": "1s"}}
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'jobsd %'"
NEWEST = "SELECT coalesce(max(id), 0) FROM jobsd.run"


def timelines(fences: list[int]) -> set[int]:
    return {fence >> 40 for fence in fences}


@pytest.mark.req("P3", "P4", "P5", "P6")
@pytest.mark.fault(5, 10)
async def test_a_synchronous_standby_that_takes_over_has_all_that_was_acknowledged_and_no_run_ends(
    daemon: Start, pair: MakePair, tmp_path: Path
) -> None:
    servers, marks = await pair(synchronous=True), tmp_path / "marks"
    node = await daemon(JOBS, url=servers.url(), settings=PATIENT)
    await at_work(node)
    async with load(node, "small") as small, load(node, "keyed", file=str(marks)) as keyed:
        await small.grows()
        await keyed.grows()
        await asyncio.to_thread(servers.primary.kill9)
        await servers.promote()
        await node.seen("lock_session_adopted")
        await small.grows()
        await keyed.grows()

    await all_is_well(node, servers.standby.url("jobsd"), small, keyed)
    fences = one_at_a_time(marks)
    assert fences == sorted(set(fences))
    assert timelines(fences) == {1, 2}
    if LONG:
        print(f"\nfailover: {small.longest_s:.2f} s between acknowledgements")


@pytest.mark.req("P3", "P5", "P6")
@pytest.mark.fault(7, 8, 9)
async def test_a_primary_that_froze_and_thaws_after_another_was_promoted_gets_nothing_more(
    daemon: Start, pair: MakePair
) -> None:
    servers = await pair(synchronous=True)
    node = await daemon(JOBS, url=servers.url(), settings=QUICK)
    await at_work(node)
    async with load(node, "small") as asking:
        await asking.grows()
        frozen = servers.freeze()
        await servers.promote()
        await node.seen("lock_session_adopted")
        await asking.grows()
        servers.thaw(frozen)  # it takes itself for the primary, and nobody tells it otherwise
        await servers.primary.set("synchronous_standby_names", "")  # and now it would take anything
        await eventually(lambda: asked(servers.primary.url("jobsd"), OURS), 0)
        newest = await asked(servers.primary.url("jobsd"), NEWEST)
        async with Db.open(servers.standby.url("jobsd")) as db:
            for kind in ("lock", "work", "listen"):  # each has to look for a server again
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1",
                    f"jobsd {kind} %",
                )
        await node.seen("lock_session_adopted", times=2)
        await asking.grows()

    assert await asked(servers.primary.url("jobsd"), NEWEST) == newest
    await all_is_well(node, servers.standby.url("jobsd"), asking)


@pytest.mark.req("P3", "P4", "P6")
@pytest.mark.fault(6)
async def test_after_a_failover_that_lost_what_was_acknowledged_fences_still_rise_and_what_is_gone_is_ended(
    daemon: Start, pair: MakePair, tmp_path: Path
) -> None:
    servers, marks = await pair(), tmp_path / "marks"
    node = await daemon(JOBS, url=servers.url(), settings=PATIENT)
    kept = await node.trigger("in_loop")
    await node.traced("begun in_loop")
    await node.trigger("keyed", params={"file": str(marks)})
    await node.seen("run_completed", job="keyed")
    await eventually(lambda: asked(servers.primary.url(), LAG), 0)

    await servers.stop_streaming()
    many = [{"params": {"file": str(marks)}}] * 60  # more than a sequence logs ahead
    await node.request("POST", "/api/v1/jobs/keyed/runs", {"runs": many})
    await node.seen("run_completed", job="keyed", times=61)
    gone = await node.trigger("command")
    await node.traced("begun command")
    await asyncio.to_thread(servers.primary.kill9)
    await servers.promote()
    await node.seen("lock_session_adopted")
    await node.seen("run_refused", run=gone)
    again = await node.request("POST", "/api/v1/jobs/keyed/runs", {"runs": many[:3]})
    await node.seen("run_completed", job="keyed", times=64)
    node.release()
    await node.seen("run_completed", run=kept, attempt=1)

    assert again[0] == 201
    fences = one_at_a_time(marks)
    before, after = fences[:61], fences[61:]
    assert (timelines(before), timelines(after)) == ({1}, {2})
    assert max(before) < min(after)
    assert min(fence & 0xFF_FFFF_FFFF for fence in after) < max(fence & 0xFF_FFFF_FFFF for fence in before)
    async with Db.open(servers.standby.url("jobsd")) as db:
        assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE job = 'command'") == 0
    assert await node.stop() == 0


LAG = "SELECT sum(pg_current_wal_lsn() - replay_lsn)::bigint FROM pg_stat_replication"
