"""Runs that nobody hears of: another program's is failed, one that runs here is told of. By the database's clock."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from jobsd.domain.lifecycle import SettlePolicy
from jobsd.domain.outcome import RetryPolicy
from jobsd.domain.run import ClaimedRun, RunId
from jobsd.engine.here import Here
from jobsd.engine.stale import StaleSweep
from jobsd.store import external, reports
from jobsd.store.db import Db
from jobsd.store.external import Begin
from jobsd.store.history import Ended
from tests.support.engine import enqueued, job, node, registered, request

TEN = timedelta(minutes=10)
HALF_AN_HOUR = timedelta(minutes=30)


async def started(here: Here, run: RunId) -> ClaimedRun:
    async with here.db.transaction() as tx:
        begun = await external.start(tx, Begin(run, (), here.keeper.node, TEN, HALF_AN_HOUR, "test"))
    assert begun is not None
    return begun


async def begun(here: Here, **keys: Any) -> ClaimedRun:
    """A run that another program does, begun just now."""
    await registered(here.db, job("outside", command=None, external=True))
    (run,) = await enqueued(here.db, "outside", **keys)
    return await started(here, run)


async def later(db: Db, minutes: int) -> None:
    """Let so much time pass: every instant that counts moves back, the node's start too."""
    span = timedelta(minutes=minutes)
    await db.execute("UPDATE jobsd.run SET started_at = started_at - $1::interval WHERE state = 'running'", span)
    await db.execute("UPDATE jobsd.progress SET at = at - $1::interval", span)
    await db.execute("UPDATE jobsd.external SET ends_at = ends_at - $1::interval", span)
    await db.execute("UPDATE jobsd.node SET started_at = started_at - $1::interval", span)


def sweep_of(here: Here, policy: SettlePolicy | None = None) -> tuple[StaleSweep, list[Ended]]:
    sweep, ended = StaleSweep(here, lambda _job: policy or SettlePolicy()), list[Ended]()

    def note(each: Sequence[Ended]) -> None:
        ended.extend(each)

    sweep.on_swept = note
    sweep.load({"work": job(stale_after="10m")})
    return sweep, ended


async def row_of(db: Db, run: RunId) -> Any:
    return await db.fetchrow("SELECT * FROM jobsd.runs WHERE id = $1", run)


@pytest.mark.req("D3")
async def test_a_run_of_another_program_that_was_not_heard_of_for_ten_minutes_is_failed_and_told_of(db: Db) -> None:
    async with node(db) as here:
        run = await begun(here, key="k")
        await later(db, 10)
        sweep, ended = sweep_of(here)
        await sweep.sweep()

    row = await row_of(db, run.id)
    alert = await db.fetchrow("SELECT type, job, run, summary FROM jobsd.alert")
    assert (row["state"], row["error_kind"]) == ("failed", "stale")
    assert "nothing was heard of it for 10m" in row["error"]
    assert alert is not None
    assert (alert["type"], alert["job"], alert["run"]) == ("JOB_STALE", "outside", run.id)
    assert [each.run.id for each in ended] == [run.id]
    assert await db.fetchval("SELECT held FROM jobsd.run") is None
    assert await db.fetchval("SELECT count(*) FROM jobsd.external") == 0


@pytest.mark.req("D3")
@pytest.mark.parametrize("sign", ["heartbeat", "progress", "message"])
async def test_any_report_is_a_sign_of_life(db: Db, sign: str) -> None:
    async with node(db) as here:
        run = await begun(here)
        await later(db, 9)
        if sign == "heartbeat":
            await reports.heartbeat(db, run.id, run.fence)
        elif sign == "progress":
            await reports.progress(db, run.id, run.fence, 0.5, "")
        else:
            await reports.message(db, run.id, run.fence, "info", "still here")
        await later(db, 9)
        sweep, ended = sweep_of(here)
        await sweep.sweep()

    assert ended == []
    assert (await row_of(db, run.id))["state"] == "running"


@pytest.mark.req("D3")
async def test_a_run_past_its_limit_is_failed_however_much_it_tells(db: Db) -> None:
    async with node(db) as here:
        run = await begun(here)
        await later(db, 30)
        await reports.heartbeat(db, run.id, run.fence)
        sweep, _ = sweep_of(here)
        await sweep.sweep()

    row = await row_of(db, run.id)
    assert (row["state"], row["error_kind"]) == ("failed", "stale")
    assert row["error"] == "it has been running for 30m, and may for 30m"


@pytest.mark.req("D3", "P8")
async def test_a_declared_retry_applies_and_the_silence_is_told_all_the_same(db: Db) -> None:
    async with node(db) as here:
        run = await begun(here)
        await later(db, 11)
        sweep, _ = sweep_of(here, SettlePolicy(RetryPolicy(1, base_s=0.0)))
        await sweep.sweep()
        again = await started(here, run.id)

    assert (again.attempt, again.retries) == (2, 1)
    assert again.fence > run.fence
    assert await db.fetchval("SELECT type FROM jobsd.alert") == "JOB_STALE"


@pytest.mark.req("D3")
async def test_a_daemon_that_has_just_started_could_not_hear_and_waits(db: Db) -> None:
    async with node(db) as here:
        run = await begun(here)
        await later(db, 20)
        await db.execute("UPDATE jobsd.node SET started_at = now()")
        sweep, ended = sweep_of(here)
        await sweep.sweep()

    assert ended == []
    assert (await row_of(db, run.id))["state"] == "running"


@pytest.mark.req("D3", "C4")
async def test_two_nodes_that_sweep_at_once_fail_a_run_once_and_refuse_nothing(db: Db) -> None:
    async with node(db, "one") as one, node(db, "two") as two:
        for _ in range(5):
            await begun(one)
        await later(db, 11)
        (first, mine), (second, theirs) = sweep_of(one), sweep_of(two)
        await asyncio.gather(first.sweep(), second.sweep())

    assert len(mine) + len(theirs) == 5
    assert await db.fetchval("SELECT count(*) FROM jobsd.attempt WHERE stale") == 0


@pytest.mark.req("D3")
async def test_a_run_that_is_executed_here_and_fell_silent_raises_an_alert_and_goes_on(db: Db) -> None:
    await registered(db, job())
    (run,) = await enqueued(db)
    async with node(db) as here:
        (claimed,) = (await here.keeper.claim(request(here))).runs
        await reports.progress(db, claimed.id, claimed.fence, 0.5, "")
        await later(db, 10)
        sweep, ended = sweep_of(here)
        await sweep.sweep()

    alert = await db.fetchrow("SELECT type, run FROM jobsd.alert")
    assert alert is not None
    assert (alert["type"], alert["run"]) == ("JOB_STALE", run)
    assert ended == []
    assert (await row_of(db, run))["state"] == "running"


@pytest.mark.req("D3", "A7")
async def test_one_silence_is_told_once_and_the_next_one_anew(db: Db) -> None:
    await registered(db, job())
    await enqueued(db)
    counts = list[int]()
    async with node(db) as here:
        (claimed,) = (await here.keeper.claim(request(here))).runs
        sweep, _ = sweep_of(here)
        for speaks in (True, False, True):
            if speaks:
                await reports.heartbeat(db, claimed.id, claimed.fence)
                await later(db, 10)
            await sweep.sweep()
            counts.append(await db.fetchval("SELECT count FROM jobsd.alert"))

    assert counts == [1, 1, 2]


@pytest.mark.req("D3")
async def test_a_run_that_is_executed_here_and_never_tells_anything_is_left_to_its_timeout(db: Db) -> None:
    await registered(db, job())
    await enqueued(db)
    async with node(db) as here:
        await here.keeper.claim(request(here))
        await later(db, 10)
        sweep, _ = sweep_of(here)
        await sweep.sweep()

    assert await db.fetchval("SELECT count(*) FROM jobsd.alert") == 0


@pytest.mark.req("D3")
async def test_what_is_stale_is_seen_in_the_view_by_the_jobs_own_time(db: Db) -> None:
    await registered(db, job("outside", command=None, external=True, stale_after="20m"))
    (run,) = await enqueued(db, "outside")
    async with node(db) as here:
        await started(here, run)
        await later(db, 19)
        before = (await row_of(db, run))["stale"]
        await later(db, 1)

    assert (before, (await row_of(db, run))["stale"]) == (False, True)
