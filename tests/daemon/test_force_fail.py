"""Runs that are failed by force: their work really ends, wherever it runs and through whichever node it was asked."""

import os
from collections.abc import Awaitable, Callable

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]

JOBS = """
[jobs.endless]
handler = "tests.daemon.work:waits"
timeout = "1h"
retry = { attempts = 5, base = "10ms", cap = "10ms" }

[jobs.family]
command = ["sh", "-c", "echo $$ > family.pid; trap '' TERM; echo began > traces; sleep 3600 & wait; sleep 3600"]
timeout = "1h"
grace = "200ms"

[jobs.stubborn]
handler = "tests.daemon.work:ignores"
timeout = "1h"
grace = "100ms"

[jobs.restartable]
handler = "tests.daemon.work:waits"
timeout = "1h"
restartable = true
"""
HANGS = {"reason": "hangs"}


async def state(db: Db, run: int) -> tuple[str, str | None]:
    row = await db.fetchrow("SELECT state, error FROM jobsd.runs WHERE id = $1", run)
    assert row is not None
    return row["state"], row["error"]


def forced(by: str) -> tuple[str, str]:
    return "failed", f"failed by force, by {by}: hangs"


async def actor(db: Db, run: int) -> str:
    """Who asked for the run: the test's own user, as the kernel names it."""
    asked: str = await db.fetchval("SELECT actor FROM jobsd.run WHERE id = $1", run)
    return asked


@pytest.mark.req("D4", "B9")
async def test_the_work_ends_the_run_fails_and_no_declared_retry_follows(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("endless")
    await node.seen("run_started", run=run)

    status, answer = await node.request("POST", f"/api/v1/runs/{run}/force-fail", HANGS)
    await node.seen("run_failed", run=run, kind="force_failed")

    who = await actor(db, run)
    acts = [tuple(row) for row in await db.fetch(ACTS, run)]
    assert (status, answer["state"]) == (202, "running")
    assert await state(db, run) == forced(who)
    assert acts == [("queued", who), ("started", acts[1][1]), ("force_failed", who)]
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.force_fail"), 0)


@pytest.mark.req("D4", "P11")
async def test_a_commands_whole_tree_is_gone(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("family")
    await node.traced("began")
    leader = int((node.folder / "family.pid").read_text())

    await node.request("POST", f"/api/v1/runs/{run}/force-fail", HANGS)
    await node.seen("run_failed", run=run)

    assert (await state(db, run))[0] == "failed"
    with pytest.raises(ProcessLookupError):
        os.killpg(leader, 0)
    await node.children_gone()


@pytest.mark.req("D4", "P11", "P3")
async def test_work_that_ignores_its_end_has_failed_all_the_same_and_keeps_its_lock(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("stubborn")
    await node.traced("begun")

    await node.request("POST", f"/api/v1/runs/{run}/force-fail", HANGS)
    await node.seen("run_failed", run=run)
    await node.seen("run_ignores_cancellation", run=run)
    next_one = await node.trigger("stubborn")
    waits = await state(db, next_one)
    node.release()
    await node.seen("run_completed", run=next_one)

    failed, error = await state(db, run)
    assert (failed, waits[0]) == ("failed", "queued")
    assert (error or "").endswith(": hangs; it ignores that and is still running")


@pytest.mark.req("D4", "P7")
async def test_it_may_be_asked_of_any_node(daemon: Start, db: Db) -> None:
    works = await daemon(JOBS)
    run = await works.trigger("endless")
    await works.seen("run_started", run=run)
    other = await daemon(JOBS)

    await other.request("POST", f"/api/v1/runs/{run}/force-fail", HANGS)
    await works.seen("run_forced", run=run)

    await works.seen("run_failed", run=run)
    assert await state(db, run) == forced(await actor(db, run))


@pytest.mark.req("D4", "E13")
async def test_an_emergency_stop_ends_what_runs_on_every_node_and_leaves_the_daemons_up(daemon: Start, db: Db) -> None:
    one = await daemon(JOBS, settings={"daemon": {"slots": 1}})
    two = await daemon(JOBS, settings={"daemon": {"slots": 1}})
    runs = [await one.trigger(job) for job in ("endless", "family")]
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'running'"), 2)

    stop = {"reason": "flood", "disable_jobs": True}
    status, answer = await two.request("POST", "/api/v1/emergency-stop", stop)
    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.run WHERE state = 'failed'"), 2)
    waiting = await one.trigger("endless")

    assert (status, answer["ending"]) == (202, runs)
    assert answer["disabled"] == ["endless", "family", "restartable", "stubborn"]
    assert [(await node.request("GET", "/readyz"))[0] for node in (one, two)] == [200, 200]
    assert (await state(db, waiting))[0] == "queued"


@pytest.mark.req("D4", "P7")
async def test_what_was_asked_of_a_node_that_was_killed_holds_for_its_successor(daemon: Start, db: Db) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("restartable")
    await node.seen("run_started", run=run)
    fence = await db.fetchval("SELECT fence FROM jobsd.run WHERE id = $1", run)
    await node.kill9()
    await db.execute(
        "INSERT INTO jobsd.force_fail (run, fence, actor, reason) VALUES ($1, $2, 'token:ops', 'hangs')", run, fence
    )

    await node.start()
    await eventually(lambda: state(db, run), forced("token:ops"))

    await eventually(lambda: db.fetchval("SELECT count(*) FROM jobsd.force_fail"), 0)


ACTS = "SELECT act, actor FROM jobsd.audit WHERE run = $1 ORDER BY sequence"
